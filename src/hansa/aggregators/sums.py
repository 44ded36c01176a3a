"""Means and sums of the clients' values, which are exact and rounded once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats, check_number
from hansa.aggregators.factory import Factory
from hansa.aggregators.writing import counted, stateless
from hansa.language import intrinsics as on
from hansa.language.tracing import jax_computation
from hansa.types import Type


class Adding(Factory):
    """A rule that is a weighted sum of the clients' values, divided by something.

    Args:
        name: what it is called.
        settings: what it was made with.
        weighted: whether values are multiplied by the clients' weights, or count the same.
        divisor: what the sum is divided by: a number, or None for the sum of what values were multiplied by.
    """

    def __init__(self, name: str, settings: Mapping[str, object], *, weighted: bool, divisor: float | None) -> None:
        super().__init__(name, self._of, settings)
        self.weighted, self.divisor = weighted, divisor

    def factor_of(self, counted: Any) -> Any:
        """What each client's value is multiplied by, of what `counted` gives."""
        return counted.weight if self.weighted else counted.one

    def finished(self, result: Any) -> Any:
        """What the result is of the sum that is divided."""
        return result

    def _of(self, value: Type, weight: Type) -> Aggregation:
        divisor = self.divisor
        if divisor not in (None, 1):
            check_floats(self.name, value)

        @jax_computation
        def multiplied(value: Any, factor: Any) -> Any:
            return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), value)

        @jax_computation
        def divided(total: Any) -> Any:
            return jax.tree.map(lambda leaf: (leaf / np.float32(divisor)).astype(leaf.dtype), total)

        def step(values: Any, weights: Any) -> Any:
            of_each = counted(values, weights)
            if divisor is None:
                return on.federated_mean(of_each.value, self.factor_of(of_each))
            added = of_each.value
            if self.weighted:
                added = on.federated_map(multiplied, [added, of_each.weight])
            total = on.federated_sum(added)
            return total if divisor == 1 else on.federated_map(divided, total)

        return stateless(step, value, weight)


def mean(*, weighted: bool = True, denominator: float | None = None) -> Factory:
    """The mean of the clients' values (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1).

    Args:
        weighted: whether a client's value counts as much as its weight says: sum(w v) / sum(w). Else each client with a
            weight above 0 counts the same.
        denominator: what the sum is divided by in place of the sum of the weights, or of the number of clients. With a
            fixed one, one client changes the result by no more than its own value over it, whoever else takes part
            (McMahan et al. 2018, arXiv:1710.06963, section 2: the estimator f_f).

    Returns:
        A rule for values of float or complex dtypes, which needs sums only. Where nobody is counted, the mean is zero.

    Raises:
        ValueError: if `denominator` is not a number above 0.

    Examples:
        >>> aggregation = hansa.aggregators.mean()("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 2.0, 9.0], [1.0, 3.0, 0.0]).result
        np.float32(1.75)
        >>> aggregation = hansa.aggregators.mean(weighted=False, denominator=4)("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 2.0, 9.0], [1.0, 3.0, 0.0]).result
        np.float32(0.75)
    """
    settings: dict[str, object] = {} if weighted else {"weighted": False}
    if denominator is not None:
        check_number("denominator of mean", denominator, above=0)
        settings["denominator"] = denominator
    return Adding("mean", settings, weighted=weighted, divisor=denominator)


def sum(*, weighted: bool = False) -> Factory:
    """The sum of the values of all clients with a weight above 0.

    Args:
        weighted: whether a client's value is multiplied by its weight.

    Returns:
        A rule for values of numbers, which needs sums only.

    Examples:
        >>> aggregation = hansa.aggregators.sum()("int32")
        >>> aggregation.next(aggregation.initialize(), [1, 2, 9], [1.0, 3.0, 0.0]).result
        np.int32(3)
    """
    return Adding("sum", {"weighted": True} if weighted else {}, weighted=weighted, divisor=1)
