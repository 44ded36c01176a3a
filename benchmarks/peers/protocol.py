"""What the harness and its workers share: the task, a folder of arrays, and commands and answers, lines of JSON.

Runs in every peer's environment, so it needs NumPy only. A worker is a process of its own that holds one peer. It reads
commands on its standard input and answers each on its standard output:

    {"do": "round", "number": 0}               -> {"loss": 2.3}, of training
    {"do": "evaluate"}                         -> {"loss": 2.3}, of the model on the task's test set
    {"do": "weights", "path": "weights.npz"}   -> {}, and the file
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_ARRAYS = ("x", "y", "offsets", "test_x", "test_y")


class Unsupported(Exception):
    """A peer cannot do a task sensibly; says why."""


@dataclass(frozen=True)
class Task:
    """One workload, as every peer is given it.

    Attributes:
        name: of the workload.
        layers: the model, from input to logits; each a dict with a `kind` and its sizes.
        weights: the initial weights, with Keras's layouts and in Keras's order.
        x: inputs [examples, ...], client after client.
        y: labels int32 [examples, labels of an example].
        offsets: int64 [clients + 1]; client `i` has the examples `offsets[i]` to `offsets[i + 1]`.
        test_x, test_y: what the model is evaluated on; of no examples where the workload has no evaluation.
        cohorts: the clients that take part, for each round; they are used in turn.
        batch_size: examples in a batch; each client's last one may be short.
        learning_rate: of the clients' SGD. The server's is 1.
    """

    name: str
    layers: list[dict[str, Any]]
    weights: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    offsets: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    cohorts: list[list[int]]
    batch_size: int
    learning_rate: float

    def cohort(self, number: int) -> list[int]:
        """The clients of a round."""
        return self.cohorts[number % len(self.cohorts)]

    def client(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One client's examples."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        return self.x[rows], self.y[rows]

    def joined(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of a round's clients, one client after another."""
        parts = [self.client(index) for index in self.cohort(number)]
        return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])

    def save(self, folder: Path) -> None:
        """Writes the task to a folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        save_weights(folder / "weights.npz", self.weights)
        rest = {name: value for name, value in asdict(self).items() if name not in (*_ARRAYS, "weights")}
        (folder / "task.json").write_text(json.dumps(rest))

    @classmethod
    def load(cls, folder: Path) -> Task:
        """Reads a task from its folder."""
        arrays = {name: np.load(folder / f"{name}.npy") for name in _ARRAYS}
        rest = json.loads((folder / "task.json").read_text())
        return cls(weights=load_weights(folder / "weights.npz"), **arrays, **rest)


def batches(x: np.ndarray, y: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Examples in batches of a size, the last of which may be short."""
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def save_weights(path: Path, weights: list[np.ndarray]) -> None:
    """Writes weights to a file, in their order."""
    np.savez(path, **{f"{i:03}": weight for i, weight in enumerate(weights)})


def load_weights(path: Path) -> list[np.ndarray]:
    """Reads weights in their order."""
    with np.load(path) as file:
        return [file[name] for name in sorted(file.files)]


class Peer(Protocol):
    """What a worker holds."""

    def round(self, number: int) -> float:
        """One round from the present model: the training loss, the mean of all examples, each as its batch met it."""

    def evaluate(self) -> float:
        """The present model's loss on the test set."""

    def weights(self) -> list[np.ndarray]:
        """The present model, like the task's weights."""


class Channel:
    """The worker's end of its pipes. What libraries print goes to standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def answer(self, **values: Any) -> None:
        """Writes one answer."""
        print(json.dumps(values), file=self._answers, flush=True)

    def serve(self, make: Callable[[], Peer]) -> None:
        """Makes the peer and does what is commanded until there are no more commands, or one fails."""
        try:
            peer = make()
            for line in sys.stdin:
                self.answer(**_obey(peer, json.loads(line)))
        except Unsupported as reason:
            self.answer(unsupported=str(reason))
        except Exception as error:
            traceback.print_exc()
            self.answer(error="".join(traceback.format_exception_only(error)).strip())


def _obey(peer: Peer, command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "round":
        return {"loss": peer.round(command["number"])}
    if command["do"] == "evaluate":
        return {"loss": peer.evaluate()}
    if command["do"] == "weights":
        save_weights(Path(command["path"]), peer.weights())
        return {}
    raise ValueError(f"there is no command {command['do']!r}")


def serve(make: Callable[..., Peer]) -> None:
    """A worker's main function: `python -m module FOLDER [OPTION ...]` makes the peer of the task and the options."""
    folder, *options = sys.argv[1:]
    Channel().serve(lambda: make(Task.load(Path(folder)), *options))
