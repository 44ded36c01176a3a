"""One workload's workers: started one after another, then a round of each in turn, then compared and measured."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers import agreement, environments
from benchmarks.peers.protocol import Task, Unsupported, load_weights
from benchmarks.peers.table import Row
from benchmarks.peers.worker import Failed, Worker

# Of which the first is a column of its own.
WARM_UP_ROUNDS = 3
EVALUATIONS = 3


@dataclass(frozen=True)
class Kind:
    """How a peer is run.

    Attributes:
        module: of its worker.
        environment: the name of its requirements; None for Hansa's, the present one.
        options: the worker's.
        joined: whether it has no clients, and trains one model on the examples of all.
    """

    module: str
    environment: str | None
    options: tuple[str, ...] = ()
    joined: bool = False


HANSA = Kind("run_hansa", None)
HANSA_JOINED = Kind("run_hansa", None, ("joined",), joined=True)
PEERS = {
    "tff": Kind("run_tff", "tff"),
    "fedjax-jit": Kind("run_fedjax", "fedjax", ("jit",)),
    "fedjax-pmap": Kind("run_fedjax", "fedjax", ("pmap",)),
    "flower": Kind("run_flower", "flower"),
    "torch": Kind("run_torch", "flower", joined=True),
    "torch-1-thread": Kind("run_torch", "flower", ("1",), joined=True),
    "keras-jax": Kind("run_keras", "keras", ("jax",), joined=True),
    "keras-tensorflow": Kind("run_keras", "keras", ("tensorflow",), joined=True),
}


@dataclass
class Entrant:
    """A peer that runs: what it is, its process, its row."""

    kind: Kind
    worker: Worker
    row: Row


class Contest:
    """The workers of one workload; a context manager that ends them.

    Args:
        task: the workload.
        folder: where the task is handed over, and the workers' files are.
        timeout: seconds that a worker may take for one command.
    """

    def __init__(self, task: Task, folder: Path, timeout: float) -> None:
        task.save(folder)
        self.task, self.folder, self.timeout = task, folder, timeout
        self.entrants: list[Entrant] = []
        self._first: dict[bool, tuple[float, list[np.ndarray]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, name: str, kind: Kind) -> Row:
        """Starts a peer and compares its first round with Hansa's; Hansa itself is started first."""
        row = Row(self.task.name, name)
        try:
            entrant = Entrant(kind, self._worker(name, kind), row)
            loss, _ = entrant.worker.round(0)
            row.first = time.perf_counter() - entrant.worker.started
            weights = self._weights(entrant.worker, name)
            if kind is HANSA:
                assert loss is not None
                self._first[False] = loss, weights
            else:
                self._compare(row, loss, weights, *self._expected(kind.joined), "first")
            self.entrants.append(entrant)
        except (environments.NotInstalled, Unsupported, Failed) as reason:
            row.reason = str(reason)
        return row

    def round(self, number: int) -> None:
        """One round of each peer, in turn."""
        expected = None
        for entrant in list(self.entrants):
            row = entrant.row
            try:
                loss, took = entrant.worker.round(number)
            except Failed as reason:
                row.reason = f"round {number}: {reason}"
                self.entrants.remove(entrant)
                continue
            if number >= WARM_UP_ROUNDS:
                row.rounds.append(took)
            if entrant.kind is HANSA:
                expected = loss
            elif not entrant.kind.joined:
                self._compare(row, loss, None, expected, None, "later")

    def finish(self) -> None:
        """Evaluations, in turn, where the workload has them; the last comparison; the memory."""
        if len(self.task.test_x):
            for _ in range(1 + EVALUATIONS):
                self._evaluate()
        expected = None
        for entrant in self.entrants:
            entrant.row.memory = entrant.worker.peak_memory()
            weights = self._weights(entrant.worker, entrant.row.peer)
            if entrant.kind is HANSA:
                expected = weights
            elif not entrant.kind.joined:
                self._compare(entrant.row, None, weights, None, expected, "later")

    def _evaluate(self) -> None:
        expected = None
        for entrant in self.entrants:
            answer, took = entrant.worker.command("evaluate")
            entrant.row.evaluations.append(took)
            if entrant.kind is HANSA:
                expected = answer["loss"]
            elif not entrant.kind.joined:
                self._compare(entrant.row, answer["loss"], None, expected, None, "later")

    def _expected(self, joined: bool) -> tuple[float, list[np.ndarray]]:
        """Hansa's first loss, and its model after that; with all clients joined into one, from a process for this."""
        if joined not in self._first:
            worker = self._worker("hansa-joined", HANSA_JOINED)
            loss, _ = worker.round(0)
            assert loss is not None
            self._first[joined] = loss, self._weights(worker, "hansa-joined")
            worker.close()
        return self._first[joined]

    def _compare(
        self,
        row: Row,
        loss: float | None,
        weights: Sequence[np.ndarray] | None,
        expected_loss: float | None,
        expected_weights: Sequence[np.ndarray] | None,
        when: str,
    ) -> None:
        if loss is not None and expected_loss is not None:
            row.note("loss", agreement.loss_difference(loss, expected_loss), when)
        if weights is not None and expected_weights is not None:
            row.note("model", agreement.model_difference(weights, expected_weights, self.task.weights), when)

    def _worker(self, name: str, kind: Kind) -> Worker:
        python = sys.executable if kind.environment is None else str(environments.python_of(kind.environment))
        command = [python, "-m", f"benchmarks.peers.{kind.module}", str(self.folder), *kind.options]
        worker = Worker(command, environments.log_of(name), self._surroundings(kind), self.timeout)
        self._stack.callback(worker.close)
        return worker

    def _surroundings(self, kind: Kind) -> dict[str, str]:
        """The environment variables of a worker. Hansa, too, has no compiled programs from earlier processes."""
        if kind.environment is None:
            return os.environ | {"HANSA_CACHE_DIR": str(self.folder / "cache")}
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def _weights(self, worker: Worker, name: str) -> list[np.ndarray]:
        path = self.folder / f"{name}.npz"
        worker.command("weights", path=str(path))
        return load_weights(path)
