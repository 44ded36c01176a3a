"""Models of each client's own beside one for all, by the mean over clients and over the worst tenth of them.

python -m benchmarks.papers.personal [--quick] [--out FOLDER] [--picture FILE]

Each client has two shards of MNIST (McMahan et al. 2017, arXiv:1602.05629), so two digits for the most part, and holds
out a fifth of its images, on which its own model is tested. A part of the clients trains in each round. After the last
one, Per-FedAvg and `FedAvg, tuned` train the model of all for some epochs on the images of each client.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from benchmarks.papers.data import mnist, population
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import COLOURS, Picture, bars, legend, panels, percent
from benchmarks.papers.training import accuracies_of, mean_and_worst, trained
from hansa import learning
from hansa.simulation import partition_shards

TUNED = ("FedAvg, tuned", "Per-FedAvg")


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 6_000
    clients: int = 50
    cohort: int = 20
    hidden: int = 32
    rounds: int = 50
    epochs: int = 5
    rate: float = 0.05
    seeds: tuple[int, ...] = (0, 1)


QUICK = Settings(images=500, clients=10, cohort=5, hidden=8, rounds=2, epochs=1, seeds=(0,))


def processes(settings: Settings) -> dict[str, Callable[[], learning.LearningProcess]]:
    """What is compared; the last layer is what is personal where a part of the model is."""
    rate = settings.rate
    model = network((784, settings.hidden, 10), optimizer=optax.sgd(rate))
    return {
        "FedAvg": lambda: learning.build_federated_averaging_process(model),
        "FedAvg, tuned": lambda: learning.build_federated_averaging_process(model),
        "each its own": lambda: learning.build_ditto(model, lambda_=0.0),
        "Ditto": lambda: learning.build_ditto(model, lambda_=0.1),
        "FedPer": lambda: learning.build_fed_per(model, personal="output"),
        "FedRep": lambda: learning.build_fed_rep(model, personal="output"),
        "LG-FedAvg": lambda: learning.build_lg_fed_avg(model, personal="hidden_1"),
        "APFL": lambda: learning.build_apfl(model, client_learning_rate=rate),
        "pFedMe": lambda: learning.build_p_fed_me(
            model, lambda_=15.0, client_learning_rate=rate, personal_learning_rate=rate
        ),
        "Per-FedAvg": lambda: learning.build_per_fed_avg(model, alpha=rate),
    }


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each algorithm, with the accuracy at each client beside it."""
    data, builders = mnist(settings.images), processes(settings)
    process = functools.cache(lambda name: builders[name]())

    @functools.cache
    def tuning(name: str) -> Any:
        return learning.build_personalization_eval(process(name), client_optimizer=optax.sgd(settings.rate))

    @functools.cache
    def evaluation(name: str) -> Any:
        return learning.build_per_client_evaluation(process(name))

    def accuracies(name: str, seed: int) -> list[float]:
        clients = population(data.x, data.y, partition_shards(data.y, settings.clients, seed=seed))
        own, held_out = clients.split(0.2, by="examples", seed=seed)
        training, test = own.shuffle(seed).repeat(settings.epochs).batch(20), held_out.batch(100)
        state, _ = trained(process(name), training, rounds=settings.rounds, cohort_size=settings.cohort, seed=seed)
        everyone = np.arange(settings.clients)
        if name in TUNED:
            found = tuning(name)(state, training.cohort(everyone), test.cohort(everyone))
        else:
            found = evaluation(name)(state, test.cohort(everyone))
        return accuracies_of(found).tolist()

    rows = []
    for name in builders:
        found = [results.once(f"{name}, seed {seed}", accuracies, name, seed) for seed in settings.seeds]
        mean, worst = np.mean([mean_and_worst(each) for each in found], axis=0)
        rows.append({"algorithm": name, "mean": float(mean), "worst tenth": float(worst), "clients": found})
    return rows


def draw(rows: Rows) -> Picture:
    """Two bars for each algorithm: the mean, and that of the worst tenth."""
    picture, (axes,) = panels(1, (10, 3.8))
    groups = [row["algorithm"].replace(", ", ",\n").replace(" its", "\nits") for row in rows]
    values = {f"{name} of clients": [row[name] for row in rows] for name in ("mean", "worst tenth")}
    title = "Accuracy of each client's model on images of its own"
    bars(axes, title, groups, values, colours=(COLOURS[2], COLOURS[0]))
    axes.set_ylim(0, 1.18)
    percent(axes)
    legend(axes, loc="upper left", ncols=2)
    return picture


EXPERIMENT = Experiment("personal", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
