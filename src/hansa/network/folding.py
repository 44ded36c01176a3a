"""Folds of a stage's contributions: exact sums in any order, everything else in the cohort's.

A state holds what all its clients gave in as much memory as what one gave. What depends on the order is folded as in
every runtime (`hansa.runtimes.leaves`): leaves of 16 counted clients that follow each other, merged by a fixed tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hansa.runtimes.leaves import LEAF
from hansa.runtimes.stages.executor import ClientStage
from hansa.types import Struct


class Fold:
    """The contributions of a stage's clients, as far as they are folded.

    Args:
        stage: the stage.
        known: what the server knows; states may begin with it.
        clients: how many clients there are at most.
        is_ordered: whether contributions are given in the cohort's order, and folded by it.
    """

    def __init__(self, stage: ClientStage, known: Mapping[str, Any], clients: int, is_ordered: bool) -> None:
        self._stage, self._known, self._clients, self._is_ordered = stage, known, clients, is_ordered
        self._leaf, self._in_leaf = self._zero(), 0
        self._trees: list[tuple[int, Struct]] = []  # how many leaves, a power of two that falls; and their state

    def add(self, contributions: list[list[Any]]) -> None:
        """One more client's, by aggregate."""
        if self._is_ordered and self._in_leaf == LEAF:
            self._end_leaf()
            self._leaf, self._in_leaf = self._zero(), 0
        self._leaf = self._stage.accumulate(self._leaf, [_given(values) for values in contributions])
        self._in_leaf += 1

    def report(self) -> dict[str, Any]:
        """What becomes of all of them, by name.

        Raises:
            hansa.NeedsWideSums: if a sum may not be exact, and all are to be folded again by other stages.
            ValueError: if there are fewer clients than an aggregate needs.
        """
        state = self._leaf
        for _, left in reversed(self._trees):
            state = self._stage.merge(left, state)
        return self._stage.report(state)._asdict()

    def _end_leaf(self) -> None:
        size, state = 1, self._leaf
        while self._trees and self._trees[-1][0] == size:
            _, left = self._trees.pop()
            size, state = 2 * size, self._stage.merge(left, state)
        self._trees.append((size, state))

    def _zero(self) -> Struct:
        return self._stage.zero(self._known, clients=self._clients)


def _given(values: list[Any]) -> Struct:
    return Struct(zip(("value", "weight"), values, strict=False))


def digest_of(reports: Mapping[str, Any]) -> str:
    """SHA-256 of what became of contributions, in hexadecimal digits: of each one's dtypes, shapes and bytes, in order.

    Names are left out: those of a loaded computation may be others.
    """
    seen = hashlib.sha256()
    for number, value in enumerate(reports.values()):
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            array = np.ascontiguousarray(leaf)
            seen.update(f"{number}{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
            seen.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return seen.hexdigest()
