"""Means and sums of the clients' values, which are exact and rounded once."""

from __future__ import annotations

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.factory import Factory
from hansa.aggregators.writing import counted, stateless
from hansa.language import intrinsics as on
from hansa.types import Type


def mean(*, weighted: bool = True) -> Factory:
    """The mean of the clients' values (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1).

    Args:
        weighted: whether a client's value counts as much as its weight says: sum(w v) / sum(w). Else each client with a
            weight above 0 counts the same.

    Returns:
        A rule for values of float or complex dtypes, which needs sums only. Where nobody is counted, the mean is zero.

    Examples:
        >>> aggregation = hansa.aggregators.mean()("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 2.0, 9.0], [1.0, 3.0, 0.0]).result
        np.float32(1.75)
    """

    def create(value: Type, weight: Type) -> Aggregation:
        def step(values: object, weights: object) -> object:
            of_each = counted(values, weights)
            return on.federated_mean(of_each.value, of_each.weight if weighted else of_each.one)

        return stateless(step, value, weight)

    return Factory("mean", create, {} if weighted else {"weighted": False})


def sum() -> Factory:
    """The sum of the values of all clients with a weight above 0, whatever the weights are.

    Returns:
        A rule for values of numbers, which needs sums only.

    Examples:
        >>> aggregation = hansa.aggregators.sum()("int32")
        >>> aggregation.next(aggregation.initialize(), [1, 2, 9], [1.0, 3.0, 0.0]).result
        np.int32(3)
    """

    def create(value: Type, weight: Type) -> Aggregation:
        return stateless(lambda values, weights: on.federated_sum(counted(values, weights).value), value, weight)

    return Factory("sum", create)
