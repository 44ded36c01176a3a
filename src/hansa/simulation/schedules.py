"""Samplers that limit how often a client takes part, or how many do: what is known of it counts in private training."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa._tracebacks import boundaries
from hansa.simulation._random import generator
from hansa.simulation._seeded import Seeded
from hansa.simulation._values import cohort_size_of, integer, number
from hansa.simulation.samplers import Cohort, population


@boundaries
class EveryClient:
    """All clients in every round.

    Args:
        clients: how many there are, as `len(data)`.

    Examples:
        >>> hansa.simulation.EveryClient(4)(1)
        array([0, 1, 2, 3])
        >>> hansa.simulation.EveryClient(4).claim
        {'kind': 'poisson', 'probability': 1.0}
    """

    def __init__(self, clients: int) -> None:
        self._clients = population(clients)

    def __call__(self, round_number: int) -> Cohort:
        """The positions of all clients; int64 [clients]."""
        return np.arange(self._clients, dtype=np.int64)

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        return {"kind": "poisson", "probability": 1.0}

    def __repr__(self) -> str:
        return f"EveryClient(clients={self._clients})"


@boundaries
class TruncatedPoissonSampler(Seeded):
    """As `PoissonSampler`, but a cohort of more than `most` clients loses some, drawn uniformly.

    For where a round has room for so many. It costs more privacy than Poisson sampling does, the more often cohorts are
    cut: leave room above the mean.

    Args:
        clients: how many clients there are, as `len(data)`.
        probability: that a client is drawn for a round.
        most: clients in a cohort.
        seed: decides who; by default 0, and in a private run a secret one.

    Examples:
        >>> sampler = hansa.simulation.TruncatedPoissonSampler(len(data), 0.3, most=4)
        >>> max(len(sampler(round_number)) for round_number in range(100))
        4
        >>> sampler.claim
        {'kind': 'truncated', 'probability': 0.3, 'clients': 10, 'most': 4}
    """

    def __init__(self, clients: int, probability: float, most: int, seed: int | None = None) -> None:
        super().__init__(seed)
        self.clients = population(clients)
        self.probability, self.most = number("probability", probability, 0, 1), integer("most", most, 1)

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]."""
        draws = self._draws(round_number)
        size = min(int(draws.binomial(self.clients, self.probability)), self.most)
        return draws.choice(self.clients, size, replace=False)

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        return {"kind": "truncated", "probability": self.probability, "clients": self.clients, "most": self.most}

    def __repr__(self) -> str:
        return (
            f"TruncatedPoissonSampler(each of {self.clients} clients with {self.probability:g}, {self.most} at most, "
            f"{self._seed_text})"
        )


@boundaries
class CyclicSampler(Seeded):
    """Clients take turns: each belongs to one group at random, and groups take part one after another.

    So between two rounds of a client there are always `separation` rounds, which correlated noise asks for
    (Choquette-Choo et al., "(Amplified) Banded Matrix Factorization" (2023), arXiv:2306.08153). Groups differ by one
    client at most.

    Args:
        clients: how many clients there are, as `len(data)`.
        separation: how many groups there are: a client of round 3 is in round 3 + separation again.
        seed: decides who is with whom; by default 0, and in a private run a secret one.

    Examples:
        >>> sampler = hansa.simulation.CyclicSampler(6, separation=3)
        >>> sorted(np.concatenate([sampler(1), sampler(2), sampler(3)]).tolist())
        [0, 1, 2, 3, 4, 5]
        >>> (sampler(1) == sampler(4)).all()
        np.True_
    """

    def __init__(self, clients: int, separation: int, seed: int | None = None) -> None:
        super().__init__(seed)
        self.clients, self.separation = population(clients), integer("separation", separation, 1)
        if self.separation > self.clients:
            raise ValueError(
                f"separation must be at most the number of clients, {self.clients}, as each round has one at least; "
                f"found {self.separation}"
            )

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort]."""
        order = generator(self.seed, "groups").permutation(self.clients)
        return order[integer("round_number", round_number, 0) % self.separation :: self.separation]

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        return {"kind": "separated", "separation": self.separation}

    def __repr__(self) -> str:
        return f"CyclicSampler({self.clients} clients, one in {self.separation} rounds, {self._seed_text})"


@boundaries
class AtMostSampler(Seeded):
    """Cohorts of one size, in which nobody is more than so many times: every client once, then once again, shuffled.

    The clients are shuffled for each pass, and dealt out in cohorts; who is left over sits out this pass. Rounds are
    numbered from 1, and end with the last pass.

    Args:
        clients: how many clients there are, as `len(data)`.
        cohort_size: how many take part in a round: an integer, or a fraction of the clients as a float, such as 0.1.
        participations: the most rounds that a client is in, which is the number of passes.
        seed: decides who; by default 0, and in a private run a secret one.

    Attributes:
        rounds: how many rounds there are.

    Examples:
        >>> sampler = hansa.simulation.AtMostSampler(10, 3, participations=2)
        >>> sampler.rounds
        6
        >>> np.bincount(np.concatenate([sampler(round_number) for round_number in range(1, 7)])).max()
        np.int64(2)
        >>> sampler(7)
        Traceback (most recent call last):
            ...
        ValueError: there are rounds 1 to 6, in which each client is at most 2 times; found round_number 7
    """

    def __init__(self, clients: int, cohort_size: int | float, participations: int, seed: int | None = None) -> None:
        super().__init__(seed)
        self.clients = population(clients)
        self.cohort_size = cohort_size_of(cohort_size, self.clients)
        self.participations = integer("participations", participations, 1)
        self.rounds = self.clients // self.cohort_size * self.participations

    def __call__(self, round_number: int) -> Cohort:
        """The positions of the clients of a round, int64 [cohort].

        Raises:
            ValueError: if there is no such round.
        """
        if not 1 <= integer("round_number", round_number, 0) <= self.rounds:
            raise ValueError(
                f"there are rounds 1 to {self.rounds}, in which each client is at most {self.participations} times; "
                f"found round_number {round_number}"
            )
        one_pass, place = divmod(round_number - 1, self.clients // self.cohort_size)
        order = generator(self.seed, "pass", one_pass).permutation(self.clients)
        return order[place * self.cohort_size : (place + 1) * self.cohort_size]

    @property
    def claim(self) -> dict[str, Any]:
        """What may be said of its cohorts, as `hansa.privacy.claim_of` reads it."""
        return {"kind": "at most", "participations": self.participations}

    def __repr__(self) -> str:
        return (
            f"AtMostSampler({self.cohort_size} of {self.clients} clients, each {self.participations} times at most, "
            f"{self._seed_text})"
        )
