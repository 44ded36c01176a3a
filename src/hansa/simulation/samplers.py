"""Who takes part in a round: samplers, called with the number of a round, give the positions of its clients.

A sampler has no state. What it gives is a function of its seed and the number of the round, so rounds can be asked for
in any order, and a run that is taken up again meets the cohorts that it would have met.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hansa._instead import instead
from hansa._tracebacks import boundaries
from hansa.simulation._seeded import Seeded
from hansa.simulation._values import cohort_size_of, integer, number
from hansa.types.mismatch import describe
from hansa.types.plain import unmasked

Cohort = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Gives the positions of a round's clients.

    Examples:
        >>> def every_other(round_number):
        ...     return np.arange(round_number % 2, len(data), 2)
        >>> cohort = data.cohort(every_other(1))
        >>> cohort.client_ids
        array([1, 3, 5, 7, 9])
    """

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]; each at most once, unless the sampler has an
        attribute `replace` that is True."""


@boundaries
class UniformSampler(Seeded):
    """A cohort of a fixed size. All cohorts of that size are equally likely.

    Args:
        clients: how many clients there are, as `len(data)`.
        cohort_size: how many take part in a round: an integer, or a fraction of the clients as a float, such as 0.1.
        seed: decides who; by default 0, and in a private run a secret one.
        replace: whether each is drawn from all clients, so that one may be there several times.

    Examples:
        >>> sampler = hansa.simulation.UniformSampler(len(data), 3, seed=1)
        >>> sampler(0), sampler(1)
        (array([2, 6, 4]), array([6, 0, 2]))
    """

    @instead(cohort="cohort_size")
    def __init__(
        self, clients: int, cohort_size: int | float, seed: int | None = None, *, replace: bool = False
    ) -> None:
        self.clients = population(clients)
        self.cohort_size = cohort_size_of(cohort_size, self.clients, replace=replace)
        super().__init__(seed)
        self.replace = replace

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]."""
        return self._draws(round_number).choice(self.clients, self.cohort_size, replace=self.replace)

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        known = {"kind": "fixed", "cohort": self.cohort_size, "clients": self.clients}
        return {"kind": "at most", "participations": None} if self.replace else known

    def __repr__(self) -> str:
        return (
            f"UniformSampler({self.cohort_size} of {self.clients} clients, {self._seed_text}{_replacing(self.replace)})"
        )


@boundaries
class PoissonSampler(Seeded):
    """A cohort of any size: each client is in it with the same probability, independently of the others.

    Cohorts so differ in size, and one may be empty. This is the sampling that the privacy of many algorithms with noise
    is accounted for (McMahan et al., "Learning Differentially Private Recurrent Language Models" (2018),
    arXiv:1710.06963).

    Args:
        clients: how many clients there are, as `len(data)`.
        probability: that a client takes part in a round.
        seed: decides who; by default 0, and in a private run a secret one.

    Examples:
        >>> sampler = hansa.simulation.PoissonSampler(len(data), 0.3, seed=1)
        >>> sampler(0), sampler(1)
        (array([0, 6]), array([0, 4]))
    """

    def __init__(self, clients: int, probability: float, seed: int | None = None) -> None:
        self.clients = population(clients)
        self.probability = number("probability", probability, 0, 1)
        super().__init__(seed)

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]."""
        draws = self._draws(round_number)
        # The size first, then who: the same distribution, without a draw for every client of a large population.
        size = int(draws.binomial(self.clients, self.probability))
        return draws.choice(self.clients, size, replace=False)

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        return {"kind": "poisson", "probability": self.probability}

    def __repr__(self) -> str:
        return f"PoissonSampler(each of {self.clients} clients with {self.probability:g}, {self._seed_text})"


@boundaries
class WeightedSampler(Seeded):
    """A cohort of a fixed size, drawn one client after another, each in proportion to its weight among those left.

    With a population's `sizes` for weights, clients with many examples take part more often. A cohort that is a large
    part of the population, or one client with most of the weight, makes the chance to be in the cohort less than
    proportional, since nobody is in it twice.

    Args:
        weights: [clients], not negative; a client of weight 0 never takes part.
        cohort_size: how many take part in a round: an integer, or a fraction of the clients as a float, such as 0.1.
        seed: decides who; by default 0, and in a private run a secret one.
        replace: whether each is drawn from all clients, so that one may be there several times; then the chance of
            each draw is proportional to the weight.

    Examples:
        >>> sampler = hansa.simulation.WeightedSampler(data.sizes, 3, seed=1)
        >>> sampler(0), sampler(1)
        (array([2, 1, 9]), array([3, 4, 0]))
    """

    @instead(cohort="cohort_size")
    def __init__(
        self, weights: npt.ArrayLike, cohort_size: int | float, seed: int | None = None, *, replace: bool = False
    ) -> None:
        self.weights = _per_client("weights", weights)
        self.cohort_size = cohort_size_of(cohort_size, len(self.weights), replace=True)
        super().__init__(seed)
        self.replace = replace
        if (self.weights < 0).any():
            place = int(np.argmax(self.weights < 0))
            raise ValueError(f"weights must not be negative; that of client {place} is {self.weights[place]:g}")
        self._candidates = np.flatnonzero(self.weights)
        if not replace or not len(self._candidates):
            _at_most(self.cohort_size, len(self._candidates), "clients with a weight of more than 0")
        self._rates = self.weights[self._candidates]
        with np.errstate(over="ignore"):
            total = self._rates.sum()
        if not np.isfinite(total):
            raise ValueError(f"weights add up to more than float64 holds; divide them by {self._rates.max():g}")

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]."""
        if self.replace:
            shares = self._rates / self._rates.sum()
            return self._draws(round_number).choice(self._candidates, self.cohort_size, p=shares)
        # The first arrivals of exponential clocks with these rates come in the order of successive draws.
        arrivals = self._draws(round_number).standard_exponential(len(self._rates)) / self._rates
        first = np.argpartition(arrivals, self.cohort_size - 1)[: self.cohort_size]
        return self._candidates[first[np.argsort(arrivals[first])]]

    def __repr__(self) -> str:
        how = f"{self._seed_text}{_replacing(self.replace)}"
        return f"WeightedSampler({self.cohort_size} of {len(self.weights)} clients by weight, {how})"


