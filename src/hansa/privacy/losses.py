"""Epsilon of sums with Gaussian noise under add-or-remove neighbours, by privacy loss distributions (PLD).

They are composed numerically, and rounded so that epsilon is never too small (Doroshenko et al., "Connect the Dots:
Tighter Discrete Approximations of Privacy Loss Distributions" (2022), arXiv:2207.04380). All of it is dp-accounting's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from hansa._extras import require
from hansa.privacy.sampling import Poisson, Truncated

FINE, COARSE = 1e-4, 1e-3
"""Intervals of the grid of losses: the one that figures are of, and one that is ten times as fast."""

Event: TypeAlias = tuple[Poisson | Truncated, float]
"""How the cohort of a noised sum was drawn, and its noise multiplier."""


def accounting(module: str = "dp_accounting") -> Any:
    """dp-accounting, or one of its modules.

    Raises:
        ModuleNotFoundError: where it is not installed.
    """
    return require(module, "privacy", "an epsilon")


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian mechanism, which is exact (Balle and Wang (2018), arXiv:1805.06530)."""
    return 0.0 if math.isinf(noise_multiplier) else float(accounting().get_epsilon_gaussian(noise_multiplier, delta))


def epsilon(events: Mapping[Event, int], delta: float, grid: float = FINE) -> float:
    """Epsilon of so many of each event."""
    present = {event: count for event, count in events.items() if count and event[0].probability}
    if any(not noise for _, noise in present):
        return math.inf
    if all(sampling == Poisson(1.0) for sampling, _ in present):
        precision = sum(count / noise**2 for (_, noise), count in present.items())
        return gaussian_epsilon(precision**-0.5 if precision else math.inf, delta)
    return float(_composed(present, grid).get_epsilon_for_delta(delta))


def delta(events: Mapping[Event, int], epsilon: float, grid: float = FINE) -> float:
    """Delta at an epsilon of so many of each event."""
    return float(_composed(events, grid).get_delta_for_epsilon(epsilon))


def _composed(events: Mapping[Event, int], grid: float) -> Any:
    parts = [_one(event, grid).self_compose(count) for event, count in events.items()]
    return functools.reduce(lambda whole, part: whole.compose(part), parts)


@functools.lru_cache(maxsize=8)
def _one(event: Event, grid: float) -> Any:
    """The distribution of one event, which takes as long as a composition."""
    sampling, noise = event
    distributions = accounting("dp_accounting.pld.privacy_loss_distribution")
    if isinstance(sampling, Truncated):
        return distributions.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=sampling.clients,
            sampling_probability=sampling.probability,
            truncated_batch_size=sampling.most,
            noise_multiplier=noise,
            value_discretization_interval=grid,
        )
    return distributions.from_gaussian_mechanism(
        standard_deviation=noise, sampling_prob=sampling.probability, value_discretization_interval=grid
    )
