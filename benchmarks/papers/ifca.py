"""Groups of clients whose images are turned alike, as in table 1 of Ghosh et al., "An Efficient Framework for Clustered
Federated Learning" (2020), arXiv:2006.04088: MNIST turned by 0, 90, 180 and 270 degrees, and four models.

python -m benchmarks.papers.ifca [--quick] [--out FOLDER] [--picture FILE]

All clients take part in each round. The more clients there are, the fewer images each has. IFCA is begun several
times, and the one with the least loss on the clients' training images counts, as in the paper. Beside it stand one that
begins with models far from each other (`spread_models`), one model for all, and models of each client's own (Ditto with
lambda 0).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from benchmarks.papers.data import mnist, population, rotated
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import COLOURS, Picture, bars, legend, panels, percent
from benchmarks.papers.training import accuracies_of, trained
from hansa import learning
from hansa.simulation import ClientData

GROUPS = 4
ALGORITHMS = ("IFCA", "IFCA, spread starts", "one model", "each its own")


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 1_000
    test_images: int = 2_000
    examples: tuple[int, ...] = (50, 100, 200)
    hidden: int = 50
    steps: int = 10
    rate: float = 0.1
    rounds: int = 30
    starts: tuple[int, ...] = (0, 1, 2)


QUICK = Settings(images=100, test_images=100, examples=(25,), hidden=8, steps=2, rounds=2, starts=(0,))


def turned(x: Any, y: Any, clients: int) -> ClientData:
    """All images turned in four ways, and dealt out to as many clients for each."""
    each = clients // GROUPS
    client_of = np.arange(len(y)) % each
    return population(
        np.concatenate([rotated(x, quarters) for quarters in range(GROUPS)]),
        np.tile(y, GROUPS),
        np.concatenate([quarters * each + client_of for quarters in range(GROUPS)]),
    )


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each number of images at a client and algorithm."""
    data = mnist(settings.images, settings.test_images)
    model = network((784, settings.hidden, 10), optimizer=optax.sgd(settings.rate))
    averaging = functools.cache(lambda: learning.build_federated_averaging_process(model))
    processes = {
        "IFCA": functools.cache(lambda: learning.build_ifca(model, groups=GROUPS)),
        "one model": averaging,
        "each its own": functools.cache(lambda: learning.build_ditto(model, lambda_=0.0)),
    }
    evaluation = functools.cache(lambda name: learning.build_per_client_evaluation(processes[name]()))

    def accuracies(name: str, examples: int, state: Any) -> dict[str, Any]:
        """The accuracy at each client with the model that it would use, and the loss on its training images."""
        clients = GROUPS * settings.images // examples
        train, test = turned(data.x, data.y, clients), turned(data.test_x, data.test_y, clients)
        batches = train.repeat(settings.steps).batch(examples)
        state, _ = trained(processes[name](), batches, rounds=settings.rounds, initial_state=state)
        evaluate = evaluation(name)
        everyone = np.arange(clients)
        losses = learning.ClientMetrics.of(evaluate(state, train.batch(examples).cohort(everyone))).values["loss"]
        found = accuracies_of(evaluate(state, test.batch(250).cohort(everyone)))
        return {"accuracies": found.tolist(), "loss": float(losses.mean())}

    def accuracies_from_seed(examples: int, seed: int) -> dict[str, Any]:
        return accuracies("IFCA", examples, learning.build_ifca(model, groups=GROUPS, seed=seed).initialize())

    def accuracies_from_spread(examples: int) -> dict[str, Any]:
        clients = GROUPS * settings.images // examples
        cohort = turned(data.x, data.y, clients).repeat(settings.steps).batch(examples).cohort(np.arange(clients))
        starts = learning.spread_models(averaging(), cohort, GROUPS)
        process = learning.build_ifca(model, groups=GROUPS, initial_models=starts)
        return accuracies("IFCA", examples, process.initialize())

    rows = []
    for examples in settings.examples:
        tried = [
            results.once(f"IFCA, {examples} images, start {seed}", accuracies_from_seed, examples, seed)
            for seed in settings.starts
        ]
        found = {
            "IFCA": min(tried, key=lambda each: each["loss"]),
            "IFCA, spread starts": results.once(f"IFCA, {examples} images, spread", accuracies_from_spread, examples),
            **{
                name: results.once(f"{name}, {examples} images", accuracies, name, examples, None)
                for name in ("one model", "each its own")
            },
        }
        rows += [
            {
                "images of a client": examples,
                "clients": GROUPS * settings.images // examples,
                "algorithm": name,
                "accuracy": float(np.mean(found[name]["accuracies"])),
                "training loss": found[name]["loss"],
                "each start": [float(np.mean(each["accuracies"])) for each in tried] if name == "IFCA" else [],
            }
            for name in ALGORITHMS
        ]
    return rows


def draw(rows: Rows) -> Picture:
    """The accuracies as bars, by the number of images that a client has."""
    picture, (axes,) = panels(1, (8.5, 3.8))
    sizes = sorted({row["images of a client"] for row in rows})
    values = {name: [row["accuracy"] for row in rows if row["algorithm"] == name] for name in ALGORITHMS}
    title, colours = "MNIST turned in four ways: accuracy at the clients", (COLOURS[2], COLOURS[3], *COLOURS[:2])
    bars(axes, title, [str(size) for size in sizes], values, colours=colours, x_label="images of a client")
    axes.set_ylim(0, 1.15)
    percent(axes)
    legend(axes, loc="upper left", ncols=4)
    return picture


EXPERIMENT = Experiment("ifca", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
