"""TOML to plain values, whoever wrote it: what is too long, too deep, or cannot be kept with the run, is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 18
_MOST_DOTS = 1000
"""In a line; the time that Python takes for a dotted key grows with the square of its parts."""
_MOST_DEEP = 32
_INTEGERS = range(-(1 << 63), 1 << 63)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError, ValueError: it cannot be read, is too long, or is no UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it is longer than {_MOST_BYTES >> 10} KiB")
    return content.decode("utf-8")


def parsed(text: str) -> dict[str, Any]:
    """The values of a text in TOML.

    Raises:
        ValueError: it is none, or what it holds is too much.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it is longer than {_MOST_BYTES >> 10} KiB")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > _MOST_DOTS:
            raise ValueError(f"line {number} has more than {_MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {_MOST_DEEP} deep") from None


def faults(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """What in some values cannot be a run's, a sentence each: JSON keeps them, and other programs read that."""
    if depth > _MOST_DEEP:
        yield f"{path[:60]}… is nested more than {_MOST_DEEP} deep"
    elif isinstance(value, dict):
        for name, each in value.items():
            where = f"{path}.{name}" if path else str(name)
            yield from faults(str(name), f"the key {where}", depth + 1)
            yield from faults(each, where, depth + 1)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from faults(each, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield f"{path} has a character that no text has: NUL, or a byte that is no UTF-8"
    elif isinstance(value, int):
        if value not in _INTEGERS:
            yield f"{path} is an integer of {value.bit_length()} bits, and integers have 64"
    elif value is not None and not isinstance(value, float):
        yield f"{path} is a {type(value).__name__}, and there is no key for one; write it as a string"
