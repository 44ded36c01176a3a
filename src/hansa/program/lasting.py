"""What no round changes, such as frozen weights, where a run goes on: if the process has others now, that is told.

A checkpoint holds it, so a process that is built on another base would go on with that of the run without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from hansa._warnings import warn
from hansa.compiler.handed_on import handed_on
from hansa.compiler.partition import compile_computation
from hansa.program.changes import told
from hansa.program.checkpoints import Checkpoint
from hansa.program.step import Step
from hansa.types import FederatedType, StructType, Type, names

_AT_ONCE = 1 << 24
"""Bytes that are compared at a time."""

_MOST_TOLD = 5


class Lasting:
    """The parts of a process's state that each round hands on as they came.

    Args:
        step: calls the process.

    Attributes:
        parts: the ways to them, by the positions of fields.
    """

    def __init__(self, step: Step) -> None:
        self._kind = step.state_type
        self.parts = sorted(path[1:] for path in handed_on(compile_computation(step.process.next)) if path[:1] == (0,))

    def warn_of_changes(self, folder: Path, had: Any, begins: Any) -> None:
        """Warns if a run has others than it would begin with now.

        Args:
            folder: the run's.
            had: the state of the run.
            begins: the state that it would begin with.
        """
        pairs = self._pairs(had, begins)
        changes = {name: (_shown(one), _shown(other)) for name, one, other in pairs if not _alike(one, other)}
        if not changes:
            return
        lines = told(changes)
        listed = "".join(f"\n  {line}" for line in lines[:_MOST_TOLD])
        more = f"\n  and {len(lines) - _MOST_TOLD} more" if len(lines) > _MOST_TOLD else ""
        warn(
            f"the run in {folder} goes on with its own values of what no round changes, and a run that begins now has "
            f"others:{listed}{more}\n"
            "For a run with these, name another folder. Else build the process with those of the run: where they are "
            "drawn at random, set the seed; where a state brought them, pass it as initial_state again"
        )

    def in_one_place(self, found: Checkpoint, begins: Any) -> Checkpoint:
        """A checkpoint with the process's own arrays in the place of those that were read and are equal, so that a
        large base is in memory once."""
        own = {id(one): other for _, one, other in self._pairs(found.state, begins) if _alike(one, other)}

        def placed(value: Any) -> Any:
            return jax.tree.map(lambda leaf: own.get(id(leaf), leaf) if isinstance(leaf, jax.Array) else leaf, value)

        saved = {name: placed(value) for name, value in found.saved.items()}
        return replace(found, state=placed(found.state), saved=saved)

    def _pairs(self, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
        """The tensors of these parts of two states, with their names."""
        for path in self.parts:
            name, kind, parts = "state", self._kind, (one, other)
            for index in path:
                struct = _struct(kind)
                assert struct is not None
                name += names.step(struct.names[index], index)
                kind, parts = struct[index], (parts[0][index], parts[1][index])
            yield from _tensors(name, kind, *parts)


def _struct(kind: Type) -> StructType | None:
    member = kind.member if isinstance(kind, FederatedType) else kind
    return member if isinstance(member, StructType) else None


def _tensors(name: str, kind: Type, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    struct = _struct(kind)
    if struct is None:
        yield name, one, other
        return
    for index, (field, *parts) in enumerate(zip(struct.names, one, other, strict=True)):
        yield from _tensors(name + names.step(field, index), struct[index], *parts)


def _bytes(value: Any) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def _alike(one: Any, other: Any) -> bool:
    """Whether two arrays have the same bits."""
    a, b = np.asarray(one), np.asarray(other)
    if one is other or a.dtype != b.dtype or a.shape != b.shape:
        return one is other
    first, second = _bytes(a), _bytes(b)
    cuts = (slice(begin, begin + _AT_ONCE) for begin in range(0, first.size, _AT_ONCE))
    return all(np.array_equal(first[cut], second[cut]) for cut in cuts)


def _shown(value: Any) -> str:
    """A number as it is; an array by the beginning of a digest of its numbers."""
    array = np.asarray(value)
    return str(array) if not array.ndim else f"{array.dtype}{list(array.shape)} {_digest(array)}"


def _digest(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(_bytes(array).data).hexdigest()[:8]
