"""Records: what is known of a round, as a number or a text for each name. They are read without NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str
Record: TypeAlias = Mapping[str, Scalar]

MOST_BITS = 1023
"""Those of the largest integer that is a metric, so that all are numbers to whatever draws them."""
COUNTED, LEFT_OUT = "clients_counted", "clients_left_out"
"""Of a round in which clients were left out: how many were counted, and, as a text of JSON, who was not, by reason."""
EVALUATION = "evaluation/"
"""What the names of an evaluation's metrics begin with."""


def is_of_evaluation(name: str) -> bool:
    """Whether a metric is one of the evaluation."""
    return name.startswith(EVALUATION) or name == EVALUATION.rstrip("/")
