"""`ClientStates`: what each client of a population keeps from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.types import identities
from hansa.types.base import Type
from hansa.types.batches import ClientBatches
from hansa.types.client_table import ClientTable
from hansa.types.client_values import ClientValues, shaped
from hansa.types.conversion import infer_type
from hansa.types.identities import ClientId
from hansa.types.printing import format_value
from hansa.types.rows import Block, Rows
from hansa.types.values import to_value


@boundaries
class ClientStates:
    """What each client of a population keeps: a value for `{C}@CLIENTS` in the state of a process.

    It holds a row for each client that has taken part, by the client's id. All others have the same: what
    `process.initialize()` gives. A round reads the rows of its cohort, which `data` names, and makes a new object with
    other rows for these. The old one stays what it was, so an older state may be gone on from.

    Rows stay where they were computed. When many more rows are held than twice those that somebody has, they are put
    together anew.

    Args:
        first: what a client has that has never taken part.
        kind: its type; by default that of the value.

    Attributes:
        first: what a client has that has never taken part.
        type_signature: the type of one client's value.

    Examples:
        >>> states = hansa.ClientStates({"visits": np.int32(0)})
        >>> states
        ClientStates(0 clients have taken part, others have <visits=0>)
        >>> states["ann"].visits, len(states)
        (np.int32(0), 0)
        >>> print(states.type_signature)
        <visits=int32>
    """

    def __init__(self, first: Any, kind: Type | None = None) -> None:
        self.type_signature = infer_type(first) if kind is None else kind
        self.first = to_value(first, self.type_signature, "first")
        self._start = Block([np.asarray(leaf)[None] for leaf in jax.tree.leaves(self.first)])
        self._table = ClientTable()
        self._rows = Rows((), np.zeros(0, np.int32), np.zeros(0, np.int32))

    @property
    def client_ids(self) -> list[ClientId]:
        """Who has taken part, in the order in which they first did.

        Examples:
            >>> hansa.ClientStates(0).client_ids
            []
        """
        return self._table.ids(np.flatnonzero(self._rows.block >= 0))

    def select(self, clients: ClientBatches | Sequence[ClientId] | npt.NDArray[Any]) -> ClientValues:
        """What some clients have, in this order: those of a cohort, or those of these ids.

        Args:
            clients: a cohort, or a list or an array of ids.

        Raises:
            TypeError: if these are no ids, or integers where those who have taken part have strings, or the reverse.
            ValueError: if a client is there twice: it has one state.

        Examples:
            >>> hansa.ClientStates(0.5).select(["ann", "bo"])
            [np.float32(0.5), np.float32(0.5)]
        """
        ids = clients.client_ids if isinstance(clients, ClientBatches) else identities.asked_for(clients, "clients")
        self._check_distinct(ids)
        self._check_kind(ids)
        numbers = self._table.numbers(ids.tolist())
        known = (numbers >= 0) & (numbers < len(self._rows))
        block, row = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.int32)
        block[known], row[known] = self._rows.block[numbers[known]], self._rows.row[numbers[known]]
        row[block < 0] = 0
        block[block < 0] = len(self._rows.blocks)
        return ClientValues(self.type_signature, Rows((*self._rows.blocks, self._start), block, row), ids)

    def updated(self, values: ClientValues) -> ClientStates:
        """The states after a round in which some clients have got these values.

        Args:
            values: of clients by their ids, as a call returns them.

        Raises:
            TypeError, ValueError: if they are of another type, or a client is there twice.

        Examples:
            >>> @hansa.federated_computation("{int32}@CLIENTS", "{int32[?]*}@CLIENTS")
            ... def next_visits(visits, data):
            ...     return hansa.federated_map(hansa.jax_computation(lambda n: n + 1), visits)
            >>> cohort = hansa.ClientBatches(np.zeros(3, np.int32), [0, 1, 3], 2, ["ann", "bo"])
            >>> states = hansa.ClientStates(0)
            >>> after = states.updated(next_visits(states, cohort))
            >>> after["ann"], after["cy"], states["ann"], after.client_ids
            (np.int32(1), np.int32(0), np.int32(0), ['ann', 'bo'])
        """
        if not isinstance(values, ClientValues):
            raise TypeError(f"states are updated by what a call returns for its clients, found {type(values).__name__}")
        self.type_signature.check_assignable_from(values.type_signature, what="what clients keep after a round")
        self._check_distinct(values.client_ids)
        self._check_kind(values.client_ids)
        numbers = self._table.numbers(values.client_ids.tolist(), add=True)
        rows = self._rows.replaced(numbers.astype(np.int64), values._rows)
        return self._with(rows.merged(rows.sparse()))

    def _with(self, rows: Rows, table: ClientTable | None = None) -> ClientStates:
        """The same of these rows, by number in the table."""
        made = object.__new__(ClientStates)
        made.type_signature, made.first, made._start = self.type_signature, self.first, self._start
        made._table, made._rows = self._table if table is None else table, rows
        return made

    @staticmethod
    def _check_distinct(client_ids: npt.NDArray[Any]) -> None:
        again = np.flatnonzero(identities.copies(client_ids))
        for place in again[:1].tolist():
            raise ValueError(
                f"client {client_ids.tolist()[place]!r} is in the cohort twice, and has one state, which cannot become "
                "two; draw each client once, without replacement"
            )

    def _check_kind(self, client_ids: npt.NDArray[Any]) -> None:
        """Checks that ids are strings where those who have taken part have strings, and integers as they have."""
        taken_part = self._rows.block >= 0
        if not len(client_ids) or not taken_part.any():
            return
        (known,), other = self._table.ids(np.flatnonzero(taken_part)[:1]), client_ids[:1].tolist()[0]
        if isinstance(known, str) != isinstance(other, str):
            kinds = ("strings", "integers") if isinstance(known, str) else ("integers", "strings")
            raise TypeError(
                f"the clients that have taken part have {kinds[0]} as ids, such as {known!r}, and clients with "
                f"{kinds[1]} are asked for, such as {other!r}; they are of another population: use its ids, or begin "
                "with what process.initialize() gives"
            )

    def __getitem__(self, client_id: ClientId) -> Any:
        return self.select([client_id])[0]

    def __len__(self) -> int:
        """How many clients have taken part."""
        return int((self._rows.block >= 0).sum())

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "ClientStates are not gone through, as every client has one; use states.client_ids for who has taken part, "
            "and states.select(ids) for what they have"
        )

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClientStates):
            return NotImplemented
        ids = self.client_ids
        alike = self.type_signature == other.type_signature and set(ids) == set(other.client_ids)
        firsts = zip(self._start.arrays, other._start.arrays, strict=True)
        return alike and all(np.array_equal(a, b) for a, b in firsts) and self.select(ids) == other.select(ids)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = shaped(self.type_signature, iter(jax.tree.leaves(self.first)))
        number = len(self)
        have = f"{number} client{' has' if number == 1 else 's have'} taken part"
        return f"ClientStates({have}, others have {format_value(first)})"
