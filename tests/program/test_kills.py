"""A run that is killed, at whatever moment, and resumed is the run that was never killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hansa
from hansa.program import load_checkpoint
from tests.program.digits import assert_same_bits, averaging
from tests.program.killed_runs import ROUNDS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")]

PROGRAM = Path(__file__).with_name("killed_runs.py")


def started(root: Path, *arguments: str) -> subprocess.Popen[str]:
    source = str(Path(hansa.__file__).resolve().parents[1])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
    # Programs that are compiled once serve all children.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(root / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cache, "PYTHONPATH": search, "XLA_FLAGS": flags}
    command = [sys.executable, str(PROGRAM), str(root), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_kills_at_random_moments_and_in_the_middle_of_writing_change_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "random", "8") as at_random, started(tmp_path, "writing") as in_writing:
        outputs = [process.communicate(timeout=500) for process in (at_random, in_writing)]
    assert [at_random.returncode, in_writing.returncode] == [0, 0], outputs
    undisturbed = tmp_path / "undisturbed"
    state_type = averaging().state_type
    expected = load_checkpoint(undisturbed, state_type)
    lines = (undisturbed / "metrics.jsonl").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == [f'{{"round": {n}' for n in range(1, ROUNDS + 1)]
    runs = [
        tmp_path / f"{kind}-{number}"
        for kind, (output, _) in zip(("random", "writing"), outputs, strict=True)
        for number in range(int(output))
    ]
    assert len(runs) >= 2
    for run in runs:
        found = load_checkpoint(run, state_type)
        assert (found.round, found.stopped) == (ROUNDS, None)
        assert_same_bits(found.state, expected.state)
        assert_same_bits(dict(found.saved), dict(expected.saved))
        for name in ("metrics.jsonl", "metrics.csv"):
            assert (run / name).read_text() == (undisturbed / name).read_text()
        assert run.with_suffix(".csv").read_text() == undisturbed.with_suffix(".csv").read_text()
        names = sorted(path.name for path in (*run.iterdir(), *(run / "checkpoints").iterdir()))
        assert names == sorted(path.name for path in (*undisturbed.iterdir(), *(undisturbed / "checkpoints").iterdir()))
