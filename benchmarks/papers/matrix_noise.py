"""Noise that cancels over rounds against independent noise, at equal epsilon: the shape of Kairouz et al., "Practical
and Private (Deep) Learning without Sampling or Shuffling" (2021), arXiv:2103.00039, and of Choquette-Choo et al. 2023,
arXiv:2306.08153, in which clients come in turns, and no sampling by chance hides who takes part.

python -m benchmarks.papers.matrix_noise [--quick] [--out FOLDER] [--picture FILE]

MNIST in place of their data, shrunk: 1,000 clients come in a cycle of 20 rounds, 50 in each, for ten cycles; softmax
regression. Each client is in ten rounds, so independent noise must be sqrt(10) times that of one round; correlated
noise is one mechanism for all rounds.
"""

from __future__ import annotations

import functools
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
from hansa.simulation import ClientData, CyclicSampler, partition_iid


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 60_000
    clients: int = 1000
    separation: int = 20
    cycles: int = 10
    terms: int = 16
    batch: int = 20
    rate: float = 0.2
    clip: float = 0.5
    epsilons: tuple[float, ...] = (2.0, 8.0)
    delta: float = 1e-5
    every: int = 10
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


QUICK = Settings(images=400, clients=20, separation=4, cycles=2, terms=2, epsilons=(8.0,), every=2, seeds=(0,))
KINDS = ("independent", "correlated")


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each epsilon and kind of noise."""
    cohort = settings.clients // settings.separation
    rounds = settings.separation * settings.cycles
    model = network((784, 10), optimizer=optax.sgd(settings.rate))

    @functools.cache
    def data() -> tuple[ClientData, Test]:
        found = mnist(settings.images, min(10_000, settings.images))
        client_of = partition_iid(len(found.y), settings.clients, seed=1)
        clients = ClientData.from_arrays({"x": found.x, "y": found.y}, client_of).batch(settings.batch)
        return clients, Test(model, found.test_x, found.test_y)

    @functools.cache
    def rule(epsilon: float, kind: str) -> hansa.privacy.PrivateFactory:
        sampler = CyclicSampler(settings.clients, settings.separation)
        if kind == "independent":
            noise = hansa.privacy.calibrate(epsilon, settings.delta, rounds, sampler)
            return hansa.privacy.gaussian(settings.clip, noise, cohort)
        noise = hansa.privacy.calibrate(epsilon, settings.delta, rounds, sampler, mechanism="matrix")
        return hansa.privacy.matrix(
            settings.clip, noise, cohort, rounds=rounds, separation=settings.separation, terms=settings.terms
        )

    @functools.cache
    def process(epsilon: float, kind: str) -> learning.LearningProcess:
        return learning.build_federated_averaging_process(model, aggregator=rule(epsilon, kind))

    def accuracies(epsilon: float, kind: str, seed: int) -> list[float]:
        clients, test = data()
        sampler = CyclicSampler(settings.clients, settings.separation, seed=seed)
        one, state, found = process(epsilon, kind), process(epsilon, kind).initialize(), []
        for number in range(1, rounds + 1):
            secret = np.random.default_rng([seed, int(epsilon)]).bytes(32)  # of an experiment; nothing is private here
            with hansa.privacy.noise_of(secret, round_number=number):
                state, _ = one.next(state, clients.cohort(sampler(number), number))
            if number % settings.every == 0:
                evaluate, held_out = test.evaluate
                found.append(float(evaluate(state.model, held_out.cohort(range(len(held_out)))).accuracy))
        return found

    rows = []
    for epsilon in settings.epsilons:
        for kind in KINDS:
            found = [
                results.once(f"epsilon {epsilon:g}, {kind}, seed {seed}", accuracies, epsilon, kind, seed)
                for seed in settings.seeds
            ]
            last = np.array(found)[:, -1]
            rows.append(
                {
                    "epsilon": epsilon,
                    "noise": kind,
                    "noise multiplier": rule(epsilon, kind).mechanism.noise_multiplier,
                    "accuracy": float(last.mean()),
                    "least accuracy": float(last.min()),
                    "curve": np.mean(found, axis=0).tolist(),
                }
            )
    return rows


def draw(rows: Rows) -> Picture:
    """The test accuracy over the rounds, a panel for each epsilon."""
    epsilons = list(dict.fromkeys(row["epsilon"] for row in rows))
    picture, axes = panels(len(epsilons))
    for panel, epsilon in zip(axes, epsilons, strict=True):
        found = [row for row in rows if row["epsilon"] == epsilon]
        curves(panel, f"epsilon {epsilon:g}", {row["noise"]: row["curve"] for row in found}, x_label="tenth round")
        percent(panel)
    axes[0].set_ylabel("test accuracy")
    legend(axes[-1], loc="lower right")
    return picture


EXPERIMENT = Experiment("matrix_noise", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
