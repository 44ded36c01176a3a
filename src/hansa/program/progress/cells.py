"""What is shown of a round: a few of its metrics, and how they are written."""

from __future__ import annotations

from hansa._printing import in_a_line
from hansa.program.records import Record, Scalar, is_of_evaluation

MOST = 5
"""As many metrics as fit the width of a terminal."""

STOPPING = "Stopping after this round; Ctrl-C again stops at once."


def main_metrics(record: Record) -> list[str]:
    """The metrics to show: floats, as training's and the evaluation's, of each the first; else whatever there is."""
    names = [name for name in record if name != "round"]
    floats = [name for name in names if isinstance(record[name], float) and not name.startswith("num_")]
    return fitting(floats or names)


def fitting(names: list[str]) -> list[str]:
    """As many of the names as are shown, in their order: of training and evaluation alike, where both have many."""
    evaluated = [name for name in names if is_of_evaluation(name)]
    training = [name for name in names if not is_of_evaluation(name)]
    room = max(MOST - len(evaluated), MOST // 2)
    chosen = {*training[:room], *evaluated[: MOST - len(training[:room])]}
    return [name for name in names if name in chosen]


def cell(value: Scalar) -> str:
    """A value, in short."""
    return f"{value:.4g}" if isinstance(value, float) else in_a_line(value)
