"""Warnings are given at the user's line, however deep within Hansa their reason is found."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


def warn(message: str) -> None:
    """Give a warning at the innermost line that is not Hansa's own.

    Args:
        message: what there is to know.
    """
    level = 1
    frame: FrameType | None = sys._getframe(0)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "hansa":
        level += 1
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)
