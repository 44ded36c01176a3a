"""`calibrate`: the least noise that keeps a run within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from hansa.privacy import losses, renyi
from hansa.privacy.guarantee import checked_delta, checked_epsilon
from hansa.privacy.sampling import AtMost, Fixed, Poisson, Sampling, Separated, Sites, Truncated, claim_of

_WITHIN = 2e-5
"""So much below its target, as a part of it, an epsilon may be."""


def calibrate(
    epsilon: float,
    delta: float,
    rounds: int,
    sampling: Sampling | Callable[[int], Any],
    *,
    mechanism: Literal["gaussian", "matrix", "distributed", "local"] = "gaussian",
) -> float:
    """The least noise multiplier with which so many rounds stay within (epsilon, delta).

    It takes up to 5 seconds. Poisson sampling is by privacy loss distributions, a fixed size by Rényi accounting, and
    the rest exact.

    Args:
        epsilon: that is not to be exceeded.
        delta: beside it; far below 1 / clients.
        rounds: how many the run has.
        sampling: how cohorts are drawn: `hansa.privacy.Poisson(0.05)` or another claim, or a sampler.
        mechanism: whose noise it is: the aggregator's name, such as `"gaussian"` of `hansa.privacy.gaussian`.

    Returns:
        The standard deviation of the noise, in units of the bound on a client's norm.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.
        ModuleNotFoundError: without dp-accounting: `pip install 'hansa[privacy]'`.

    Examples:
        >>> print(f"{hansa.privacy.calibrate(8.0, 1e-5, rounds=100, sampling=hansa.privacy.Poisson(1.0)):.3f}")
        6.002
    """
    target, delta = checked_epsilon(epsilon), checked_delta(delta)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds must be an integer of 1 or more; found {rounds!r}")
    claim = claim_of(sampling)
    if isinstance(claim, Sites):
        raise ValueError(
            "sites have a probability of their own each; give that of the site with the fewest examples, "
            "hansa.privacy.Poisson(rule.rate_of(num_examples)), and rounds * steps"
        )
    if mechanism == "matrix":
        return _gaussian(target, delta, 1)
    if mechanism == "distributed":
        times = _participations(claim, rounds)
        return _root(
            lambda z: renyi.epsilon(renyi.skellam(times / z**2, z**-2), delta), target, _gaussian(target, delta, times)
        )[0]
    if mechanism == "local":
        return 2 * _gaussian(target, delta, _participations(claim, rounds))
    if mechanism != "gaussian":
        raise ValueError(f"mechanism must be 'gaussian', 'matrix', 'distributed' or 'local'; found {mechanism!r}")
    if isinstance(claim, AtMost | Separated) or claim == Poisson(1.0):
        return _gaussian(target, delta, _participations(claim, rounds))
    if isinstance(claim, Fixed):
        return _root(
            lambda z: renyi.epsilon(rounds * renyi.sampled(claim, z), delta),
            target,
            2 * _guess(target, delta, rounds, claim.cohort / claim.clients),
        )[0]
    return _sampled(claim, target, delta, rounds)


def _participations(claim: Any, rounds: int) -> int:
    """The most rounds that a client is in, as far as it is known."""
    if isinstance(claim, AtMost) and claim.participations is not None:
        return min(rounds, claim.participations)
    return -(-rounds // claim.separation) if isinstance(claim, Separated) else rounds


def _gaussian(target: float, delta: float, times: int) -> float:
    one = float(losses.accounting().get_sigma_gaussian(target, delta))
    return one * math.sqrt(times) * (1 + 1e-9)


def _guess(target: float, delta: float, rounds: int, probability: float) -> float:
    """By the central limit of sampled Gaussians: Bu et al. (2020), arXiv:1911.11607."""
    one = 1 / _gaussian(target, delta, 1) / (probability * math.sqrt(rounds))
    return max(1 / math.sqrt(math.log1p(one**2)), 0.2)


def _sampled(claim: Poisson | Truncated, target: float, delta: float, rounds: int) -> float:
    """On the coarse grid first, then on the fine one, of which each figure takes a second."""
    if not claim.probability:
        raise ValueError("with the probability 0 nobody takes part, and no noise is needed; take a larger one")

    def on(grid: float) -> Callable[[float], float]:
        return lambda z: losses.epsilon({(claim, z): rounds}, delta, grid)

    near, slope = _root(on(losses.COARSE), target, _guess(target, delta, rounds, claim.probability))
    if isinstance(claim, Truncated):  # whose distributions take long
        return near
    return _root(on(losses.FINE), target, near, slope)[0]


def _root(epsilon: Callable[[float], float], target: float, start: float, slope: float = -1.0) -> tuple[float, float]:
    """The noise with an epsilon at most the target, and within a small part of it, by secants of the logarithms.

    Args:
        epsilon: of the noise; falls as it grows.
        target: for it.
        start: a noise that is near.
        slope: of log epsilon over log noise there, as far as it is known.

    Returns:
        The noise, and the slope there.
    """
    low, high = 0.0, math.inf  # too little noise, and enough
    before: tuple[float, float] | None = None
    noise = start
    for _ in range(100):
        found = epsilon(noise)
        low, high = (low, min(high, noise)) if found <= target else (max(low, noise), high)
        if target * (1 - _WITHIN) <= found <= target or high < low * (1 + 1e-7):
            break
        if not 0 < found < math.inf:
            following, before = (noise / 2 if not found else noise * 2), None
        else:
            # Of a little less than the target, so that what is found next is enough.
            error = math.log(found / (target * (1 - _WITHIN / 2)))
            if before is not None:
                slope = min(-0.1, (error - before[1]) / math.log(noise / before[0]))
            before = noise, error
            following = noise * math.exp(max(-1.0, min(1.0, -error / slope)))
        if not low < following < high:
            following = math.sqrt(low * high)  # both are known, or the step would be between them
        noise = following
    return high, slope
