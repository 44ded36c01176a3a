"""The private setting of the CIFAR-10 benchmark of Granqvist et al., "pfl-research: simulation framework for
accelerating research in Private Federated Learning" (2024), arXiv:2404.06430, shrunk, with MNIST in its place: each
client in a round with the probability 1/1000, 1,500 rounds, clipping norm 0.4, epsilon 2 at delta 10^-6.

python -m benchmarks.papers.pfl_private [--quick] [--out FOLDER] [--picture FILE]

Of a million clients these are 1,000 in a round. Here 50 of 1,000 clients with 60 images stand for them, and the noise
in their mean is that of a mean of 1,000: epsilon is that of the million, who are not there. Softmax regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import optax

import hansa
from benchmarks.papers.data import mnist
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import Picture, curves, legend, panels, percent
from benchmarks.papers.training import Test
from hansa import learning
from hansa.simulation import ClientData, UniformSampler, partition_iid


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 60_000
    clients: int = 1000
    cohort: int = 50
    stands_for: int = 1000
    population: int = 1_000_000
    rounds: int = 1500
    batch: int = 10
    rate: float = 0.1
    clip: float = 0.4
    epsilon: float = 2.0
    delta: float = 1e-6
    every: int = 50
    seeds: tuple[int, ...] = (0, 1)


QUICK = Settings(images=400, clients=20, cohort=5, rounds=4, every=2, seeds=(0,))
KINDS = ("clipped only", "with noise", "with the noise of 50 clients")


def measure(settings: Settings, results: Results) -> Rows:
    """A row without noise, with that of the setting, and with as much as 50 clients of 50,000 would need."""
    found = mnist(settings.images, min(10_000, settings.images))
    client_of = partition_iid(len(found.y), settings.clients, seed=1)
    clients = ClientData.from_arrays({"x": found.x, "y": found.y}, client_of).batch(settings.batch)
    model = network((784, 10), optimizer=optax.sgd(settings.rate))
    test = Test(model, found.test_x, found.test_y)
    sampling = hansa.privacy.Poisson(settings.stands_for / settings.population)
    noise = hansa.privacy.calibrate(settings.epsilon, settings.delta, settings.rounds, sampling)
    noises = dict(zip(KINDS, (1e-9, noise * settings.cohort / settings.stands_for, noise), strict=True))

    def accuracies(kind: str, seed: int) -> list[float]:
        rule = hansa.privacy.gaussian(settings.clip, noises[kind], settings.cohort)
        process = learning.build_federated_averaging_process(model, aggregator=rule)
        sampler, state, curve = UniformSampler(settings.clients, settings.cohort, seed=seed), process.initialize(), []
        for number in range(1, settings.rounds + 1):
            state, _ = process.next(state, clients.cohort(sampler(number), number))
            if number % settings.every == 0:
                evaluate, held_out = test.evaluate
                curve.append(float(evaluate(state.model, held_out.cohort(range(len(held_out)))).accuracy))
        return curve

    rows = []
    for kind in KINDS:
        each = [results.once(f"{kind}, seed {seed}", accuracies, kind, seed) for seed in settings.seeds]
        last = np.array(each)[:, -1]
        rows.append(
            {
                "round": kind,
                "noise multiplier": float(f"{noises[kind]:.4g}"),
                "accuracy": float(last.mean()),
                "least accuracy": float(last.min()),
                "curve": np.mean(each, axis=0).tolist(),
            }
        )
    return rows


def draw(rows: Rows) -> Picture:
    """The test accuracy over the rounds."""
    picture, (panel,) = panels(1, (6.0, 3.8))
    curves(panel, "MNIST, epsilon 2 of a million", {row["round"]: row["curve"] for row in rows}, x_label="50th round")
    percent(panel)
    panel.set_ylabel("test accuracy")
    legend(panel, loc="lower right")
    return picture


EXPERIMENT = Experiment("pfl_private", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
