"""Measures rounds of the algorithms and of aggregators in turn with federated averaging, and counts compilations.

Two workloads on MNIST, 20 of 100 clients in a round, batches of 20: logistic regression on 600 examples of each, and a
network 784-200-10 (159,010 weights) on 100. What counts is the CPU time of the process, as a share of averaging's.

python -m benchmarks.algorithms [--workload logistic|mlp] [--turns 9] [--rounds 50] [NAME …]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hansa  # isort: skip
import jax
import numpy as np
import optax

from hansa import aggregators, learning
from hansa.learning import arithmetic
from hansa.simulation import load_mnist

CLIENTS, COHORT, BATCH, RATE = 100, 20, 20, 0.1
WORKLOADS = {"logistic": (0, 600), "mlp": (200, 100)}
"""Units of the hidden layer, and examples of each client."""


def names(hidden: int) -> list[str]:
    """The names of the weights of `network`, layer after layer."""
    return [f"{kind}{number}" for number in range(2 if hidden else 1) for kind in ("kernel", "bias")]


def network(hidden: int) -> learning.FunctionalModel:
    """A network of one hidden layer, or logistic regression for none."""
    sizes = [784, hidden, 10] if hidden else [784, 10]
    rng = np.random.default_rng(0)
    weights = {}
    for number, (a, b) in enumerate(pairwise(sizes)):
        weights[f"kernel{number}"] = rng.normal(0, a**-0.5, (a, b)).astype(np.float32)
        weights[f"bias{number}"] = np.zeros(b, np.float32)

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> learning.BatchOutput:
        x = batch.x
        for number in range(len(sizes) - 1):
            x = (jax.nn.relu(x) if number else x) @ weights[f"kernel{number}"] + weights[f"bias{number}"]
        losses = optax.softmax_cross_entropy_with_integer_labels(x, batch.y)
        return learning.BatchOutput(losses.mean(), x)

    spec = "<x=float32[?,784],y=int32[?]>"
    return learning.functional_model(weights, forward, input_spec=spec, optimizer=optax.sgd(RATE))


def processes(model: learning.FunctionalModel, hidden: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; averaging first."""
    rate = {"client_learning_rate": RATE}
    last = "kernel1" if hidden else "bias0"

    def averaging(**arguments: Any) -> Callable[[], Any]:
        return lambda: learning.build_federated_averaging_process(model, **arguments)

    return {
        "averaging": averaging(),
        "composed": lambda: learning.build_process(model, client_work=learning.local_training()),
        "kept update": lambda: learning.build_process(model, client_work=keeping()),
        "FedProx": lambda: learning.build_fed_prox(model, proximal_strength=0.1),
        "SCAFFOLD": lambda: learning.build_scaffold(model, population=CLIENTS, **rate),
        "FedPer": lambda: learning.build_fed_per(model, personal=last),
        "Ditto": lambda: learning.build_ditto(model, lambda_=0.1),
        "clipping": averaging(aggregator=aggregators.clipping(bound=1.0)),
        "adaptive clipping": averaging(aggregator=aggregators.clipping(quantile=0.8)),
        "median": averaging(aggregator=aggregators.median()),
    }


def keeping() -> Any:
    """The client work of averaging, of which a client keeps its last update and does nothing with it."""

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        moved = arithmetic.subtract(weights.trainable, at.sent.model.trainable)
        return arithmetic.difference(weights, at.sent.model), None, {"last": moved}

    return learning.local_training(
        finish=finish, own=lambda initial: {"last": arithmetic.zeros_like(initial.trainable)}
    )


def population(examples: int) -> hansa.ClientBatches:
    """Clients with so many examples each."""
    data, number = load_mnist(), CLIENTS * examples
    x = (data.train_images[:number].reshape(-1, 784) / 255).astype(np.float32)
    offsets = np.arange(CLIENTS + 1) * examples
    return hansa.ClientBatches({"x": x, "y": data.train_labels[:number].astype(np.int32)}, offsets, BATCH)


class Run:
    """A process, and what its rounds have taken."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self.runtime = hansa.InProcessRuntime()
        self.process = build()
        self.state = self.process.initialize()
        self.seconds: list[float] = []
        self.compilations: list[int] = []

    def round(self, data: hansa.ClientBatches) -> None:
        """One more round."""
        with hansa.runtime(self.runtime):
            start = time.process_time()
            self.state, _ = self.process.next(self.state, data)
            jax.block_until_ready(self.state.model)
            self.seconds.append(time.process_time() - start)
        self.compilations.append(self.runtime.compilations)


def measured(workload: str, only: list[str], turns: int, rounds: int) -> None:
    """Prints the table of a workload."""
    hidden, examples = WORKLOADS[workload]
    builds = processes(network(hidden), hidden)
    runs = {name: Run(build) for name, build in builds.items() if not only or name in ["averaging", *only]}
    data, rng = population(examples), np.random.default_rng(0)
    for _ in range(turns + 2):
        cohort = data.select(rng.choice(CLIENTS, COHORT, replace=False).tolist())
        for run in runs.values():
            run.round(cohort)
    print(f"{workload}: CPU ms of a round, its share of averaging's, CPU s of the first round")
    base = statistics.median(runs["averaging"].seconds[2:])
    for name, run in runs.items():
        took = statistics.median(run.seconds[2:])
        print(f"{name:20} {took * 1e3:8.1f} {took / base:6.2f} {run.seconds[0]:7.2f}", flush=True)
    for _ in range(rounds - turns - 2):
        cohort = data.select(rng.choice(CLIENTS, COHORT, replace=False).tolist())
        for run in runs.values():
            run.round(cohort)
    late = {name: run.compilations[-1] - run.compilations[1] for name, run in runs.items()}
    print(f"programs compiled after the second of {rounds} rounds: {late}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="what is measured beside averaging; by default all")
    parser.add_argument("--workload", choices=list(WORKLOADS), action="append", help="by default both")
    parser.add_argument("--turns", type=int, default=9, help="rounds of each, in turn; the median counts")
    parser.add_argument("--rounds", type=int, default=50, help="rounds in which compilations are counted")
    options = parser.parse_args()
    for workload in options.workload or WORKLOADS:
        measured(workload, options.only, options.turns, max(options.rounds, options.turns + 2))


if __name__ == "__main__":
    main()
