"""What DP-SGD has cost the examples of each site: the steps that it took, each with its own probability of a draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from hansa.privacy import losses, renyi
from hansa.privacy.charge import Charge
from hansa.privacy.losses import Event
from hansa.privacy.sampled_steps import DPSGD
from hansa.privacy.sampling import Poisson, Sites
from hansa.privacy.tallies import Clients, Tally

_Steps = frozenset[tuple[Event, int]]
"""How many steps there were of each probability and noise."""


class Examples(Tally):
    """Sites whose clients train by DP-SGD: each has an epsilon of its own, and the largest counts.

    The examples of different sites are different ones, so a step costs those of its own site alone.
    """

    def __init__(self, delta: float) -> None:
        super().__init__(delta)
        self._steps: dict[Hashable, Counter[Event]] = {}
        self._quick: dict[Hashable, float] = {}
        self._known: dict[_Steps, float] = {}

    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times."""
        for client, event, steps in _taken(charge, clients):
            found = self._steps.setdefault(client, Counter())
            found[event] += steps * times
            self._quick[client] = self._renyi(found)

    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Add another attempt at a round, whose examples were drawn anew."""
        self.add(charge, clients, 1)

    def live(self) -> float:
        """An epsilon that is not too small, of the site that has the largest."""
        return max((min(quick, self._bound(self._steps[each])) for each, quick in self._quick.items()), default=0.0)

    def exact(self) -> float:
        """The epsilon of the site that has the largest."""
        found = {_key(steps) for steps in self._steps.values()}
        largest = [each for each in found if not any(each != other and _covers(other, each) for other in found)]
        return max(map(self._epsilon, largest), default=0.0)

    def by_site(self) -> dict[Hashable, float]:
        """The epsilon of each site."""
        return {client: self._epsilon(_key(steps)) for client, steps in self._steps.items()}

    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """Whether there is room for one more such charge."""
        # Beginning with the most likely steps: what others cost is then known not to be more.
        for client, event, steps in sorted(_taken(charge, clients), key=lambda each: -each[1][0].probability):
            before = self._steps.get(client, Counter[Event]())
            after, last = (before + Counter({event: steps * times}) for times in (1, max(1, ahead)))
            if self._renyi(after) <= budget or self._bound(after) <= budget:
                continue
            if self._epsilon(_key(last)) > budget and self._epsilon(_key(after)) > budget:
                return 0
        return 1

    def _bound(self, steps: Counter[Event]) -> float:
        """The least epsilon that is known of steps that cost no less."""
        key = _key(steps)
        return min((epsilon for known, epsilon in self._known.items() if _covers(known, key)), default=math.inf)

    def _renyi(self, steps: Counter[Event]) -> float:
        values = [
            count * renyi.sampled(way, noise) for (way, noise), count in steps.items() if isinstance(way, Poisson)
        ]
        return renyi.epsilon(sum(values[1:], values[0]), self.delta) if values else 0.0

    def _epsilon(self, key: _Steps) -> float:
        if key not in self._known:
            self._known[key] = losses.epsilon(dict(key), self.delta)
        return self._known[key]


def _key(steps: Counter[Event]) -> _Steps:
    return frozenset(steps.items())


def _taken(charge: Charge, clients: Clients) -> list[tuple[Hashable, Event, int]]:
    """Who took steps of what kind in a round, and how many."""
    rule, sampling = charge.mechanisms[0], charge.sampling
    assert isinstance(rule, DPSGD)
    assert isinstance(sampling, Sites)
    sites = None if clients is None else list(clients)
    if sites is None or len(sites) != len(sampling.examples):
        raise ValueError(
            f"{len(sampling.examples)} sites are charged for their examples, and "
            + ("who they are is not known" if sites is None else f"{len(sites)} took part")
        )
    return [
        (site, (Poisson(rule.rate_of(number)), float(rule.noise_multiplier)), rule.steps)
        for site, number in zip(sites, sampling.examples, strict=True)
        if number
    ]


def _covers(one: _Steps, other: _Steps) -> bool:
    """Whether steps surely cost no less than others: they are the same, or of one kind, and as likely and many."""
    if one == other or len(one) != 1 or len(other) != 1:
        return one == other
    (((way, noise), count),), (((other_way, other_noise), other_count),) = one, other
    return way.probability >= other_way.probability and noise <= other_noise and count >= other_count
