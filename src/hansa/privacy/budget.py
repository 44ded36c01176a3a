"""`Budget`: what a run may spend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hansa._tracebacks import boundaries
from hansa.privacy.guarantee import checked_delta, checked_epsilon


@boundaries
@dataclass(frozen=True)
class Budget:
    """What a run may spend: it stops before the round that would exceed it. `hansa.program.train(…, privacy=…)`.

    Args:
        epsilon: not to be exceeded; `math.inf` counts, and stops nothing.
        delta: beside it. It should be far below 1 / clients, as with that probability nothing is promised.
        metrics: "private", and a process whose metrics are made of clients' values without noise is refused; or "open",
            and then nothing is promised to those who see the metrics.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> hansa.privacy.Budget(epsilon=8.0, delta=1e-6)
        Budget(epsilon=8.0, delta=1e-06, metrics='private')
    """

    epsilon: float
    delta: float
    metrics: Literal["private", "open"] = "private"

    def __post_init__(self) -> None:
        if self.epsilon != math.inf:
            object.__setattr__(self, "epsilon", checked_epsilon(self.epsilon))
        object.__setattr__(self, "delta", checked_delta(self.delta))
        if self.metrics not in ("private", "open"):
            raise ValueError(f"metrics must be 'private' or 'open'; found {self.metrics!r}")
