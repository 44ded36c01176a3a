"""Runs algorithms that FedJAX or pfl has, too, with both, round by round in turn, and prints the tables.

python -m benchmarks.peers.algorithms [--only NAME] [--repeat N]

The workloads are those of `benchmarks.algorithms`. What counts is the CPU time of a round, that of all threads; the
models of both are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

import benchmarks.algorithms as own
from benchmarks.peers import agreement, environments
from benchmarks.peers.protocol import Task, load_weights
from benchmarks.peers.worker import Failed, Worker

PEERS = dict.fromkeys(("fed_prox", "mime", "mime_lite", "agnostic", "hyp_cluster"), "fedjax") | {"scaffold": "pfl"}
"""Who has an algorithm, too."""
HEADER = f"{'':12} {'CPU ms':>10} {'peer':>8} {'times':>8} {'apart':>10} {'at the end':>10}"
# Sums of gradients may find in later rounds that they need more room, and are compiled once more for that.
WARM_UP = 6


def task_of(workload: str, rounds: int) -> Task:
    """A workload as a task: 20 of 100 clients in a round."""
    hidden, examples = own.WORKLOADS[workload]
    model, data = own.network(hidden), own.population(examples)
    weights = [np.asarray(model.initial_weights.trainable[name]) for name in own.names(hidden)]
    rng = np.random.default_rng(0)
    x, y = (np.asarray(data.examples.rows[name]) for name in ("x", "y"))
    return Task(
        name=workload,
        layers=[],
        weights=weights,
        x=x,
        y=y,
        offsets=np.arange(own.CLIENTS + 1) * examples,
        test_x=x[:0],
        test_y=y[:0],
        cohorts=[rng.choice(own.CLIENTS, own.COHORT, replace=False).tolist() for _ in range(rounds)],
        batch_size=own.BATCH,
        learning_rate=own.RATE,
    )


def compared(task: Task, name: str, rounds: int, timeout: float) -> str:
    """A row: CPU ms of a round with Hansa, how many times as much the other took, and how far their models are apart
    after the first round and after the last."""
    other = PEERS[name]
    with tempfile.TemporaryDirectory() as folder:
        task.save(Path(folder))
        environment = os.environ | {"HANSA_CACHE_DIR": f"{folder}/cache"}
        bare = {key: value for key, value in environment.items() if not key.startswith(("PYTHON", "XLA_FLAGS"))}
        pythons = {"hansa": (sys.executable, environment), other: (environments.python_of(other), bare)}
        workers = {
            peer: Worker(
                [str(python), "-m", f"benchmarks.peers.run_{peer}_algorithms", folder, name],
                environments.log_of(f"{peer}-{name}"),
                around,
                timeout,
            )
            for peer, (python, around) in pythons.items()
        }
        try:
            initial, took = _weights(workers["hansa"], folder), {peer: list[float]() for peer in workers}
            apart: list[float] = []
            for number in range(rounds):
                for peer, worker in workers.items():
                    before = worker.cpu_seconds()
                    worker.round(number)
                    took[peer].append(worker.cpu_seconds() - before)
                if number in (0, rounds - 1):
                    mine, theirs = (_weights(workers[peer], folder) for peer in workers)
                    apart.append(agreement.model_difference(theirs, mine, initial))
        finally:
            for worker in workers.values():
                worker.close()
    # /proc counts hundredths of a second.
    mean = {peer: statistics.mean(seconds[WARM_UP:]) for peer, seconds in took.items()}
    far = " ".join(f"{each:10.1e}" for each in apart)
    return f"{name:12} {mean['hansa'] * 1e3:10.0f} {other:>8} {mean[other] / mean['hansa']:8.1f} {far}"


def _weights(worker: Worker, folder: str) -> list[np.ndarray]:
    path = Path(folder) / "found.npz"
    worker.command("weights", path=str(path))
    return load_weights(path)


def main() -> int:
    """Runs the comparison; the exit status is 1 if a worker fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="algorithms whose name holds this")
    parser.add_argument("--workload", choices=list(own.WORKLOADS), action="append", help="by default both")
    parser.add_argument("--repeat", type=int, default=7, help="rounds after the warm-up; their mean counts")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that a worker may take for one round")
    options = parser.parse_args()
    failed = False
    for workload in options.workload or own.WORKLOADS:
        print(
            f"\n{workload}\n{'':12} {'CPU ms':>10} {'peer':>8} {'times':>8} {'apart':>10} {'at the end':>10}",
            flush=True,
        )
        task = task_of(workload, WARM_UP + options.repeat)
        for name in (name for name in PEERS if options.only in name):
            try:
                print(compared(task, name, WARM_UP + options.repeat, options.timeout), flush=True)
            except (Failed, environments.NotInstalled) as reason:
                print(f"{name:12} {reason}", flush=True)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
