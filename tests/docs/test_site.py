"""The site has every page and every public name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["hansa", "hansa.learning", "hansa.program", "hansa.simulation", "hansa.templates"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package: str) -> None:
    public = {
        name
        for name in importlib.import_module(package).__all__
        if f"{package}.{name}" not in (*PACKAGES, "hansa.utils")
    }
    page = (ROOT / "docs" / "reference" / f"{package.rsplit('.', 1)[-1]}.md").read_text("utf-8")
    assert set(re.findall(rf"^::: {re.escape(package)}\.(\w+)$", page, re.MULTILINE)) == public


def test_the_navigation_has_every_page() -> None:
    navigation = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    docs = ROOT / "docs"
    pages = {
        str(page.relative_to(docs).with_suffix(".md")) for page in docs.rglob("*") if page.suffix in (".md", ".ipynb")
    }
    assert sorted(navigation) == sorted(pages | {"index.md", "changes.md"})
