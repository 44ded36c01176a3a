"""Who is worked for together: a cohort in pieces, and how many pieces a worker is given at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hansa.runtimes.leaves import LEAF
from hansa.runtimes.stages.schedule import schedule

Positions = npt.NDArray[np.int64]


@dataclass(eq=False)
class Piece:
    """Some clients.

    Attributes:
        positions: where in the cohort they are, in order.
        work: what they cost.
        number: where among pieces that follow each other it is.
        lost: how many workers have been lost while they worked for it.
    """

    positions: Positions
    work: int
    number: int = 0
    lost: int = 0


def pieces(work: npt.NDArray[np.int64], workers: int) -> list[Piece]:
    """A cohort in pieces of about the same work, the largest first.

    Args:
        work: what each client costs, [clients].
        workers: how many there are.
    """
    dealt = schedule(work, min(len(work), _PIECES * workers)) if len(work) else []
    found = [Piece(positions, int(work[positions].sum())) for positions in dealt if len(positions)]
    return sorted(found, key=lambda piece: -piece.work)


def blocks(work: npt.NDArray[np.int64], workers: int) -> list[Piece]:
    """A cohort in pieces that follow each other, each of as many leaves as another, a power of two: what they are
    folded to merges as the leaves do (`hansa.runtimes.leaves`)."""
    leaves = -(-len(work) // LEAF)
    each = LEAF << max(0, (leaves // (_BLOCKS * workers)).bit_length() - 1)
    starts = range(0, len(work), each)
    return [
        Piece(np.arange(s, min(s + each, len(work))), int(work[s : s + each].sum()), i) for i, s in enumerate(starts)
    ]


@dataclass
class Queue:
    """Pieces that nobody works for yet.

    Attributes:
        waiting: these pieces, the next one first.
        most: how many bytes of data are read for one call.
        client_bytes: how many there are of each client, about.
        isolated: pieces that were a worker's when it was lost: they are dealt one by one.
    """

    waiting: deque[Piece]
    most: int = 2**28
    client_bytes: int = 0
    isolated: deque[Piece] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.isolated)

    def take(self, idle: int, workers: int, pace: float | None) -> list[Piece]:
        """What a worker is given next: so much that a call is no cost, and so little that all end at the same time.

        Args:
            idle: how many have nothing to do, with this one.
            workers: how many there are.
            pace: the seconds of a unit of work, where that is known.
        """
        if self.isolated:
            return [self.isolated.popleft()]
        left = sum(piece.work for piece in self.waiting)
        if pace is not None and left * pace < _ALONE:
            share = float(left)
        else:
            is_short = pace is not None and left * pace / workers < _SHORT
            share = left / idle if is_short else left / (2 * workers)
        taken: list[Piece] = []
        work = clients = 0
        while self.waiting and (not taken or work + self.waiting[0].work / 2 <= share):
            clients += len(self.waiting[0].positions)
            if taken and clients * self.client_bytes > self.most:
                break
            taken.append(self.waiting.popleft())
            work += taken[-1].work
        return taken


_PIECES, _BLOCKS = 8, 4
"""For each worker."""

_SHORT = 0.25
"""Seconds of work for each worker that are done in one call."""

_ALONE = 0.015
"""Seconds of work that one worker does: less than it takes to tell a second one, and to have its state."""
