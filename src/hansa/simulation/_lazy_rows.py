"""Rows that become arrays when they are read: of SciPy's sparse matrices, and of files in another byte order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._numbers import is_sparse, own_array


class LazyRows:
    """What has rows, of which some are made an array at a time.

    Args:
        stored: a sparse matrix or array of SciPy, or an array.
        what: what to call it in messages.
    """

    def __init__(self, stored: Any, what: str) -> None:
        self._stored, self._what = stored.tocsr() if is_sparse(stored) else stored, what
        self.shape: tuple[int, ...] = stored.shape
        self.ndim: int = stored.ndim
        self.dtype: np.dtype[Any] = self[:0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        return own_array(self._stored[rows], self._what)


def is_lazy(given: Any) -> bool:
    """Whether the rows of this are to be made arrays only when they are read."""
    on_disk = isinstance(given, np.memmap) and not given.dtype.isnative
    return on_disk or (is_sparse(given) and len(given.shape) == 2)
