"""On Ray a computation has the bits of one process, whoever works for it or is killed; and nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")  # One cluster at a time: a second one takes the same ports and cores.


def session(*arguments: object) -> dict[str, Any]:
    """What `tests.runtimes.ray.session` prints, run as users compile."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "RAY_ADDRESS")}
    command = [sys.executable, "-m", "tests.runtimes.ray.session", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    """Two workers, of whom one is killed while it works."""
    return session(2, 1, 0, "scaffold", "shuffled", "two stages")


def test_states_of_clients_two_stages_and_folds_in_order_have_the_bits_of_one_process(quick):
    assert quick["computed"] == 5
    assert quick["differing"] == []


def test_who_is_killed_is_replaced(quick):
    assert quick["lost"] == [1]
    ((before, after),) = quick["pids"]
    assert len(after) == 2
    assert len(set(before) & set(after)) == 1


def test_no_process_stays_behind(quick):
    def running() -> list[str]:
        found = [str(pid) for pids in quick["pids"][0] for pid in pids if Path(f"/proc/{pid}").exists()]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += [path.parent.name] if quick["folder"] in path.read_text() else []
            except OSError:
                continue  # It has ended by now.
        return found

    end = time.monotonic() + 30
    while running() and time.monotonic() < end:
        time.sleep(0.1)
    assert running() == []


@pytest.mark.slow
def test_any_number_of_workers_has_the_bits_of_one_process_and_half_of_the_calls_lose_one():
    found = session("1,2,4", 4, 1, "averaging", "robust", "scaffold", "two stages")
    assert found["computed"] == 3 * 8
    assert found["differing"] == []
    assert min(found["lost"]) >= 2  # of four, as some calls are over sooner than anybody is killed


@pytest.mark.whole
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_everything_has_the_bits_of_one_process_with_any_number_of_workers_who_are_killed(seed):
    found = session("1,2,4", 5, seed)
    assert found["computed"] == 3 * 10
    assert found["differing"] == []
    assert min(found["lost"]) >= 3


@pytest.mark.whole
def test_files_are_read_where_they_are_used_and_who_ends_three_workers_is_named(tmp_path):
    found = session("on disk", tmp_path)
    assert found["same"] == ["in memory", "in files", "lists"]
    assert found["populations"] == 2
    (killed,) = found["said"]
    assert killed.startswith("3 workers have ended, one after another, while they worked for client 0")


@pytest.mark.slow
def test_who_stands_still_is_overtaken_by_a_copy_of_its_work_and_goes_on_later():
    found = session("slowed")
    assert found["same"] == [True, True, True]
    assert found["stopped"] == 1 and found["lost"] == 0
    assert found["seconds"] < 20  # a second until it is taken for slow, and its work by another worker


@pytest.mark.slow
def test_what_clients_keep_outlives_the_node_where_it_was_computed_or_is_said_to_be_lost():
    found = session("nodes lost")
    assert found["same"] == ["scaffold 0", "scaffold 1", "scaffold 2"]
    assert found["in a round"] == 1  # in the window between a round's result and its copy
    assert all(first != second and second for first, second in found["homes"])
    assert "what clients keep, which was nowhere else" in found["said"]
    assert found["lost"] >= 3


@pytest.mark.whole
@pytest.mark.parametrize("seed", [1, 2])
def test_nodes_that_are_lost_at_any_moment_change_no_bit(seed):
    found = session("nodes lost at random", seed, 30)
    assert found["same"] == found["rounds"] == 30
    assert found["lost"] >= 10
