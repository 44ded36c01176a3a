"""Whose data a round is given: a function of the round's number, from what `train` is passed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hansa.language.elsewhere import check_reached
from hansa.privacy import AtMost, claim_of
from hansa.privacy.sampling import Sampling
from hansa.program._adapting import check_call, check_no_class
from hansa.program.data_plans import recorded
from hansa.program.population import summary
from hansa.program.run_file import CAPACITY, EXAMPLES, PLAN
from hansa.simulation import EveryClient, PoissonSampler, UniformSampler
from hansa.simulation._values import cohort_size_of
from hansa.types.elsewhere import Elsewhere
from hansa.types.mismatch import describe

Positions = npt.NDArray[np.int64]


class Population(Protocol):
    """Clients of which each round is given some; `hansa.simulation.ClientData` is one."""

    def __len__(self) -> int:
        """How many clients there are."""

    def cohort(self, clients: Any, round_number: int = 0) -> Any:
        """The data of those at these positions, int64 [cohort], as `next` takes it."""


class Cohorts:
    """The data of each round, and what a run says about where it comes from.

    Args:
        data: a population, `hansa.Elsewhere` too, or a function from a round's number to its data.
        cohort_size: how many clients to draw, uniformly: an integer, or a fraction of them as a float.
        sampler: a function from a round's number to positions, int64 [cohort].
        seed: of the draws.
        private: whether who takes part is to be secret: without a sampler, each client is in a cohort by itself, and
            the seed is drawn of the system (`keep_secret`).

    Attributes:
        clients: how many there are; None if that is not known.

    Raises:
        TypeError, ValueError: if they do not go together.
    """

    def __init__(
        self, data: Any, cohort_size: int | float | None, sampler: Any, seed: int, private: bool = False
    ) -> None:
        self._data = data
        self._sampler: Callable[[int], Any] | None = None
        self.clients = len(data) if hasattr(data, "cohort") else None
        check_reached("data", data)
        if not hasattr(data, "cohort"):
            self._refuse(cohort_size, sampler)
            return
        if sampler is not None and cohort_size is not None:
            raise ValueError("a sampler says how many clients take part; leave out cohort_size")
        if sampler is not None and not callable(sampler):
            raise TypeError(
                f"sampler must be a function from a round's number to the positions of clients, found {sampler!r}"
            )
        size = len(data)
        if sampler is not None:
            check_no_class("sampler", sampler)
            check_call("sampler", sampler, ("round_number",))
            self._sampler = sampler
        elif cohort_size is None:
            self._sampler = EveryClient(size)
        elif private:
            self._sampler = PoissonSampler(size, cohort_size_of(cohort_size, size) / size)
        else:
            self._sampler = UniformSampler(size, cohort_size_of(cohort_size, size), seed)
        if private:
            self._check_secret(seed)
            self.keep_secret(secrets.randbits(256))

    def _check_secret(self, seed: int) -> None:
        if seed:
            raise ValueError(
                f"seed={seed} would tell who takes part; leave it out, and a private run draws its cohorts by a secret"
            )
        if getattr(self._sampler, "is_open", False):
            raise ValueError(
                f"the seed of {self._sampler!r} would tell who takes part; leave it out, and a private run draws its "
                "cohorts by a secret"
            )

    def keep_secret(self, seed: int) -> None:
        """Draw cohorts by a secret seed, which is not printed, where the sampler draws by a seed."""
        sampler: Any = self._sampler
        if hasattr(sampler, "with_secret"):
            self._sampler = sampler.with_secret(seed)

    @property
    def client_ids(self) -> Sequence[Any]:
        """Who the clients are, where that is known."""
        return getattr(self._data, "client_ids", ())

    @property
    def claim(self) -> Sampling:
        """What may be claimed of how cohorts are drawn: nothing of clients elsewhere, as who answers decides."""
        return AtMost() if isinstance(self._data, Elsewhere) else claim_of(self._sampler)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the clients' data is elsewhere."""
        return isinstance(self._data, Elsewhere)

    @property
    def knows_examples(self) -> bool:
        """Whether it is known how many examples each client has."""
        return self.clients is not None and hasattr(self._data, "sizes")

    def examples(self, positions: Positions, otherwise: int) -> list[int]:
        """How many examples the clients at these positions have; a number for all where that is not known."""
        if not self.knows_examples:
            return [otherwise] * len(positions)
        return [int(self._data.sizes[position]) for position in positions.tolist()]

    def check_once(self) -> None:
        """Checks that each example is given to a round once.

        Raises:
            ValueError: if the data goes through them several times.
        """
        given = getattr(self._data, "data", None) if self.is_elsewhere else self._data  # of devices, their plan
        if getattr(given, "goes_through", 1) != 1:
            raise ValueError(
                "clients train by hansa.privacy.dpsgd, which draws examples itself, steps= times in a round; data "
                "goes through each client's examples more than once, and so would give some of them twice: leave out "
                "repeat, and the steps of batch"
            )

    @property
    def nominal(self) -> float | None:
        """How many clients a cohort is expected to have, where its sampler says it."""
        if self.clients is None:
            return None
        if isinstance(self._sampler, EveryClient):
            return float(self.clients)
        share = getattr(self._sampler, "probability", None)
        size = getattr(self._sampler, "cohort_size", None)
        return share * self.clients if share is not None else None if size is None else float(size)

    def positions(self, round_number: int) -> Positions | None:
        """The positions of a round's clients, int64 [cohort]; None where they are not known before."""
        if self._sampler is None or isinstance(self._data, Elsewhere):
            return None
        return np.asarray(self._sampler(round_number), np.int64)

    def identities(self, positions: Positions) -> list[int | str]:
        """Who the clients at these positions are: their ids, or, where nothing says them, the positions."""
        ids = getattr(self._data, "client_ids", None)
        found = positions if ids is None else [ids[position] for position in positions.tolist()]
        return [each if isinstance(each, str) else int(each) for each in found]

    def __call__(self, round_number: int) -> tuple[Any, Positions | None]:
        """The data of a round, and the positions of its clients, int64 [cohort], where they are known."""
        if self._sampler is None:
            return self._data(round_number), None
        positions = self._sampler(round_number)
        copies = {"replace": True} if getattr(self._sampler, "replace", False) else {}
        cohort = self._data.cohort(positions, round_number, **copies)
        unknown = isinstance(cohort, Elsewhere) and cohort.client_ids is None
        return cohort, None if unknown else np.asarray(positions)

    def check_identities(self) -> None:
        """Checks that the data says who the clients are, as it must where they keep a part of the state.

        Raises:
            TypeError: if it does not.
        """
        data = self._data
        if hasattr(data, "cohort") and not isinstance(data, Elsewhere) and getattr(data, "client_ids", ()) is None:
            raise TypeError(
                "clients keep a part of the state, which is known by their ids, and data is a list, which does not say "
                "who they are; pass a hansa.ClientBatches, a hansa.simulation.ClientData, or a dict from each client's "
                "id to its examples"
            )

    def summary(self) -> dict[str, Any]:
        """Who there is, for the run's folder; see `hansa.program.population.summary`."""
        return {} if self._sampler is None else summary(self._data)

    def number(self) -> dict[str, Any]:
        """How many clients there are, for the folder of a run that does not tell who they are."""
        return {} if self._sampler is None else {"clients": len(self._data)}

    def described(self, by_id: bool) -> dict[str, Any]:
        """What a run that goes on must have asked the same.

        Args:
            by_id: whether that is also who the clients are, as where they keep a part of the state.
        """
        if self._sampler is None:
            return {"data": described(self._data)}
        data = {"data": described(self._data, own=False), "clients": len(self._data)}
        kind = getattr(self._data, "example_type", None)
        if kind is not None:
            data[EXAMPLES] = kind.compact()
        if hasattr(self._data, "batch_capacity"):
            data[CAPACITY] = self._data.batch_capacity
        if hasattr(self._data, "plan"):
            data[PLAN] = recorded(self._data)
        client_ids = getattr(self._data, "client_ids", None) if by_id else None
        if client_ids is not None:
            data["client_ids"] = _checksum(client_ids)
        return {**data, "sampler": described(self._sampler)}

    def _refuse(self, cohort_size: int | float | None, sampler: Any) -> None:
        if not callable(self._data):
            raise TypeError(
                "data must be a hansa.simulation.ClientData, or a function from a round's number to its data, such as "
                f"lambda round_number: clients; found {describe(self._data)}"
            )
        check_no_class("data", self._data)
        check_call("data", self._data, ("round_number",))
        for name, value in (("cohort_size", cohort_size), ("sampler", sampler)):
            if value is not None:
                raise ValueError(f"data is a function, which says itself whose data a round is given; leave out {name}")


def _checksum(client_ids: Any) -> str:
    """Of who the clients are, in their order."""
    checksum = hashlib.sha256()
    for client_id in client_ids:
        checksum.update(f"{client_id!r},".encode() if isinstance(client_id, str) else b"%d," % client_id)
    return checksum.hexdigest()[:16]


def described(value: Any, own: bool = True) -> str:
    """A value in a line that is the same in another process: what it prints as if it says so itself, else its class.

    Args:
        value: the value.
        own: whether what it prints as is asked for.
    """
    kind = type(value)
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):  # a function or a class
        return f"{value.__module__}.{name}"
    plain = f"{kind.__module__}.{kind.__qualname__}"
    if not own or "__repr__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}:
        return plain
    text = repr(value)
    return plain if " at 0x" in text else text
