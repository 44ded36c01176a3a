"""Streams that look at what goes by: the digest of a file that is read once, and how much comes out of it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import TracebackType
from typing import Any

from hansa.simulation._errors import DatasetError
from hansa.simulation._kept import check_unchanged, identity
from hansa.simulation._limits import too_much, unpacked_limit

_CHUNK = 1 << 20


class Watched:
    """A file whose digest is taken while it is read. Closing a stream that reads it does not close it."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._digest = path, path.open("rb"), hashlib.sha256()
        self._before = identity(self._file.fileno())

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        content = self._file.read(size)
        self._digest.update(content)
        return content

    def digest(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal; reads what has not been read yet.

        Raises:
            DatasetError: it was changed while it was read.
        """
        while self.read(_CHUNK):
            pass
        check_unchanged(self._path, self._before)
        return self._digest.hexdigest()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


class Stream(io.RawIOBase):
    """What is read of something that has `read`, as Python's streams."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Puts the next bytes into a buffer; how many they are."""
        content = bytes(self._content.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)


class Limited(Stream):
    """The uncompressed content of a file, which must not be more than one of its size may hold.

    Raises:
        DatasetError: it is more, when that is read.
    """

    def __init__(self, content: Any, path: Path) -> None:
        super().__init__(content)
        self._path = path
        self._left = self._limit = unpacked_limit(path)

    def readinto(self, buffer: Any) -> int:
        """Puts the next bytes into a buffer; how many they are."""
        count = super().readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise DatasetError(too_much(self._path, f"more than {self._limit:,} bytes when it is uncompressed"))
        return count
