"""Contributions on their way: parts that may be gone on with, and whole files that wait for the ledger.

A file is whole and on the disk before the ledger says that it counts. What the ledger does not know of is removed.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hansa.network.durable import Disk
from hansa.network.tasks import PhaseKey

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Spool:
    """The files of contributions, in a folder for each phase.

    Args:
        folder: where they lie; made if it is not there.
        disk: the disk.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._disk = folder, disk

    def open_phase(self, key: PhaseKey) -> None:
        """Makes the folder of a phase."""
        self._of(key).mkdir(exist_ok=True)
        self._disk.sync_folder(self._folder)

    def path(self, key: PhaseKey, device: str) -> Path:
        """Where the whole contribution of a device is, if there is one."""
        return self._of(key) / device

    def offset(self, key: PhaseKey, device: str, digest: str) -> int:
        """How many bytes of a contribution are here."""
        try:
            return self._part(key, device, digest).stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def writing(self, key: PhaseKey, device: str, digest: str, offset: int) -> Iterator[BinaryIO]:
        """A part to go on with from an offset, which is not beyond what is here. What was after it is cut off."""
        path = self._part(key, device, digest)
        for other in path.parent.glob(f".{device}-*"):  # of a contribution that was given up
            if other != path:
                other.unlink(missing_ok=True)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(0, os.SEEK_END)
            if offset > file.tell():
                raise ValueError(f"there are {file.tell()} bytes of it, and it is to go on from {offset}")
            file.seek(offset)
            file.truncate()
            yield file

    @staticmethod
    def mapped(path: Path) -> memoryview:
        """The bytes of a file, which are read when they are looked at, and not copied."""
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def part(self, key: PhaseKey, device: str, digest: str) -> Path:
        """The file of a part."""
        return self._part(key, device, digest)

    def finish(self, key: PhaseKey, device: str, digest: str) -> None:
        """A part that has been found right is the device's contribution, on the disk when this returns."""
        part = self._part(key, device, digest)
        with part.open("rb+") as file:
            self._disk.sync(file)
        self._disk.rename(part, self.path(key, device))

    def discard(self, key: PhaseKey, device: str, digest: str) -> None:
        """Removes a part."""
        self._part(key, device, digest).unlink(missing_ok=True)

    def remove(self, key: PhaseKey) -> None:
        """Removes all files of a phase."""
        shutil.rmtree(self._of(key), ignore_errors=True)

    @staticmethod
    def place(folder: Path, key: PhaseKey, device: str) -> Path:
        """Where the whole contribution of a device is in a spool that another process has, if there is one."""
        return folder / key.task_id("") / device

    def _of(self, key: PhaseKey) -> Path:
        return self._folder / key.task_id("")

    def _part(self, key: PhaseKey, device: str, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"a digest is 64 hexadecimal digits; found {digest!r:.100}")
        return self._of(key) / f".{device}-{digest}"
