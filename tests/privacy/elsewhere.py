"""Private sums in this process and elsewhere, with noise of the same secret: prints what has other bits.

    python -m tests.privacy.elsewhere ray|network

`test_elsewhere` runs it in a process of its own, as users compile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hansa
from hansa.privacy import noise_of
from tests.network.bits import differing
from tests.program.digits import population, softmax

SECRET, CLIENTS = bytes(range(32)), 4


def averaging(aggregator: Any) -> Any:
    return hansa.learning.build_federated_averaging_process(
        softmax(), client_optimizer="sgd", client_learning_rate=0.1, aggregator=aggregator
    )


def rounds(process: Any, data: Any) -> list[Any]:
    """The states and metrics of two rounds."""
    state, found = process.initialize(), []
    for number in (2, 3):
        with noise_of(SECRET, round_number=number):
            state, metrics = process.next(state, data)
        found += [state, metrics]
    return found


@contextmanager
def elsewhere(place: str, process: Any, data: Any) -> Iterator[Any]:
    """What takes the place of data there."""
    if place == "ray":
        with hansa.RayRuntime(workers=2) as runtime, hansa.runtime(runtime):
            yield data.cohort(range(CLIENTS))
    else:
        with hansa.network.local(process, data, CLIENTS, unprotected=True) as network, hansa.runtime(network):
            yield network.devices()


def main(place: str) -> None:
    noised = hansa.privacy.noised_metrics(4.0, loss=(0, 5))
    matrix = hansa.privacy.matrix(0.5, 1.0, CLIENTS, rounds=8, separation=2, terms=3, power=0.5, metrics=noised)
    rules = {"matrix": matrix}
    if place == "ray":  # devices of a network draw keys of their own
        rules["distributed"] = hansa.privacy.distributed(0.5, 1.0, CLIENTS, min_cohort=3)
    data = population(CLIENTS)
    for name, rule in rules.items():
        process = averaging(rule)
        expected = rounds(process, data.cohort(range(CLIENTS)))
        with elsewhere(place, process, data) as given:
            found = rounds(process, given)
        print(name, differing(found, expected))


if __name__ == "__main__":
    main(sys.argv[1])
