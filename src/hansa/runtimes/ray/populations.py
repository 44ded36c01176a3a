"""The arrays of populations: in the object store, which a node has in memory once, or in files that a worker opens."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import ray

from hansa.runtimes.ray import wire
from hansa.runtimes.ray.wire import Plain
from hansa.simulation import _same_file, _unread
from hansa.types.examples import Examples

_RESIDENT = 2**28
"""Bytes of a population that a worker keeps on its device; of a larger one it reads the rows that it needs."""


class Populations:
    """The populations that a worker has been told of."""

    def __init__(self) -> None:
        self._known: dict[str, Examples] = {}

    def learn(self, name: str, found: Plain) -> None:
        """Takes a population, as `described` tells of it."""
        self._known[name] = _opened(found)

    def forget(self, name: str) -> None:
        """Lets a population go, if there is one of this name."""
        self._known.pop(name, None)

    def examples(self, found: Plain) -> Examples:
        """The arrays of a population that is known by name, or is given here for one call, or is to be read now."""
        if isinstance(found, str):
            return self._known[found]
        if isinstance(found, dict):
            return Examples(_unread.read(found, self._known.__getitem__), passing=True)
        return Examples(wire.of_structure(found, lambda array: array), passing=True)


def described(examples: Examples) -> Plain:
    """How workers get at the arrays of a population; puts those in memory into the object store."""
    return wire.structure(examples.rows, lambda array: _in_file(array) or {"stored": ray.put(np.asarray(array))})


def is_in_files(examples: Examples) -> bool:
    """Whether all arrays are read from files where they are used."""
    found: list[bool] = []
    wire.structure(examples.rows, lambda array: found.append(_in_file(array) is not None))
    return all(found)


def _opened(found: Plain) -> Examples:
    rows = wire.of_structure(found, _array)
    examples = Examples(rows)
    if not examples.on_disk and examples.size * examples.row_bytes > _RESIDENT:
        return Examples(examples.rows, passing=True)
    return examples


def _array(found: dict[str, Any]) -> Any:
    if "stored" in found:
        return ray.get(found["stored"])
    _same_file.check(found)
    return np.memmap(found["path"], found["dtype"], "r", found["offset"], found["shape"], "C")


def _in_file(array: Any) -> dict[str, Any] | None:
    """Where in a file the rows of an array are, if they lie there one after another."""
    root, part = None, array
    while isinstance(part, np.ndarray):
        if isinstance(part, np.memmap):
            root = part
        part = part.base
    if root is None or not isinstance(part, mmap.mmap) or not array.flags.c_contiguous or not root.filename:
        return None
    begin, first = (each.__array_interface__["data"][0] for each in (array, root))
    try:
        file = _same_file.told(root.filename)
    except OSError:
        return None
    return {
        **file,
        "dtype": array.dtype.str,
        "offset": int(root.offset) + begin - first,
        "shape": array.shape,
    }
