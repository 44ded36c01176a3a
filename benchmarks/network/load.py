"""Many devices at once, some of them bad: `python -m benchmarks.network.load [--devices 1000] [--rounds 20]`.

The devices are simulated in a few processes of this machine. They enrol, keep a TLS connection each and speak the
protocol, but compute nothing: a contribution is ready. In each round some go away with their task, some crash, some
give what is invalid, and some are slow, drawn by the name of the task. At the end each outcome in the ledger is held
against what its device has done, and the coordinator's memory after each round is told.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import resource
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import hansa
from hansa.language.occasions import part_of
from hansa.network import wire
from hansa.network.membership import Invitation, Membership, join
from hansa.network.network import Network
from hansa.network.tasks import Outcome, PhaseKey

FAULTS = {"offline": 0.10, "crashed": 0.05, "invalid": 0.02, "slow": 0.05}
"""The share of the devices that a fault befalls in a round, drawn anew for each."""

EXPECTED = {
    "good": {"counted"},
    "slow": {"counted", "late"},
    "crashed": {"crashed"},
    "invalid": {"invalid"},
    "offline": {"offline", "late"},
    "back": {"counted", "offline", "late"},
    "away": {"offline"},
}
"""How a task may end of which a device has made this; `away` was asked and never came, `back` went away for a while."""


@hansa.federated_computation("{float32[1000]}@CLIENTS")
def readings(values: Any) -> Any:
    """The computation of the rounds."""
    return hansa.federated_mean(values)


class Simulated:
    """A device that computes nothing.

    Args:
        member: who it is.
        good: a contribution.
        bad: one that is invalid.
        slow: seconds that it takes when it is slow.
        gone: seconds for which it is away when it goes away.
        done: what it has made of each task, for all devices of the process.
    """

    def __init__(
        self, member: Membership, good: bytes, bad: bytes, slow: float, gone: float, done: dict[str, str]
    ) -> None:
        self._member, self._address, self._context = member, urlsplit(member.url), member.context
        self._good, self._bad, self._slow, self._gone, self._done = good, bad, slow, gone, done
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Asks and answers for ever."""
        while True:
            try:
                status, body = await self._asked("GET", "/v1/poll?wait=25")
                if status == 200:
                    await self._do(json.loads(body)["task"])
                elif status != 204:
                    await asyncio.sleep(random.uniform(0.5, 2.0))
            except (OSError, EOFError, ValueError):
                self._leave()
                await asyncio.sleep(random.uniform(0.1, 1.0))

    async def _do(self, task: str) -> None:
        kind, drawn = "good", random.Random(task).random()
        for fault, share in FAULTS.items():
            if 0 <= drawn < share:
                kind = fault
            drawn -= share
        if kind == "offline" and task in self._done:  # the same task is given again, and now it does it
            kind = "back"
        self._done[task] = kind
        if kind == "offline":
            self._leave()
            await asyncio.sleep(self._gone)
            return
        if kind == "crashed":
            told = json.dumps({"outcome": "crashed", "reason": "Traceback: simulated"}).encode()
            await self._asked("POST", f"/v1/tasks/{task}/outcome", told)
            return
        if kind == "slow":
            await asyncio.sleep(self._slow)
        data = self._bad if kind == "invalid" else self._good
        await self._asked("PUT", f"/v1/tasks/{task}/{hashlib.sha256(data).hexdigest()}", data)

    async def _asked(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        if self._streams is None:
            address = self._address
            self._streams = await asyncio.open_connection(
                address.hostname, address.port, ssl=self._context, server_hostname=address.hostname, limit=2**16
            )
        source, target = self._streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\nContent-Length: {len(body)}\r\n"
            f"Upload-Offset: 0\r\nUpload-Length: {len(body)}\r\n\r\n"
        )
        target.write(head.encode() + body)
        await target.drain()
        lines = (await source.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await source.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self._leave()
        return int(lines[0].split()[1]), answer

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def process(
    folder: str, invitation: str, count: int, number: int, contributions: tuple[bytes, bytes], gone: float
) -> None:
    """Some devices, in a process of their own, until it or its parent ends; it writes down what they have done."""
    done: dict[str, str] = {}
    parent = os.getppid()
    invited, place = Invitation.from_text(invitation), Path(folder)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            named = [(place / f"d{number}-{i}", invited, f"client {number}-{i}") for i in range(count)]
            members = await asyncio.gather(*(loop.run_in_executor(pool, join, *each) for each in named))
        devices = [Simulated(member, *contributions, gone / 8, gone, done) for member in members]
        tasks = [asyncio.create_task(device.run()) for device in devices]
        while os.getppid() == parent:
            await asyncio.sleep(0.5)
            part = place / f".done-{number}"
            part.write_text(json.dumps(done))
            part.replace(place / f"done-{number}.json")
            assert not any(task.done() for task in tasks)

    asyncio.run(work())


def enrol_others(network: Network, count: int) -> float:
    """Puts devices into the ledger that never come; gives the seconds that it took."""
    begun = time.perf_counter()
    fingerprint = secrets.token_hex(32)
    rows = [(f"x-{i}", json.dumps(f"other {i}"), i + 1, fingerprint, "", f"k{i}", time.time()) for i in range(count)]

    def change(database: sqlite3.Connection) -> None:
        database.executemany(
            "INSERT INTO devices (name, client_id, number, fingerprint, token, key, enrolled) VALUES (?,?,?,?,?,?,?)",
            rows,
        )

    network._coordinator.ledger.writer.write(change).result()
    network._coordinator.refresh()
    return time.perf_counter() - begun


def resident() -> float:
    """MiB that this process has in memory; the most that it had, where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def unaccounted(outcomes: Sequence[dict[str, Any]], done: dict[str, str], names: dict[str, str]) -> list[str]:
    """Outcomes that are not what their devices have done.

    Args:
        outcomes: of the ledger.
        done: what devices have made of tasks, by task.
        names: the task of each round and device, as `ROUND DEVICE`.
    """
    wrong = []
    for each in outcomes:
        kind = done.get(names[f"{each['round']} {each['device']}"], "away")
        if each["outcome"] not in EXPECTED[kind]:
            wrong.append(f"round {each['round']}, {each['client_id']}: {kind}, and {each['outcome']}")
    return wrong


def measure(devices: int, rounds: int, processes: int, enrolled: int, lease: float, folder: Path) -> dict[str, Any]:
    """Runs it, and gives what was found."""
    with hansa.network.serve(folder / "net", port=0) as network:
        found: dict[str, Any] = {"enrolling_others_seconds": enrol_others(network, enrolled) if enrolled else 0.0}
        (work,) = network.prepare(readings).clients
        good, bad = (
            b"".join(wire.encoded(work.boundary.ports, [np.full(1000, value, np.float32)])) for value in (1.0, np.nan)
        )
        invitation, before = network.invite(uses=devices).to_text(), resident()
        context = multiprocessing.get_context("spawn")
        counts = [len(range(i, devices, processes)) for i in range(processes)]
        children = [
            context.Process(
                target=process, args=(str(folder), invitation, count, i, (good, bad), 2 * lease), daemon=True
            )
            for i, count in enumerate(counts)
        ]
        begun, cpu = time.perf_counter(), time.process_time()
        for child in children:
            child.start()
        try:
            while len(network.there()) < devices:
                if any(child.exitcode is not None for child in children) or time.perf_counter() - begun > 900:
                    raise RuntimeError(f"{len(network.there())} of {devices} devices are there")
                time.sleep(0.1)
            found |= {"joining_seconds": time.perf_counter() - begun, "joining_cpu": time.process_time() - cpu}
            found["connection_kib"] = (resident() - before) * 1024 / devices
            found |= _rounds(network, devices, rounds, lease)
            time.sleep(2.0)  # until what they have done is written down
        finally:
            for child in children:
                child.kill()
                child.join()
        done: dict[str, str] = {}
        for i in range(processes):
            done |= json.loads((folder / f"done-{i}.json").read_text())
        outcomes = network.outcomes("load")
        names = {f"{each['round']} {each['device']}": _task(each) for each in outcomes}
        totals = {name: sum(each["outcome"] == name for each in outcomes) for name in map(str, Outcome)}
        wrong = unaccounted(outcomes, done, names)
        quarantined = [each for each in network.enrolled() if each.quarantined]
        return {
            **found,
            "asked": len(outcomes),
            "outcomes": totals,
            "unaccounted": len(wrong),
            "examples": wrong[:5],
            "quarantined": len(quarantined),
        }


def _rounds(network: Network, devices: int, rounds: int, lease: float) -> dict[str, Any]:
    memory, clock, cpu = [], [], []
    with hansa.runtime(network):
        for number in range(1, rounds + 1):
            begin, begun = time.perf_counter(), time.process_time()
            asked = network.devices(devices, least=1, deadline=10 * lease, lease=lease, patience=2.0)
            with part_of("load", number, 1, "round"):
                mean = np.asarray(readings(asked))
            assert (mean == 1.0).all()
            clock.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - begun)
            memory.append(resident())
    return {
        "round_seconds": statistics.median(clock),
        "round_cpu_seconds": statistics.median(cpu),
        "resident_mib": [round(each) for each in memory],
    }


def _task(outcome: dict[str, Any]) -> str:
    names = ("run", "round", "attempt", "part", "call", "stage", "phase")
    return PhaseKey(**{name: outcome[name] for name in names}).task_id(outcome["device"])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints a JSON object, and ends with an error if an outcome is not accounted for."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = (("devices", 1000), ("rounds", 20), ("processes", 2), ("enrolled", 0), ("lease", 6))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.devices, asked.rounds, asked.processes, asked.enrolled, asked.lease, Path(folder))
    print(json.dumps({**vars(asked), **found}))
    if found["unaccounted"]:
        raise SystemExit(1)
    return found


if __name__ == "__main__":
    main()
