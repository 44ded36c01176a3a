"""What a round costs the network: `python -m benchmarks.network.overhead [--devices 10] [--rounds 50]`.

The devices are threads that send contributions they have ready, so what is measured is requests, checks, the ledger and
folding, of both sides together: seconds by the clock, and of CPU, for each round. An upload of many bytes is measured
by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hansa
from hansa.language.occasions import part_of
from hansa.network import wire
from hansa.network.link import Link, UnreachableError
from hansa.network.membership import Membership, join
from hansa.network.network import Network


@hansa.federated_computation("{float32[1000]}@CLIENTS")
def small(readings: Any) -> Any:
    """The computation of the rounds."""
    return hansa.federated_mean(readings)


class Sender:
    """A device that computes nothing.

    Args:
        member: who it is.
        data: its contribution.
    """

    def __init__(self, member: Membership, data: bytes) -> None:
        self.member, self._data, self.stopped = member, data, threading.Event()
        self._digest = hashlib.sha256(data).hexdigest()

    def run(self) -> None:
        """Asks and sends, until it is stopped."""
        link = Link(self.member.url, self.member.context)
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(self._data))}
        while not self.stopped.is_set():
            try:
                answer = link.send("GET", "/v1/poll?wait=2")
                if answer.status == 200:
                    link.send("PUT", f"/v1/tasks/{answer.json['task']}/{self._digest}", self._data, headers)
            except UnreachableError:
                self.stopped.wait(0.05)
        link.close()


def rounds(network: Network, folder: Path, devices: int, count: int) -> dict[str, float]:
    """Seconds of each round, by the clock and of CPU."""
    (work,) = network.prepare(small).clients
    data = b"".join(wire.encoded(work.boundary.ports, [np.ones(1000, np.float32)]))
    senders = [Sender(join(folder / f"d{i}", network.invite(i)), data) for i in range(devices)]
    threads = [threading.Thread(target=sender.run) for sender in senders]
    for thread in threads:
        thread.start()
    clock, cpu = [], []
    with hansa.runtime(network):
        for number in range(1, count + 3):  # of which the first two compile
            begin, begun = time.perf_counter(), time.process_time()
            with part_of("benchmark", number, 1, "round"):
                small(network.devices(list(range(devices))))
            clock.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - begun)
    for sender in senders:
        sender.stopped.set()
    for thread in threads:
        thread.join()
    return {
        "round_ms": 1e3 * statistics.median(clock[2:]),
        "least_round_ms": 1e3 * min(clock[2:]),
        "round_cpu_ms": 1e3 * statistics.median(cpu[2:]),
    }


def uploads(network: Network, folder: Path, megabytes: int, devices: int = 4) -> dict[str, float]:
    """MB that come up in a second of the coordinator's CPU: checked and on the disk; and folded into the mean, too.

    The devices of a round send one after another. What the coordinator takes is this process's CPU without that of the
    thread that sends. The best of three rounds.
    """
    elements = megabytes * 250_000

    @hansa.federated_computation(f"{{float32[{elements}]}}@CLIENTS")
    def large(readings: Any) -> Any:
        return hansa.federated_mean(readings)

    (work,) = network.prepare(large).clients
    data = b"".join(wire.encoded(work.boundary.ports, [np.ones(elements, np.float32)]))
    digest, names = hashlib.sha256(data).hexdigest(), [f"large {i}" for i in range(devices)]
    links = [join(folder / name, network.invite(name)).link() for name in names]
    headers = {"Upload-Offset": "0", "Upload-Length": str(len(data)), "Content-Length": str(len(data))}
    spent: dict[str, float] = {}

    def send() -> None:
        tasks = [link.send("GET", "/v1/poll?wait=25").json["task"] for link in links]
        spent["begun"], own = time.process_time(), time.thread_time()
        for link, task in zip(links, tasks, strict=True):
            pieces = (memoryview(data)[at : at + 2**18] for at in range(0, len(data), 2**18))
            link.send("PUT", f"/v1/tasks/{task}/{digest}", pieces, headers, seconds=300.0)
        spent["own"] = time.thread_time() - own

    best, total = 0.0, devices * len(data) / 1e6
    for _ in range(4):  # in the first round the coordinator compiles meanwhile
        sending = threading.Thread(target=send)
        sending.start()
        with hansa.runtime(network):
            large(network.devices(names))
        sending.join()
        best = max(best, total / (time.process_time() - spent["begun"] - spent["own"]))
    boundary, folded = work.boundary, 1 / best
    begun = time.process_time()
    for _ in range(3):
        boundary.check(data, digest)
    checked = (time.process_time() - begun) / 3 / (len(data) / 1e6)
    return {"upload_mb_per_cpu_second": best, "s_per_gb": 1e3 * folded, "checks_s_per_gb": 1e3 * checked}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("devices", 10), ("rounds", 50), ("megabytes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, hansa.network.serve(Path(folder) / "net", port=0) as network:
        found = rounds(network, Path(folder), asked.devices, asked.rounds)
        found |= uploads(network, Path(folder), asked.megabytes)
    print(json.dumps({**vars(asked), **{name: round(value, 2) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
