"""Where Hansa keeps what it can make or fetch again: downloaded data, compiled programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The folder: `HANSA_CACHE_DIR`, else `hansa` in the platform's folder for caches."""
    if named := os.environ.get("HANSA_CACHE_DIR"):
        return Path(named).expanduser()
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named).expanduser() / "hansa"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hansa"
    if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
        return Path(named) / "hansa" / "Cache"
    return Path.home() / ".cache" / "hansa"
