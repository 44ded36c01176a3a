"""The table `[privacy]` of a run: the rule that adds noise, how much of it, and what may be spent."""

from __future__ import annotations

import math
from typing import Any

from hansa import privacy
from hansa.cli._models import ModelError
from hansa.cli.config.schema import PrivacyTable, TrainingTable
from hansa.privacy import AtMost, Budget, Poisson


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
    noise = table.noise_multiplier
    if noise is None:
        noise = privacy.calibrate(table.epsilon, table.delta, training.rounds, claim)
        noise = math.ceil(noise * 1e6) / 1e6  # the same wherever the last digits of a figure are others
    clip: Any = privacy.Adaptive() if table.clip is None else table.clip
    try:
        return privacy.gaussian(clip, noise, cohort, per_layer=table.per_layer, metrics=table.metrics)
    except ValueError as error:
        said = "" if table.clip is not None else "; or say privacy.clip, a fixed norm, such as 0.5"
        raise ModelError(f"privacy: {error}{said}") from None
