"""What clients keep from round to round, on a second node: it then outlives the node where it was computed.

The object store has it where it was computed. A worker of another node takes it, and keeps it in its node's memory as
long as the driver has use for it. If the first node is lost, Ray finds it there. A call is over when there are copies
of what it has made: if a node is lost before, the call still has all that it was made from, and is made again.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayTaskError

from hansa._warnings import warn
from hansa.runtimes.ray.member import LOST, Member
from hansa.runtimes.ray.stored import StoredBlock


@dataclass
class _Copy:
    """Rows on two nodes.

    Attributes:
        found: what they are in the object store.
        home: the node that has them.
        holder: the worker that keeps them on another one; None where nobody does.
        coming: what is there when it has taken them; None after that.
    """

    found: Any
    home: str
    holder: Member | None = None
    coming: Any = None


class Copies:
    """The rows that are to be on two nodes.

    Args:
        forget: has workers let go what is called so.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        self._copies: dict[str, _Copy] = {}
        self._forget = forget

    def __bool__(self) -> bool:
        return bool(self._copies)

    def keep(self, block: StoredBlock) -> str:
        """From now on, as long as there is this block, it is to be on a second node; returns what it is called."""
        name = f"copy {uuid.uuid4().hex}"
        self._copies[name] = _Copy(block.found, block.node)
        weakref.finalize(block, self._drop, name)
        return name

    def mend(self, members: Sequence[Member], new: Sequence[str]) -> list[Member]:
        """Has workers take what is on one node only, if these are of several, and waits until they have it.

        Args:
            members: the workers that are up.
            new: what there must be after this. Of what is older, whoever asks for it learns that it is lost.

        Returns:
            Those of them that have been lost meanwhile; what they were to take is on one node only.

        Raises:
            ray.exceptions.ObjectLostError: if a node is lost, and with it what is new.
        """
        nodes, turn = {member.node for member in members}, 0
        for name, copy in list(self._copies.items()):
            if copy.holder not in members:
                copy.holder = None
            if copy.home not in nodes and copy.holder is not None:
                copy.home, copy.holder = copy.holder.node, None
            others = [member for member in members if member.node != copy.home]
            if copy.holder is None and others:
                copy.holder = others[turn % len(others)]
                turn += 1
                copy.holder.known[name] = 0
                copy.coming = copy.holder.actor.hold.remote(name, copy.found)
        return self._taken(new)

    def _taken(self, new: Sequence[str]) -> list[Member]:
        """Waits until what is coming is there; tells which workers have been lost meanwhile."""
        lost: list[Member] = []
        for name, copy in list(self._copies.items()):
            coming, copy.coming = copy.coming, None
            if coming is None:
                continue
            try:
                ray.get(coming)
            except LOST:
                lost += [] if copy.holder is None or copy.holder in lost else [copy.holder]
                copy.holder = None
            except ObjectLostError:
                copy.holder = None
                if name in new:
                    raise
                self._copies.pop(name, None)
            except RayTaskError as error:
                copy.holder = None
                warn(f"what clients keep is on one node only, as a worker of another one cannot take it: {error.cause}")
        return lost

    def homes(self) -> list[tuple[str, str | None]]:
        """Where all of it is: the first node, and the second one."""
        return [(copy.home, None if copy.holder is None else copy.holder.node) for copy in self._copies.values()]

    def _drop(self, name: str) -> None:
        if self._copies.pop(name, None) is not None:
            self._forget(name)
