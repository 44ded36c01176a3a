"""What may be claimed of how cohorts are drawn: the less can be known of who takes part, the smaller is epsilon.

A claim is what the ledger writes of a round, and what the accountant counts by. A sampler says which one it supports.
Where nothing is known of one, the rounds of each client are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

ADD_REMOVE, REPLACE, ZERO_OUT = "add or remove one", "replace one", "one takes part or sends zeros"
USED = "one example is used or left out"
"""What neighbours differ in. Of examples: how many a client has is known."""


@dataclass(frozen=True)
class Poisson:
    """Each client is in a cohort with this probability, independently of the others. Who drops out is not taken off.

    Args:
        probability: from 0 to 1; with 1 all clients take part.

    Examples:
        >>> hansa.privacy.Poisson(0.05)
        Poisson(probability=0.05)
    """

    probability: float

    def __post_init__(self) -> None:
        _check_probability(self.probability)


@dataclass(frozen=True)
class Truncated:
    """As `Poisson`, but cohorts of more than `most` clients lose some at random, as where there is no room for more.

    Args:
        probability: from 0 to 1.
        clients: how many there are.
        most: clients in a cohort.

    Examples:
        >>> hansa.privacy.Truncated(0.05, clients=1000, most=70)
        Truncated(probability=0.05, clients=1000, most=70)
    """

    probability: float
    clients: int
    most: int

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_counts(clients=self.clients, most=self.most)


@dataclass(frozen=True)
class Fixed:
    """Cohorts of one size, drawn uniformly without replacement. Far more expensive than `Poisson`.

    Neighbours are of the same size, so that one client is replaced by another, which changes a sum by up to twice the
    bound. Only Renyi accounting knows this sampling (Wang, Balle and Kasiviswanathan, "Subsampled Rényi Differential
    Privacy and Analytical Moments Accountant" (2019), arXiv:1808.00087).

    Args:
        cohort: clients in a round.
        clients: how many there are.

    Examples:
        >>> hansa.privacy.Fixed(50, clients=1000)
        Fixed(cohort=50, clients=1000)
    """

    cohort: int
    clients: int

    def __post_init__(self) -> None:
        _check_counts(cohort=self.cohort, clients=self.clients)
        if self.cohort > self.clients:
            raise ValueError(f"cohort must be at most the number of clients, {self.clients}; found {self.cohort}")


@dataclass(frozen=True)
class AtMost:
    """Whoever takes part, no client in more than so many rounds of the run. The ledger counts them.

    Args:
        participations: the most rounds that a client is in; None where only the count can tell.

    Examples:
        >>> hansa.privacy.AtMost(5)
        AtMost(participations=5)
    """

    participations: int | None = None

    def __post_init__(self) -> None:
        if self.participations is not None:
            _check_counts(participations=self.participations)


@dataclass(frozen=True)
class Separated:
    """Between two rounds of a client there are so many rounds at least: of round 3 and a separation of 10, 13 or later.

    Args:
        separation: the least difference of the numbers of two rounds of a client.

    Examples:
        >>> hansa.privacy.Separated(20)
        Separated(separation=20)
    """

    separation: int

    def __post_init__(self) -> None:
        _check_counts(separation=self.separation)


@dataclass(frozen=True)
class Sites:
    """Whoever takes part, and in each step each of a site's examples by itself, as `hansa.privacy.dpsgd` draws them.

    Args:
        examples: how many examples the clients of a cohort have, in the cohort's order.

    Examples:
        >>> hansa.privacy.Sites((480, 200))
        Sites(examples=(480, 200))
    """

    examples: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))
        for number in self.examples:
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"examples must be whole numbers from 0; found {number!r}")


Sampling: TypeAlias = Poisson | Truncated | Fixed | AtMost | Separated | Sites

_KINDS: Mapping[str, type[Any]] = {
    "poisson": Poisson,
    "truncated": Truncated,
    "fixed": Fixed,
    "at most": AtMost,
    "separated": Separated,
    "sites": Sites,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def claim_of(sampler: Sampling | Callable[[int], Any] | None) -> Sampling:
    """What may be claimed of a sampler's cohorts, if its seed is secret.

    A sampler says it by an attribute `claim`, such as `{"kind": "poisson", "probability": 0.05}` or one of the classes
    here. Of any other function nothing is known, nor of a class that draws otherwise than the one that it is made of.

    Args:
        sampler: one of `hansa.simulation`, or a function from a round's number to positions; or a claim, as it is. None
            is data of which nothing is known.

    Raises:
        ValueError: if its `claim` is none.

    Examples:
        >>> hansa.privacy.claim_of(hansa.simulation.UniformSampler(1000, 50))
        Fixed(cohort=50, clients=1000)
        >>> hansa.privacy.claim_of(lambda round_number: [0, 1])
        AtMost(participations=None)
    """
    if isinstance(sampler, Sampling):
        return sampler
    claim: Any = getattr(sampler, "claim", None)
    if "claim" not in getattr(sampler, "__dict__", ()):  # its own
        # What is derived of a sampler, and draws otherwise, does not have its claim.
        claims, draws = (_home(type(sampler), name) for name in ("claim", "__call__"))
        claim = claim if claims is not None and claims is draws else AtMost()
    return claim if isinstance(claim, Sampling) else from_json(claim)


def _home(kind: type[Any], name: str) -> type[Any] | None:
    """The class that a class has an attribute of."""
    return next((base for base in kind.__mro__ if name in vars(base)), None)


def to_json(sampling: Sampling) -> dict[str, Any]:
    """A claim as values that JSON has."""
    return {"kind": _NAMES[type(sampling)], **asdict(sampling)}


def from_json(found: Any) -> Sampling:
    """The claim that `to_json` has written.

    Raises:
        ValueError: if it is none.
    """
    try:
        fields = dict(found)
        sampling: Sampling = _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{found!r:.100} is no claim about a cohort: {error}") from None
    return sampling


def _check_probability(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"probability must be from 0 to 1; found {value!r}")


def _check_counts(**values: object) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of 1 or more; found {value!r}")
