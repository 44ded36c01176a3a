"""What is done with a client's examples before a round, as data: `DataPlan`, the same in every process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa._tracebacks import boundaries
from hansa.simulation import _cohorts, _declared
from hansa.simulation._columns import check_kind
from hansa.simulation._declared import PlanError
from hansa.simulation._derived import Transformed
from hansa.simulation._sources import FunctionSource, Source
from hansa.simulation._steps import Arrays, Step, checked_arrays
from hansa.simulation._values import integer
from hansa.types import StructType, Type, to_type
from hansa.types.batches import Batches
from hansa.types.batching import Batching
from hansa.types.identities import ClientId, distinct
from hansa.types.queries import is_tensor_structure, tensor_leaves

__all__ = ["DataPlan", "PlanError"]

_FORMAT = 1


@boundaries
@dataclass(frozen=True)
class DataPlan:
    """What a population does with each client's examples before a round, as data.

    `ClientData.plan` gives it. It holds no examples, and does not say who takes part. Another process makes a client's
    batches of it with the same NumPy code, from that client's own arrays.

    Attributes:
        steps: what is done with the arrays, in order.
        batching: how they are put into batches.
        example_type: the type of a batch.
        batch_capacity: the rows that every batch is computed with; None where the population does not know them.

    Raises:
        PlanError: if a step calls a function.

    Examples:
        >>> plan = data.scale("x", divide=16).shuffle(seed=1).batch(20).plan()
        >>> plan
        DataPlan(scale, shuffle, in batches of 20: <x=float32[?,64],y=int32[?]>)
        >>> hansa.simulation.DataPlan.from_json(plan.to_json()) == plan
        True
    """

    steps: tuple[Step, ...]
    batching: Batching
    example_type: Type
    batch_capacity: int | None = None

    def __post_init__(self) -> None:
        _declared.check_declared(self.steps)

    def batches(
        self,
        arrays: Mapping[str, Any],
        client_id: ClientId,
        round_number: int = 0,
        *,
        copy: int = 0,
        number: int | None = None,
    ) -> Batches:
        """The batches of one client in a round, the same as in the population's cohort.

        Args:
            arrays: the client's own arrays `[examples, ...]` by name, as the population had them before its steps.
            client_id: the client's identity, on which random orders depend.
            round_number: the round.
            copy: how often the client was there before in the round's cohort.
            number: the client's number in the population, if it is not its id's own. Only clients whose ids share a
                checksum have such, a few among a million; see `hansa.types.identities.numbers`.

        Raises:
            TypeError, ValueError: if the arrays are none that the steps go with, or become another type than
                `example_type`.

        Examples:
            >>> plan = data.shuffle(seed=1).batch(50).plan()
            >>> batches = plan.batches(data.client(3), client_id=3, round_number=7)
            >>> batches
            Batches(180 examples in batches of 50: <x=float32[?,64],y=int32[?]>*)
            >>> np.array_equal(next(iter(batches)).y, data.shuffle(seed=1).client(3, round_number=7)["y"][:50])
            True
        """
        (owner,) = distinct([client_id], "client_id")
        given = checked_arrays(arrays, f"the examples of client {owner!r}")
        times, chosen = integer("copy", copy, 0), integer("round_number", round_number, 0)
        empty = self._source({name: array[:0] for name, array in given.items()}, owner, None)
        check_kind(empty.read(0), owner, self.example_type, "the plan")
        source = self._source(given, owner, number)
        source.batch_type = self.example_type
        positions = np.zeros(times + 1, np.int64)
        copies = _cohorts.of_round(source, self.batching, positions, chosen, self.batch_capacity)
        last: Batches = copies[times]
        return last

    def _source(self, arrays: Arrays, client_id: ClientId, number: int | None) -> Source:
        """A population of the one client."""
        source: Source = FunctionSource([client_id], lambda _: arrays, None, True, "the examples of client")
        if number is not None:
            source.numbers = np.array([integer("number", number, -(2**31))], np.int32)
        for step in self.steps:
            source = Transformed(source, step)
        return source

    @property
    def goes_through(self) -> int | None:
        """How often a round goes through a client's examples; None where it takes `steps`.

        Examples:
            >>> data.repeat(3).batch(20).plan().goes_through
            3
        """
        return self.batching.goes_through

    @property
    def digest(self) -> str:
        """SHA-256 of the plan, in hexadecimal digits: the same for the same plan, in any process.

        Examples:
            >>> plan = data.batch(20).plan()
            >>> len(plan.digest), plan.digest == data.batch(20).plan().digest
            (64, True)
        """
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The plan as values that JSON has.

        Examples:
            >>> data.take(100).batch(20).plan().to_json()["steps"]
            [{'step': 'take', 'count': 100}]
        """
        return {
            "format": _FORMAT,
            "examples": self.example_type.compact(),
            "steps": [_declared.to_json(step) for step in self.steps],
            "batching": dataclasses.asdict(self.batching),
            "batch_capacity": self.batch_capacity,
        }

    @classmethod
    def from_json(cls, value: Any) -> DataPlan:
        """The plan that `to_json` gave, perhaps in another process.

        Raises:
            PlanError: if it is none; the message says what is wrong.

        Examples:
            >>> plan = data.take(100).batch(20).plan().to_json()
            >>> hansa.simulation.DataPlan.from_json({**plan, "steps": [{"step": "take", "count": -1}]})
            Traceback (most recent call last):
                ...
            hansa.simulation._declared.PlanError: this is no plan of data: count must be an integer of 0 or more; ...
        """
        try:
            return cls._of_json(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise PlanError(f"this is no plan of data: {error}") from None

    @classmethod
    def _of_json(cls, value: Any) -> DataPlan:
        known = ("format", "examples", "steps", "batching", "batch_capacity")
        if not isinstance(value, Mapping) or set(value) != set(known):
            raise ValueError(f"it must be an object with {', '.join(known)}")
        if value["format"] != _FORMAT:
            raise ValueError(f"it is of the format {value['format']!r:.20}, and this version of Hansa knows {_FORMAT}")
        if not isinstance(value["examples"], str):
            raise TypeError(f"examples must be the type of a batch, as text; found {value['examples']!r:.100}")
        kind = to_type(value["examples"])
        tensors = isinstance(kind, StructType) and is_tensor_structure(kind)
        if not tensors or any(leaf.shape[:1] != (None,) for leaf in tensor_leaves(kind)):
            raise ValueError(f"examples must be arrays by name with a row for each example, and are {kind}")
        if not isinstance(value["steps"], list) or not isinstance(value["batching"], Mapping):
            raise TypeError("steps must be a list, and batching an object")
        batching = _declared.made(Batching, value["batching"], "batching")
        steps = tuple(map(_declared.of_json, value["steps"]))
        capacity = value["batch_capacity"]
        if capacity is not None and integer("batch_capacity", capacity, 1) > batching.batch_size:
            raise ValueError(f"batch_capacity is {capacity}, more than the batch_size, {batching.batch_size}")
        return cls(steps, batching, kind, capacity)

    def __repr__(self) -> str:
        epochs = [] if self.batching.epochs == 1 else [f"{self.batching.epochs} epochs"]
        parts = [*map(_declared.name_of, self.steps), str(self.batching), *epochs]
        return f"DataPlan({', '.join(parts)}: {self.example_type})"
