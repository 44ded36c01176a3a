"""`RoundMetrics`: what a round, of training or of evaluation, reports."""

from __future__ import annotations

from hansa.types import Struct

_COUNTERS = ("num_non_finite_clients", "num_empty_clients", "num_non_finite_metrics", "model_unchanged")


class RoundMetrics(Struct):
    """The metrics of a round: those of the model, and counters that are printed only where they are not zero.

    Fields, after the model's own:
        num_non_finite_clients: clients left out because their update, or in an evaluation their loss, held NaN or
            infinity.
        num_empty_clients: clients left out because they had no examples.
        num_non_finite_metrics: metrics of other clients that were left out, each by itself, because they held NaN or
            infinity. A metric that no client is left for is NaN, if its dtype has it.
        model_unchanged: whether the state stayed as it was, as no client was left, or as the server's step would have
            made NaN or infinity of it; not of an evaluation.

    Examples:
        >>> state, metrics = process.next(state, data.cohort([0, 1, 2]))
        >>> print(metrics)
        <accuracy=...,loss=...>
        >>> float(metrics.loss), int(metrics.num_empty_clients)
        (..., 0)
    """

    __slots__ = ()

    def __str__(self) -> str:
        shown = [(name, value) for name, value in self._items() if name not in _COUNTERS or _not_zero(value)]
        return str(Struct(shown))

    __repr__ = __str__


def _not_zero(value: object) -> bool:
    return getattr(value, "ndim", None) != 0 or bool(value)
