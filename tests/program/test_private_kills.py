"""A private run that is killed, before, within and after charges, is the run that was left alone, at the same cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hansa
from hansa.privacy import read_ledger
from hansa.program import load_checkpoint, read_privacy, verify_privacy
from tests.program.digits import assert_same_bits

pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")]

PROGRAM = Path(__file__).with_name("killed_private_runs.py")


def test_kills_around_charges_change_no_bit_and_cost_nothing(tmp_path: Path) -> None:
    source = str(Path(hansa.__file__).resolve().parents[1])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path)],
        env={**os.environ, **cache, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{moment} True" for moment in ("before", "within", "after", "round")]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    assert_same_bits(load_checkpoint(killed).state, load_checkpoint(undisturbed).state)
    assert (killed / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()
    entries, expected = (read_ledger(folder / "private" / "ledger.jsonl") for folder in (killed, undisturbed))
    assert entries == expected
    assert [entry.round for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert read_privacy(killed).guarantee == read_privacy(undisturbed).guarantee
    assert verify_privacy(killed) == verify_privacy(undisturbed) == []
