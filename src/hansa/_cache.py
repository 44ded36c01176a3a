"""Where Hansa keeps what it can make or fetch again: downloaded data, tables of data, compiled programs.

A process without a home folder, or that may not write where the cache should be, has a cache of its own that goes with
it: nothing there is another user's, which matters as compiled programs are code.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path


def cache_dir(part: str = "") -> Path:
    """The folder: the lasting one if it can be written, else a temporary one, which is removed with this process.

    Args:
        part: a folder in it, which is what has to be written to.
    """
    folder = named_cache_dir()
    if folder is not None and can_be_written(folder / part):
        return folder / part
    own = _own_cache_dir() / part
    own.mkdir(exist_ok=True)
    return own


def named_cache_dir() -> Path | None:
    """The lasting folder, which may not be there or not be writable: `HANSA_CACHE_DIR`, else `hansa` in the platform's
    folder for caches. `None` where that is in the user's home folder and the user has none."""
    try:
        if named := os.environ.get("HANSA_CACHE_DIR"):
            return Path(named).expanduser()
        if named := os.environ.get("XDG_CACHE_HOME"):
            return Path(named).expanduser() / "hansa"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "hansa"
        if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
            return Path(named) / "hansa" / "Cache"
        return Path.home() / ".cache" / "hansa"
    except RuntimeError:  # There is no HOME, and the system knows no user of this number.
        return None


def can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@cache
def _own_cache_dir() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hansa-cache-"))
    maker = os.getpid()  # A forked child must not remove what its parent uses.
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == maker else None)
    return folder
