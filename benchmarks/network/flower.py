"""Rounds on devices beside Flower's: `python -m benchmarks.network.flower [--nodes 2 10] [--rounds 10]`.

Both train softmax regression of 7,850 weights on 100 examples of each node, which costs next to nothing: what is
measured is the round. Flower has its SuperLink, a SuperNode for each node, and its client in NumPy; Hansa a coordinator
and a process for each device. All are processes of this machine, and between nodes and server each byte goes through a
relay that counts it. Flower speaks without TLS here, Hansa with TLS 1.3 and certificates on both sides.

`--flower FOLDER` is a virtual environment with Flower, `python -m venv F && F/bin/pip install flwr==1.42.0`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

VERSION = "1.42.0"
_HERE = Path(__file__).parent
_INPUTS, _OUTPUTS, _EXAMPLES, _BATCH, _RATE = 784, 10, 100, 20, 0.1


class Relay:
    """Passes connections on to another port, and counts their bytes.

    Attributes:
        port: where it listens.
        target: the other port.
        bytes: both ways.
    """

    def __init__(self, target: int = 0) -> None:
        self.target, self.bytes = target, 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # nobody listens there yet, or any more
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                self.bytes += len(data)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def family(process: int) -> list[int]:
    """A process, and all that come of it."""
    found, children = [process], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(rest[1]), []).append(int(path.parent.name))
    for each in found:
        found += children.get(each, [])
    return found


def memory(processes: Sequence[int]) -> float:
    """MiB of some processes and theirs; what several of them share counts once."""
    total = 0
    for process in {each for one in processes for each in family(one)}:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cpu(processes: Sequence[int]) -> float:
    """Seconds of CPU that some processes and theirs have used, those included that have ended."""
    total = 0.0
    for process in {each for one in processes for each in family(one)}:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


@contextlib.contextmanager
def started(folder: Path, environment: dict[str, str]) -> Iterator[Any]:
    """Starts processes, which end with the block."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*words: object) -> int:
        with (folder / f"{len(running)}.log").open("wb") as log:
            command = [str(word) for word in words]
            running.append(subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log))
        return running[-1].pid

    try:
        yield begin
    finally:
        for each in running:
            for one in reversed(family(each.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, 15)
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(20)
            each.kill()


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _wait_for(port: int, seconds: float = 120.0) -> None:
    """Until somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def of_flower(nodes: int, rounds: int, environment: Path, folder: Path) -> dict[str, Any]:
    """Flower's rounds: seconds, bytes, memory, and the weights that come of them."""
    port = free_port()
    relay, home, out = Relay(port), folder / "home", folder / "out.json"
    home.mkdir()
    app = folder / "app"
    shutil.copytree(_HERE / "flower_app", app, ignore=shutil.ignore_patterns("__pycache__"))
    address = f"127.0.0.1:{port}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    programs = environment / "bin"
    said = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": "",
    }
    with started(folder, said) as begin:
        link = begin(programs / "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", port)
        _wait_for(port)
        supernodes = [
            begin(
                programs / "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{relay.port}",
                "--port", free_port(), "--node-config", f"number={number}",
            )
            for number in range(nodes)
        ]  # fmt: skip
        config = f"nodes={nodes} rounds={rounds} out='{out}'"
        begin(programs / "flwr", "run", app, "here", "--run-config", config)
        watched = _watched(folder, out, link, supernodes, rounds)
    return _row("Flower", nodes, out, relay.bytes, watched)


