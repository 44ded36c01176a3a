"""How much may come out of a file: compressed files of a few kilobytes can hold gigabytes of nothing."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HANSA_MAX_UNPACKED_BYTES"
_TIMES = 100
_LEAST = 1 << 30


def unpacked_limit(path: Path) -> int:
    """How many bytes a file's content may have when it is uncompressed.

    It is 100 times the file's size, or 1 GiB where that is more; or what `HANSA_MAX_UNPACKED_BYTES` says.

    Raises:
        ValueError: that is no number of bytes.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return max(_LEAST, _TIMES * path.stat().st_size)
    try:
        return int(float(named))
    except (ValueError, OverflowError):
        raise ValueError(f"{VARIABLE} must be a number of bytes, such as 20e9; found {named!r}") from None


def too_much(path: Path, what: str) -> str:
    """What to say of a file that holds more; `what` says how much."""
    return (
        f"{path} holds {what}, which is more than a file of {path.stat().st_size:,} bytes may "
        f"({unpacked_limit(path):,} bytes); if it is meant to, set {VARIABLE} to a number of bytes that is enough"
    )
