"""The rows of the comparison, and how they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.peers import agreement


@dataclass
class Row:
    """What one peer did of one workload.

    Attributes:
        workload, peer: their names.
        reason: why the peer is left out, or where it stopped; empty where it did all.
        first: seconds from the start of the process to the end of the first round.
        rounds: seconds of each round after the warm-up.
        evaluations: seconds of each evaluation, of which the first does not count.
        memory: MB, the most that was in use.
        loss_difference: from Hansa's, the largest of all rounds; None where it was not compared.
        model_difference: from Hansa's, the largest of the rounds after which it was compared.
        agrees: whether all differences are within their limits.
        model_limits: how much models may differ in the first round and in later ones.
    """

    workload: str
    peer: str
    reason: str = ""
    first: float | None = None
    rounds: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    memory: float | None = None
    loss_difference: float | None = None
    model_difference: float | None = None
    agrees: bool = True
    model_limits: Mapping[str, float] = field(default_factory=lambda: agreement.LIMITS)

    def note(self, of: str, difference: float, when: str) -> None:
        """Keeps a difference of the "loss" or the "model", in the "first" or a "later" round, if it is the largest."""
        name = f"{of}_difference"
        largest = getattr(self, name)
        if largest is None or not difference <= largest:
            setattr(self, name, difference)
        limits = self.model_limits if of == "model" else agreement.LIMITS
        self.agrees = self.agrees and difference <= limits[when]  # which NaN is not


HEADER = (
    f"{'':22} {'s/round':>9} {'to Hansa':>9} {'first s':>8} {'to Hansa':>9} {'evaluate s':>10} {'MB':>7} "
    f"{'loss':>8} {'model':>8}"
)


def ratio(times: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the ratios of what was measured in turn; None where nothing was."""
    pairs = [a / b for a, b in zip(times, others, strict=False)]
    return statistics.median(pairs) if pairs else None


def line(row: Row, hansa: Row) -> str:
    """A row of the table. One that has no rounds gives the reason instead."""
    if not row.rounds:
        return f"{row.peer:22} {row.reason}"
    first = row.first / hansa.first if row.first and hansa.first else None
    cells = [
        _cell(statistics.median(row.rounds), "9.4f"),
        _cell(ratio(row.rounds, hansa.rounds), "8.2f", "x"),
        _cell(row.first, "8.2f"),
        _cell(first, "8.2f", "x"),
        _cell(statistics.median(row.evaluations[1:]) if row.evaluations else None, "10.3f"),
        _cell(row.memory, "7.0f"),
        _cell(row.loss_difference, "8.0e"),
        _cell(row.model_difference, "8.0e"),
    ]
    notes = ([] if row.agrees else ["DIFFERS FROM HANSA"]) + ([row.reason] if row.reason else [])
    return " ".join([f"{row.peer:22}", *cells, *notes])


def _cell(value: float | None, form: str, unit: str = "") -> str:
    width = int(form.split(".")[0]) + len(unit)
    return f"{'-':>{width}}" if value is None else f"{value:{form}}{unit}"
