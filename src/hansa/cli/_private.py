"""The table `[privacy]` of a run: the rule that adds noise, how much of it, and what may be spent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hansa import privacy
from hansa.cli._models import ModelError
from hansa.cli.config.schema import DataTable, PrivacyTable, TrainingTable
from hansa.privacy import DPSGD, AtMost, Budget, NoisedMetrics, Poisson

_OF_METRICS = 5.0
"""Noise in metrics, in units of that of the whole: with five times as much the model's own is 2 % more."""


def budget(table: PrivacyTable) -> Budget:
    """What the run may spend."""
    return Budget(table.epsilon, table.delta, "open" if table.metrics == "open" else "private")


def rule(table: PrivacyTable, training: TrainingTable, clients: int, chosen: bool) -> Any:
    """The rule of aggregation, with the noise that the table says, or else as much as the budget needs.

    Args:
        table: what is asked.
        training: how many rounds there are, and how cohorts are drawn.
        clients: how many there are.
        chosen: whether the server draws cohorts; else who answers takes part.

    Raises:
        ModelError: if the noise is too large for what is asked of it.
    """
    size = training.cohort_size
    cohort = clients if size is None else size * clients if isinstance(size, float) else size
    claim = Poisson(cohort / clients) if chosen and training.sampler != "weighted" else AtMost()
    clip: Any = privacy.Adaptive() if table.clip is None else table.clip
    try:
        noise, metrics = _noises(table, training.rounds, claim)
        return privacy.gaussian(clip, noise, cohort, per_layer=table.per_layer, metrics=metrics)
    except ValueError as error:
        said = "" if table.clip is not None else "; or say privacy.clip, a fixed norm, such as 0.5"
        raise ModelError(f"privacy: {error}{said}") from None


def _noises(table: PrivacyTable, rounds: int, claim: Poisson | AtMost) -> tuple[float, Any]:
    """The noise of the model's sum, and the metrics: with both the run is within the budget."""
    whole = table.noise_multiplier
    if whole is None:
        whole = _rounded_up(privacy.calibrate(table.epsilon, table.delta, rounds, claim))
    if not table.metric_ranges:
        return whole, table.metrics
    noise = table.metrics_noise_multiplier or _OF_METRICS * whole
    ranges = tuple((name, (float(low), float(high))) for name, (low, high) in table.metric_ranges.items())
    metrics = NoisedMetrics(noise, ranges)
    return metrics.left_of(whole) if table.noise_multiplier is None else whole, metrics


def steps(table: PrivacyTable, data: DataTable, training: TrainingTable, optimizer: Any, sizes: Any) -> DPSGD:
    """How clients train with noise for each of their examples: with what the table says, or what the budget needs.

    Args:
        table: what is asked.
        data: how many examples are expected in a step.
        training: how many rounds there are, in all of which a client may take part.
        optimizer: what follows the noised gradients; None for the model's own.
        sizes: how many examples the clients have; None where only they know it.

    Raises:
        ModelError: if it cannot be known how much noise is needed, or how much room.
    """
    assert table.clip is not None
    assert table.steps is not None
    if sizes is None and table.max_examples is None:
        raise ModelError("privacy.max_examples is missing: how many examples a device has at most")
    if sizes is None and table.noise_multiplier is None and table.sampling_rate is None:
        raise ModelError(
            "privacy.sampling_rate is missing: how many examples a device has is not known here, and so neither how "
            "much noise it needs for data.batch_size of them in a step; say sampling_rate, or noise_multiplier"
        )
    room = int(np.max(sizes)) if table.max_examples is None else table.max_examples
    batch_size = None if table.sampling_rate is not None else float(data.batch_size)

    def made(noise: float) -> DPSGD:
        assert table.clip is not None
        assert table.steps is not None
        return DPSGD(
            table.clip,
            noise,
            table.steps,
            room,
            batch_size,
            table.sampling_rate,
            metrics=table.metrics,
            optimizer=optimizer,
        )

    try:
        if table.noise_multiplier is not None:
            return made(table.noise_multiplier)
        fewest = 1 if sizes is None else int(np.min(sizes[sizes > 0]))
        rate = Poisson(made(1.0).rate_of(fewest))
        return made(_rounded_up(privacy.calibrate(table.epsilon, table.delta, training.rounds * table.steps, rate)))
    except ValueError as error:
        raise ModelError(f"privacy: {error}") from None


def _rounded_up(noise: float) -> float:
    """A noise multiplier that is the same wherever the last digits of a figure are others."""
    return math.ceil(noise * 1e6) / 1e6
