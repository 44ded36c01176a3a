"""What has been charged, by each of the ways in which charges are accounted for.

Each tally adds charges, has a quick upper bound of epsilon (`live`), the figure itself (`exact`), and says for how many
more rounds there is room in a budget. Quick bounds are of Rényi accounting, which adds up; exact ones take seconds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

from hansa.privacy import losses, renyi
from hansa.privacy.charge import Charge
from hansa.privacy.losses import Event
from hansa.privacy.mechanisms import Matrix
from hansa.privacy.sampling import AtMost, Fixed, Poisson, Truncated

Clients = Iterable[Hashable] | None
"""Who is in a cohort, some perhaps several times; None where it is not known, so that anybody may be."""


class Tally(ABC):
    """Charges of one way of accounting, at one delta."""

    def __init__(self, delta: float) -> None:
        self.delta = delta

    @abstractmethod
    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times."""

    @abstractmethod
    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Add another attempt at a round, of the same cohort as the earlier ones, which have been added."""

    @abstractmethod
    def live(self) -> float:
        """An epsilon that is not too small, and is found soon: within about a millisecond for Poisson sampling."""

    @abstractmethod
    def exact(self) -> float:
        """The epsilon."""

    @abstractmethod
    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """For how many more such charges there is room, at most `ahead`; where clients count, whether for one."""


class Losses(Tally):
    """Poisson sampling, also cut: exact by privacy loss distributions."""

    def __init__(self, delta: float) -> None:
        super().__init__(delta)
        self._events: Counter[Event] = Counter()
        self._renyi: renyi.Values | None = None
        # So many of an event fit beside the others, and have this epsilon then.
        self._certain: tuple[Event, Counter[Event], int, float] | None = None

    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times."""
        event = _event(charge)
        self._events[event] += times
        if isinstance(event[0], Poisson):
            more = times * renyi.sampled(event[0], event[1])
            self._renyi = more if self._renyi is None else self._renyi + more

    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Add another attempt at a round: with the earlier ones it is one event, of less noise."""
        *before, last = earlier
        self._events = self._events - Counter([_event(last.with_earlier(before))])
        self._events[_event(charge.with_earlier(earlier))] += 1
        self._certain = None
        sampled = [n * renyi.sampled(way, z) for (way, z), n in self._events.items() if isinstance(way, Poisson)]
        self._renyi = sum(sampled[1:], sampled[0]) if sampled else None

    def live(self) -> float:
        """An epsilon that is not too small: by Rényi accounting, or that of a later round, if it is known."""
        known = math.inf
        if self._certain is not None:
            event, others, most, epsilon = self._certain
            if self._events[event] <= most and _without(self._events, event) == others:
                known = epsilon
        if not any(isinstance(sampling, Truncated) for sampling, _ in self._events):
            return min(known, 0.0 if self._renyi is None else renyi.epsilon(self._renyi, self.delta))
        if known < math.inf:
            return known
        # Rényi accounting does not know cut cohorts. At some numbers of rounds epsilon is computed, which serve those
        # before.
        return losses.epsilon({event: _rounded_up(n) for event, n in self._events.items()}, self.delta, losses.COARSE)

    def exact(self) -> float:
        """The epsilon."""
        return losses.epsilon(self._events, self.delta)

    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """For how many more such charges there is room, at most `ahead`."""
        event = _event(charge)
        others, present = _without(self._events, event), self._events[event]
        if self._certain is not None and self._certain[:2] == (event, others) and present < self._certain[2]:
            return min(ahead, self._certain[2] - present)
        if not any(isinstance(sampling, Truncated) for sampling, _ in (event, *self._events)):
            one = renyi.sampled(event[0], event[1])
            if renyi.epsilon(one if self._renyi is None else self._renyi + one, self.delta) <= budget:
                return 1

        def fits(more: int, grid: float) -> bool:
            return losses.epsilon(others + Counter({event: present + more}), self.delta, grid) <= budget

        found = ahead if fits(ahead, losses.FINE) else _most(fits, ahead)
        if found:
            whole = others + Counter({event: present + found})
            self._certain = event, others, present + found, losses.epsilon(whole, self.delta)
        return found


class Replaced(Tally):
    """Cohorts of a fixed size: by Rényi accounting, which is all that is known of them."""

    def __init__(self, delta: float) -> None:
        super().__init__(delta)
        self._events: Counter[tuple[Fixed, float]] = Counter()

    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times."""
        self._events[self._event(charge)] += times

    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Add another attempt at a round: with the earlier ones it is one event, of less noise."""
        *before, last = earlier
        self._events = self._events - Counter([self._event(last.with_earlier(before))])
        self._events[self._event(charge.with_earlier(earlier))] += 1

    def live(self) -> float:
        """The epsilon."""
        return self._epsilon(self._events)

    def exact(self) -> float:
        """The epsilon."""
        return self.live()

    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """Whether there is room for one more such charge."""
        return int(self._epsilon(self._events + Counter([self._event(charge)])) <= budget)

    def _epsilon(self, events: Counter[tuple[Fixed, float]]) -> float:
        values = [count * renyi.sampled(sampling, noise) for (sampling, noise), count in events.items()]
        return renyi.epsilon(sum(values[1:], values[0]), self.delta) if values else 0.0

    @staticmethod
    def _event(charge: Charge) -> tuple[Fixed, float]:
        assert isinstance(charge.sampling, Fixed)
        return charge.sampling, charge.noise_multiplier


class Counted(Tally):
    """No amplification: what each client has given is added up, and the one that gave most counts.

    Sums that a client is in, of the noise multipliers z, are one Gaussian mechanism of the precision sum(1 / z^2). Who
    is m times in a cohort changes its sum by m bounds.
    """

    def __init__(self, delta: float) -> None:
        super().__init__(delta)
        self._precision: dict[Hashable, float] = {}
        self._rounds: Counter[Hashable] = Counter()
        self._of_anybody = self._most = 0.0
        self._anybody = 0
        self._largest: float | None = None  # of a sum with Skellam noise, if there is one

    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times."""
        self._check_participations(charge, clients, times)
        one = charge.noise_multiplier**-2
        if charge.is_skellam:
            self._largest = max(self._largest or 0.0, one)
        if clients is None:
            limit = charge.sampling.participations if isinstance(charge.sampling, AtMost) else None
            counted = times if limit is None else max(0, min(times, limit - self._anybody))
            self._anybody += times
            self._of_anybody += one * counted
            return
        for client, number in Counter(clients).items():
            found = self._precision.get(client, 0.0) + one * number**2 * times
            self._precision[client], self._most = found, max(self._most, found)
            self._rounds[client] += times

    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Add another attempt at a round: the clients give once more, and are in no other round."""
        one = charge.noise_multiplier**-2
        if charge.is_skellam:
            self._largest = max(self._largest or 0.0, one)
        if clients is None:
            self._of_anybody += one
            return
        for client, number in Counter(clients).items():
            found = self._precision.get(client, 0.0) + one * number**2
            self._precision[client], self._most = found, max(self._most, found)

    def live(self) -> float:
        """An epsilon that is not too small."""
        return renyi.epsilon(self._renyi(self._most + self._of_anybody), self.delta)

    def exact(self) -> float:
        """The epsilon: exact for Gaussian noise, by Rényi accounting for Skellam noise."""
        return self._epsilon(self._most + self._of_anybody, self._largest)

    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """Whether there is room for one more such charge."""
        one = charge.noise_multiplier**-2
        largest = max(self._largest or 0.0, one) if charge.is_skellam else self._largest
        if clients is None:
            after = self._most + one
        else:
            numbers = Counter(clients).items()
            after = max((self._precision.get(each, 0.0) + one * n**2 for each, n in numbers), default=0.0)
            after = max(after, self._most)
        return int(self._epsilon(after + self._of_anybody, largest) <= budget)

    @property
    def participations(self) -> int:
        """The most rounds that a client was in."""
        return max(self._rounds.values(), default=0) + self._anybody

    def _renyi(self, precision: float) -> renyi.Values:
        if not precision:
            return renyi.orders() * 0
        if self._largest is None:
            return renyi.gaussian(precision**-0.5)
        return renyi.skellam(precision, self._largest)

    def _epsilon(self, precision: float, largest: float | None) -> float:
        if not precision:
            return 0.0
        if largest is None:
            return losses.gaussian_epsilon(precision**-0.5, self.delta)
        return renyi.epsilon(renyi.skellam(precision, largest), self.delta)

    def _check_participations(self, charge: Charge, clients: Clients, times: int) -> None:
        limit = charge.sampling.participations if isinstance(charge.sampling, AtMost) else None
        if limit is None or clients is None:
            return
        for client in set(clients):
            if self._rounds[client] + times > limit:
                raise ValueError(
                    f"client {client!r} would be in {self._rounds[client] + times} rounds, and its sampler promises "
                    f"{limit} at most"
                )


class Correlated(Tally):
    """Correlated noise: the whole run is one Gaussian mechanism, if clients are as far apart as it says."""

    def __init__(self, delta: float) -> None:
        super().__init__(delta)
        self._noise_multiplier: float | None = None
        self._count = 0

    def add(self, charge: Charge, clients: Clients, times: int) -> None:
        """Add a charge, so many times.

        Raises:
            ValueError: if there are more rounds than the noise is for, or the noise is another.
        """
        if self._noise_multiplier not in (None, charge.noise_multiplier):
            raise ValueError("correlated noise is one mechanism for a whole run, and this round has another")
        first = charge.mechanisms[0]
        assert isinstance(first, Matrix)
        if self._count + times > first.rounds:
            raise ValueError(f"the correlated noise is for {first.rounds} rounds, and there is one more")
        self._noise_multiplier = charge.noise_multiplier
        self._count += times

    def add_again(self, charge: Charge, earlier: Sequence[Charge], clients: Clients) -> None:
        """Correlated noise must not be drawn for two sums."""
        raise ValueError("a round with correlated noise was tried again, and its noise must not be drawn for two sums")

    def live(self) -> float:
        """The epsilon."""
        return self.exact()

    def exact(self) -> float:
        """The epsilon, which is that of all rounds from the first on."""
        return 0.0 if self._noise_multiplier is None else losses.gaussian_epsilon(self._noise_multiplier, self.delta)

    def room(self, charge: Charge, clients: Clients, budget: float, ahead: int) -> int:
        """For how many more rounds there is room, at most `ahead`."""
        return ahead if losses.gaussian_epsilon(charge.noise_multiplier, self.delta) <= budget else 0


def _event(charge: Charge) -> Event:
    assert isinstance(charge.sampling, Poisson | Truncated)
    return charge.sampling, charge.noise_multiplier


def _without(events: Counter[Event], event: Event) -> Counter[Event]:
    return Counter({other: count for other, count in events.items() if other != event})


def _rounded_up(count: int) -> int:
    """A number that is not smaller, of few that there are: of four bits."""
    unit = 1 << max(0, count.bit_length() - 4)
    return -(-count // unit) * unit


def _most(fits: Callable[[int, float], bool], above: int) -> int:
    """The largest number below one that does not fit, first by a coarse grid, on which a little less fits."""
    low, high = 0, above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle, losses.COARSE) else (low, middle)
    high, step = above, 1
    while low + step < high and fits(low + step, losses.FINE):
        low, step = low + step, 2 * step
    high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle, losses.FINE) else (low, middle)
    return low
