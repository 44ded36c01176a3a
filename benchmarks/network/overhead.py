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


def upload(network: Network, folder: Path, megabytes: int) -> dict[str, float]:
    """Bytes that come up in a second of CPU of both sides, over one connection, checked and on the disk."""
    elements = megabytes * 250_000

    @hansa.federated_computation(f"{{float32[{elements}]}}@CLIENTS")
    def large(readings: Any) -> Any:
        return hansa.federated_mean(readings)

    (work,) = network.prepare(large).clients
    data = b"".join(wire.encoded(work.boundary.ports, [np.ones(elements, np.float32)]))
    digest, member = hashlib.sha256(data).hexdigest(), join(folder / "large", network.invite("large"))
    link, found = Link(member.url, member.context), {}

    def send() -> None:
        task = link.send("GET", "/v1/poll?wait=25").json["task"]
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(data))}
        pieces = (memoryview(data)[at : at + 2**18] for at in range(0, len(data), 2**18))
        begin, begun = time.perf_counter(), time.process_time()
        link.send(
            "PUT", f"/v1/tasks/{task}/{digest}", pieces, {**headers, "Content-Length": str(len(data))}, seconds=300.0
        )
        found["upload_mb_per_cpu_second"] = len(data) / 1e6 / (time.process_time() - begun)
        found["upload_mb_per_second"] = len(data) / 1e6 / (time.perf_counter() - begin)

    for _ in range(2):  # in the first round the coordinator compiles meanwhile
        sending = threading.Thread(target=send)
        sending.start()
        with hansa.runtime(network):
            large(network.devices(["large"]))
        sending.join()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("devices", 10), ("rounds", 50), ("megabytes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, hansa.network.serve(Path(folder) / "net", port=0) as network:
        found = rounds(network, Path(folder), asked.devices, asked.rounds)
        found |= upload(network, Path(folder), asked.megabytes)
    print(json.dumps({**vars(asked), **{name: round(value, 2) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
