"""Memory that a program frees stays with the process, for the next call of the program.

The allocator of the GNU C library asks the system for each block beyond 32 MiB, and gives it back when it is freed. A
round whose arrays need more would get new pages from the system each time, and to make them takes a tenth of a round of
a convolutional net with 1.7 million weights. What was freed before a program is compiled is of no use to its calls,
such as the copies of weights that building a model makes, and is given back.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as in <malloc.h>

KEPT = 2**29
"""Bytes: blocks of fewer come of memory that the process has, of which as much is kept when it is free."""

MUCH = 2**26
"""Bytes: less that is free is not worth the time to give it back."""

_keeps = False


def keep_freed() -> bool:
    """Keep freed memory, unless the environment says how memory is allocated, or the allocator is another one.

    The number of arenas stays: with only one, which would hold all large blocks, XLA's threads wait for each other, and
    compile a quarter longer.

    Returns:
        Whether it is kept.
    """
    if not sys.platform.startswith("linux") or _is_chosen():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # of musl, say
        return False
    global _keeps
    _keeps = all([mallopt(_MMAP_THRESHOLD, KEPT), mallopt(_TRIM_THRESHOLD, KEPT)])
    return _keeps


def give_back() -> bool:
    """Gives free memory back to the system, if `keep_freed` keeps it and there is much of it.

    Returns:
        Whether some was given back.
    """
    library = _keeper()
    if library is None or library.mallinfo2().fordblks < MUCH:
        return False
    return bool(library.malloc_trim(0))


@cache
def _keeper() -> Any:
    """The allocator that was told to keep memory; None if none was, or if it does not say how much it has."""
    if not _keeps:
        return None
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):  # mallinfo2 is of 2021
        return None
    return library


class _Mallinfo(ctypes.Structure):
    """What `mallinfo2` says, by its own names; `fordblks` are the bytes that are free, in all arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def _is_chosen() -> bool:
    return any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
