"""Every public name has an example in its docstring, and every example is run and prints what it shows.

Beside what they make themselves, examples use what the first block of the reference makes. `...` in an output stands
for anything. Methods and properties may be shown by the example of their class instead of one of their own.
"""

from __future__ import annotations

import contextlib
import contextvars
import doctest
import importlib
import inspect
import io
import re
import traceback
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hansa
from hansa.simulation import DatasetError, _files

PACKAGES = (
    "hansa",
    "hansa.aggregators",
    "hansa.aggregators.attacks",
    "hansa.aggregators.codecs",
    "hansa.analytics",
    "hansa.learning",
    "hansa.learning.arithmetic",
    "hansa.learning.tabular",
    "hansa.network",
    "hansa.privacy",
    "hansa.program",
    "hansa.simulation",
    "hansa.templates",
    "hansa.types",
    "hansa.utils",
)
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "hansa.md"
_PARSER = doctest.DocTestParser()


def public(package: str) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a package offers, by their full names."""
    for name in importlib.import_module(package).__all__:
        value = getattr(importlib.import_module(package), name)
        if not isinstance(value, ModuleType | hansa.Placement):
            yield f"{package}.{name}", value


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, those of its bases in Hansa included."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("hansa"):
            found = {**vars(base), **found}
    for name, member in found.items():
        member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property | cached_property)):
            yield name, member


def examples(value: Any) -> list[doctest.Example]:
    return _PARSER.get_examples(getattr(value, "__doc__", None) or "")


def protocols_of(cls: type, package: str) -> list[type]:
    """The public protocols whose methods a class has, such as `Sink`; their examples show what these methods do."""
    protocols = [value for _, value in public(package) if inspect.isclass(value) and getattr(value, "_is_protocol", 0)]
    return [each for each in protocols if all(hasattr(cls, name) for name, _ in members(each))]


def docstrings() -> dict[str, str]:
    """All docstrings that hold examples, each once, under the name that its package gives it."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for name, value in public(package):
            parts = [(name, value)]
            if inspect.isclass(value):
                parts += [(f"{name}.{part}", member) for part, member in members(value)]
            for part, documented in parts:
                text = getattr(documented, "__doc__", None) or ""
                if examples(documented) and text not in found.values():
                    found[part] = text
    return found


DOCSTRINGS = docstrings()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_example(package: str) -> None:
    lacking = []
    for name, value in public(package):
        if not examples(value) or "\nExamples:\n" not in inspect.cleandoc(value.__doc__):
            lacking.append(name)
        if inspect.isclass(value):
            shown_by = [*value.__mro__, *protocols_of(value, package)]
            source = "".join(example.source for base in shown_by for example in examples(base))
            lacking += [
                f"{name}.{part}"
                for part, member in members(value)
                if not examples(member) and not re.search(rf"(\.|def ){part}\b", source)
            ]
    assert lacking == [], "add `Examples:` to their docstrings, or use them in the example of their class"


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """What the reference makes for all examples."""
    namespace: dict[str, Any] = {}
    block = re.search(r"^```python\n(.*?)^```$", REFERENCE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    exec(compile(block[1], str(REFERENCE), "exec"), namespace)
    return namespace


class DatasetNotHere(DatasetError):
    """What an example loads would have to be downloaded."""


def run(name: str, namespace: dict[str, Any]) -> None:
    # Not by doctest's own runner: it gives code a source that TensorFlow finds, but no file, which TensorFlow needs.
    for example in _PARSER.get_examples(DOCSTRINGS[name]):
        printed, wanted = io.StringIO(), example.want
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(example.source, f"<{name}>", "single"), namespace)
            except Exception as error:
                if example.exc_msg is None:
                    raise
                printed.write("".join(traceback.format_exception_only(error)))
                wanted = example.exc_msg
        found = printed.getvalue()
        if not doctest.OutputChecker().check_output(wanted, found, doctest.ELLIPSIS):
            raise AssertionError(f"{name} shows\n{example.source}{wanted}\nbut gives\n{found}")


@pytest.mark.xdist_group("docstrings")  # so that one process makes the model, and starts TensorFlow
@pytest.mark.parametrize("name", DOCSTRINGS)
def test_an_example_prints_what_it_shows(
    name: str, shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(dataset: str, file: Any, mirrors: Any) -> Path:
        raise DatasetNotHere(f"no {file.name}; set HANSA_DATA_DIR to a folder with {dataset}/{file.name}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_files, "_download", download)
    try:
        contextvars.copy_context().run(run, name, dict(shared))  # so that an example may choose a runtime
    except DatasetNotHere as missing:
        pytest.skip(str(missing))
