"""One client stage on the workers: clients are dealt out, and their states come together. Nothing of it stays here.

A worker goes on with the state that it has given last, so each gives one in the end. Who is lost leaves that state
behind, in the object store; what it was working for is dealt out again. The last clients are given to idle workers,
too, where somebody takes long for them; whoever is first counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from hansa.runtimes.ray.dealing import Piece, Positions, Queue
from hansa.runtimes.ray.member import LOST, Member
from hansa.runtimes.ray.pool import Pool
from hansa.runtimes.ray.stored import Shapes
from hansa.runtimes.ray.wire import Plain
from hansa.runtimes.ray.worker import Work

TellWork = Callable[[Positions, list[list[int]] | None], Work]
"""The work of clients at these positions, folded together or in these parts."""

TellClients = Callable[[Positions], str]
"""Who some clients are, for a message."""


@dataclass(frozen=True)
class Stage:
    """What is to be done.

    Attributes:
        program: the key of the program.
        number: of the client stage.
        ends: for a piece, the ends of its leaves; None where order does not matter.
        work: tells of the work of some clients.
        sent: a reference to what is sent to all.
        programs: what workers may not have been told of yet: see `Pool.news`.
        populations: likewise.
        names: tells who some clients are.
    """

    program: str
    number: int
    ends: Callable[[Piece], list[int]] | None
    work: TellWork
    sent: Any
    programs: Mapping[str, Any]
    populations: Mapping[str, Plain]
    names: TellClients


@dataclass(eq=False)
class _Call:
    """A worker's work for some pieces."""

    member: Member
    pieces: list[Piece]
    positions: Positions
    outcome: Any
    kept: Any
    states: list[Any]
    before: Any
    begun: float


@dataclass(frozen=True)
class Kept:
    """What some clients keep.

    Attributes:
        positions: who they are, in the order of the rows.
        found: a reference to it: for each value a list of arrays.
        shapes: of these.
        node: where it was computed.
    """

    positions: Positions
    found: Any
    shapes: Sequence[Shapes]
    node: str


class StageFailed(Exception):
    """A worker has found an error in the work itself.

    Attributes:
        wrong: what it says: the kind of error, the message, and where it was raised.
    """

    def __init__(self, wrong: Mapping[str, str]) -> None:
        super().__init__(wrong["message"])
        self.wrong = wrong


