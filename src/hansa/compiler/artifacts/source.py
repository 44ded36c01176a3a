"""Where the bytes of an artifact are: in a file, or in memory. They are read where and when they are asked for.

A file is read and not mapped. Whoever cuts off a file that is mapped ends the processes that compute with it (SIGBUS),
and whoever writes into it changes their numbers. What has been read is this process's own: it can be checked once, and
used as it is. A file that is replaced by another stays what it was for those who have it open.
"""

from __future__ import annotations

import io
import os
import threading
import weakref
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hansa._files import open_regular
from hansa.compiler.artifact_error import ArtifactError

ALIGNMENT = 64
"""Bytes; where an array begins at a multiple of it, XLA computes with it as it is, and elsewhere with a copy."""


Given = str | os.PathLike[str] | bytes | bytearray | memoryview
"""What an artifact is read from: the path of a file, or bytes."""


class Source(Protocol):
    """Bytes that can be read at any place.

    Attributes:
        name: what messages call it.
        size: how many there are.
    """

    name: str
    size: int

    def read(self, offset: int, size: int) -> memoryview:
        """So many bytes, which nobody can change.

        Raises:
            ArtifactError: if they are not there, or not any more.
        """


def source_of(given: Given) -> Source:
    """The source that a path or bytes stand for.

    Raises:
        TypeError: if it is neither.
        OSError: if there is no file at the path, or it cannot be opened.
    """
    if isinstance(given, bytes | bytearray | memoryview):
        return _Memory(given)
    if isinstance(given, str | os.PathLike):
        return _File(Path(given))
    raise TypeError(f"a path, or bytes, such as those of file.read(), are needed; found {type(given).__name__}")


class _File:
    """A file that stays open until nobody has the source any more."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            self._descriptor = os.dup(file.fileno())
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int) -> memoryview:
        memory = _aligned(size)
        done = 0
        while done < size:
            try:
                count = self._read_into(memory[done:], offset + done)
            except OSError as error:
                raise ArtifactError(f"{self.name} cannot be read any more: {error.strerror or error}") from error
            if count == 0:
                raise ArtifactError(f"{self.name} is damaged, or was cut off after it was opened: it ends too early")
            done += count
        return memory.toreadonly()

    def _read_into(self, memory: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [memory], offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, min(len(memory), 1 << 24))
            memory[: len(data)] = data
            return len(data)


class _Memory:
    """Bytes in memory: views of them, or copies where somebody could write into them."""

    name = "the given data"

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        if not view.c_contiguous:
            raise TypeError("a memoryview of an artifact must be contiguous; found one with gaps: pass bytes(view)")
        self._view = view.cast("B")
        self.size = len(self._view)

    def read(self, offset: int, size: int) -> memoryview:
        found = self._view[offset : offset + size]
        if len(found) < size:
            raise ArtifactError(f"{self.name} is damaged: it ends too early")
        if found.readonly:
            return found
        memory = _aligned(size)
        memory[:] = found
        return memory.toreadonly()


def _aligned(size: int) -> memoryview:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].data


class Stream(io.RawIOBase):
    """A source as a file that is open to read."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the first byte")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there are bytes."""
        count = max(0, min(len(buffer), self._source.size - self._at))
        buffer[:count] = self._source.read(self._at, count)
        self._at += count
        return count
