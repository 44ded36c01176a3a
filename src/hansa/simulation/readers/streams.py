"""Streams for Arrow that look at what goes by: the digest of a file that is read once, and how much comes out of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

from hansa.simulation._errors import DatasetError
from hansa.simulation._kept import check_unchanged, identity
from hansa.simulation._limits import too_much, unpacked_limit

_CHUNK = 1 << 20


class Stream:
    """What Arrow wants of a Python file that it reads. Arrow closes what it is given; this stays open."""

    closed = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Does nothing."""

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """No."""
        return False

    def seekable(self) -> bool:
        """No."""
        return False


class Watched(Stream):
    """A file whose digest is taken while it is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._digest = path, path.open("rb"), hashlib.sha256()
        self._before = identity(self._file.fileno())

    def read(self, size: int = -1) -> bytes:
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


class Limited(Stream):
    """The uncompressed content of a file, which must not be more than one of its size may hold.

    Raises:
        DatasetError: it is more, when that is read.
    """

    def __init__(self, content: Any, path: Path) -> None:
        self._content, self._path = content, path
        self._left = self._limit = unpacked_limit(path)

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        content = bytes(self._content.read(size))
        self._left -= len(content)
        if self._left < 0:
            raise DatasetError(too_much(self._path, f"more than {self._limit:,} bytes when it is uncompressed"))
        return content
