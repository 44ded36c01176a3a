"""Examples that are not in this process yet, of which is known where they are: `Unread`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.examples import Examples, _struct_of_arrays
from hansa.types.structs import Struct
from hansa.types.types import StructType, TensorType

Tell = Callable[[npt.NDArray[np.int64], Callable[[Examples], Any]], Any]


class Unread(Examples):
    """The examples of a cohort, which another process can read by what is told of them. This one reads them all when
    `rows` is asked for.

    Args:
        kind: the type of a batch.
        starts: the first row of each client, rising; int64 [clients].
        size: how many rows there are.
        read: gives the arrays of all.
        tell: tells how to read those of the clients at some positions, as numbers and texts in lists and dicts; it is
            given a function that says what another process calls a population.
    """

    def __init__(
        self, kind: StructType, starts: npt.NDArray[np.int64], size: int, read: Callable[[], Any], tell: Tell
    ) -> None:
        self.kind, self.size, self.on_disk, self.passing = kind, size, True, True
        self._starts, self._read, self._tell = starts, read, tell
        leaves = [member for _, member in kind.fields]
        assert all(isinstance(leaf, TensorType) for leaf in leaves)
        self.row_bytes = sum(leaf.dtype.itemsize * prod(leaf.shape[1:]) for leaf in leaves)  # type: ignore[attr-defined]
        self._misfits = {}

    @cached_property
    def rows(self) -> Any:
        """The arrays, read now."""
        return _struct_of_arrays(self._read())

    def nothing(self) -> Any:
        """No examples, of this type."""
        fields = self.kind.fields  # type: ignore[attr-defined]
        return Struct((name, np.zeros((0, *member.shape[1:]), member.dtype)) for name, member in fields)

    def told(self, starts: npt.NDArray[np.int64], called: Callable[[Examples], Any]) -> Any:
        """How another process reads the rows of clients that begin at `starts`, and have some.

        Args:
            starts: where they begin; int64 [clients].
            called: says what the other process calls a population.
        """
        return self._tell(np.searchsorted(self._starts, starts, side="right") - 1, called)
