"""Bytes by their SHA-256, as files: what the coordinator sends, and what a device has fetched.

A blob never changes, so a device that has it does not ask again, and half of one is gone on with.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hansa.network.durable import Bytes, Disk

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a text is SHA-256 in hexadecimal digits, and so a name that is safe for a file."""
    return _DIGEST.fullmatch(text) is not None


class Blobs:
    """A folder of blobs.

    Args:
        folder: where they lie; made if it is not there.
        disk: the disk.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._disk = folder, disk

    def put(self, pieces: Sequence[Bytes]) -> str:
        """A blob of these bytes, on the disk when this returns; gives its digest."""
        seen = hashlib.sha256()
        for piece in pieces:
            seen.update(piece)
        digest = seen.hexdigest()
        if not self.path(digest).exists():
            self._disk.write(self.path(digest), pieces)
        return digest

    def path(self, digest: str) -> Path:
        """Where a blob is, if it is here.

        Raises:
            ValueError: if the digest is none.
        """
        if not is_digest(digest):
            raise ValueError(f"a digest is 64 hexadecimal digits; found {digest!r:.100}")
        return self._folder / digest

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        return self.path(digest).exists()

    def begun(self, digest: str) -> int:
        """How many bytes of a blob are here that is being fetched."""
        try:
            return self._coming(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def fetch(self, digest: str, pieces: Iterable[bytes], offset: int) -> bool:
        """Goes on with a blob from an offset, and takes it if it is whole.

        Returns:
            Whether its bytes are those of the digest. If they are not, nothing of them is kept.
        """
        path = self._coming(digest)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(offset)
            file.truncate()
            for piece in pieces:
                file.write(piece)
            self._disk.sync(file)
            file.seek(0)
            seen = hashlib.file_digest(file, "sha256").hexdigest()
        if seen != digest:
            path.unlink()
            return False
        self._disk.rename(path, self.path(digest))
        return True

    def keep(self, digests: Iterable[str]) -> None:
        """Removes all blobs but these."""
        kept = set(digests)
        for name in os.listdir(self._folder):
            if is_digest(name) and name not in kept:
                (self._folder / name).unlink(missing_ok=True)

    def _coming(self, digest: str) -> Path:
        return self.path(digest).with_name(f".{digest}.coming")
