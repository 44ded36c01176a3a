"""The folder `private` of a run: its secrets, its ledger and its clients, readable by their owner only."""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from hansa._files import replacing, sync_folder
from hansa.program.run_file import RunError, read_json

PRIVATE, SECRETS, LEDGER = "private", "secrets.json", "ledger.jsonl"
"""The folder, and its files: what noise and cohorts are drawn of; what has been charged."""

_BYTES = 32


@dataclass(frozen=True)
class Secrets:
    """What a run draws of: 256 bits for its noise, and as many for its cohorts.

    Who has them knows who takes part, and can take the noise away.
    """

    noise: bytes
    cohorts: int

    @staticmethod
    def fresh() -> Secrets:
        """Secrets of the system's generator."""
        return Secrets(secrets.token_bytes(_BYTES), secrets.randbits(8 * _BYTES))

    def __repr__(self) -> str:
        return "Secrets(…)"


class PrivateFolder:
    """The folder `private` of a run's folder.

    Args:
        run_dir: the run's folder, which is there.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / PRIVATE
        self.ledger = self.path / LEDGER

    def open(self, resumed: bool) -> Secrets:
        """Make the folder, if it is not there, and give the run's secrets.

        Args:
            resumed: whether the run has done something before.

        Raises:
            RunError: if others may read it, or the run has begun, and its secrets are lost.
            OSError: if it cannot be written.
        """
        if os.path.lexists(self.path):
            self._check_modes()
        else:
            self.path.mkdir(mode=0o700)
            self.path.chmod(0o700)
            sync_folder(self.path.parent)
        path = self.path / SECRETS
        if os.path.lexists(path):
            return self._read(path)
        if os.path.lexists(self.ledger) or resumed:
            raise RunError(
                f"{path} is lost: without it the run would draw other cohorts and other noise, and cannot go on; begin "
                "in another folder"
            )
        found = Secrets.fresh()
        text = json.dumps({"noise": found.noise.hex(), "cohorts": f"{found.cohorts:x}"}) + "\n"
        with replacing(path, mode=0o600) as part:
            part.write_text(text, "utf-8")
        return found

    def _read(self, path: Path) -> Secrets:
        found = read_json(path)
        try:
            noise, cohorts = bytes.fromhex(found["noise"]), int(found["cohorts"], 16)
            if len(noise) != _BYTES or not 0 <= cohorts < 1 << 8 * _BYTES:
                raise ValueError("they are of another length")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged, and the run cannot go on: {error}") from None
        return Secrets(noise, cohorts)

    def _check_modes(self) -> None:
        problem = open_to_others(self.path)
        if problem is not None:
            raise RunError(f"{problem}; what is in it must be known to nobody else")


def open_to_others(folder: Path) -> str | None:
    """What of the folder `private` others may read, and what to do about it; None if nothing is."""
    if folder.is_symlink() or not folder.is_dir():
        return f"{folder} is no folder"
    if os.name == "nt":  # where modes do not say who may read
        return None
    for path in (folder, *sorted(folder.iterdir())):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077:
            return f"{path} may be read or written by others (mode {mode:o}): chmod go= {path}"
    return None
