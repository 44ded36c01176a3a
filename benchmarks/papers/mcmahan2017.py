"""Rounds to a test accuracy on MNIST, as in McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data" (2017), arXiv:1602.05629, table 1: 100 clients with 600 images each, a fraction C of them a round.

python -m benchmarks.papers.mcmahan2017 [--only 2NN] [--out FOLDER] [--plot FILE]

Each experiment is run with every learning rate of a grid, and the one that takes the fewest rounds counts. What has
been run is kept in FOLDER, so a run that was stopped goes on. It takes about an hour on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hansa  # before Keras, which then runs on JAX

# isort: split
import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.papers.experiment import RESULTS, Results
from benchmarks.papers.training import rounds_to
from benchmarks.workloads import cnn, mlp
from hansa.simulation import ClientData, UniformSampler, load_mnist, partition_iid, partition_shards

CLIENTS = 100
LEARNING_RATES = (0.1, 0.215, 0.0464, 0.464)  # by factors of 10^(1/3), the likeliest first
TABLE = "{:<6} {:<8} {:>5} {:>4} {:>8} {:>8} {:>8}  {}"


@dataclass(frozen=True)
class Experiment:
    """One row of the table.

    Attributes:
        model: `2NN` or `CNN`.
        iid: whether images are dealt out at random, else two shards of the images sorted by label to each client.
        fraction: C, of the clients that take part in a round; 0 stands for one client.
        epochs: E, over a client's images in a round.
        target: the test accuracy to reach.
        paper: the rounds that the paper took.
        limit: after how many rounds to give up.
    """

    model: str
    iid: bool
    fraction: float
    epochs: int
    target: float
    paper: int
    limit: int

    @property
    def name(self) -> str:
        """What it is called in the file of results."""
        return f"{self.model} {'IID' if self.iid else 'non-IID'} C={self.fraction:g} E={self.epochs}"


EXPERIMENTS = [
    Experiment("2NN", True, 0.0, 1, 0.97, 316, 1000),
    Experiment("2NN", True, 0.1, 1, 0.97, 87, 400),
    Experiment("2NN", True, 0.5, 1, 0.97, 75, 300),
    Experiment("2NN", False, 0.0, 1, 0.97, 3275, 8000),
    Experiment("2NN", False, 0.1, 1, 0.97, 664, 2000),
    Experiment("2NN", False, 0.5, 1, 0.97, 443, 1000),
    Experiment("CNN", True, 0.1, 5, 0.99, 20, 60),
]


def run(experiment: Experiment, learning_rate: float, limit: int, report: Callable[[int, float], None]) -> list[float]:
    """The test accuracy after each round, until the target is reached or `limit` rounds have been run."""
    shape, build = ((784,), mlp([784, 200, 200, 10])) if experiment.model == "2NN" else ((28, 28, 1), cnn)
    mnist = load_mnist()
    x, test_x = (
        (images.reshape(-1, *shape) / 255).astype("float32") for images in (mnist.train_images, mnist.test_images)
    )
    labels = mnist.train_labels
    client_of = partition_iid(len(labels), CLIENTS) if experiment.iid else partition_shards(labels, CLIENTS)
    population = ClientData.from_arrays({"x": x, "y": labels[:, None]}, client_of)
    population = population.shuffle(seed=0).repeat(experiment.epochs).batch(10)
    cohort_of = UniformSampler(CLIENTS, max(1, round(experiment.fraction * CLIENTS)))
    keras.utils.set_random_seed(0)
    model = build()

    def model_fn() -> hansa.learning.FunctionalModel:
        model.compile(keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy")
        return hansa.learning.from_compiled_keras_model(model, {"x": x[:10], "y": labels[:10, None]})

    process = hansa.learning.build_federated_averaging_process(model_fn)
    accuracy = test_accuracy(model, test_x, mnist.test_labels)
    state = process.initialize()
    accuracies: list[float] = []
    while len(accuracies) < limit and max(accuracies, default=0.0) < experiment.target:
        number = len(accuracies)
        state, _ = process.next(state, population.cohort(cohort_of(number), number))
        state.model.assign_weights_to(model)
        accuracies.append(accuracy())
        report(len(accuracies), accuracies[-1])
    return accuracies


def test_accuracy(model: keras.Model, x: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """What computes the accuracy of the model's present weights."""
    batches = [(jnp.asarray(x[start : start + 1000]), labels[start : start + 1000]) for start in range(0, len(x), 1000)]

    @jax.jit
    def classes(weights: Any, images: Any) -> Any:
        return jnp.argmax(model.stateless_call(weights, [], images)[0], axis=-1)

    def accuracy() -> float:
        weights = [variable.value for variable in model.trainable_variables]
        return float(np.mean([np.mean(np.asarray(classes(weights, images)) == true) for images, true in batches]))

    return accuracy


