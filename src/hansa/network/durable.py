"""What is on the disk when a call returns, and whatever is killed: files written whole, names put in their folders.

`Disk` is the one place at which the coordinator and devices do that, so that a test can die at each of its steps.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

Bytes = bytes | bytearray | memoryview

_NETWORK_DISKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"})
"""File systems on which SQLite's locks and the order of writes cannot be relied on."""

_MOUNTS = Path("/proc/self/mountinfo")


class Disk:
    """The disk, step by step."""

    def reached(self, point: str) -> None:
        """Called before and after every step that makes something durable; nothing is done here.

        Args:
            point: which step, such as "before rename".
        """

    def write(self, path: Path, pieces: Iterable[Bytes]) -> None:
        """A file that is there whole, or not at all.

        Raises:
            OSError: if it cannot be written; what was at the path stays.
        """
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                self.sync(file)
            self.rename(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def sync(self, file: BinaryIO) -> None:
        """What has been written to a file is on the disk."""
        file.flush()
        self.reached("before fsync")
        os.fsync(file.fileno())
        self.reached("after fsync")

    def rename(self, part: Path, target: Path) -> None:
        """A file that is on the disk has another name, there too."""
        self.reached("before rename")
        os.replace(part, target)
        self.reached("after rename")
        self.sync_folder(target.parent)

    def sync_folder(self, folder: Path) -> None:
        """The names in a folder are on the disk."""
        if os.name == "nt":  # where folders cannot be opened, nor need be
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.reached("after fsync of a folder")


def refuse_network_disks(folder: Path) -> None:
    """Checks that a folder is on a disk of this machine.

    Raises:
        OSError: if it is on a file system of the network, as far as the system says.
    """
    kind = file_system(folder)
    if kind in _NETWORK_DISKS:
        raise OSError(
            errno.ENOTSUP, f"it is on {kind}, where a ledger is not safe: choose a folder on a disk of this machine",
            os.fspath(folder),
        )  # fmt: skip


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of file system that a folder is on; None where the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    real, found = folder.resolve(), (-1, None)  # type: tuple[Path, tuple[int, str | None]]
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if real.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), after.split()[0]
    return found[1]
