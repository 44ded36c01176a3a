"""A worker, as the driver sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayActorError, RaySystemError

LOST = (RayActorError, RaySystemError)
"""What Ray raises where a worker is lost."""


@dataclass(eq=False)
class Member:
    """A worker, as the driver sees it.

    Attributes:
        actor: Ray's handle of it.
        starting: what it says of itself when it is up; None after that.
        described: what it has said.
        known: the programs that it has, with the number of times that their sums have been widened, and populations.
        busy: what it is doing.
    """

    actor: Any
    starting: Any
    described: dict[str, Any] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    busy: Any = None

    @property
    def node(self) -> str:
        """The node of the cluster that it is on; empty where that is not known yet."""
        return str(self.described.get("node_id", ""))
