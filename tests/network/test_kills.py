"""SIGKILL of the coordinator and of devices at any moment: the states are those of a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hansa.network.ledger import Ledger
from hansa.program import load_checkpoint
from tests.network.killing import DEVICES, ROUNDS, settings_of
from tests.program.digits import assert_same_bits, averaging

SECONDS = 900.0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Processes:
    """A coordinator and two processes of devices, which are begun again when they end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, str(free_port())
        self.environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        self.hosts = [self.host(0), self.host(1)]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", *command], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def role(self, name: str) -> subprocess.Popen[bytes]:
        return self.start("tests.network.killing", name, str(self.folder), self.port)

    def host(self, number: int) -> subprocess.Popen[bytes] | None:
        path = settings_of(self.folder, number)
        return self.start("hansa.network.hosting", str(path)) if path.exists() else None

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-5000:]


@pytest.mark.whole
def test_whatever_is_killed_the_states_are_those_of_a_run_that_nobody_disturbed(tmp_path):
    rng, processes = random.Random(), Processes(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    alone = processes.start("tests.network.killing", "alone", str(undisturbed), "0")
    setup = processes.role("setup")
    while not settings_of(tmp_path, 1).exists():
        assert setup.poll() is None, processes.log()
        time.sleep(0.1)
    processes.hosts = [processes.host(0), processes.host(1)]
    running = [alone, setup]
    try:
        assert setup.wait(SECONDS) == 0, processes.log()
        until, kills = time.monotonic() + SECONDS, {"coordinator": 0, "devices": 0}
        coordinator = processes.role("coordinator")
        while coordinator.poll() != 0 and time.monotonic() < until:
            time.sleep(rng.uniform(0.5, 6.0))
            if coordinator.poll() not in (None, 0):
                assert coordinator.returncode == -9, processes.log()
                coordinator = processes.role("coordinator")
            begun = (tmp_path / "run" / "rounds.jsonl").exists()
            if begun and coordinator.poll() is None and kills["coordinator"] < 5 and rng.random() < 0.5:
                coordinator.kill()
                coordinator.wait()
                kills["coordinator"] += 1
            for number, host in enumerate(processes.hosts):
                if begun and kills["devices"] < 5 and rng.random() < 0.3:
                    host.kill()
                    host.wait()
                    kills["devices"] += 1
                    processes.hosts[number] = processes.host(number)
        assert coordinator.poll() == 0, processes.log()
        assert alone.wait(SECONDS) == 0, processes.log()
        assert min(kills.values()) >= 1, kills
    finally:
        for process in [*running, coordinator, *processes.hosts]:
            process.kill()
            process.wait()
    _compare(tmp_path, undisturbed)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([23], marks=pytest.mark.slow, id="one"),
        pytest.param(range(1, 62, 4), marks=pytest.mark.whole, id="many"),
    ],
)
def test_a_coordinator_that_dies_at_durable_steps_goes_on_to_the_same_states(tmp_path, steps):
    """Before or after an fsync, a rename or a commit; each time a few steps further on than the time before."""
    processes, undisturbed = Processes(tmp_path), tmp_path / "undisturbed"
    undisturbed.mkdir()
    alone, setup = processes.start("tests.network.killing", "alone", str(undisturbed), "0"), processes.role("setup")
    while not settings_of(tmp_path, 1).exists():
        assert setup.poll() is None, processes.log()
        time.sleep(0.1)
    processes.hosts = [processes.host(0), processes.host(1)]
    running = [alone, setup]
    try:
        assert setup.wait(SECONDS) == 0, processes.log()
        for step in [*steps, 0]:  # the last one is not killed
            processes.environment["DIE_AT"] = str(step)
            running.append(processes.role("coordinator"))
            ended = running[-1].wait(SECONDS)
            assert ended == (-9 if step else 0), processes.log()
        assert alone.wait(SECONDS) == 0, processes.log()
    finally:
        for process in [*running, *processes.hosts]:
            process.kill()
            process.wait()
    _compare(tmp_path, undisturbed)


@pytest.mark.whole
def test_devices_that_die_at_durable_steps_send_the_same_bytes(tmp_path):
    """Before or after an fsync or a rename of a blob or of a contribution; each time some steps further on."""
    processes, undisturbed = Processes(tmp_path), tmp_path / "undisturbed"
    undisturbed.mkdir()
    alone, setup = processes.start("tests.network.killing", "alone", str(undisturbed), "0"), processes.role("setup")
    while not settings_of(tmp_path, 1).exists():
        assert setup.poll() is None, processes.log()
        time.sleep(0.1)
    processes.hosts = [processes.host(0), processes.host(1)]
    running, deaths, until = [alone, setup], 0, time.monotonic() + SECONDS
    try:
        assert setup.wait(SECONDS) == 0, processes.log()
        processes.hosts[0].kill()  # from now on another one has its devices
        processes.hosts[0].wait()
        coordinator = processes.role("coordinator")
        running.append(coordinator)
        for step in [*range(1, 40, 3), 0]:  # the last one is not killed
            processes.environment["DIE_AT"] = str(step)
            running.append(processes.role("host"))
            while step and running[-1].poll() is None and coordinator.poll() is None:
                assert time.monotonic() < until, processes.log()
                time.sleep(0.05)
            if coordinator.poll() is not None:
                break
            assert not step or running[-1].returncode == -9, processes.log()
            deaths += bool(step)
        assert coordinator.wait(SECONDS) == 0, processes.log()
        assert deaths >= 6, processes.log()
        assert alone.wait(SECONDS) == 0, processes.log()
    finally:
        for process in [*running, *processes.hosts]:
            process.kill()
            process.wait()
    _compare(tmp_path, undisturbed)


def _compare(folder: Path, undisturbed: Path) -> None:
    """The last two states have the same bits, and nothing that was counted is lost or twice."""
    kind = averaging().state_type
    for number in (ROUNDS - 1, ROUNDS):
        found, expected = (
            load_checkpoint(each / "run" / "checkpoints" / f"round-{number:08d}.hansa", kind).state
            for each in (folder, undisturbed)
        )
        assert_same_bits(found, expected)
    ledger = Ledger(folder / "coordinator")
    outcomes = ledger.outcomes(None, None)
    ledger.close()
    assert {each["outcome"] for each in outcomes} <= {"counted", "late", "offline"}
    counted = [(each["round"], each["client_id"]) for each in outcomes if each["outcome"] == "counted"]
    assert set(counted) >= {(number, client) for number in range(1, ROUNDS + 1) for client in range(DEVICES)}
