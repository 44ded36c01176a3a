"""Which folder a run has: each its own, and none is overwritten. Of one name they are `first`, `first-2`, and so on."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from hansa.program.run_file import RunError, has_run


def timed(parent: Path, name: str) -> Path:
    """A folder for a run that says no other: with the time, to the millisecond."""
    now = time.time_ns()
    return parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now // 10**9))}-{now // 10**6 % 1000:03}"


def named(folder: Path) -> Path:
    """A folder by a path that ends with its name, which `..` does not.

    Raises:
        RunError: if it has none.
    """
    found = folder if folder.name not in ("", "..") else folder.resolve()
    if not found.name:
        raise RunError(f"{folder} cannot be a run's folder; name another")
    return found


def runs_of(folder: Path) -> list[Path]:
    """The folders of a name in which there is a run, the newest last."""
    found = {1: folder} if has_run(folder) else {}
    pattern = re.compile(re.escape(folder.name) + r"-([1-9][0-9]{0,5})")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder.parent):
            match = pattern.fullmatch(name)
            if match is not None and int(match[1]) > 1 and has_run(folder.with_name(name)):
                found[int(match[1])] = folder.with_name(name)
    return [found[number] for number in sorted(found)]


def next_of(folder: Path) -> Path:
    """The folder of a name that a new run would have."""
    return next(_free(folder))


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Makes the next folder of a name, which no other process then takes; if nothing comes into it, it is removed."""
    for place in _free(folder):
        missing = [path for path in (place, *place.parents) if not path.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # as another process removes what it made
            place.mkdir()
            break
    try:
        yield place
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()


def short(path: Path) -> Path:
    """A path as it is written from here, if what it names is below."""
    with contextlib.suppress(ValueError, OSError):
        return path.resolve().relative_to(Path.cwd())
    return path


def _free(folder: Path) -> Iterator[Path]:
    """The folders of a name that are not there, those after the newest run first."""
    runs = runs_of(folder)
    if not runs and not os.path.lexists(folder):
        yield folder
    last = int(runs[-1].name.rpartition("-")[2]) if runs and runs[-1] != folder else 1
    for number in itertools.count(last + 1):
        path = folder.with_name(f"{folder.name}-{number}")
        if not os.path.lexists(path):
            yield path
