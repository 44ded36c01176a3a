"""How another process tells the coordinator of a folder that it has changed the ledger: by the time of a file."""

from __future__ import annotations

from pathlib import Path

_FILE = "changed"


class Changes:
    """Whether the ledger of a folder was changed by others.

    Args:
        folder: the coordinator's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._last = self._time()

    def are_new(self) -> bool:
        """Whether there were any since this was asked last."""
        before, self._last = self._last, self._time()
        return self._last != before

    def tell(self) -> None:
        """There is one."""
        self._path.touch()

    def _time(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
