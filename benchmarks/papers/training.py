"""The loop of the experiments: rounds up to a number or to a test accuracy, and what is read off their curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import hansa
from hansa import learning
from hansa.simulation import ClientData


class Test:
    """Images that nobody trains on, and the accuracy of a model on them.

    Args:
        model: the model whose weights are tested.
        x: the rows, float32 [examples, features].
        y: their labels, int32 [examples].
    """

    __test__ = False  # for pytest

    def __init__(self, model: learning.FunctionalModel, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
        evaluation = learning.build_federated_evaluation(model)
        # Dealt out to several, so that all cores have a part in it.
        data = ClientData.from_arrays({"x": x, "y": y}, np.arange(len(y)) % min(4, len(y))).batch(1000)
        self.evaluate = evaluation, data


def trained(
    process: learning.LearningProcess,
    data: ClientData | Callable[[int], Any],
    test: Test | None = None,
    *,
    rounds: int,
    cohort_size: int | None = None,
    seed: int = 0,
    target: float | None = None,
    evaluate_every: int = 1,
    initial_state: Any = None,
) -> tuple[Any, list[float]]:
    """The state after some rounds, and the test accuracies on the way.

    Args:
        process: what is run.
        data: the clients, with their batches, or a function from a round's number to its clients.
        test: what is tested after rounds, if anything is.
        rounds: the most.
        cohort_size: how many clients take part in each; by default all.
        seed: of the draw of cohorts.
        target: a test accuracy at which the run ends.
        evaluate_every: after which rounds is tested.
        initial_state: the state to begin with.
    """

    def reached(number: int, state: Any, metrics: Any) -> str | None:
        return "there" if target is not None and (metrics.get("evaluation/accuracy") or 0) >= target else None

    result = hansa.program.train(
        process,
        data,
        rounds,
        cohort_size=cohort_size,
        seed=seed,
        initial_state=initial_state,
        evaluate=None if test is None else test.evaluate,
        evaluate_every=evaluate_every,
        callbacks=[reached],
        progress=False,
    )
    found = [] if test is None else result.history["evaluation/accuracy"]
    return result.state, [float(value) for value in found if value is not None]


def rounds_to(target: float, accuracies: Sequence[float]) -> float | None:
    """Where the curve of the best accuracy so far, with straight lines between rounds, crosses the target."""
    best = np.maximum.accumulate(accuracies)
    reached = int(np.searchsorted(best, target))
    if reached == len(best):
        return None
    if reached == 0:
        return 1.0
    before, after = best[reached - 1], best[reached]
    return reached + float((target - before) / (after - before))


def accuracies_of(results: Any) -> npt.NDArray[np.float64]:
    """The accuracy of each client, in what a per-client evaluation gives."""
    return learning.ClientMetrics.of(results).values["accuracy"]


def mean_and_worst(accuracies: Sequence[float]) -> tuple[float, float]:
    """The mean over clients, and that over the worst tenth of them."""
    ordered = np.sort(accuracies)
    return float(ordered.mean()), float(ordered[: max(1, len(ordered) // 10)].mean())
