"""What one attempt at a round costs: how its cohort was drawn, and which noised sums left it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from hansa._tracebacks import boundaries
from hansa.privacy import sampling as claims
from hansa.privacy.mechanisms import MECHANISMS, Local, Matrix, Mechanism, Skellam, joint_noise_multiplier
from hansa.privacy.sampled_steps import DPSGD
from hansa.privacy.sampling import (
    ADD_REMOVE,
    REPLACE,
    USED,
    ZERO_OUT,
    AtMost,
    Fixed,
    Poisson,
    Sampling,
    Separated,
    Sites,
    Truncated,
)

Family: TypeAlias = Literal["losses", "replaced", "counted", "correlated", "examples"]
"""How a charge is accounted for; charges of one run are all of one."""


_NEIGHBOURS: Mapping[Family, str] = {
    "losses": ADD_REMOVE, "replaced": REPLACE, "counted": ZERO_OUT, "correlated": ZERO_OUT, "examples": USED
}  # fmt: skip


@boundaries
@dataclass(frozen=True)
class Charge:
    """An attempt at a round, as the ledger writes it and the accountant counts it.

    Args:
        sampling: how its cohort was drawn.
        mechanisms: those of the sums that left it, one for each.

    Raises:
        ValueError: if there is no mechanism, or they do not go with the sampling.

    Examples:
        >>> from hansa.privacy import Charge, Gaussian, Poisson
        >>> charge = Charge(Poisson(0.05), [Gaussian(1.0), Gaussian(5.0)])
        >>> round(charge.noise_multiplier, 4)
        0.9806
        >>> charge.family, charge.neighbours, charge.against, charge.is_skellam
        ('losses', 'add or remove one', 'readers', False)
        >>> charge.unit
        'client'
        >>> charge.to_json()["releases"][0]
        {'mechanism': 'Gaussian', 'noise_multiplier': 1.0}
        >>> Charge.from_json(charge.to_json()) == charge
        True
    """

    sampling: Sampling
    mechanisms: tuple[Mechanism | DPSGD, ...]

    def __init__(self, sampling: Sampling, mechanisms: Sequence[Mechanism | DPSGD]) -> None:
        object.__setattr__(self, "sampling", sampling)
        object.__setattr__(self, "mechanisms", tuple(mechanisms))
        if not self.mechanisms:
            raise ValueError("nothing that leaves the round is noised, so there is no epsilon to count")
        correlated = [each for each in self.mechanisms if isinstance(each, Matrix)]
        if correlated:
            self._check_correlated(correlated)
        of_examples = any(isinstance(each, DPSGD) for each in self.mechanisms)
        if of_examples and len(self.mechanisms) > 1:
            raise ValueError("DP-SGD protects examples, and other noise clients as a whole; a round has one of the two")
        if of_examples != isinstance(sampling, Sites):
            raise ValueError(
                f"DP-SGD is charged by how many examples the clients have, Sites((…)), and other noise is not; found "
                f"{sampling} with {self.mechanisms[0]}"
            )

    @property
    def noise_multiplier(self) -> float:
        """That of all sums together, in units of how much one client changes them at most."""
        # A report in place of another is twice the bound away.
        return joint_noise_multiplier(
            each.noise_multiplier / 2 if isinstance(each, Local) else each.noise_multiplier for each in self.mechanisms
        )

    @property
    def against(self) -> str:
        """Who sees no more than is promised: the server, if clients add all noise, or those who read the results."""
        return "the server" if all(each.place != "server" for each in self.mechanisms) else "readers"

    @property
    def unit(self) -> str:
        """Whose data is protected as a whole: that of a client, or an example."""
        return "example" if isinstance(self.mechanisms[0], DPSGD) else "client"

    @property
    def is_skellam(self) -> bool:
        """Whether a sum has Skellam noise."""
        return any(isinstance(each, Skellam) for each in self.mechanisms)

    @property
    def family(self) -> Family:
        """How it is accounted for. Noise of clients counts who takes part, as the server knows the cohort."""
        if isinstance(self.mechanisms[0], DPSGD):
            return "examples"
        if isinstance(self.mechanisms[0], Matrix):
            return "correlated"
        if any(each.place != "server" for each in self.mechanisms):
            return "counted"
        if isinstance(self.sampling, Poisson | Truncated):
            return "losses"
        return "replaced" if isinstance(self.sampling, Fixed) else "counted"

    @property
    def neighbours(self) -> str:
        """What neighbours differ in."""
        if any(isinstance(each, Local) for each in self.mechanisms):
            return REPLACE
        return _NEIGHBOURS[self.family]

    def with_earlier(self, earlier: Sequence[Charge]) -> Charge:
        """This attempt at a round and earlier ones at it as one charge.

        All attempts at a round have the same cohort: what they release is of one draw, and not of several.

        Args:
            earlier: the attempts before.

        Raises:
            ValueError: if cohorts were drawn in ways that cannot be told together.

        Examples:
            >>> from hansa.privacy import Charge, Gaussian, Poisson
            >>> charge = Charge(Poisson(0.05), [Gaussian(2.0)])
            >>> again = charge.with_earlier([charge, charge, charge])
            >>> again.sampling, again.noise_multiplier
            (Poisson(probability=0.05), 1.0)
        """
        sampling: Sampling = self.sampling
        ways = {each.sampling for each in (*earlier, self)}
        if len(ways) > 1:
            probabilities = [way.probability for way in ways if isinstance(way, Poisson)]
            if len(probabilities) < len(ways):
                raise ValueError(f"attempts at one round have cohorts of {' and '.join(map(str, ways))}")
            sampling = Poisson(min(1.0, math.fsum(probabilities)))  # in one of them, at most
        return Charge(sampling, [mechanism for each in (*earlier, self) for mechanism in each.mechanisms])

    def part(self, numbers: Sequence[int]) -> Charge:
        """The charge of some of its sums alone, for those who see nothing of the others.

        Examples:
            >>> from hansa.privacy import Charge, Gaussian, Poisson
            >>> Charge(Poisson(0.05), [Gaussian(1.0), Gaussian(5.0)]).part([0]).noise_multiplier
            1.0
        """
        return Charge(self.sampling, [self.mechanisms[number] for number in numbers])

    def to_json(self) -> dict[str, Any]:
        """As values that JSON has: `sampling` and `releases`."""
        # But for what is no part of what a mechanism is, such as the optimizer that follows its noise.
        releases = [
            {
                "mechanism": type(each).__name__,
                **{field.name: getattr(each, field.name) for field in fields(each) if field.compare},
            }
            for each in self.mechanisms
        ]
        return {"sampling": claims.to_json(self.sampling), "releases": releases}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Charge:
        """The charge that `to_json` has written; what else is there does not count.

        Raises:
            ValueError: if it is none.
        """
        try:
            listed = [dict(each) for each in found["releases"]]
            mechanisms = [MECHANISMS[each.pop("mechanism")](**each) for each in listed]
            return Charge(claims.from_json(found["sampling"]), mechanisms)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{found!r:.100} is no charge: {error}") from None

    def _check_correlated(self, correlated: Sequence[Matrix]) -> None:
        first = correlated[0]
        if len(correlated) < len(self.mechanisms):
            raise ValueError("correlated noise is one mechanism for a whole run; no other noised sum may leave a round")
        if len({(each.separation, each.rounds) for each in correlated}) > 1:
            raise ValueError("correlated noises of one round must have the same separation and rounds")
        kept = self.sampling.separation if isinstance(self.sampling, Separated) else 1
        if isinstance(self.sampling, AtMost) and self.sampling.participations == 1:
            kept = first.rounds
        elif not isinstance(self.sampling, Separated) and self.sampling != Poisson(1.0) and first.separation > 1:
            kept = 0
        if kept < first.separation:
            raise ValueError(
                f"the correlated noise is for clients that are {first.separation} rounds apart, and this sampling, "
                f"{self.sampling}, does not keep them so; write sampler=hansa.simulation.CyclicSampler(len(data), "
                f"separation={first.separation})"
            )
