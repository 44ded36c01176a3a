"""Clients that do a part of their work only, as in figure 1 of Li et al., "Federated Optimization in Heterogeneous
Networks" (2020), arXiv:1812.06127: Synthetic(1, 1), 30 clients of which 10 take part in a round, 20 epochs in each.

python -m benchmarks.papers.fed_prox [--quick] [--out FOLDER] [--picture FILE]

Of the clients of a round 0, 50 or 90 % are stragglers, which are done with 1 to 20 epochs when the round ends.
FedAvg leaves them out; FedProx takes what they have, with mu = 0 or with mu = 1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optax

import hansa
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import Picture, curves, legend, panels, percent
from benchmarks.papers.training import Test, trained
from hansa import learning
from hansa.simulation import ClientData, WeightedSampler, synthetic

STRAGGLERS = (0.0, 0.5, 0.9)
ALGORITHMS = {"FedAvg": None, "FedProx, mu = 0": 0.0, "FedProx, mu = 1": 1.0}


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    data: tuple[float, ...] = (0.0, 1.0)
    clients: int = 30
    cohort: int = 10
    epochs: int = 20
    batch: int = 10
    rate: float = 0.01
    rounds: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)


QUICK = Settings(data=(1.0,), clients=6, cohort=3, epochs=2, rounds=2, seeds=(0,))


def rounds_of(
    data: ClientData, settings: Settings, stragglers: float, partial: bool, seed: int
) -> Callable[[int], list[hansa.Batches]]:
    """From the number of a round to its clients' batches: those of all epochs, or for stragglers of some, or none."""
    sampler = WeightedSampler(data.sizes, settings.cohort, seed=seed)

    def cohort(number: int) -> list[hansa.Batches]:
        draws = np.random.default_rng([seed, number])
        late = draws.permutation(settings.cohort) < round(stragglers * settings.cohort)
        epochs = np.where(late, draws.integers(1, settings.epochs + 1, settings.cohort), settings.epochs)
        chosen = [data.client_ids[position] for position in sampler(number)]
        return [
            hansa.Batches(data.client(client), settings.batch, epochs=int(count))
            for client, count, slow in zip(chosen, epochs, late, strict=True)
            if partial or not slow
        ]

    return cohort


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each data set, share of stragglers and algorithm."""
    model = network((60, 10), optimizer=optax.sgd(settings.rate))
    # Algorithm 2: clients are drawn by their sizes, and then count the same.
    process = functools.cache(lambda: learning.build_fed_prox(model, proximal_strength=0.0, client_weighting="uniform"))

    @functools.cache
    def data(alpha: float) -> tuple[ClientData, Test]:
        train, held_out = synthetic(alpha, alpha, settings.clients).split(0.2, by="examples")
        each = [held_out.client(client) for client in held_out.client_ids]
        return train, Test(model, *(np.concatenate([arrays[name] for arrays in each]) for name in ("x", "y")))

    def accuracies(alpha: float, stragglers: float, mu: float | None, seed: int) -> list[float]:
        train, test = data(alpha)
        state = process().with_hparams(process().initialize(), proximal_strength=mu or 0.0)
        clients = rounds_of(train, settings, stragglers, partial=mu is not None, seed=seed)
        return trained(process(), clients, test, rounds=settings.rounds, initial_state=state)[1]

    rows = []
    for alpha, stragglers, (algorithm, mu) in itertools.product(settings.data, STRAGGLERS, ALGORITHMS.items()):
        name = f"Synthetic({alpha:g}, {alpha:g})"
        found = [
            results.once(
                f"{name}, {stragglers:.0%} stragglers, {algorithm}, seed {seed}",
                accuracies,
                alpha,
                stragglers,
                mu,
                seed,
            )
            for seed in settings.seeds
        ]
        curve = np.mean(found, axis=0)
        last = np.array(found)[:, -max(1, len(curve) // 5) :]
        rows.append(
            {
                "data": name,
                "stragglers": stragglers,
                "algorithm": algorithm,
                "accuracy": float(last.mean()),
                "deviation": float(last.std(axis=1).mean()),
                "curve": curve.tolist(),
            }
        )
    return rows


def draw(rows: Rows) -> Picture:
    """The test accuracy over the rounds on the last data set, a panel for each share of stragglers."""
    picture, axes = panels(len(STRAGGLERS))
    last = rows[-1]["data"]
    for panel, stragglers in zip(axes, STRAGGLERS, strict=True):
        found = [row for row in rows if row["data"] == last and row["stragglers"] == stragglers]
        curves(panel, f"{last}, {stragglers:.0%} stragglers", {row["algorithm"]: row["curve"] for row in found})
        percent(panel)
    axes[0].set_ylabel("test accuracy")
    legend(axes[-1], loc="lower right")
    return picture


EXPERIMENT = Experiment("fed_prox", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