def of_hansa(nodes: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Hansa's rounds: seconds, bytes, memory, and the weights that come of them."""
    relay, out = Relay(), folder / "out.json"
    (folder / "relay.json").write_text(json.dumps({"port": relay.port}))
    with started(folder, {}) as begin:
        link = begin(sys.executable, "-m", "benchmarks.network.flower", "--coordinator", folder, nodes, rounds)
        invited = folder / "invited.json"
        while not invited.exists():
            time.sleep(0.1)
        asked = json.loads(invited.read_text())
        relay.target = asked["port"]
        devices = []
        for number, invitation in enumerate(asked["invitations"]):
            x, y = _data(number)
            np.savez(folder / f"{number}.npz", x=x, y=y.astype(np.int32))
            settings = {
                "folder": str(folder / f"d{number}"),
                "invitation": invitation,
                "data": str(folder / f"{number}.npz"),
            }
            (folder / f"{number}.json").write_text(json.dumps([{**settings, "unprotected": False}]))
            devices.append(begin(sys.executable, "-m", "hansa.network.hosting", folder / f"{number}.json"))
        watched = _watched(folder, out, link, devices, rounds)
    return _row("Hansa", nodes, out, relay.bytes, watched)


def coordinator(folder: Path, nodes: int, rounds: int) -> None:
    """Hansa's coordinator, in a process of its own."""
    import jax
    import jax.numpy as jnp
    import optax

    import hansa

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        scores = jax.nn.log_softmax(batch.x @ weights["kernel"] + weights["bias"])
        return hansa.learning.BatchOutput(-jnp.take_along_axis(scores, batch.y[:, None], 1).mean(), scores)

    model = hansa.learning.functional_model(
        {"kernel": np.zeros((_INPUTS, _OUTPUTS), "float32"), "bias": np.zeros(_OUTPUTS, "float32")},
        forward,
        input_spec=f"<x=float32[?,{_INPUTS}],y=int32[?]>",
        optimizer=optax.sgd(_RATE),
        metrics={},
    )
    process = hansa.learning.build_federated_averaging_process(model)
    like = {"x": np.zeros((_EXAMPLES, _INPUTS), np.float32), "y": np.zeros(_EXAMPLES, np.int32)}
    plan = hansa.simulation.ClientData.from_clients({0: like}).batch(_BATCH).plan()
    with hansa.network.serve(folder / "net", port=0) as network, hansa.runtime(network):
        port = json.loads((folder / "relay.json").read_text())["port"]
        invitations = [replace(network.invite(i), url=f"https://127.0.0.1:{port}").to_text() for i in range(nodes)]
        part = folder / "part.json"
        part.write_text(json.dumps({"port": urlsplit(network.url).port, "invitations": invitations}))
        part.replace(folder / "invited.json")
        while len(network.there()) < nodes:
            time.sleep(0.05)
        devices, begun = network.devices(list(range(nodes)), data=plan, least=nodes), []
        began = time.perf_counter()

        def note(number: int, metrics: Any) -> None:
            begun.append(time.perf_counter())
            (folder / "out.begun").touch()

        result = hansa.program.train(process, devices, rounds, sinks=[note], progress=False, run_dir=folder / "run")
        seconds = np.diff([began, *begun]).tolist()
        weights = result.state.model.trainable
        found = {
            "seconds": seconds,
            "weights": [np.asarray(weights.kernel).tolist(), np.asarray(weights.bias).tolist()],
        }
        part.write_text(json.dumps(found))
        part.replace(folder / "out.json")
        time.sleep(30.0)  # until it is ended


def _data(number: int) -> tuple[Any, Any]:
    drawn = np.random.default_rng(number)
    return drawn.normal(size=(_EXAMPLES, _INPUTS)).astype(np.float32), drawn.integers(0, _OUTPUTS, _EXAMPLES)


def _watched(folder: Path, out: Path, link: int, nodes: Sequence[int], rounds: int) -> dict[str, float]:
    """The most memory of the server and of a node until all is over, and their CPU for each round after the first."""
    server_mib = node_mib = 0.0
    begun, before, end = out.with_suffix(".begun"), None, time.monotonic() + 300 + 30 * rounds
    while not out.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"it has not ended: {[path.read_text()[-300:] for path in folder.glob('*.log')]}")
        if before is None and begun.exists():
            before = cpu([link]), cpu(nodes)
        server_mib, node_mib = max(server_mib, memory([link])), max(node_mib, memory(nodes) / len(nodes))
        time.sleep(0.2)
    after, (server, each) = (cpu([link]), cpu(nodes)), before or (0.0, 0.0)
    later = rounds - 1
    return {
        "server_mib": server_mib,
        "node_mib": node_mib,
        "server_cpu_s_per_round": (after[0] - server) / later,
        "node_cpu_s_per_round": (after[1] - each) / later / len(nodes),
    }


def _row(who: str, nodes: int, out: Path, size: int, watched: dict[str, float]) -> dict[str, Any]:
    found = json.loads(out.read_text())
    seconds = found["seconds"]
    return {
        "who": who,
        "nodes": nodes,
        "first_round_s": seconds[0],
        "round_s": statistics.median(seconds[1:]),
        "least_round_s": min(seconds[1:]),
        "bytes_per_node_and_round": round(size / len(seconds) / nodes),
        **watched,
        "weights": [np.array(each) for each in found["weights"]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints a table and a JSON object for each row."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--coordinator"]:
        coordinator(Path(given[1]), int(given[2]), int(given[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--flower", type=Path, help="a virtual environment with Flower; without it, Hansa alone")
    asked = parser.parse_args(given)
    columns = ["nodes", "s a round (least)", "first", "kB a node and round"]
    columns += ["server MiB", "node MiB", "server CPU s", "node CPU s"]
    print(f"| | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for nodes in asked.nodes:
        weights: list[list[Any]] = []
        for who in ("Hansa", "Flower")[: 1 if asked.flower is None else 2]:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                row = (
                    of_hansa(nodes, asked.rounds, folder)
                    if who == "Hansa"
                    else of_flower(nodes, asked.rounds, asked.flower, folder)
                )
            weights.append(row.pop("weights"))
            print(
                f"| {who} | {nodes} | {row['round_s']:.3f} ({row['least_round_s']:.3f}) | {row['first_round_s']:.1f} "
                f"| {row['bytes_per_node_and_round'] / 1e3:.0f} | {row['server_mib']:.0f} | {row['node_mib']:.0f} "
                f"| {row['server_cpu_s_per_round']:.3f} | {row['node_cpu_s_per_round']:.3f} |",
                flush=True,
            )
        if len(weights) == 2:
            apart = max(float(np.abs(a - b).max()) for a, b in zip(*weights, strict=True))
            print(f"<!-- weights of {nodes} nodes are {apart:.1e} apart -->", flush=True)


if __name__ == "__main__":
    main()
