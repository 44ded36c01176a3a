"""Runs of processes whose clients keep a part of the state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.program import BestModel, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint, train
from hansa.program.changes import ChangedRunError
from hansa.program.client_rows import segments_of
from tests.program.visits import IDS, SEEING, run

ROUNDS = 12


@pytest.fixture(scope="module")
def alone() -> Any:
    """The state of a run in memory, without a folder."""
    return run(None, ROUNDS).state


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints" / "clients").iterdir())


def held(folder: Path) -> int:
    """How many rows there are in the files that the newest checkpoint names."""
    manifest = Reader(max((folder / "checkpoints").glob("*.hansa"))).manifest
    return sum(
        len(Reader(folder / "checkpoints" / "clients" / name).manifest["client_ids"]) for name in segments_of(manifest)
    )


def test_a_run_that_is_stopped_and_goes_on_ends_with_the_same_bits(tmp_path: Path, alone: Any) -> None:
    for rounds in (3, 8, ROUNDS):
        state = run(tmp_path / "run", rounds).state
    saved = load_checkpoint(tmp_path / "run", SEEING.state_type)
    assert state == alone and saved.state == alone and saved.round == ROUNDS
    assert saved.state.own.select(IDS) == alone.own.select(IDS) and 20 < len(alone.own) < 40
    again, _ = SEEING.next(saved.state, hansa.ClientBatches({"x": np.ones(2, np.float32)}, [0, 2], 2, IDS[:1]))
    assert again.own[IDS[0]].times == alone.own[IDS[0]].times + 1 and saved.state == alone


def test_a_checkpoint_writes_what_has_changed_and_merges_what_is_sparse(tmp_path: Path) -> None:
    written = []
    for rounds in range(2, 61, 2):
        before = set(segments(tmp_path)) if (tmp_path / "checkpoints" / "clients").is_dir() else set()
        state = run(tmp_path, rounds).state
        new = set(segments(tmp_path)) - before
        written.append(sum((tmp_path / "checkpoints" / "clients" / name).stat().st_size for name in new) / 8004)
        assert held(tmp_path) <= 2 * len(state.own)
    assert written[0] < 9.9 and np.median(written) < 16 and len(segments(tmp_path)) < 15


def test_segments_that_no_checkpoint_names_are_deleted_and_those_that_are_damaged_are_told(
    tmp_path: Path, alone: Any
) -> None:
    run(tmp_path, 6)
    named = segments(tmp_path)
    (tmp_path / "checkpoints" / "clients" / "round-00000007-0.rows").write_bytes(b"of a run that was killed")
    newest = tmp_path / "checkpoints" / "clients" / named[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[:3000] + b"other" + whole[3005:])
    with pytest.warns(UserWarning, match="the checkpoint before it is used"):
        assert run(tmp_path, ROUNDS).state == alone
    assert "round-00000007-0.rows" not in segments(tmp_path)
    for path in (tmp_path / "checkpoints" / "clients").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="none of the checkpoints"):
        run(tmp_path, ROUNDS + 2)


def test_a_checkpoint_that_says_something_else_of_clients_is_told(tmp_path: Path) -> None:
    run(tmp_path, 2)
    path = tmp_path / "checkpoints" / "round-00000002.hansa"
    reader, writer = Reader(path), Writer()
    writer.entries = {name: (reader.entry(name),) for name in reader.manifest["entries"]}
    manifest, state = reader.manifest, reader.manifest["state"]
    (whole,) = state["clients"]
    wrong: list[Any] = [3, {}, {**whole, "segments": 3}, {**whole, "segments": [{"file": "../run.json", "digest": ""}]}]
    for clients in (*([each] for each in wrong), [{**whole, "at": [9]}], [whole, whole], []):
        writer.write(path, {**manifest, "state": {**state, "clients": clients}})
        with pytest.raises(CheckpointError):
            load_checkpoint(path, SEEING.state_type)
        if clients not in ([], [whole, whole]):
            with pytest.raises(CheckpointError):
                load_checkpoint(path)


def test_checkpoints_of_states_from_other_folders_have_all_they_need(tmp_path: Path) -> None:
    earlier, later = run(tmp_path / "run", 2).state, run(tmp_path / "run", 4).state
    go_on = {"initial_state": later, "checkpoint_every": 1}
    run(tmp_path / "other", 1, **go_on)
    paths = [tmp_path / name for name in ("a.hansa", "b.hansa")]
    for path, state in zip(paths, (earlier, later), strict=True):
        save_checkpoint(path, Checkpoint(1, state), SEEING.state_type)
    shutil.rmtree(tmp_path / "run")
    assert [load_checkpoint(path).state for path in paths] == [earlier, later]
    assert run(tmp_path / "other", 2, **go_on).state == run(None, 2, **go_on).state


def test_a_run_does_not_go_on_with_clients_of_other_ids(tmp_path: Path) -> None:
    run(tmp_path, 2)
    clients = {f"renamed {i}": {"x": np.ones(2, np.float32)} for i in range(len(IDS))}
    data = hansa.simulation.ClientData.from_clients(clients).batch(2)
    with pytest.raises(ChangedRunError, match="client_ids was"):
        train(SEEING, data, 4, cohort_size=4, seed=3, run_dir=tmp_path, checkpoint_every=2, progress=False)


def test_the_best_state_is_kept_with_what_clients_had_then(tmp_path: Path) -> None:
    for rounds in (8, 10, ROUNDS):
        best = BestModel("times", mode="min")
        run(tmp_path, rounds, callbacks=[best])
    assert best.round < 8 and best.state == run(None, best.round).state


def test_lists_that_do_not_say_who_the_clients_are_are_refused() -> None:
    batches = [hansa.Batches({"x": np.ones(2, np.float32)}, 2)] * 3
    with pytest.raises(TypeError, match="known by their ids, and data is a list"):
        hansa.fit(SEEING, batches, rounds=1, progress=False)
    with pytest.raises(TypeError, match=r"initial_state.own: expected"):
        run(None, 1, initial_state={"server": np.float32(0), "own": 3})


KILLED = """
import os, sys, signal
from pathlib import Path
from tests.program import visits
from hansa.program import client_rows, running
def round_of(run, number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return play(run, number)
def write(path, ids, arrays):
    whole(path, ids, arrays)
    if path.name.startswith("round-00000006") and sys.argv[2] == "between":
        os.kill(os.getpid(), signal.SIGKILL)
whole, client_rows._write = client_rows._write, write
play, running.Run._round = running.Run._round, round_of
visits.run(Path(sys.argv[1]), 12)
"""


@pytest.mark.parametrize("when", ["between", "later"])
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path: Path, when: str, alone: Any) -> None:
    """Between a segment and the checkpoint that is to name it, or in a round after a checkpoint."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), os.getcwd()])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), when], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert "round-00000006-0.rows" in segments(tmp_path)
    assert (tmp_path / "checkpoints" / "round-00000006.hansa").exists() == (when == "later")
    assert run(tmp_path, ROUNDS).state == alone
