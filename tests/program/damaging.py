"""Ways to damage a file of a run's folder, and a run that goes on in one that was damaged."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.program.counting import losses, run

Damage = Callable[[Path], None]


def replaced(old: bytes, new: bytes) -> Damage:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return damage


def appended(data: bytes) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes() + data)


def prepended(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data + path.read_bytes())


def instead(make: Damage) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


PLACES = {
    "a folder": instead(lambda path: path.mkdir()),
    "a FIFO": instead(os.mkfifo),
    "a link to nothing": instead(lambda path: path.symlink_to("/nowhere/at/all")),
    "a loop of links": instead(lambda path: path.symlink_to(path)),
    "a link to a file of somebody's": instead(lambda path: path.symlink_to(path.parent.parent / "precious")),
}


def resumed(folder: Path, rounds: int = 6) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = run(folder, rounds)
    assert found.state.sum == sum(range(rounds + 1))
    assert [record["loss"] for record in found.history][-2:] == losses(rounds)[-2:]
    return found, [str(warning.message) for warning in told]


def copied(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "precious").write_text("precious\n")
    return Path(shutil.copytree(whole, tmp_path / "run"))


def rounds_in_records(path: Path) -> list[int]:
    return [json.loads(line)["round"] for line in path.read_text().splitlines()]