@boundaries
class AvailabilitySampler(Seeded):
    """A cohort of clients that are available in a round. Each client has a window of time.

    Round `r` is at time `r * round_length`. Client `i` is available from `opens[i]` until before `closes[i]`; with a
    `period`, such as 24 hours, in each one again, and over its end if `closes[i]` is less than `opens[i]`.

    Args:
        opens: [clients], the times from which clients are available.
        closes: [clients], the times at which they no longer are.
        cohort_size: how many take part in a round: an integer, or a fraction of all clients as a float, such as 0.1;
            where fewer are available, all of those do.
        period: the time after which windows come again; by default each comes once.
        round_length: the time from one round to the next.
        seed: decides who of the available ones.

    Examples:
        >>> sampler = hansa.simulation.AvailabilitySampler([22, 9, 20], [6, 17, 24], 2, period=24)
        >>> sampler.available(0), sampler(0)
        (array([ True, False, False]), array([0]))
        >>> sampler.available(10), sampler(10)
        (array([False,  True, False]), array([1]))
    """

    @instead(cohort="cohort_size")
    def __init__(
        self,
        opens: npt.ArrayLike,
        closes: npt.ArrayLike,
        cohort_size: int | float,
        *,
        period: float | None = None,
        round_length: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.opens, self.closes = _per_client("opens", opens), _per_client("closes", closes)
        if self.opens.shape != self.closes.shape:
            raise ValueError(f"opens is of {len(self.opens)} clients, closes of {len(self.closes)}; give both for each")
        self.cohort_size = cohort_size_of(cohort_size, len(self.opens), replace=True)
        super().__init__(seed)
        self.round_length = number("round_length", round_length, 0)
        self.period = None if period is None else number("period", period, 0)
        if self.period is not None:
            for name, times in (("opens", self.opens), ("closes", self.closes)):
                outside = np.flatnonzero((times < 0) | (times > self.period))
                if outside.size:
                    place = int(outside[0])
                    raise ValueError(
                        f"{name} must be from 0 to the period, {self.period:g}; that of client {place} is "
                        f"{times[place]:g}"
                    )

    def available(self, round_number: int) -> npt.NDArray[np.bool_]:
        """Who is available in a round, bool [clients]."""
        time = integer("round_number", round_number, 0) * self.round_length
        if self.period is None:
            return (self.opens <= time) & (time < self.closes)
        time %= self.period
        opened, open_still = self.opens <= time, time < self.closes
        return np.where(self.opens <= self.closes, opened & open_still, opened | open_still)

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort], fewer if fewer are available."""
        candidates = np.flatnonzero(self.available(round_number))
        size = min(self.cohort_size, len(candidates))
        return self._draws(round_number).choice(candidates, size, replace=False)

    def __repr__(self) -> str:
        clients = len(self.opens)
        return f"AvailabilitySampler({self.cohort_size} of those available of {clients} clients, {self._seed_text})"


def _replacing(replace: bool) -> str:
    return ", with replacement" if replace else ""


def population(clients: Any) -> int:
    """How many clients there are, as a sampler is told."""
    if hasattr(clients, "__len__"):
        raise TypeError(f"clients must be their number; found {describe(clients)}; write len(data)")
    return integer("clients", clients, 1)


def _at_most(cohort_size: int, clients: int, whom: str) -> None:
    if cohort_size > clients:
        raise ValueError(f"cohort_size must be at most the number of {whom}, {clients}; found {cohort_size}")


def _per_client(name: str, value: Any) -> npt.NDArray[np.float64]:
    try:
        found = unmasked(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if found.ndim != 1 or found.dtype.kind not in "biuf" or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{name} must be one finite number for each client, [clients]; found {describe(found)}")
    return found.astype(np.float64)
