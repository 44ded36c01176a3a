"""`Distribution`: a metric over clients in a few numbers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries

Numbers = npt.NDArray[np.float64]


class ClientMetric(NamedTuple):
    """A metric of one client.

    Attributes:
        client_id: whose it is.
        value: the metric.
        num_examples: on how many examples.

    Examples:
        >>> worst = hansa.learning.ClientMetric(client_id="ann", value=0.25, num_examples=40)
        >>> worst.client_id, worst.value
        ('ann', 0.25)
    """

    client_id: Hashable
    value: float
    num_examples: int


@boundaries
@dataclass(frozen=True)
class Distribution:
    """How a metric is distributed over clients that have examples and a finite value.

    Attributes:
        name: the metric.
        num_clients: how many clients there are.
        num_empty_clients: how many were left out, as they have no examples.
        num_non_finite_clients: how many were left out, as their value is NaN or infinite.
        mean: of the clients, each counting the same.
        weighted_mean: of the clients, each counting as often as it has examples.
        standard_deviation: of the clients, dividing by their number.
        deciles: [11], from the least to the greatest; in between, values are interpolated linearly.
        least_tenth: the mean of the tenth of the clients with the least values, and of at least one.
        greatest_tenth: the mean of the tenth of the clients with the greatest values, and of at least one.
        lower_is_better: which of these is the worst tenth; None if nothing says so.

    Examples:
        >>> metrics = hansa.learning.ClientMetrics(
        ...     client_ids=["ann", "bo", "cy"],
        ...     num_examples=np.array([10, 20, 10]),
        ...     values={"accuracy": np.array([0.5, 0.75, 1.0])},
        ...     lower_is_better=frozenset(),
        ...     higher_is_better=frozenset(["accuracy"]),
        ... )
        >>> accuracy = metrics.distribution("accuracy")
        >>> accuracy.mean, accuracy.weighted_mean, accuracy.median, accuracy.worst_tenth, accuracy.best_tenth
        (0.75, 0.75, 0.75, 0.5, 1.0)
        >>> round(accuracy.variance, 4), accuracy.num_clients
        (0.0417, 3)
    """

    name: str
    num_clients: int
    num_empty_clients: int
    num_non_finite_clients: int
    mean: float
    weighted_mean: float
    standard_deviation: float
    deciles: Numbers
    least_tenth: float
    greatest_tenth: float
    lower_is_better: bool | None

    @property
    def worst_tenth(self) -> float:
        """The mean of the worst tenth of the clients.

        Raises:
            ValueError: if nothing says which way the metric is worse.
        """
        return self.greatest_tenth if known(self.name, self.lower_is_better) else self.least_tenth

    @property
    def best_tenth(self) -> float:
        """The mean of the best tenth of the clients.

        Raises:
            ValueError: as `worst_tenth`.
        """
        return self.least_tenth if known(self.name, self.lower_is_better) else self.greatest_tenth

    @property
    def variance(self) -> float:
        """The square of the standard deviation, by which the fairness of a model is often told."""
        return self.standard_deviation**2

    @property
    def median(self) -> float:
        """The fifth decile."""
        return float(self.deciles[5])

    def __str__(self) -> str:
        left_out = [
            f", {count} {what} left out"
            for count, what in ((self.num_empty_clients, "empty"), (self.num_non_finite_clients, "not finite"))
            if count
        ]
        if self.lower_is_better is None:
            tenths = f"least tenth {self.least_tenth:.4g}, greatest tenth {self.greatest_tenth:.4g}"
        else:
            tenths = f"worst tenth {self.worst_tenth:.4g}, best tenth {self.best_tenth:.4g}"
        return (
            f"{self.name} of {self.num_clients} clients{''.join(left_out)}: "
            f"mean {self.mean:.4g} ± {self.standard_deviation:.4g}, weighted {self.weighted_mean:.4g}, "
            f"median {self.median:.4g}, {tenths}"
        )


def known(name: str, lower_is_better: bool | None) -> bool:
    """Whether less is better of a metric, of which that must be known."""
    if lower_is_better is None:
        raise ValueError(
            f"nothing says whether more or less of {name!r} is worse: give ClientMetrics.of("
            f"…, lower_is_better=[{name!r}]) or higher_is_better=[{name!r}], or call worst({name!r}, largest=True) if "
            "the largest values are the worst, and largest=False if the smallest are"
        )
    return lower_is_better
