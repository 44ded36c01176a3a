"""What privacy costs: a private round beside the plain one, in turn, and what is computed of epsilon and noise.

    python -m benchmarks.private                # all of it: a few minutes
    python -m benchmarks.private --only rounds
    python -m benchmarks.private --examples 100 300 600

A round is of 50 of 100 clients with so many images of MNIST each, batches of 20, and a network of 784, 126 and 10
units: 100,180 weights. With 600 images each it is all of MNIST, as in the literature. Each figure is of CPU time: of a
round, which runs in turn with the other, the least and the median of some turns; of the rest, the least of three.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.algorithms import CLIENTS, Run, network, population
from hansa import learning, privacy
from hansa.language.encoding import rounded_gaussian
from hansa.language.flows import flows_of

COHORT, HIDDEN, _WARM = 50, 126, 3


def averaging(noised: bool) -> learning.LearningProcess:
    """Federated averaging, with noise in the clients' mean update or without."""
    rule = privacy.gaussian(clip=0.4, noise_multiplier=1.0, cohort=COHORT) if noised else None
    return learning.build_federated_averaging_process(
        network(HIDDEN), client_optimizer=optax.sgd(0.1), client_weighting="uniform", aggregator=rule
    )


def rounds(examples: int, turns: int) -> None:
    """Prints what a round takes of each, and the private one's share."""
    data, rng = population(examples), np.random.default_rng(0)
    runs = [Run(lambda noised=noised: averaging(noised)) for noised in (False, True)]  # type: ignore[misc]
    for _ in range(turns + _WARM):
        cohort = data.select(rng.choice(CLIENTS, COHORT, replace=False).tolist())
        for run in runs:
            run.round(cohort)
    seconds = [run.seconds[_WARM:] for run in runs]
    least, middle = [min(found) for found in seconds], [float(np.median(found)) for found in seconds]
    print(
        f"{examples:4} examples a client: plain {1e3 * middle[0]:6.1f} ms, private {1e3 * middle[1]:6.1f} ms: "
        f"{middle[1] / middle[0]:.2f} times; of the least {least[1] / least[0]:.2f}",
        flush=True,
    )


def took(work: Callable[[], Any], times: int = 3) -> float:
    """The least CPU seconds of some runs."""
    found = math.inf
    for _ in range(times):
        begin = time.process_time()
        work()
        found = min(found, time.process_time() - begin)
    return found


def live() -> float:
    """Epsilon after each of 200 rounds, seconds for each."""
    charge = privacy.Charge(privacy.Poisson(0.001), [privacy.Gaussian(1.0)])
    accountant = privacy.Accountant(1e-6, [charge])
    _ = accountant.epsilon

    def run() -> None:
        for _ in range(200):
            accountant.add(charge)
            assert accountant.epsilon > 0

    return took(run) / 200


def calibration() -> float:
    """The noise of pfl-research's CIFAR-10 setting."""
    return took(lambda: privacy.calibrate(2.0, 1e-6, 1500, privacy.Poisson(0.001)), 1)


def analysis() -> float:
    """What a private round of averaging is made of."""
    process = averaging(True)
    return took(lambda: flows_of(process.next))


def matrix_noise() -> float:
    """Correlated noise of 16 terms for a million weights."""
    rule = privacy.matrix(1.0, 1.0, 50, rounds=1024, separation=128, terms=16)
    weights = rule.mechanism.weights  # type: ignore[union-attr]
    with jax.enable_x64(True):
        make = jax.jit(lambda keys: rounded_gaussian(keys, weights, 10**6))
        keys = jnp.arange(16 * 8, dtype=jnp.uint32).reshape(16, 8)
        jax.block_until_ready(make(keys))
        return took(lambda: jax.block_until_ready(make(keys)))


OTHERS = {
    "live epsilon a round": (live, 0.001),
    "calibration": (calibration, 5.0),
    "analysis of a round": (analysis, 0.05),
    "matrix noise, 10^6 weights x 16 terms": (matrix_noise, 0.5),
}
"""What else is timed, with the target in seconds."""


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["rounds", "others"])
    parser.add_argument("--examples", nargs="+", type=int, default=[600, 100])
    parser.add_argument("--turns", type=int, default=9)
    asked = parser.parse_args()
    if asked.only != "rounds":
        for name, (work, target) in OTHERS.items():
            print(f"{name}: {1e3 * work():.3g} ms of CPU (target {1e3 * target:g})", flush=True)
    for examples in asked.examples if asked.only != "others" else ():
        rounds(examples, asked.turns)


if __name__ == "__main__":
    main()
