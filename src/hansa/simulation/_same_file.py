"""Whether a file that another process has told of is the same here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def told(path: str | Path) -> dict[str, Any]:
    """What another process is told of a file: its path, its size, and when it was changed.

    Raises:
        OSError: if it cannot be looked at.
    """
    full = os.path.abspath(os.fspath(path))
    now = os.stat(full)
    return {"path": full, "size": now.st_size, "changed": now.st_mtime_ns}


def is_here(known: Mapping[str, Any]) -> bool:
    """Whether the file that `told` has told of is here."""
    try:
        now = told(known["path"])
    except OSError:
        return False
    return all(now[name] == known[name] for name in ("size", "changed"))


def made_here(known: Mapping[str, Any], source: str, make: Callable[[], Path]) -> Path:
    """A file of the cache that another process has told of: the same one, or one of the same name, which tells what is
    in it, that is made here.

    Args:
        known: what it has told.
        source: the file that it is made of.
        make: makes it.

    Raises:
        ValueError: if that is not here either, or is another one.
    """
    if is_here(known):
        return Path(known["path"])
    if not os.path.isfile(source):
        raise ValueError(
            f"clients' data is in {source}, which this worker does not have; keep it in a folder that all nodes have "
            "under the same name, or load it into memory in the driver, with in_memory()"
        )
    made = make()
    if made.name != Path(known["path"]).name:
        raise ValueError(f"{source} is another file at this worker than at the driver, or was written to")
    return made


def check(known: Mapping[str, Any]) -> None:
    """Checks that a file is the one that `told` has told of.

    Raises:
        ValueError: if there is none, or another one.
    """
    path = known["path"]
    try:
        now = told(path)
    except OSError as error:
        raise ValueError(
            f"clients' data is in {path}, which this worker cannot open ({error.strerror}); keep it in a folder that "
            "all nodes have under the same name, or load it into memory in the driver"
        ) from error
    if any(now[name] != known[name] for name in ("size", "changed")):
        raise ValueError(
            f"{path} is another file at this worker than at the driver, or was written to: it is of {now['size']} "
            f"bytes, and there it was of {known['size']}"
        )
