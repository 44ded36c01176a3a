"""Cohorts that are read where they are used: what is told of them, and how another process reads them.

A client's arrays come from a population that other processes have, or from files that they can open; steps that are
data are taken there. What calls a function of the user's is done in this process.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation import _cohorts, _declared
from hansa.simulation._declared import PlanError
from hansa.simulation._derived import Chosen, Concatenated, Transformed
from hansa.simulation._sources import ArraySource, FunctionSource, Source
from hansa.simulation._steps import Arrays, Sizes, Step
from hansa.types import StructType, TensorType, identities, to_type
from hansa.types.batches import ClientBatches
from hansa.types.batching import Batching
from hansa.types.examples import Examples
from hansa.types.identities import ClientId
from hansa.types.unread import Unread

Told = dict[str, Any]
"""Numbers, texts and arrays of numbers, in lists and dicts."""

Open = Callable[[Any, ClientId], Arrays]
"""Gives a client's arrays, of which part of something they are, and whose."""


def of_round(
    source: Source, batching: Batching, positions: Sizes, round_number: int, capacity: int | None
) -> ClientBatches:
    """The batches of the clients at these positions, not read.

    Raises:
        PlanError: if another process cannot read them; the message says why.
    """
    steps = _declared_steps(source)
    known, kind = source.sizes if source.in_memory else source.known_sizes, source.batch_type
    if known is None:
        raise PlanError("how many examples clients have is known only when they are read")
    if not isinstance(kind, StructType) or not all(isinstance(member, TensorType) for _, member in kind.fields):
        raise PlanError("their arrays are in arrays by name, and these are not")
    places = [_place(source, position) for position in positions.tolist()]
    sizes = np.asarray(known)[positions]
    stored = _cohorts.stored_of(source, batching, sizes)
    copies = identities.copies(positions)

    def tell(chosen: npt.NDArray[np.int64], called: Callable[[Examples], Any]) -> Told:
        origins: dict[int, int] = {}
        mine = [places[i] for i in chosen.tolist()]
        for origin, _ in mine:
            origins.setdefault(id(origin), len(origins))
        unique = {id(origin): origin for origin, _ in mine}
        at = positions[chosen].tolist()
        return {
            "origins": [
                {"population": called(origin)} if isinstance(origin, Examples) else origin
                for origin in map(unique.__getitem__, origins)
            ],
            "steps": [_declared.to_json(step) for step in steps],
            "batching": dataclasses.asdict(batching),
            "kind": kind.compact(),
            "round": round_number,
            "copies": copies[chosen],
            "numbers": [source.number(position) for position in at],
            "ids": [source.client_ids[position] for position in at],
            "parts": [(origins[id(origin)], part) for origin, part in mine],
        }

    def read() -> Arrays:
        return _cohorts.read(source, batching, positions, copies, round_number)[0]

    examples = Unread(kind, np.cumsum(stored) - stored, int(stored.sum()), read, tell)
    return _cohorts.of_examples(examples, source, batching, positions, stored, sizes, capacity)


def read(told: Told, population: Callable[[Any], Examples]) -> Arrays:
    """The arrays of clients that another process has told of, one client's rows after another's.

    Args:
        told: what it has told.
        population: gives one that this process has, of what it is called.
    """
    opened = [_opened(origin, population) for origin in told["origins"]]
    source: Source = _Parts(told["ids"], told["numbers"], told["parts"], opened)
    for step in told["steps"]:
        source = Transformed(source, _declared.of_json(step))
    source.batch_type = to_type(told["kind"])
    everybody = np.arange(len(told["ids"]))
    return _cohorts.read(source, Batching(**told["batching"]), everybody, told["copies"], told["round"])[0]


def _opened(origin: Any, population: Callable[[Any], Examples]) -> Open:
    if "population" not in origin:
        return _of_files(json.dumps(origin))
    found = population(origin["population"]).rows

    def arrays(part: Any, client_id: ClientId) -> Arrays:
        chosen = slice(*part) if isinstance(part, tuple) else part
        return {name: array[chosen] for name, array in found._items()}

    return arrays


@lru_cache(maxsize=16)
def _of_files(text: str) -> Open:
    """What reads clients of files, of what a reader has said of them in JSON."""
    origin = json.loads(text)
    reader = importlib.import_module(f"hansa.simulation.readers.{origin['reader']}")
    opened: Open = reader.opened(origin)
    return opened


def _declared_steps(source: Source) -> tuple[Step, ...]:
    """The steps that are taken by whoever reads: those since examples were last the same in each round."""
    match source:
        case _ if source.columns is not None:
            return ()
        case Transformed():
            before = _declared_steps(source._parent)
            _declared.check_declared([source._step])
            return (*before, source._step)
        case Chosen():
            return _declared_steps(source._parent)
        case Concatenated():
            first, second = _declared_steps(source._first), _declared_steps(source._second)
            if first != second:
                raise PlanError("concatenate has joined two populations with other steps each")
            return first
    return ()


def _place(source: Source, position: int) -> tuple[Any, Any]:
    """Where a client's arrays are: a population, or what a reader says of its files; and which part of it is theirs."""
    columns = source.columns
    if columns is not None:
        start = int(columns.starts[position])
        return columns.examples, (start, start + int(columns.counts[position]))
    match source:
        case Transformed():
            return _place(source._parent, position)
        case Chosen():
            return _place(source._parent, int(source._positions[position]))
        case Concatenated():
            before = len(source._first.client_ids)
            return _place(source._first, position) if position < before else _place(source._second, position - before)
        case ArraySource() if source.examples is not None:
            return source.examples, source.rows_of(position)
        case FunctionSource() if source.files is not None:
            return source.files.told, source.files.part(source.client_ids[position])
    raise PlanError("the examples of a client are read by a function")


class _Parts(Source):
    """Clients whose arrays are parts of what has been opened here; perhaps one several times."""

    def __init__(
        self,
        client_ids: Sequence[ClientId],
        numbers: Sequence[int],
        parts: Sequence[tuple[int, Any]],
        opened: Sequence[Open],
    ) -> None:
        self.client_ids, self.in_memory = client_ids, False
        self.numbers = np.array(numbers, np.int32)
        self._parts, self._opened = parts, opened

    def _read(self, position: int) -> Arrays:
        origin, part = self._parts[position]
        return self._opened[origin](part, self.client_ids[position])
