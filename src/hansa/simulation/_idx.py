"""The IDX format, in which MNIST is published: a header with element type and shape, then the elements.

Only unsigned bytes are read, the one element type that image sets use.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes | bytearray, ndim: int) -> npt.NDArray[np.uint8]:
    """Read one array of unsigned bytes from the content of an IDX file.

    Args:
        content: the whole file, uncompressed.
        ndim: how many dimensions the array must have: 1 for labels, 3 for images.

    Returns:
        The array; it shares memory with `content`.

    Raises:
        ValueError: the content is not IDX, is of another element type or rank, or is shorter or longer than its
            header says.
    """
    header_size = 4 + 4 * ndim
    if len(content) < 4:
        raise ValueError(f"not an IDX file: {len(content)} bytes, too few for a header")
    zeros, element_type, rank = int.from_bytes(content[:2], "big"), content[2], content[3]
    if zeros != 0:
        raise ValueError(f"not an IDX file: it begins with {bytes(content[:4]).hex()}, not with two zero bytes")
    if element_type != _UNSIGNED_BYTE:
        raise ValueError(f"elements of IDX type {element_type:#04x}; only unsigned bytes (0x08) are read")
    if rank != ndim:
        raise ValueError(f"an array of {rank} dimensions where {ndim} are expected")
    if len(content) < header_size:
        raise ValueError(f"{len(content)} bytes, too few for the header of {ndim} dimensions ({header_size})")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=ndim, offset=4))
    expected = header_size + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{len(content)} bytes, but an array of shape {list(shape)} makes {expected}")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)
