"""Rounds to a test accuracy by how similar clients are, as in table 3 of Karimireddy et al., "SCAFFOLD: Stochastic
Controlled Averaging for Federated Learning" (2020), arXiv:1910.06378: softmax regression, 20 of 100 clients a round.

python -m benchmarks.papers.scaffold [--quick] [--out FOLDER] [--picture FILE]

A client has 600 images of MNIST, of which a share is dealt out at random, and the rest sorted by digit. An epoch is
five batches. Each algorithm is run with every rate of a grid, and the one that takes the fewest rounds counts, as in
the paper.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optax

from benchmarks.papers.data import mnist, partition_by_similarity, population
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import Picture, bars, legend, panels
from benchmarks.papers.training import Test, rounds_to, trained
from hansa import learning

ALGORITHMS = ("SGD", "FedAvg", "FedProx", "SCAFFOLD")
SIMILARITIES = (0.0, 0.1, 1.0)
BATCHES = 5  # of an epoch


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 60_000
    clients: int = 100
    cohort: int = 20
    epochs: int = 5
    target: float = 0.85
    limit: int = 150
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    server_rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)


QUICK = Settings(images=1_000, clients=10, cohort=4, epochs=2, target=0.3, limit=4, rates=(0.1,), server_rates=(1.0,))


def build(algorithm: str, rate: float, settings: Settings) -> learning.LearningProcess:
    """The process of an algorithm; every client counts the same, as they have as many images."""
    model = network((784, 10), optimizer=optax.sgd(rate))
    builders: dict[str, Callable[[], learning.LearningProcess]] = {
        "SGD": lambda: learning.build_fed_sgd(model, server_learning_rate=rate),
        "FedAvg": lambda: learning.build_federated_averaging_process(model),
        "FedProx": lambda: learning.build_fed_prox(model, proximal_strength=1.0),
        "SCAFFOLD": lambda: learning.build_scaffold(model, client_learning_rate=rate, population=settings.clients),
    }
    return builders[algorithm]()


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each algorithm and similarity."""
    data = mnist(settings.images)
    batch = -(-settings.images // settings.clients // BATCHES)
    process = functools.cache(build)
    test = functools.cache(lambda: Test(process("FedAvg", settings.rates[0], settings).model, data.test_x, data.test_y))

    def accuracies(algorithm: str, rate: float, similarity: float, limit: int) -> list[float]:
        client_of = partition_by_similarity(data.y, settings.clients, similarity)
        clients = population(data.x, data.y, client_of).shuffle(seed=0)
        batches = clients.repeat(1 if algorithm == "SGD" else settings.epochs).batch(batch)
        _, found = trained(
            process(algorithm, rate, settings),
            batches,
            test(),
            rounds=limit,
            cohort_size=settings.cohort,
            target=settings.target,
        )
        return found

    rows = []
    for algorithm in ALGORITHMS:
        for similarity in SIMILARITIES:
            best, limit = (np.inf, 0.0, [0.0]), settings.limit
            for rate in settings.server_rates if algorithm == "SGD" else settings.rates:
                name = f"{algorithm}, {similarity:.0%} similar, rate {rate:g}"
                curve = results.once(name, accuracies, algorithm, rate, similarity, limit)
                best = min(best, (rounds_to(settings.target, curve) or np.inf, rate, curve), key=_fewest)
                limit = int(min(limit, np.ceil(best[0])))
            rounds, rate, curve = best
            rows.append(
                {
                    "algorithm": algorithm,
                    "similarity": similarity,
                    "rounds": None if np.isinf(rounds) else rounds,
                    "rate": rate,
                    "best accuracy": max(curve),
                    "curve": curve,
                }
            )
    return rows


def _fewest(tried: tuple[float, float, list[float]]) -> tuple[float, float]:
    """The fewest rounds first; where the target was not reached, the highest accuracy."""
    rounds, _, curve = tried
    return rounds, -max(curve)


def draw(rows: Rows) -> Picture:
    """The rounds as bars, a group for each similarity; a bar is missing where the target was not reached."""
    picture, (axes,) = panels(1, (8.5, 3.8))
    found = {(row["algorithm"], row["similarity"]): row["rounds"] for row in rows}
    values = {
        algorithm: [found[algorithm, similarity] or np.nan for similarity in SIMILARITIES] for algorithm in ALGORITHMS
    }
    groups = [f"{similarity:.0%}" for similarity in SIMILARITIES]
    bars(axes, "Rounds to the test accuracy", groups, values, number=".0f", x_label="similarity of clients")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    legend(axes, loc="upper right")
    return picture


EXPERIMENT = Experiment("scaffold", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
