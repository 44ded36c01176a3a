"""`ClientValues`: a value of each of several clients, as a computation returns it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.types.base import Type
from hansa.types.listed import Listed
from hansa.types.rows import Rows
from hansa.types.structs import Struct
from hansa.types.types import StructType


@boundaries
class ClientValues(Listed):
    """What each client has after a call, in the cohort's order: a sequence with a value for each client.

    It is read as a list of values, compares and prints as one, and may be passed on where a computation takes a value
    for each client. Inside, each tensor of all clients that a device has worked for is one array, which stays where it
    was computed. Values are taken from there when they are asked for.

    Attributes:
        type_signature: the type of one client's value.
        client_ids: who the clients are, [clients]; positions, where the data did not say it.

    Examples:
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def doubled(values):
        ...     return hansa.federated_map(hansa.jax_computation(lambda x: 2 * x), values)
        >>> values = doubled([np.float32([1, 2]), np.float32([3, 4]), np.float32([5, 6])])
        >>> len(values), values[1]
        (3, array([6., 8.], dtype=float32))
        >>> values.stacked()
        array([[ 2.,  4.],
               [ 6.,  8.],
               [10., 12.]], dtype=float32)
        >>> values.select([2, 0]).client_ids
        array([2, 0])
        >>> print(values.type_signature)
        float32[2]
    """

    def __init__(self, kind: Type, rows: Rows, client_ids: npt.NDArray[Any]) -> None:
        self.type_signature, self.client_ids, self._rows = kind, client_ids, rows

    def select(self, clients: npt.ArrayLike) -> ClientValues:
        """The values of the clients at these positions, in this order. Nothing is copied.

        Examples:
            >>> @hansa.federated_computation("{int32}@CLIENTS")
            ... def squares(values):
            ...     return hansa.federated_map(hansa.jax_computation(lambda x: x * x), values)
            >>> squares([1, 2, 3]).select([2, 0])
            [np.int32(9), np.int32(1)]
        """
        positions = np.asarray(clients, dtype=np.int64 if not np.size(clients) else None)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            raise TypeError(f"clients are selected by a list of integer positions, found {clients!r}")
        outside = positions[(positions < -len(self)) | (positions >= len(self))]
        if outside.size:
            raise IndexError(f"there are {len(self)} clients; position {outside[0]} was selected")
        return ClientValues(self.type_signature, self._rows.select(positions), self.client_ids[positions])

    def stacked(self) -> Any:
        """One value with all clients' in it: arrays `[clients, ...]` in host memory.

        Examples:
            >>> @hansa.federated_computation("{int32}@CLIENTS")
            ... def squares(values):
            ...     return hansa.federated_map(hansa.jax_computation(lambda x: x * x), values)
            >>> squares([1, 2, 3]).stacked()
            array([1, 4, 9], dtype=int32)
        """
        rows = self._rows
        if not len(rows):
            arrays = [np.empty((0, *array.shape[1:]), array.dtype) for array in rows.blocks[0].arrays]
            return shaped(self.type_signature, iter(arrays))
        return shaped(self.type_signature, iter(rows.copied().blocks[0].arrays))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(
                f"clients are numbered from 0 by their places, found {index!r}; use select([…]) for several, and "
                "list(values.client_ids).index(…) for the place of an id"
            )
        try:
            return shaped(self.type_signature, iter(self._rows.at(int(index))))
        except IndexError:
            raise IndexError(f"there are {len(self)} clients; {index} was asked for") from None

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple | ClientValues):
            return NotImplemented
        return Struct._make((None,) * len(self), tuple(self)) == Struct._make((None,) * len(other), tuple(other))

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if not isinstance(self.type_signature, StructType):
            array: npt.NDArray[Any] = self.stacked()
            return array if dtype is None else array.astype(dtype, copy=False)
        objects = np.empty(len(self), object)
        for index, value in enumerate(self):
            objects[index] = value
        return objects


def shaped(kind: Type, leaves: Iterator[Any]) -> Any:
    """A value of a type of structs and tensors, of its tensors in order."""
    if isinstance(kind, StructType):
        values = tuple(shaped(field, leaves) for field in kind)
        return (kind.container or Struct)._make(kind.names, values)
    return next(leaves)
