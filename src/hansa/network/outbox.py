"""What a device keeps until the coordinator has it: contributions, and values for later stages of the same call.

A contribution is on the disk before it is sent, so that a device that dies sends the same bytes again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.compiler.artifacts.ports import Port, decode_port, encode_port
from hansa.network import wire
from hansa.network.durable import Bytes, Disk
from hansa.network.tasks import PhaseKey

_OCCASIONS = 2
"""Calls whose kept values are here at a time: the one that goes on, and the one before."""


class Outbox:
    """The files of one device.

    Args:
        folder: where they lie; made if it is not there.
        disk: the disk.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._out, self._kept, self._disk = folder / "outbox", folder / "kept", disk
        for each in (self._out, self._kept):
            each.mkdir(parents=True, exist_ok=True)

    def put(self, task: str, pieces: Sequence[Bytes]) -> str:
        """The contribution of a task; gives its digest. Those of other tasks are removed."""
        seen = hashlib.sha256()
        for piece in pieces:
            seen.update(piece)
        digest = seen.hexdigest()
        for path in self._out.iterdir():
            path.unlink()
        self._disk.write(self._out / f"{task}-{digest}", pieces)
        return digest

    def find(self, task: str) -> tuple[str, Path] | None:
        """The contribution of a task: its digest, and where it is."""
        for path in self._out.glob(f"{task}-*"):
            return path.name.rpartition("-")[2], path
        return None

    def remove(self, task: str) -> None:
        """The coordinator has it."""
        for path in self._out.glob(f"{task}-*"):
            path.unlink()

    def keep(self, key: PhaseKey, ports: Sequence[Port], values: Sequence[Any]) -> None:
        """Values for later stages of this call."""
        if not ports:
            return
        folder = self._of(key)
        folder.mkdir(exist_ok=True)
        kinds = [encode_port(port.name, port.type) for port in ports]
        self._disk.write(folder / f"{key.stage}.json", [json.dumps(kinds).encode()])
        self._disk.write(folder / f"{key.stage}.st", wire.encoded(ports, values))
        others = sorted(self._kept.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in others[:-_OCCASIONS]:
            shutil.rmtree(path, ignore_errors=True)

    def kept(self, key: PhaseKey, stage: int) -> list[Any] | None:
        """What was kept in an earlier stage of the call of a phase; None if it is not here."""
        folder = self._of(key)
        try:
            ports = list(map(decode_port, json.loads((folder / f"{stage}.json").read_text())))
            return wire.decoded(ports, (folder / f"{stage}.st").read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _of(self, key: PhaseKey) -> Path:
        return self._kept / key.call_id
