"""A device's own log, for its owner: each task, how it ended, and the digest and size of what has left.

What leaves is noted before it does, so that a kill hides nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

_FILE = "log.jsonl"
_NOT_KNOWN = "not known"
"""The outcome of a task of which nothing is noted but that its contribution began to leave."""


class DeviceLog:
    """The log of a device.

    Args:
        folder: the device's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        lines = lines_of(folder)
        self._left = [(line["at"], line["bytes"]) for line in lines]
        self._leaving = {(line.get("task"), line.get("digest")) for line in lines if line["outcome"] == _NOT_KNOWN}

    def leaving(self, task: str, digest: str, size: int) -> None:
        """A contribution is about to leave; it is noted once, however often it is sent."""
        if (task, digest) not in self._leaving:
            self._leaving.add((task, digest))
            self._write({"at": time.time(), "task": task, "leaving": digest, "bytes": size}, size)

    def add(self, line: dict[str, Any]) -> None:
        """One more task, as it ended."""
        known = (line.get("task"), line.get("digest")) in self._leaving
        self._leaving.discard((line.get("task"), line.get("digest")))
        self._write(line, 0 if known else line["bytes"])

    def _write(self, line: dict[str, Any], size: int) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._left.append((line["at"], size))

    def left_today(self, now: float | None = None) -> int:
        """Bytes of contributions that have left today, by the device's clock."""
        today = time.localtime(now)[:3]
        self._left = [(at, size) for at, size in self._left if time.localtime(at)[:3] == today]
        return sum(size for _, size in self._left)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a device's log, one a task. A line that a kill has cut short is left out.

    Where a contribution began to leave, and no end of its task is noted, the outcome is "not known".
    """
    try:
        texts = (folder / _FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    leaving: dict[tuple[Any, Any], dict[str, Any]] = {}
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or not {"at", "bytes"} <= set(line):
            continue
        if "leaving" in line:
            leaving[line.get("task"), line["leaving"]] = line
        elif "outcome" in line:
            leaving.pop((line.get("task"), line.get("digest")), None)
            found.append(line)
    for (task, digest), line in leaving.items():
        rest = {"phase": "", "computation": "", "seconds": 0.0, "program": None, "reason": None}
        found.append({**rest, "at": line["at"], "bytes": line["bytes"], "task": task, "digest": digest,
                      "outcome": _NOT_KNOWN})  # fmt: skip
    return sorted(found, key=lambda line: float(line["at"]))
