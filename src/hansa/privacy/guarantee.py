"""What is promised to whom: an epsilon is nothing without its delta, its unit and its neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hansa._tracebacks import boundaries


@boundaries
@dataclass(frozen=True)
class Guarantee:
    """A guarantee of differential privacy: what it says, of whom, and against whom.

    Attributes:
        epsilon: by which factor, e^epsilon, one client may change the probability of any result.
        delta: but for events of this probability.
        unit: whose data is protected as a whole, such as `client`: everything that one client has.
        neighbours: what the two populations differ in that cannot be told apart, such as `add or remove one`.
        against: who sees no more than is promised: `readers` of the results, or the `server`, too.
        rounds: of how many rounds; those that were tried in vain are in epsilon, and not here.
        covers: of what epsilon is: of `everything` that left the rounds, or of the `model` alone, as metrics of the
            clients left them, too, without noise.
        of_model: epsilon for those who see the model alone, where noised metrics left the rounds beside it; else None,
            and it is that of everything, or of `covers`.

    Examples:
        >>> print(hansa.privacy.Guarantee(2.0, 1e-06, rounds=1500))
        epsilon 2 at delta 1e-06 after 1,500 rounds: for each client as a whole (add or remove one), against readers
        >>> hansa.privacy.Guarantee(2.0, 1e-06, covers="model").epsilon_of_everything
        inf
    """

    epsilon: float
    delta: float
    unit: str = "client"
    neighbours: str = "add or remove one"
    against: str = "readers"
    rounds: int = 0
    covers: Literal["everything", "model"] = "everything"
    of_model: float | None = None

    @property
    def epsilon_of_everything(self) -> float:
        """Epsilon for those who see all that left the rounds: infinite, where metrics are open."""
        return self.epsilon if self.covers == "everything" else math.inf

    def __str__(self) -> str:
        rounds = f"{self.rounds:,} round{'' if self.rounds == 1 else 's'}"
        whom = f"for each {self.unit} as a whole ({self.neighbours}), against {self.against}"
        if math.isinf(self.epsilon):
            return f"no guarantee after {rounds}: nothing is promised {whom}"
        said = f"epsilon {self.epsilon:.4g} at delta {self.delta:g} after {rounds}: {whom}"
        if self.covers == "model":
            return f"{said}; of the model alone: with its open metrics, infinite"
        return said if self.of_model is None else f"{said}; of the model alone {self.of_model:.4g}"


def checked_epsilon(value: object) -> float:
    """An epsilon that is an argument.

    Raises:
        TypeError, ValueError: if it is no positive finite number.
    """
    number = _number("epsilon", value, "8.0")
    if not (0 < number < math.inf):
        raise ValueError(f"epsilon must be more than 0 and finite, such as 8.0; found {value!r}")
    return number


def checked_delta(value: object) -> float:
    """A delta that is an argument.

    Raises:
        TypeError, ValueError: if it is no number between 0 and 1.
    """
    number = _number("delta", value, "1e-6")
    if not 0 < number < 1:
        raise ValueError(f"delta must be between 0 and 1, such as 1e-6, far below 1 / clients; found {value!r}")
    return number


def _number(name: str, value: object, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, such as {example}; found {value!r}")
    return float(value)
