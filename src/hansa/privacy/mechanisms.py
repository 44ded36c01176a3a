"""Mechanisms: how a private sum gets its noise, as data that accountants and computations read alike.

The unit of all of them is the *bound* on one client's contribution: a private sum releases `sum / bound + noise`, so
one client that comes or goes changes it by a norm of 1 at most, whatever the bound is and however it adapts. Noise has
the standard deviation `noise_multiplier` then.

- A mechanism is a frozen dataclass of plain numbers. Equal mechanisms are the same mechanism. This module needs NumPy
  alone, so a ledger may read it without JAX.
- `hansa.privacy.releases(computation)` says which private sums a computation makes: a list of `Release`, one for each
  sum, with its mechanism, and the paths of the results that are made of it. A sum is released once, however
  many results are made of it: an accountant counts releases, not paths. Several Gaussian releases of one round, over
  one cohort, are one Gaussian of the noise multiplier `joint_noise_multiplier(…)`.
- `Gaussian`: an event for each round; amplified by the sampling of clients.
- `Matrix`: one Gaussian event for the whole run of at most `rounds` rounds, without amplification, if each client takes
  part at most once in every `separation` rounds. A round must never be released twice with different sums.
- `Skellam`: an event for each round, against the server too, which knows the cohort: without amplification. What it
  adds is an integer, in `STEPS` steps to the bound.
- `Local`: each client's own report is noised; an event for each time that a client takes part, of a change of norm 2
  (one report in place of another), without amplification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from hansa.language.mechanism import STEPS as STEPS
from hansa.language.mechanism import DeclaredMechanism
from hansa.privacy import matrix_factorization
from hansa.privacy.sampled_steps import DPSGD

Place: TypeAlias = Literal["server", "clients", "reports"]
"""Who adds noise: the server, to the sum; each client, a share of the sum's; each client, all that its report needs."""


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussian noise in every round, added at the server.

    Attributes:
        noise_multiplier: its standard deviation, in units of the bound.

    Raises:
        ValueError: if it is not positive.

    Examples:
        >>> hansa.privacy.Gaussian(1.0)
        Gaussian(noise_multiplier=1.0)
        >>> hansa.privacy.Gaussian(1.0).weights
        (1.0,)
    """

    noise_multiplier: float

    place: ClassVar[Place] = "server"
    """Where noise is added."""

    def __post_init__(self) -> None:
        _check_multiplier(self)

    @property
    def weights(self) -> tuple[float, ...]:
        """What the draws of this round, of the one before and so on are multiplied by, in units of the bound."""
        return (self.noise_multiplier,)

    def __str__(self) -> str:
        return f"Gaussian noise of {self.noise_multiplier:.3g}"


@dataclass(frozen=True)
class Matrix:
    """Gaussian noise that is correlated over rounds, so that much of it cancels in the sums of rounds (DP-FTRL).

    The noise of round t is `noise_multiplier * sensitivity * (w_0 g_t + w_1 g_(t-1) + …)`, of `terms` independent draws
    g of the last rounds, with w the coefficients of (1 - x)^power. Draws are made again of a secret key, so nothing is
    kept from round to round. Source: Kalinin et al. 2025, "Back to square roots"; Denisov et al. 2022,
    arXiv:2202.08312; Choquette-Choo et al. 2023, arXiv:2306.08153.

    Attributes:
        noise_multiplier: that of the one Gaussian that the whole run is.
        terms: of how many rounds draws are added up.
        power: how strongly noise cancels, above 0 and below 1. `hansa.privacy.matrix` finds the best.
        separation: a client takes part at most once in so many rounds in a row.
        rounds: how many rounds a run has at most.

    Raises:
        ValueError: if a number is out of its range, or the sensitivity for these is not known exactly.

    Examples:
        >>> mechanism = hansa.privacy.Matrix(1.0, terms=16, power=0.7, separation=128, rounds=1024)
        >>> [round(weight, 3) for weight in mechanism.weights[:3]]
        [7.187, -5.031, -0.755]
        >>> round(mechanism.sensitivity, 3)
        7.187
    """

    noise_multiplier: float
    terms: int
    power: float
    separation: int
    rounds: int

    place: ClassVar[Place] = "server"
    """Where noise is added."""

    def __post_init__(self) -> None:
        _check_multiplier(self)
        for name in ("terms", "separation", "rounds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the {name} of Matrix must be a positive integer; found {value!r}")
        if not 0 < self.power < 1:
            raise ValueError(f"the power of Matrix must be above 0 and below 1; found {self.power!r}")
        _ = self.sensitivity

    @cached_property
    def sensitivity(self) -> float:
        """How much a client of norm 1 changes what noise is added to, at most, over all rounds."""
        inverse = matrix_factorization.inverse_coefficients(self.terms, self.power)
        strategy = matrix_factorization.strategy(inverse, self.rounds)
        return matrix_factorization.sensitivity(strategy, self.separation)

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """What the draws of this round, of the one before and so on are multiplied by, in units of the bound."""
        scale = self.noise_multiplier * self.sensitivity
        inverse = matrix_factorization.inverse_coefficients(self.terms, self.power)
        return tuple(float(scale * weight) for weight in inverse)

    def __str__(self) -> str:
        return f"correlated noise of {self.noise_multiplier:.3g} over {self.rounds} rounds"


@dataclass(frozen=True)
class Skellam:
    """Integer noise of which each client adds a share, so that the server never has the sum without it.

    A share has the variance `(noise_multiplier * STEPS)**2 / honest`, where `honest` is how many of `min_cohort`
    clients really add theirs. A difference of two Poisson numbers is a Skellam number, and so is a sum of such; with
    `min_cohort` clients or more, a sum has the standard deviation `noise_multiplier`, or more. Source: Agarwal et al.
    2021, arXiv:2110.04995.

    Attributes:
        noise_multiplier: the standard deviation of the noise in the sum of `min_cohort` clients, in units of the bound.
        min_cohort: a sum of fewer clients is not opened.
        corrupt: which part of the clients may add no noise, from 0 and below 1.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> mechanism = hansa.privacy.Skellam(1.0, min_cohort=50)
        >>> mechanism.share, mechanism.honest
        (0.1414213562373095, 50)
    """

    noise_multiplier: float
    min_cohort: int
    corrupt: float = 0.0

    place: ClassVar[Place] = "clients"
    """Where noise is added."""

    def __post_init__(self) -> None:
        _check_multiplier(self)
        least = self.min_cohort
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise ValueError(f"the min_cohort of Skellam must be a positive integer; found {least!r}")
        if not 0 <= self.corrupt < 1 or self.honest < 1:
            raise ValueError(
                f"corrupt must leave one honest client or more among min_cohort={least}; found {self.corrupt!r}"
            )

    @property
    def honest(self) -> int:
        """How many of `min_cohort` clients add their share at least."""
        return self.min_cohort - math.ceil(self.min_cohort * self.corrupt)

    @property
    def share(self) -> float:
        """The standard deviation of what one client adds, in units of the bound."""
        return self.noise_multiplier / math.sqrt(self.honest)

    def __str__(self) -> str:
        return f"Skellam noise of {self.noise_multiplier:.3g}, of {self.min_cohort} clients or more"


@dataclass(frozen=True)
class Local:
    """Gaussian noise that each client adds to its own report, so that nobody else has the report without it.

    Attributes:
        noise_multiplier: its standard deviation in one client's report, in units of the bound. Two reports within the
            bound are at most 2 apart, so it is Gaussian noise of `noise_multiplier / 2` times the sensitivity.

    Raises:
        ValueError: if it is not positive.

    Examples:
        >>> hansa.privacy.Local(4.0), hansa.privacy.Local(4.0).share
        (Local(noise_multiplier=4.0), 4.0)
    """

    noise_multiplier: float

    place: ClassVar[Place] = "reports"
    """Where noise is added."""

    def __post_init__(self) -> None:
        _check_multiplier(self)

    @property
    def share(self) -> float:
        """The standard deviation of what one client adds, in units of the bound."""
        return self.noise_multiplier

    def __str__(self) -> str:
        return f"Gaussian noise of {self.noise_multiplier:.3g} in each client's report"


Mechanism = Gaussian | Matrix | Skellam | Local
"""How a private sum gets its noise."""


MECHANISMS: dict[str, Callable[..., Any]] = {kind.__name__: kind for kind in (Gaussian, Matrix, Skellam, Local, DPSGD)}
"""The mechanisms by the names of their classes."""


def known_mechanism(found: Any) -> Any:
    """A mechanism, of one that a file says (`DeclaredMechanism`), too.

    Raises:
        ValueError: if a file says one that there is not.
    """
    if not isinstance(found, DeclaredMechanism):
        return found
    try:
        return MECHANISMS[found.kind](**dict(found.settings))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the file says a mechanism {found.kind!r} that this Hansa does not know: {error}") from None


def joint_noise_multiplier(noise_multipliers: Iterable[float]) -> float:
    """The noise multiplier of several Gaussian sums over one cohort, taken together: `(sum of z**-2)**-0.5`.

    Examples:
        >>> round(hansa.privacy.joint_noise_multiplier([1.0, 5.0]), 4)
        0.9806
    """
    return 1 / math.sqrt(sum(1 / each**2 for each in noise_multipliers))


def _check_multiplier(mechanism: Mechanism) -> None:
    value = mechanism.noise_multiplier
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        name = type(mechanism).__name__
        raise ValueError(f"the noise_multiplier of {name} must be a positive number; found {value!r}")
