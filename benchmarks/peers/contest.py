"""One workload's workers: started one after another, then a round of each in turn, then compared and measured."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.peers import agreement, environments
from benchmarks.peers.protocol import Task, Unsupported, load_weights
from benchmarks.peers.table import Row
from benchmarks.peers.worker import Failed, Worker

# Of which the first is a column of its own.
WARM_UP_ROUNDS = 3
EVALUATIONS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """How a peer is run.

    Attributes:
        module: of its worker.
        environment: the name of its requirements; None for the present one.
        options: the worker's.
        joined: whether it has no clients, but trains one model on the examples of all.
    """

    module: str
    environment: str | None = None
    options: tuple[str, ...] = ()
    joined: bool = False


HANSA = Kind("benchmarks.peers.run_hansa", "hansa")
HANSA_JOINED = Kind("benchmarks.peers.run_hansa", "hansa", ("joined",), joined=True)
SOURCE = Path(__file__).parents[2] / "src"
PEERS = {
    "hansa-ray": Kind("benchmarks.peers.run_hansa", options=("ray",)),
    "tff": Kind("benchmarks.peers.run_tff", "tff"),
    "fedjax-jit": Kind("benchmarks.peers.run_fedjax", "fedjax", ("jit",)),
    "fedjax-pmap": Kind("benchmarks.peers.run_fedjax", "fedjax", ("pmap",)),
    "flower": Kind("benchmarks.peers.run_flower", "flower"),
    "torch": Kind("benchmarks.peers.run_torch", "flower", joined=True),
    "torch-1-thread": Kind("benchmarks.peers.run_torch", "flower", ("1",), joined=True),
    "keras-jax": Kind("benchmarks.peers.run_keras", "keras", ("jax",), joined=True),
    "keras-tensorflow": Kind("benchmarks.peers.run_keras", "keras", ("tensorflow",), joined=True),
}


@dataclass
class Entrant:
    """A peer that runs: what it is, its process, its row."""

    kind: Kind
    worker: Worker
    row: Row


class Contest:
    """The workers of one workload, and their rows; a context manager that ends them.

    Args:
        task: the workload.
        folder: where the task is handed over, and weights are handed back.
        timeout: seconds that a worker may take for one command.
        reference: what the others are compared with; it is started at once.
        joined_reference: what those are compared with, after the first round, that have no clients.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        timeout: float,
        reference: Kind = HANSA,
        joined_reference: Kind = HANSA_JOINED,
    ) -> None:
        task.save(folder)
        self.task, self.folder, self.timeout = task, folder, timeout
        self.rows: list[Row] = []
        self._references = {False: reference, True: joined_reference}
        self._first: dict[bool, tuple[float, list[np.ndarray]]] = {}
        self._running: list[Entrant] = []
        self._stack = ExitStack()

    def __enter__(self) -> Contest:
        self.start("hansa", self._references[False])
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, name: str, kind: Kind) -> None:
        """Starts a peer, and compares its first round with the reference's."""
        row = Row(self.task.name, name, model_limits=agreement.model_limits(self.task.layers))
        self.rows.append(row)
        try:
            entrant = Entrant(kind, self._worker(name, kind), row)
            loss, _ = entrant.worker.round(0)
            row.first = time.perf_counter() - entrant.worker.started
            weights = self._weights(entrant)
            if kind is self._references[False]:
                self._first[False] = loss, weights
            else:
                expected_loss, expected_weights = self._expected(kind.joined)
                row.note("loss", agreement.loss_difference(loss, expected_loss), "first")
                difference = agreement.model_difference(weights, expected_weights, self.task.weights)
                row.note("model", difference, "first")
            self._running.append(entrant)
        except (environments.NotInstalled, Unsupported, Failed) as reason:
            row.reason = str(reason)

    def round(self, number: int) -> None:
        """One round of each peer, in turn."""
        done = self._in_turn(lambda entrant: entrant.worker.round(number))
        if number >= WARM_UP_ROUNDS:
            for entrant, (_, took) in done:
                entrant.row.rounds.append(took)
        self._compare([(entrant, loss) for entrant, (loss, _) in done], "loss", agreement.loss_difference)

    def finish(self) -> None:
        """Evaluations, in turn, where the workload has them; the last comparison; the memory."""
        for _ in range(1 + EVALUATIONS if len(self.task.test_x) else 0):
            done = self._in_turn(lambda entrant: entrant.worker.evaluate())
            for entrant, (_, took) in done:
                entrant.row.evaluations.append(took)
            self._compare([(entrant, loss) for entrant, (loss, _) in done], "loss", agreement.loss_difference)
        for entrant in self._running:
            entrant.row.memory = entrant.worker.peak_memory()
        self._compare(
            self._in_turn(self._weights),
            "model",
            lambda found, expected: agreement.model_difference(found, expected, self.task.weights),
        )

    def _in_turn(self, do: Callable[[Entrant], T]) -> list[tuple[Entrant, T]]:
        """What each peer that runs does; one that fails runs no longer."""
        done = []
        for entrant in list(self._running):
            try:
                done.append((entrant, do(entrant)))
            except Failed as reason:
                entrant.row.reason = str(reason)
                self._running.remove(entrant)
        return done

    def _compare(self, found: list[tuple[Entrant, Any]], of: str, difference: Callable[[Any, Any], float]) -> None:
        """Compares what the peers with clients have found with what the reference has."""
        expected = [value for entrant, value in found if entrant.kind is self._references[False]]
        for entrant, value in found:
            if expected and entrant.kind is not self._references[False] and not entrant.kind.joined:
                entrant.row.note(of, difference(value, expected[0]), "later")

    def _expected(self, joined: bool) -> tuple[float, list[np.ndarray]]:
        """The reference's first loss, and its model after that. The joined one's are from a process for this."""
        if joined not in self._first:
            row = Row(self.task.name, "hansa-joined")
            entrant = Entrant(self._references[True], self._worker(row.peer, self._references[True]), row)
            loss, _ = entrant.worker.round(0)
            self._first[True] = loss, self._weights(entrant)
            entrant.worker.close()
        return self._first[joined]

    def _worker(self, name: str, kind: Kind) -> Worker:
        python = sys.executable if kind.environment is None else str(environments.python_of(kind.environment))
        command = [python, "-m", kind.module, str(self.folder), *kind.options]
        worker = Worker(command, environments.log_of(name), self._surroundings(kind), self.timeout)
        self._stack.callback(worker.close)
        return worker

    def _surroundings(self, kind: Kind) -> dict[str, str]:
        """The environment variables of a worker. Hansa, too, has no compiled programs from earlier processes."""
        cache = {"HANSA_CACHE_DIR": str(self.folder / "cache")}
        if kind.environment is None:
            return os.environ | cache
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XLA_FLAGS"))}
        return kept | cache | {"PYTHONPATH": str(SOURCE)}

    def _weights(self, entrant: Entrant) -> list[np.ndarray]:
        path = self.folder / f"{entrant.row.peer}.npz"
        entrant.worker.command("weights", path=str(path))
        return load_weights(path)
