"""To which few numbers normal ones are rounded with the least squared error (Lloyd 1982, Max 1960)."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.optimize import root
from scipy.special import ndtr, ndtri


@cache
def normal_centroids(bits: int) -> np.ndarray:
    """The `2**bits` numbers for the standard normal distribution, in order, in float64.

    Each is the mean of the numbers that are nearest to it. They are as many below zero as above.
    """
    half = 2**bits // 2
    shares = (np.arange(half) + 0.5) / half
    start = np.sqrt(3) * ndtri((1 + shares) / 2)  # where very many would lie
    found = root(lambda above: above - _means(above), start, tol=1e-14)
    above = np.asarray(found.x, np.float64)
    assert np.abs(above - _means(above)).max() < 1e-9, found.message
    return np.concatenate([-above[::-1], above])


def _means(above: np.ndarray) -> np.ndarray:
    """The mean of the normal numbers that are nearest to each of some numbers above zero."""
    edges = np.concatenate([[0.0], (above[1:] + above[:-1]) / 2, [np.inf]])
    density = np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)
    tail = ndtr(-edges)
    return np.asarray((density[:-1] - density[1:]) / (tail[:-1] - tail[1:]))
