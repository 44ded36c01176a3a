"""`hansa privacy`: what a run has spent, and whether its ledger is sound."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hansa.cli._commands import app
from hansa.privacy import Poisson, losses
from hansa.program import read_privacy, verify_privacy
from tests.program.private_run import BUDGET, NOISE, run

pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")


def hansa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, ran: Path) -> Path:
    copied = tmp_path_factory.mktemp("copied") / "run"
    shutil.copytree(ran, copied)
    return copied


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a private run of four rounds."""
    path = tmp_path_factory.mktemp("runs") / "run"
    run(path, 4)
    return path


def test_status_says_what_is_promised_and_what_is_left(ran: Path) -> None:
    epsilon = losses.epsilon({(Poisson(0.25), NOISE): 4}, 1e-5)
    result = hansa("privacy", "status", ran)
    assert result.exit_code == 0, result.output
    assert f"epsilon {epsilon:.4g} at delta 1e-05 after 4 rounds: for each client" in result.stdout
    assert (
        f"epsilon {BUDGET.epsilon:g} at delta 1e-05; {1 - epsilon / BUDGET.epsilon:.0%} of it is left" in result.stdout
    )
    assert "charged   4 times for 4 rounds\n" in result.stdout
    assert "Gaussian noise of 4" in result.stdout
    found = json.loads(hansa("privacy", "status", ran, "--json").stdout)
    assert found["guarantee"]["epsilon"] == pytest.approx(epsilon)
    assert (found["budget"], found["rounds"], found["attempts"], found["open_metrics"]) == (30.0, 4, 4, False)
    assert found["charges"][0]["times"] == 4
    assert read_privacy(ran).guarantee.epsilon == pytest.approx(epsilon)


def test_verify_finds_nothing_in_a_sound_ledger(ran: Path) -> None:
    result = hansa("privacy", "verify", ran)
    assert (result.exit_code, result.stdout) == (0, "The ledger is sound: each round was charged.\n")
    assert json.loads(hansa("privacy", "verify", ran, "--json").stdout) == {"sound": True, "problems": []}


def changed_line(path: Path, number: int, old: str, new: str, chained: bool) -> None:
    """Another text in a line of a ledger; with `chained`, the lines after it are made to follow."""
    lines = path.read_text().splitlines()
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
    if chained:
        for place in range(1, len(lines)):
            before = json.loads(lines[place])["previous"]
            lines[place] = lines[place].replace(before, hashlib.sha256(lines[place - 1].encode()).hexdigest())
    path.write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize(
    ("old", "new", "chained", "message"),
    [
        ('"noise_multiplier": 4.0', '"noise_multiplier": 8.0', False, "line 3 .* is damaged: it does not follow"),
        ('"noise_multiplier": 4.0', '"noise_multiplier": 8.0', True, "round 2: the ledger says epsilon .*, and it is"),
        ('"probability": 0.25', '"probability": 0.75', True, "the ledger says epsilon .* at last, and it is"),
        ('"round": 2', '"round": 3', True, "round 2 has metrics, and was not charged"),
        (
            '"epsilon_after": 0',
            '"epsilon_after": 9',
            True,
            "round 2: its metrics say epsilon 0.*, and the ledger does not",
        ),
    ],
)
def test_verify_finds_what_was_changed(folder: Path, old: str, new: str, chained: bool, message: str) -> None:
    changed_line(folder / "private" / "ledger.jsonl", 1, old, new, chained)
    result = hansa("privacy", "verify", folder)
    assert result.exit_code == 1
    assert "The ledger is not sound." in result.stdout
    assert re.search(message, " ".join(verify_privacy(folder))), verify_privacy(folder)


def test_neither_command_takes_a_ledger_that_lacks_its_last_lines(folder: Path) -> None:
    path = folder / "private" / "ledger.jsonl"
    lines = path.read_text().splitlines()
    for kept in ("".join(f"{line}\n" for line in lines[:-2]), "\n".join(lines)[:-300], ""):
        path.write_text(kept)
        assert "was not charged" in " ".join(verify_privacy(folder))
        result = hansa("privacy", "status", folder)
        assert result.exit_code == 1 and "what has been spent is not known" in result.stderr


def test_verify_finds_who_else_may_read(folder: Path) -> None:
    os.chmod(folder / "private" / "secrets.json", 0o644)
    assert "secrets.json may be read or written by others (mode 644)" in hansa("privacy", "verify", folder).stdout
    assert hansa("privacy", "status", folder).exit_code == 0


def test_a_run_that_is_not_private_is_said_to_be_none(tmp_path: Path) -> None:
    run(tmp_path / "run", 0, privacy=None)
    for command in ("status", "verify"):
        result = hansa("privacy", command, tmp_path / "run")
        assert result.exit_code == 1
        assert result.stderr.startswith(f"hansa privacy {command}: the run in {tmp_path / 'run'} is not private")
        assert "has no run" in hansa("privacy", command, tmp_path / "other").stderr
