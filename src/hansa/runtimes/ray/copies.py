"""What clients keep from round to round, on a second node: it then outlives the node where it was computed.

The object store has it where it was computed. A worker of another node takes it, and keeps it in its node's memory as
long as the driver has use for it. If the first node is lost, Ray finds it there.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.runtimes.ray.member import Member
from hansa.runtimes.ray.stored import StoredBlock


@dataclass
class _Copy:
    """Rows on two nodes.

    Attributes:
        found: what they are in the object store.
        home: the node that has them.
        holder: the worker that keeps them on another one; None where nobody does.
    """

    found: Any
    home: str
    holder: Member | None = None


class Copies:
    """The rows that are to be on two nodes.

    Args:
        forget: has workers let go what is called so.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        self._copies: dict[str, _Copy] = {}
        self._forget = forget

    def keep(self, block: StoredBlock) -> None:
        """From now on, as long as there is this block, it is to be on a second node."""
        name = f"copy {uuid.uuid4().hex}"
        self._copies[name] = _Copy(block.found, block.node)
        weakref.finalize(block, self._drop, name)

    def mend(self, members: Sequence[Member]) -> None:
        """Has workers take what is on one node only, if these are of several."""
        nodes = {member.node for member in members}
        if len(nodes) < 2:
            return
        turn = 0
        for name, copy in list(self._copies.items()):
            holds = copy.holder if copy.holder in members else None
            if copy.home not in nodes and holds is not None:
                copy.home, holds = holds.node, None
            if holds is None:
                others = [member for member in members if member.node != copy.home]
                copy.holder = others[turn % len(others)]
                turn += 1
                copy.holder.known[name] = 0
                copy.holder.actor.hold.remote(name, copy.found)

    def homes(self) -> list[tuple[str, str | None]]:
        """Where all of it is: the first node, and the second one."""
        return [(copy.home, None if copy.holder is None else copy.holder.node) for copy in self._copies.values()]

    def _drop(self, name: str) -> None:
        if self._copies.pop(name, None) is not None:
            self._forget(name)
