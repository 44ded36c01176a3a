"""The lock of a folder: one process writes there, others can look whether one does, and it ends with its process.

Locks are the system's, on a file that stays. On Linux they are those of `fcntl(2)` on an open file, which can be asked
for without being taken. Elsewhere a look takes a lock of readers for a moment, and who wants the lock tries again for
long enough.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import time
import weakref
from pathlib import Path

from hansa._files import set_aside
from hansa._warnings import warn

LOCK = "lock"
_TRIES = 5
_MOST_SHOWN = 200
_IN_USE = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class InUseError(Exception):
    """Another process, or another run of this one, has the lock. The message says who."""


class Lock:
    """The lock of a folder, which this process has until `release`, or its own end.

    A process that is forked meanwhile does not have it: it would keep the lock of a run whose process has died.

    Args:
        folder: the folder.

    Raises:
        InUseError: if another has it.
        OSError: if the folder cannot be written, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK
        self._descriptor: int | None = _opened(path)
        try:
            for attempt in range(_TRIES):
                if attempt:
                    time.sleep(0.02)
                if _take(self._descriptor):
                    break
            else:
                raise InUseError(_owner(self._descriptor))
            with contextlib.suppress(OSError):  # of a disk without room; whose it is, is for people
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BaseException:
            self.release()
            raise
        _held.add(self)

    def release(self) -> None:
        """Give it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _held.discard(self)


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget() -> None:
    """In a process that was forked: close what its parent has locked, which leaves the parent its locks."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def is_locked(folder: Path) -> bool:
    """Whether some process has the lock of a folder. Nothing is written, and nobody is kept from taking it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | _SAFE)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_taken(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


# Links are not followed: the file that they name would be written to.
_SAFE = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def _opened(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            aside = set_aside(path)
            warn(f"{path} was no file; it is {aside.name} now, and a new one is made")
    return os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o666)


def _owner(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, _MOST_SHOWN).decode(errors="replace").strip()
    return text if text and text.isprintable() else "another process"


if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 20  # what is locked cannot be read by others

    def _take(descriptor: int) -> bool:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _is_taken(descriptor: int) -> bool:
        if not _take(descriptor):
            return True
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return False

else:
    import fcntl

    _FLOCK = "hhqqi4x"  # Linux's `struct flock`: kind, whence, start, length, process

    def _take(descriptor: int) -> bool:
        return _asked(descriptor, "F_OFD_SETLK", fcntl.LOCK_EX) is not None

    def _is_taken(descriptor: int) -> bool:
        return _asked(descriptor, "F_OFD_GETLK", fcntl.LOCK_SH) != fcntl.F_UNLCK

    def _asked(descriptor: int, command: str, otherwise: int) -> int | None:
        """What the system answers to a command it knows, or else to a lock by `flock`; None if another has it."""
        try:
            if sys.platform == "linux":
                whole = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                try:
                    answer = fcntl.fcntl(descriptor, getattr(fcntl, command), whole)
                    return int(struct.unpack(_FLOCK, answer)[0])
                except OSError as error:
                    if error.errno != errno.EINVAL:  # of a system that only looks like Linux
                        raise
            fcntl.flock(descriptor, otherwise | fcntl.LOCK_NB)
            return fcntl.F_UNLCK
        except OSError as error:
            if error.errno not in _IN_USE:
                raise
            return None
