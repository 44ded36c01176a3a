"""Populations that are made of others: what steps do with the examples, some of the clients, two populations as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._columns import Columns, of_clients
from hansa.simulation._declared import PlanError
from hansa.simulation._sources import Source
from hansa.simulation._steps import Arrays, Sizes, Step, Visit
from hansa.types import Type
from hansa.types.examples import Examples
from hansa.types.identities import ClientId, distinct


class Transformed(Source):
    """What a step makes of each client's examples."""

    def __init__(self, parent: Source, step: Step) -> None:
        self._parent, self._step = parent, step
        self.client_ids, self.in_memory, self.left_out = parent.client_ids, parent.in_memory, parent.left_out
        self.varies, self.label_names = parent.varies or step.varies, parent.label_names

    def number(self, position: int) -> int:
        return self._parent.number(position)

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        return self._parent.numbers

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self._parent.steps, self._step)

    @property
    def known_sizes(self) -> Sizes | None:
        before = self._parent.known_sizes
        return None if before is None else self._step.sizes(before)

    @property
    def known_type(self) -> Type | None:
        return self._parent.known_type if self._step.keeps_type else super().known_type

    @cached_property
    def batch_type(self) -> Type:
        return self._parent.batch_type if self._step.keeps_type else Examples(self.read(0)).kind

    def epochs(self, position: int, round_number: int, epochs: int, copy: int = 0) -> list[Arrays]:
        if not self.varies:
            return super().epochs(position, round_number, epochs, copy)
        client_id, number = self.client_ids[position], self.number(position)
        before = self._parent.epochs(position, round_number, epochs, copy)
        visits = [Visit(client_id, number, round_number, epoch, copy) for epoch in range(epochs)]
        return [self._step(arrays, visit) for arrays, visit in zip(before, visits, strict=True)]

    def _read(self, position: int) -> Arrays:
        return self._step(self._parent.read(position), Visit(self.client_ids[position], self.number(position)))


class Kept(Source):
    """Another population, read once and then kept in memory."""

    def __init__(self, parent: Source) -> None:
        self._parent, self.client_ids, self.in_memory = parent, parent.client_ids, True
        self.left_out, self.label_names = parent.left_out, parent.label_names

    def number(self, position: int) -> int:
        return self._parent.number(position)

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        return self._parent.numbers

    @property
    def steps(self) -> tuple[Step, ...]:
        return self._parent.steps

    @property
    def known_sizes(self) -> Sizes | None:
        return self._parent.known_sizes

    @property
    def known_type(self) -> Type | None:
        return self._parent.known_type

    @cached_property
    def batch_type(self) -> Type:
        kept = self.__dict__.get("columns")
        return self._parent.batch_type if kept is None else kept.examples.kind

    @cached_property
    def columns(self) -> Columns:
        return of_clients([self._parent.read(position) for position in range(len(self.client_ids))], self.client_ids)

    def _read(self, position: int) -> Arrays:
        return self.columns.rows_of(position)


class Chosen(Source):
    """Some clients of a population."""

    def __init__(self, parent: Source, positions: Sizes) -> None:
        self._parent, self._positions = parent, positions
        self.client_ids = _ChosenIds(parent.client_ids, positions)
        self.in_memory, self.varies, self.left_out = parent.in_memory, parent.varies, parent.left_out
        self.label_names = parent.label_names

    def number(self, position: int) -> int:
        return self._parent.number(int(self._positions[position]))

    @cached_property
    def numbers(self) -> npt.NDArray[np.int32]:
        return self._parent.numbers[self._positions]

    @property
    def steps(self) -> tuple[Step, ...]:
        return self._parent.steps

    @property
    def known_sizes(self) -> Sizes | None:
        known = self._parent.known_sizes
        return None if known is None else known[self._positions]

    @property
    def known_type(self) -> Type | None:
        return self._parent.known_type

    @cached_property
    def batch_type(self) -> Type:
        return self._parent.batch_type

    @cached_property
    def columns(self) -> Columns | None:
        whole = self._parent.columns
        return None if whole is None else whole.choose(self._positions)

    def epochs(self, position: int, round_number: int, epochs: int, copy: int = 0) -> list[Arrays]:
        return self._parent.epochs(int(self._positions[position]), round_number, epochs, copy)


class Concatenated(Source):
    """The clients of one population after those of another."""

    def __init__(self, first: Source, second: Source) -> None:
        shared = next(iter(set(first.client_ids) & set(second.client_ids)), None)
        if shared is not None:
            raise ValueError(
                f"client {shared!r} is in both populations; a client has one place: choose others with filter_clients"
            )
        self._first, self._second = first, second
        self.client_ids = distinct([*first.client_ids, *second.client_ids], "the two populations together")
        self.left_out = first.left_out + second.left_out
        self.in_memory = first.in_memory and second.in_memory
        self.varies = first.varies or second.varies
        self.label_names = first.label_names if first.label_names == second.label_names else None

    @property
    def steps(self) -> tuple[Step, ...]:
        if self._first.steps != self._second.steps:
            raise PlanError(
                "concatenate has joined two populations with other steps each, and a plan has the same for all "
                "clients; call the steps on the two together"
            )
        return self._first.steps

    @property
    def known_sizes(self) -> Sizes | None:
        first, second = self._first.known_sizes, self._second.known_sizes
        return None if first is None or second is None else np.concatenate([first, second])

    @property
    def known_type(self) -> Type | None:
        return self._first.known_type

    @cached_property
    def batch_type(self) -> Type:
        return self._first.batch_type

    def epochs(self, position: int, round_number: int, epochs: int, copy: int = 0) -> list[Arrays]:
        before = len(self._first.client_ids)
        if position < before:
            return self._first.epochs(position, round_number, epochs, copy)
        return self._second.epochs(position - before, round_number, epochs, copy)


class _ChosenIds(Sequence[ClientId]):
    """The identities at some positions of a sequence, looked up when they are asked for."""

    def __init__(self, ids: Sequence[ClientId], positions: Sizes) -> None:
        self._ids, self._positions = ids, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _ChosenIds(self._ids, self._positions[index])
        return self._ids[int(self._positions[index])]

    def __iter__(self) -> Iterator[ClientId]:
        return (self._ids[position] for position in self._positions.tolist())

    def __repr__(self) -> str:
        return repr(list(self))
