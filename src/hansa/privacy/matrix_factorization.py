"""Noise that is correlated over rounds: the coefficients, their sensitivity and their error, in NumPy.

The sums of rounds x_1, x_2, … are released as x + C^-1 z, of independent z. As C (x + C^-1 z) = C x + z, that is as
private as the Gaussian mechanism on C x. C and its inverse are lower triangular Toeplitz matrices, given by their first
columns. The inverse has a few bands: the first coefficients of (1 - x)^power. With power 1/2 and all bands it is the
inverse square root of the matrix of prefix sums (Kalinin et al. 2025, "Back to square roots").
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Coefficients: TypeAlias = NDArray[np.float64]
"""The first column of a lower triangular Toeplitz matrix."""


def inverse_coefficients(terms: int, power: float) -> Coefficients:
    """The first `terms` coefficients of (1 - x)^power, float64 [terms]."""
    k = np.arange(1, terms)
    return np.cumprod(np.concatenate([[1.0], (k - 1 - power) / k]))


def strategy(inverse: Coefficients, rounds: int) -> Coefficients:
    """The coefficients of C, float64 [rounds], from those of its inverse."""
    found = np.zeros(rounds)
    found[0] = 1 / inverse[0]
    for t in range(1, rounds):
        k = np.arange(1, min(len(inverse), t + 1))
        found[t] = -(inverse[k] @ found[t - k]) / inverse[0]
    return found


def sensitivity(coefficients: Coefficients, separation: int) -> float:
    """The norm of the largest change of C x, if a client of norm 1 takes part every `separation` rounds or less often.

    Exact for coefficients that are not negative and do not increase: the worst is to come as early and as often as one
    may (Choquette-Choo et al. 2023, arXiv:2306.08153, theorem 2).

    Args:
        coefficients: of C, one for each round.
        separation: how many rounds later a client may come again.

    Raises:
        ValueError: if they are negative, or increase, so that it is not known.
    """
    if (coefficients < 0).any() or (np.diff(coefficients) > 1e-12).any():
        raise ValueError("the sensitivity of these terms and power is not known: take a smaller power, or more terms")
    column = np.zeros(len(coefficients))
    for first in range(0, len(coefficients), separation):
        column[first:] += coefficients[: len(coefficients) - first]
    return float(np.linalg.norm(column))


def error(inverse: Coefficients, rounds: int, separation: int) -> float:
    """The root mean square error of the sums of rounds 1 to t, over all t, for one unit of noise.

    Raises:
        ValueError: see `sensitivity`.
    """
    padded = np.pad(inverse[:rounds], (0, max(0, rounds - len(inverse))))
    sums = np.cumsum(padded)
    deviations = np.sqrt(np.cumsum(sums**2))
    return float(np.sqrt(np.mean(deviations**2))) * sensitivity(strategy(inverse, rounds), separation)


def best_power(terms: int, rounds: int, separation: int) -> float:
    """The power, in steps of 0.05, with the smallest `error`."""
    powers = [round(0.3 + 0.05 * i, 2) for i in range(14)]
    return min(powers, key=lambda power: error(inverse_coefficients(terms, power), rounds, separation))
