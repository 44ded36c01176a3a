"""The signatures of public names say types. `Any` stands only where no type says more, and here it is said why."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs.test_docstrings import PACKAGES, public

STATE = "a state: whatever the process at hand passes on"
VALUE = "a value of a federated type: arrays, containers of them, a list of these for each client"
PYTREE = "a pytree, which JAX has no type for"
TENSORFLOW = "tensors and variables of TensorFlow, which has no types"
ALLOWED = {}


def signatures() -> Iterator[tuple[str, Any]]:
    """Every public function and method, with its full name; constructors under the name of the class."""
    for package in PACKAGES:
        for name, value in public(package):
            if not inspect.isclass(value):
                yield name, value
                continue
            for part, member in vars(value).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                member = member.fget if isinstance(member, property) else getattr(member, "func", member)
                if inspect.isroutine(member) and (not part.startswith("_") or part in ("__init__", "__call__")):
                    yield (name if part == "__init__" else f"{name}.{part}"), inspect.unwrap(member)


def says_nothing(annotation: Any) -> bool:
    return "Any" in re.split(r"\s*\|\s*", annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))


def found() -> dict[str, list[str]]:
    vague: dict[str, list[str]] = {}
    for name, function in signatures():
        annotations = getattr(function, "__annotations__", {})
        parts = [part for part, annotation in annotations.items() if says_nothing(annotation)]
        if parts:
            vague[name] = parts
    return vague
