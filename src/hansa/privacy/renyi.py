"""Rényi differential privacy (RDP): quick to add up, never too small, and for some mechanisms all that is known.

Mironov, "Rényi Differential Privacy" (2017), arXiv:1702.07476. What a round adds is a vector, a value for each order.
The orders and the conversion to epsilon are dp-accounting's.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.privacy.losses import accounting
from hansa.privacy.sampling import Fixed, Poisson

Values = npt.NDArray[np.float64]

_UNITS = 1 << 10
"""Steps of the bound that Skellam noise is counted with; finer ones cost less, in the fifth digit."""


def orders() -> Values:
    """The orders, [orders]."""
    return np.asarray(accounting("dp_accounting.rdp").rdp_privacy_accountant.DEFAULT_RDP_ORDERS, np.float64)


def epsilon(values: Values, delta: float) -> float:
    """Epsilon of a sum of values for `orders`."""
    if not np.isfinite(values).any():
        return math.inf
    return float(accounting("dp_accounting.rdp").compute_epsilon(orders(), values, delta)[0]) if values.any() else 0.0


def gaussian(noise_multiplier: float) -> Values:
    """Of a Gaussian mechanism; at each order a, a / 2z^2."""
    return orders() / 2 / noise_multiplier**2 if noise_multiplier else np.full_like(orders(), np.inf)


def skellam(precision: float, largest: float, units: int = _UNITS) -> Values:
    """Of sums of integers with Skellam noise: Agarwal, Kairouz and Liu (2021), arXiv:2110.04995, Corollary 3.6.

    The bound on the norm is a number of integers, `units`; the norm of degree 1 is at most its square. So one sum with
    the noise multiplier z adds, at the order a, a / 2z^2 and at most (2a + 5) / 4z^4 units^2.

    Args:
        precision: the sum of 1 / z^2.
        largest: the largest 1 / z^2.
        units: integers that the bound is.
    """
    a = orders()
    return a * precision / 2 + (2 * a + 5) * precision * largest / (4 * units**2)


@functools.lru_cache(maxsize=64)
def sampled(sampling: Poisson | Fixed, noise_multiplier: float, at: tuple[float, ...] | None = None) -> Values:
    """Of a sum over a sampled cohort with Gaussian noise.

    Args:
        sampling: how the cohort was drawn.
        noise_multiplier: of the noise, in units of the bound.
        at: the orders; by default `orders()`.
    """
    if isinstance(sampling, Poisson) and sampling.probability == 1 and at is None:
        return gaussian(noise_multiplier)
    dp, rdp = accounting(), accounting("dp_accounting.rdp")
    event: Any
    if isinstance(sampling, Poisson):
        event = dp.PoissonSampledDpEvent(sampling.probability, dp.GaussianDpEvent(noise_multiplier))
        relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    else:
        # Who is replaced changes the sum by two bounds. dp-accounting's PLD of REPLACE_ONE counts that itself, and its
        # RDP does not.
        event = dp.SampledWithoutReplacementDpEvent(
            sampling.clients, sampling.cohort, dp.GaussianDpEvent(noise_multiplier / 2)
        )
        relation = dp.NeighboringRelation.REPLACE_ONE
    accountant = rdp.RdpAccountant(orders=at, neighboring_relation=relation)
    with _quiet():
        accountant.compose(event)
    return np.asarray(accountant.rdp, np.float64)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings about orders that are left out, which costs nothing but a little epsilon."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
