"""A device's own log, for its owner: each task, how it ended, and the digest and size of what has left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

_FILE = "log.jsonl"


class DeviceLog:
    """The log of a device.

    Args:
        folder: the device's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._left = [(line["at"], line["bytes"]) for line in lines_of(folder)]

    def add(self, line: dict[str, Any]) -> None:
        """One more task."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._left.append((line["at"], line["bytes"]))

    def left_today(self, now: float | None = None) -> int:
        """Bytes of contributions that have left today, by the device's clock."""
        today = time.localtime(now)[:3]
        self._left = [(at, size) for at, size in self._left if time.localtime(at)[:3] == today]
        return sum(size for _, size in self._left)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a device's log. A line that a kill has cut short is left out."""
    try:
        texts = (folder / _FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"at", "bytes", "outcome"} <= set(line):
            found.append(line)
    return found
