"""Four algorithms with clients of one, two or three digits, of unlike shares of digits, and alike, as in the rows of
MNIST in table III of Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study" (2022),
arXiv:2102.02079: ten clients, all of whom take part in each round, several epochs in each.

python -m benchmarks.papers.niid_bench [--quick] [--out FOLDER] [--picture FILE]

FedProx is run with several values of mu, and the best counts, as in the paper. Here it is a network with one hidden
layer on a part of MNIST, trained by SGD without momentum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import optax

from benchmarks.papers.data import mnist, population
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import Picture, curves, legend, panels, percent
from benchmarks.papers.training import Test, trained
from hansa import learning
from hansa.simulation import partition_by_label, partition_dirichlet, partition_iid

CLIENTS = 10
ALGORITHMS = ("FedAvg", "FedProx", "SCAFFOLD", "FedNova")


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 6_000
    hidden: int = 64
    rounds: int = 30
    epochs: int = 5
    batch: int = 32
    rate: float = 0.1
    strengths: tuple[float, ...] = (0.01, 1.0)


QUICK = Settings(images=500, hidden=8, rounds=2, epochs=1, strengths=(0.1,))


def partitions(labels: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[np.int64]]:
    """Whose each image is, by the name of a row."""
    return {
        "1 label": partition_by_label(labels, 1, CLIENTS),
        "2 labels": partition_by_label(labels, 2, CLIENTS),
        "3 labels": partition_by_label(labels, 3, CLIENTS),
        "Dir(0.5)": partition_dirichlet(labels, CLIENTS, 0.5, min_examples=10),
        "IID": partition_iid(len(labels), CLIENTS),
    }


def build(algorithm: str, settings: Settings) -> learning.LearningProcess:
    """The process of an algorithm."""
    model = network((784, settings.hidden, 10), optimizer=optax.sgd(settings.rate))
    if algorithm == "FedProx":
        return learning.build_fed_prox(model, proximal_strength=settings.strengths[0])
    if algorithm == "SCAFFOLD":
        return learning.build_scaffold(model, client_learning_rate=settings.rate, population=CLIENTS)
    if algorithm == "FedNova":
        return learning.build_fed_nova(model, client_learning_rate=settings.rate)
    return learning.build_federated_averaging_process(model)


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each partition, with the accuracy of each algorithm, and its curve beside it."""
    data = mnist(settings.images)
    process = functools.cache(build)
    test = functools.cache(lambda: Test(process("FedAvg", settings).model, data.test_x, data.test_y))

    def accuracies(algorithm: str, mu: float | None, client_of: npt.NDArray[np.int64]) -> list[float]:
        clients = population(data.x, data.y, client_of).shuffle(seed=0)
        known = process(algorithm, settings)
        state = known.initialize()
        if mu is not None:
            state = known.with_hparams(state, proximal_strength=mu)
        batches = clients.repeat(settings.epochs).batch(settings.batch)
        return trained(known, batches, test(), rounds=settings.rounds, initial_state=state)[1]

    rows = []
    for clients, client_of in partitions(data.y).items():
        row: dict[str, Any] = {"clients": clients}
        for algorithm in ALGORITHMS:
            tried = [
                (results.once(f"{algorithm}, mu {mu}, {clients}", accuracies, algorithm, mu, client_of), mu)
                for mu in (settings.strengths if algorithm == "FedProx" else (None,))
            ]
            curve, mu = max(tried, key=lambda each: at_the_end(each[0]))
            row |= {algorithm: at_the_end(curve), f"curve of {algorithm}": curve}
            row |= {"mu": mu} if algorithm == "FedProx" else {}
        rows.append(row)
    return rows


def at_the_end(accuracies: list[float]) -> float:
    """The mean accuracy after the last five rounds."""
    return float(np.mean(accuracies[-5:]))


def draw(rows: Rows) -> Picture:
    """The test accuracy over the rounds, a panel for each partition."""
    picture, axes = panels(len(rows), (12, 3.4))
    for panel, row in zip(axes, rows, strict=True):
        curves(panel, row["clients"], {name: row[f"curve of {name}"] for name in ALGORITHMS})
        percent(panel)
    axes[0].set_ylabel("test accuracy")
    legend(axes[-1], loc="lower right")
    return picture


EXPERIMENT = Experiment("niid_bench", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