class Folding:
    """The work of a stage.

    Args:
        pool: the workers.
        stage: what is to be done.
        queue: all clients, in pieces.
        pace: the seconds of a unit of work, where that is known.

    Attributes:
        kept: what clients have kept.
        pace: the seconds of a unit of work, as far as this stage has told; without calls in which there was news.
    """

    def __init__(self, pool: Pool, stage: Stage, queue: Queue, pace: float | None) -> None:
        self._pool, self._stage, self._queue, self.pace = pool, stage, queue, pace
        self._calls: dict[Any, _Call] = {}
        self._done: set[Piece] = set()
        self._own: dict[Member, Any] = {}
        self._left: list[Any] = []
        self._ordered: dict[int, Any] = {}
        self._with_news: set[_Call] = set()
        self.kept: list[Kept] = []

    def run(self) -> list[Any]:
        """References to states of all clients, one or two; in order, where that matters.

        Raises:
            RuntimeError: if several workers are lost in a row while they work for the same clients.
            StageFailed: if the work itself goes wrong.
        """
        while self._queue or self._calls:
            idle = [member for member in self._pool.up() if member.busy is None]
            for place, member in enumerate(idle):
                if self._queue:
                    free = len(idle) - place
                    self._give(member, self._queue.take(free, free + len(self._calls), self.pace))
                else:
                    self._copy_last(member)
            self._wait()
        states = [self._ordered[number] for number in sorted(self._ordered)]
        return self._merged([*states, *self._own.values(), *self._left])

    def _give(self, member: Member, pieces: list[Piece], copies: bool = False) -> None:
        stage = self._stage
        positions = np.concatenate([piece.positions for piece in pieces])
        if stage.ends is None:
            positions, parts = np.sort(positions), None
        else:
            starts = np.cumsum([0, *(len(piece.positions) for piece in pieces)]).tolist()
            parts = [[start + end for end in stage.ends(p)] for start, p in zip(starts, pieces, strict=False)]
        work = stage.work(positions, parts)
        before = None if stage.ends is not None or copies else self._own.get(member)
        news = self._pool.news(member, stage.programs, stage.populations)
        outcome, kept, *states = member.actor.fold.options(num_returns=2 + work.states).remote(
            work.plain(), news, stage.sent, before
        )
        member.busy = outcome
        call = _Call(member, pieces, positions, outcome, kept, states, before, time.monotonic())
        self._calls[outcome] = call
        if news[0]:
            self._with_news.add(call)

    def _wait(self) -> None:
        """Until somebody is done, or it is time to look at who is up."""
        busy = [member.busy for member in self._pool.members if member.busy is not None and member.starting is None]
        coming = [member.starting for member in self._pool.members if member.starting is not None]
        waiting = list(dict.fromkeys([*self._calls, *busy]))
        ready, _ = ray.wait([*waiting, *(coming if self._queue else [])], timeout=_LOOK)
        for reference in ready:
            if reference in self._calls:
                self._take(self._calls.pop(reference))
            else:
                self._free(reference)

    def _free(self, reference: Any) -> None:
        """A worker has ended what does not count any more."""
        for member in [member for member in self._pool.members if member.busy is reference]:
            member.busy = None
            try:
                ray.get(reference)
            except LOST:
                self._pool.gone(member)
            except RayTaskError:
                pass

    def _take(self, call: _Call) -> None:
        member, pieces = call.member, call.pieces
        try:
            outcome = ray.get(call.outcome)
        except LOST:
            self._lost(call)
            return
        member.busy = None
        if outcome["wrong"] is not None:
            raise StageFailed(outcome["wrong"])
        work = sum(piece.work for piece in pieces)
        if call not in self._with_news:
            pace = outcome["seconds"] / max(1, work)
            # What else runs only makes calls longer, so a short one says more.
            self.pace = pace if self.pace is None else min(pace, _SLOWER * self.pace)
        if any(piece in self._done for piece in pieces):
            return  # It was a copy, or has been overtaken by one.
        self._done.update(pieces)
        if outcome["kept"]:
            self.kept.append(Kept(call.positions, call.kept, outcome["kept"], member.node))
        if self._stage.ends is not None:
            self._ordered.update((piece.number, state) for piece, state in zip(pieces, call.states, strict=True))
        elif call.before is self._own.get(member):
            self._own[member] = call.states[0]
        else:
            self._left.append(call.states[0])
        for reference in [reference for reference, other in self._calls.items() if other.pieces == pieces]:
            del self._calls[reference]  # Its worker is busy until it ends.

    def _lost(self, call: _Call) -> None:
        self._pool.gone(call.member)
        if call.member in self._own:
            self._left.append(self._own.pop(call.member))
        again = [piece for piece in call.pieces if piece not in self._done]
        if any(other.pieces == call.pieces for other in self._calls.values()):
            return  # Somebody else works for them, too.
        for piece in again:
            piece.lost += 1
            if piece.lost >= _MOST_LOST:
                raise RuntimeError(
                    f"{piece.lost} workers have ended, one after another, while they worked for "
                    f"{self._stage.names(piece.positions)}; a worker ends like that if it has too little memory, or "
                    "if a compiled program crashes: see Ray's logs"
                )
        self._queue.isolated.extend(again)

    def _copy_last(self, member: Member) -> None:
        """Gives an idle worker what another one takes long for."""
        now = time.monotonic()
        for call in sorted(self._calls.values(), key=lambda call: call.begun):
            work = sum(piece.work for piece in call.pieces)
            expected = work * self.pace if self.pace is not None else None
            copied = sum(other.pieces == call.pieces for other in self._calls.values()) > 1
            if copied or expected is None or now - call.begun < max(_PATIENT, 2 * expected):
                continue
            self._give(member, call.pieces, copies=True)
            return

    def _merged(self, states: list[Any]) -> list[Any]:
        """Neighbours are merged by workers until there are two at most."""
        stage = self._stage
        while len(states) > 2:
            members = [member for member in self._pool.up() if member.busy is None] or self._pool.up()
            after = []
            for i in range(0, len(states) - 1, 2):
                member = members[(i // 2) % len(members)]
                news = self._pool.news(member, stage.programs, stage.populations)
                merge = member.actor.merge.options(num_returns=2)
                merged = merge.remote(stage.program, stage.number, news, stage.sent, *states[i : i + 2])
                after.append((member, merged, states[i : i + 2]))
            found = [self._merge_again(*each) for each in after]
            states = [*found, *states[2 * len(found) :]]
        return states

    def _merge_again(self, member: Member, merged: Any, pair: Sequence[Any]) -> Any:
        """A merged state, for which another worker is asked if the first one is lost."""
        stage = self._stage
        for _ in range(_MOST_LOST):
            done, state = merged
            try:
                ray.get(done)
                return state
            except LOST:
                self._pool.gone(member)
            member = self._pool.up()[0]
            news = self._pool.news(member, stage.programs, stage.populations)
            merge = member.actor.merge.options(num_returns=2)
            merged = merge.remote(stage.program, stage.number, news, stage.sent, *pair)
        raise RuntimeError(f"{_MOST_LOST} workers have ended, one after another, while they merged states")


_MOST_LOST = 3
_SLOWER = 1.2
"""How many times as long as before work is taken to last, at most, after a call that has lasted longer."""

_LOOK, _PATIENT = 0.5, 1.0
"""Seconds between looks at who is up, and before somebody takes long."""