def best_of(experiment: Experiment, results: dict[str, Any]) -> tuple[float | None, float | None]:
    """The fewest rounds to the target, and the learning rate that took them; both None where none reached it."""
    found = [
        (rounds, rate)
        for rate in LEARNING_RATES
        if (rounds := rounds_to(experiment.target, results.get(f"{experiment.name} {rate:g}", [0.0]))) is not None
    ]
    return min(found, default=(None, None))


def plot(results: dict[str, Any], file: Path) -> None:
    """Draws the curves of the best learning rates."""
    import matplotlib.pyplot as plt

    from hansa._figure_style import BLUE, DPI, GREY, INK, QUIET, RED, style

    panels = {
        "2NN, IID": [each for each in EXPERIMENTS if each.model == "2NN" and each.iid],
        "2NN, two shards each": [each for each in EXPERIMENTS if each.model == "2NN" and not each.iid],
        "CNN, IID, E=5": [each for each in EXPERIMENTS if each.model == "CNN"],
    }
    colours = {0.0: GREY, 0.1: BLUE, 0.5: RED}
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    for ax, (title, experiments) in zip(axes, panels.items(), strict=True):
        for experiment in experiments:
            rounds, rate = best_of(experiment, results)
            if rounds is None:
                continue
            curve = np.maximum.accumulate(results[f"{experiment.name} {rate:g}"])
            label = f"C={experiment.fraction:g}: {rounds:.0f} ({experiment.paper})"
            ax.plot(np.arange(1, len(curve) + 1), curve, color=colours[experiment.fraction], label=label)
        target = experiments[0].target
        style(ax, title, "rounds; in brackets, those of the paper")
        ax.axhline(target, color=INK, linewidth=0.8, linestyle=":")
        ax.set(ylim=(target - 0.1, target + 0.005), xscale="log")
        ax.xaxis.set_major_formatter("{x:,g}")
        ax.yaxis.set_major_formatter("{x:.0%}")
        ax.minorticks_off()
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.92), fontsize=8.5, labelcolor=INK)
    axes[0].set_ylabel("test accuracy, the best so far", fontsize=10, color=QUIET)
    figure.savefig(file, dpi=DPI)


def main() -> None:
    """Runs what has not been run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="experiments whose name holds this, such as '2NN IID'")
    parser.add_argument("--out", type=Path, default=RESULTS / "mcmahan2017", help="where results are kept")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file")
    options = parser.parse_args()
    results = Results(options.out / "results.json")
    print(TABLE.format("model", "clients", "C", "E", "target", "paper", "rounds", "learning rate"))
    for experiment in (each for each in EXPERIMENTS if options.only in each.name):
        for rate in LEARNING_RATES:
            key = f"{experiment.name} {rate:g}"
            fewest, _ = best_of(experiment, results.found)
            limit = experiment.limit if fewest is None else int(np.ceil(fewest))
            shown = time.monotonic()

            def report(number: int, accuracy: float, key: str = key) -> None:
                nonlocal shown
                if time.monotonic() - shown > 30:
                    shown = time.monotonic()
                    print(f"  {key}: round {number}, test accuracy {accuracy:.4f}", flush=True)

            results.once(key, run, experiment, rate, limit, report)
        rounds, rate = best_of(experiment, results.found)
        clients = "IID" if experiment.iid else "non-IID"
        found = f"{rounds:.0f}" if rounds is not None else f"> {experiment.limit}"
        row = (experiment.model, clients, experiment.fraction, experiment.epochs, experiment.target, experiment.paper)
        print(TABLE.format(*row, found, rate or "none"), flush=True)
    if options.plot:
        plot(results.found, options.plot)


if __name__ == "__main__":
    main()
