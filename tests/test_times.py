"""The lists of tests that take long name tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mark", ["slow", "whole"])
def test_what_is_listed_is_there(mark: str) -> None:
    for listed in (ROOT / "tests" / f"{mark}.txt").read_text("utf-8").splitlines():
        path, *classes, name = listed.split("[")[0].split("::")
        source = (ROOT / path).read_text("utf-8")
        for each in classes:
            assert re.search(rf"^class {each}\b", source, re.MULTILINE), listed
        assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), listed


def test_no_test_is_in_both() -> None:
    slow, whole = ((ROOT / "tests" / f"{mark}.txt").read_text("utf-8").splitlines() for mark in ("slow", "whole"))
    assert not set(slow) & set(whole)
