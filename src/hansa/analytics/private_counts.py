"""Counts, histograms, means and quantiles of what clients have, with noise: each a federated computation.

Each is one private sum, whose sensitivity is said. What is made of it afterwards costs nothing more. For the cost of a
call, see `hansa.privacy.releases` and `hansa.privacy.Accountant`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from hansa.aggregators.checks import check_number, check_whole
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.private_sums import federated_private_sum
from hansa.language.tracing import federated_computation, jax_computation
from hansa.privacy.mechanisms import Gaussian
from hansa.types import CLIENTS, FederatedType, TensorType


def private_count(noise_multiplier: float, *, max_clients: int | None = None) -> Computation:
    """How many clients say yes: `({bool}@CLIENTS -> float32@SERVER)`.

    Args:
        noise_multiplier: the standard deviation of the noise. One client changes the count by 1.
        max_clients: as of `hansa.federated_private_sum`.

    Examples:
        >>> count = hansa.analytics.private_count(noise_multiplier=1e-6)
        >>> round(float(count([True, False, True])), 2)
        2.0
    """
    mechanism = Gaussian(noise_multiplier)
    as_number = jax_computation(TensorType("bool"))(lambda answer: answer.astype(np.float32))

    @federated_computation(FederatedType(TensorType("bool"), CLIENTS))
    def count(answers: Any) -> Any:
        return federated_private_sum(on.federated_map(as_number, answers), 1.0, mechanism, max_clients=max_clients)

    return count


def private_histogram(
    bins: int, noise_multiplier: float, *, bound: float = 1.0, max_clients: int | None = None
) -> Computation:
    """The sum of the clients' counts: `({float32[bins]}@CLIENTS -> float32[bins]@SERVER)`.

    Args:
        bins: how many numbers a client has, such as how often it has each of some things.
        noise_multiplier: the standard deviation of the noise in each number, in units of the bound.
        bound: to which Euclidean norm a client's numbers are shortened. A client that has one thing once has the norm
            1.
        max_clients: as of `hansa.federated_private_sum`.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> histogram = hansa.analytics.private_histogram(3, noise_multiplier=1e-6)
        >>> found = histogram([np.float32([1, 0, 0]), np.float32([0, 0, 1]), np.float32([0, 0, 9])])
        >>> [round(float(number), 2) + 0.0 for number in found]
        [1.0, 0.0, 2.0]
    """
    size = check_whole("the bins of private_histogram", bins, 1)
    most = np.float32(check_number("the bound of private_histogram", bound, above=0))
    mechanism, kind = Gaussian(noise_multiplier), TensorType("float32", (size,))
    scaled = jax_computation(kind)(lambda total: total * most)

    @federated_computation(FederatedType(kind, CLIENTS))
    def histogram(counts: Any) -> Any:
        total = federated_private_sum(counts, float(most), mechanism, max_clients=max_clients)
        return on.federated_map(scaled, total)

    return histogram


def private_mean(low: float, high: float, noise_multiplier: float, *, max_clients: int | None = None) -> Computation:
    """The mean of one number of each client: `({float32}@CLIENTS -> <mean=float32,count=float32>@SERVER)`.

    The sum and the number of clients are in one private sum, a vector of norm 1 at most for each client.

    Args:
        low, high: the range into which clients bring their numbers.
        noise_multiplier: that of the one sum. Noise in the count is sqrt(2) times as large, and that in the sum
            (high - low) / sqrt(2) times.
        max_clients: as of `hansa.federated_private_sum`.

    Returns:
        The mean is within the range; where the noised count is below 1, it is divided by 1.

    Raises:
        ValueError: if the range is none.

    Examples:
        >>> mean = hansa.analytics.private_mean(0.0, 10.0, noise_multiplier=1e-6)
        >>> found = mean([2.0, 4.0, 50.0])
        >>> round(float(found.mean), 3), round(float(found.count), 3)
        (5.333, 3.0)
    """
    check_number("the low of private_mean", low)
    check_number("the high of private_mean", high, above=low)
    middle, half, share = np.float32((low + high) / 2), np.float32((high - low) / 2), np.float32(math.sqrt(0.5))
    mechanism, pair = Gaussian(noise_multiplier), TensorType("float32", (2,))

    @jax_computation(TensorType("float32"))
    def given(number: Any) -> Any:
        within = jnp.clip((number - middle) / half, -1, 1)
        return share * jnp.stack([within, jnp.where(jnp.isfinite(number), np.float32(1), np.float32(np.nan))])

    @jax_computation(pair)
    def divided(total: Any) -> Any:
        away, count = total[0] / share, total[1] / share
        mean = middle + half * jnp.clip(away / jnp.maximum(count, 1), -1, 1)
        return {"mean": mean, "count": count}

    @federated_computation(FederatedType(TensorType("float32"), CLIENTS))
    def mean(numbers: Any) -> Any:
        total = federated_private_sum(on.federated_map(given, numbers), 1.0, mechanism, max_clients=max_clients)
        return on.federated_map(divided, total)

    return mean


def private_quantiles(
    edges: Sequence[float],
    quantiles: Sequence[float],
    noise_multiplier: float,
    *,
    max_clients: int | None = None,
) -> Computation:
    """Quantiles of one number of each client: `({float32}@CLIENTS -> float32[quantiles]@SERVER)`.

    Each client is one count in a histogram with noise; the quantiles are read off its running sum, linearly within a
    cell. Numbers outside of the edges are in the first or last cell.

    Args:
        edges: the bounds of the histogram's cells, rising.
        quantiles: which ones, from 0 to 1.
        noise_multiplier: the standard deviation of the noise in each cell. One client changes one cell by 1.
        max_clients: as of `hansa.federated_private_sum`.

    Raises:
        ValueError: if the edges do not rise, or a quantile is out of its range.

    Examples:
        >>> quartiles = hansa.analytics.private_quantiles(range(11), [0.25, 0.5, 0.75], noise_multiplier=1e-6)
        >>> found = quartiles([0.5 + number for number in range(10)])
        >>> [round(float(number), 2) + 0.0 for number in found]
        [2.5, 5.0, 7.5]
    """
    bounds, wanted = np.asarray(list(edges), np.float32), np.asarray(list(quantiles), np.float32)
    if len(bounds) < 2 or not np.isfinite(bounds).all() or any(b <= a for a, b in itertools.pairwise(bounds)):
        raise ValueError(f"the edges of private_quantiles must be two numbers or more that rise, found {list(edges)!r}")
    if not len(wanted) or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"the quantiles of private_quantiles must be numbers from 0 to 1, found {list(quantiles)!r}")
    cells = len(bounds) - 1
    mechanism, kind = Gaussian(noise_multiplier), TensorType("float32", (cells,))

    @jax_computation(TensorType("float32"))
    def given(number: Any) -> Any:
        cell = jnp.clip(jnp.searchsorted(jnp.asarray(bounds), number, side="right") - 1, 0, cells - 1)
        return (jnp.arange(cells) == cell).astype(np.float32) * jnp.where(jnp.isfinite(number), 1, np.float32(np.nan))

    @jax_computation(kind)
    def read_off(counts: Any) -> Any:
        below = jnp.concatenate([jnp.zeros(1, np.float32), jnp.cumsum(jnp.maximum(counts, 0))])
        return jnp.interp(jnp.asarray(wanted) * below[-1], below, jnp.asarray(bounds))

    @federated_computation(FederatedType(TensorType("float32"), CLIENTS))
    def found(numbers: Any) -> Any:
        total = federated_private_sum(on.federated_map(given, numbers), 1.0, mechanism, max_clients=max_clients)
        return on.federated_map(read_off, total)

    return found
