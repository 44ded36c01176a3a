"""From the charges of a run to its guarantee."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from hansa._tracebacks import boundaries
from hansa.privacy.charge import Charge, Family
from hansa.privacy.example_tally import Examples
from hansa.privacy.guarantee import Guarantee, checked_delta
from hansa.privacy.ledger import Entry, LedgerError
from hansa.privacy.tallies import Clients, Correlated, Counted, Losses, Replaced, Tally

_TALLIES: Mapping[Family, type[Tally]] = {
    "losses": Losses, "replaced": Replaced, "counted": Counted, "correlated": Correlated, "examples": Examples
}  # fmt: skip
"""The tally of each way of accounting."""


@boundaries
class Accountant:
    """Adds up what rounds cost, each as it was: how its cohort was drawn, who was in it, and its noise.

    Needs the extra `hansa[privacy]`, which is dp-accounting.

    Args:
        delta: at which epsilon is given.
        charges: to begin with.

    Examples:
        >>> from hansa.privacy import Accountant, Charge, Gaussian, Poisson
        >>> accountant = Accountant(1e-5)
        >>> accountant.add(Charge(Poisson(0.05), [Gaussian(1.0)]), times=100)
        >>> round(accountant.epsilon, 3), round(accountant.exact(), 3)
        (4.039, 3.502)
        >>> print(accountant.guarantee(100))
        epsilon 3.502 at delta 1e-05 after 100 rounds: for each client as a whole (add or remove one), against readers
    """

    def __init__(self, delta: float, charges: Iterable[Charge] = ()) -> None:
        self.delta = checked_delta(delta)
        self._tally: Tally | None = None
        self._is: tuple[Family, str] | None = None
        self._neighbours, self._against, self._unit = "", "readers", "client"
        for charge in charges:
            self.add(charge)

    def add(self, charge: Charge, clients: Clients = None, times: int = 1, *, earlier: Sequence[Charge] = ()) -> None:
        """Add what a round has cost, or another attempt at it.

        Args:
            charge: the round.
            clients: who was in the cohort; None where it is not known. It counts where sampling promises nothing.
            times: so many such rounds, of the same clients.
            earlier: the attempts at this round that were added before. The cohort is the same in all of them, so that
                together they are more than as many rounds with cohorts of their own.

        Raises:
            ValueError: if rounds of this run were drawn in another way; or if a client is in more rounds than its
                sampling says.
        """
        tally = self._tally_of(charge)
        if earlier:
            tally.add_again(charge, earlier, clients)
        else:
            tally.add(charge, clients, times)
        if self._is is None:
            self._is = charge.family, charge.neighbours
            self._neighbours, self._against, self._unit = charge.neighbours, charge.against, charge.unit
        elif charge.against == "readers":
            self._against = "readers"

    @property
    def epsilon(self) -> float:
        """Epsilon up to now, found soon: an upper bound, somewhat too large. 0 before any round."""
        return 0.0 if self._tally is None else self._tally.live()

    def exact(self) -> float:
        """Epsilon up to now, as exactly as it is known; takes up to seconds."""
        return 0.0 if self._tally is None else self._tally.exact()

    def has_room(
        self,
        charge: Charge,
        epsilon: float,
        clients: Clients = None,
        ahead: int = 1,
        *,
        earlier: Sequence[Charge] = (),
    ) -> bool:
        """Whether one more round like this one, or another attempt at it, stays within a budget.

        Args:
            charge: the round.
            epsilon: that must not be exceeded.
            clients: who is in the round's cohort, where it is known.
            ahead: so many such rounds are to come. It changes no answer, but the time that later ones take.
            earlier: see `add`.

        Raises:
            ValueError: see `add`.

        Examples:
            >>> from hansa.privacy import Accountant, Charge, Gaussian, Poisson
            >>> accountant, charge = Accountant(1e-5), Charge(Poisson(1.0), [Gaussian(10.0)])
            >>> while accountant.has_room(charge, epsilon=1.0):
            ...     accountant.add(charge)
            >>> round(accountant.exact(), 3)
            0.986
        """
        tally = self._tally_of(charge)
        if not earlier:
            return tally.room(charge, clients, epsilon, ahead) > 0
        after = copy.deepcopy(tally)
        after.add_again(charge, earlier, clients)
        return after.live() <= epsilon or after.exact() <= epsilon

    def guarantee(self, rounds: int, *, exact: bool = True) -> Guarantee:
        """What is promised after so many rounds."""
        epsilon = self.exact() if exact else self.epsilon
        neighbours = self._neighbours or "add or remove one"
        return Guarantee(epsilon, self.delta, self._unit, neighbours, self._against, rounds)

    def by_site(self) -> dict[Hashable, float]:
        """The epsilon of each client whose examples are protected, each as a whole; empty where clients are.

        Examples:
            >>> from hansa.privacy import Accountant, Charge, Sites
            >>> rule = hansa.privacy.dpsgd("sgd", 1.0, 1.0, steps=20, max_examples=500, batch_size=50)
            >>> accountant = Accountant(1e-5)
            >>> accountant.add(Charge(Sites((500, 100)), [rule]), clients=["Rome", "Oslo"])
            >>> {site: round(epsilon, 2) for site, epsilon in accountant.by_site().items()}
            {'Rome': 3.59, 'Oslo': 15.12}
        """
        return self._tally.by_site() if isinstance(self._tally, Examples) else {}

    def _tally_of(self, charge: Charge) -> Tally:
        if self._is is None:
            if not isinstance(self._tally, _TALLIES[charge.family]):
                self._tally = _TALLIES[charge.family](self.delta)
            return self._tally
        if self._is != (charge.family, charge.neighbours):
            raise ValueError(
                f"rounds of one run are accounted for together only if their cohorts are drawn in one way: this one is "
                f"of {charge.sampling}, for which neighbours {charge.neighbours!r} are counted, and those before were "
                f"for {self._neighbours!r}"
            )
        assert self._tally is not None
        return self._tally


def charged(accountant: Accountant, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Adds the entries of a ledger to an accountant, and gives each when it has been added.

    Raises:
        LedgerError: if one cannot be accounted for with those before it.
    """
    rounds: dict[int, list[Charge]] = {}
    for entry in entries:
        earlier = rounds.setdefault(entry.round, [])
        try:
            accountant.add(entry.charge, entry.clients, earlier=earlier)
        except ValueError as error:
            raise LedgerError(f"what round {entry.round} was charged cannot be accounted for: {error}") from None
        earlier.append(entry.charge)
        yield entry
