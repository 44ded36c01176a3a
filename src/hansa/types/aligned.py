"""Arrays in memory that JAX's CPU devices use as it is, without copies of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64


def aligned(shape: tuple[int, ...], dtype: Any, zeroed: bool = True) -> npt.NDArray[Any]:
    """An uninitialised array whose memory JAX's CPU devices use as it is, without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8) if zeroed else np.empty(size + _ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT
    array: npt.NDArray[Any] = memory[offset : offset + size].view(dtype).reshape(shape)
    return array


def settled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that nobody writes into, and that JAX's CPU devices use as it is."""
    copy = aligned(array.shape, array.dtype, zeroed=False)
    copy[...] = array
    copy.flags.writeable = False
    return copy
