"""From the charges of a run to its guarantee."""

from __future__ import annotations

from collections.abc import Iterable

from hansa._tracebacks import boundaries
from hansa.privacy.charge import Charge, Family
from hansa.privacy.guarantee import Guarantee, checked_delta
from hansa.privacy.tallies import TALLIES, Clients, Tally


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
        self._neighbours, self._against = "", "readers"
        for charge in charges:
            self.add(charge)

    def add(self, charge: Charge, clients: Clients = None, times: int = 1) -> None:
        """Add what a round has cost.

        Args:
            charge: the round.
            clients: who was in the cohort; None where it is not known. It counts where sampling promises nothing.
            times: so many such rounds, of the same clients.

        Raises:
            ValueError: if rounds of this run were drawn in another way; or if a client is in more rounds than its
                sampling says.
        """
        tally = self._tally_of(charge)
        tally.add(charge, clients, times)
        if self._is is None:
            self._is = charge.family, charge.neighbours
            self._neighbours, self._against = charge.neighbours, charge.against
        elif charge.against == "readers":
            self._against = "readers"

    @property
    def epsilon(self) -> float:
        """Epsilon up to now, found soon: an upper bound, somewhat too large. 0 before any round."""
        return 0.0 if self._tally is None else self._tally.live()

    def exact(self) -> float:
        """Epsilon up to now, as exactly as it is known; takes up to seconds."""
        return 0.0 if self._tally is None else self._tally.exact()

    def has_room(self, charge: Charge, epsilon: float, clients: Clients = None, ahead: int = 1) -> bool:
        """Whether one more round like this one stays within a budget.

        Args:
            charge: the round.
            epsilon: that must not be exceeded.
            clients: who is in the round's cohort, where it is known.
            ahead: so many such rounds are to come. It changes no answer, but the time that later ones take.

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
        return self._tally_of(charge).room(charge, clients, epsilon, ahead) > 0

    def guarantee(self, rounds: int, *, exact: bool = True) -> Guarantee:
        """What is promised after so many rounds."""
        epsilon = self.exact() if exact else self.epsilon
        return Guarantee(epsilon, self.delta, "client", self._neighbours or "add or remove one", self._against, rounds)

    def _tally_of(self, charge: Charge) -> Tally:
        if self._is is None:
            if not isinstance(self._tally, TALLIES[charge.family]):
                self._tally = TALLIES[charge.family](self.delta)
            return self._tally
        if self._is != (charge.family, charge.neighbours):
            raise ValueError(
                f"rounds of one run are accounted for together only if their cohorts are drawn in one way: this one is "
                f"of {charge.sampling}, for which neighbours {charge.neighbours!r} are counted, and those before were "
                f"for {self._neighbours!r}"
            )
        assert self._tally is not None
        return self._tally
