"""Memory that a program frees stays with the process, for the next call of the program.

The allocator of the GNU C library asks the system for each block beyond 32 MiB, and gives it back when it is freed. A
round whose arrays need more would get new pages from the system each time, and to make them takes a tenth of a round of
a convolutional net with 1.7 million weights.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as in <malloc.h>

KEPT = 2**29
"""Bytes: blocks of fewer come of memory that the process has, of which as much is kept when it is free."""


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
    return all([mallopt(_MMAP_THRESHOLD, KEPT), mallopt(_TRIM_THRESHOLD, KEPT)])


def _is_chosen() -> bool:
    return any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
