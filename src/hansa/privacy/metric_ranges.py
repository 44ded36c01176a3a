"""Metrics with noise: which metrics of the clients a private round tells, between which bounds, with how much noise."""

from __future__ import annotations

from dataclasses import dataclass

from hansa._checks import check_number
from hansa._tracebacks import boundaries


@boundaries
@dataclass(frozen=True)
class NoisedMetrics:
    """Means of the clients' metrics, as `noised_metrics` makes them.

    Attributes:
        noise_multiplier: the standard deviation of the noise in their sum, of which a client's part has the norm 1.
        ranges: the metrics by name, each with the least and the greatest value that a client's may have.

    Examples:
        >>> metrics = hansa.privacy.noised_metrics(noise_multiplier=10.0, accuracy=(0, 1))
        >>> metrics.ranges
        (('accuracy', (0.0, 1.0)),)
    """

    noise_multiplier: float
    ranges: tuple[tuple[str, tuple[float, float]], ...]

    def left_of(self, noise_multiplier: float) -> float:
        """The noise multiplier of the model's sum with which both sums together are as one of `noise_multiplier`.

        Args:
            noise_multiplier: of both, such as `hansa.privacy.calibrate` gives it.

        Raises:
            ValueError: if the metrics alone need more than that.

        Examples:
            >>> metrics = hansa.privacy.noised_metrics(noise_multiplier=5.0, accuracy=(0, 1))
            >>> round(metrics.left_of(1.0), 4)
            1.0206
            >>> round(hansa.privacy.joint_noise_multiplier([1.0206, 5.0]), 4)
            1.0
        """
        both = check_number("the noise_multiplier of both", noise_multiplier, above=0)
        if both >= self.noise_multiplier:
            raise ValueError(
                f"both sums together cannot have the noise multiplier {both:g}: that of the metrics is "
                f"{self.noise_multiplier:g}, and must be larger"
            )
        return float((both**-2 - self.noise_multiplier**-2) ** -0.5)

    def __repr__(self) -> str:
        ranges = ", ".join(f"{name}=({low:g}, {high:g})" for name, (low, high) in self.ranges)
        return f"noised_metrics({self.noise_multiplier:g}, {ranges})"


def noised_metrics(noise_multiplier: float, **ranges: tuple[float, float]) -> NoisedMetrics:
    """Metrics of the clients that a private round tells, with noise: for `metrics=` of a rule of `hansa.privacy`.

    A client's metric is the model's metric of this client alone, brought into its range. The round tells the means over
    clients, each of which counts the same, whatever its number of examples, and how many clients there are: all of one
    noised sum (`hansa.federated_private_sum`). A client's part in it is a vector of one number for each metric, by
    which it is away from the middle of its range, and one for the client itself, of norm 1 at most. With k metrics,
    noise in the number of clients has the standard deviation `noise_multiplier * sqrt(k + 1)`. What the round costs is
    that of both sums: one Gaussian of the noise multiplier `hansa.privacy.joint_noise_multiplier`.

    Args:
        noise_multiplier: that of the metrics' sum; several times that of the model's is cheap beside it.
        ranges: by the metric's name, the least and the greatest value that a client's is given; what is beyond them is
            the bound. They are known beforehand, and not looked up at clients.

    Raises:
        ValueError: if a number is out of its range, or there is no metric.

    Examples:
        >>> hansa.privacy.gaussian(
        ...     clip=0.4,
        ...     noise_multiplier=1.0,
        ...     cohort=50,
        ...     metrics=hansa.privacy.noised_metrics(noise_multiplier=5.0, accuracy=(0, 1), loss=(0, 5)),
        ... )
        gaussian(clip=0.4, ..., metrics=noised_metrics(5, accuracy=(0, 1), loss=(0, 5)))
    """
    noise = check_number("the noise_multiplier of noised_metrics", noise_multiplier, above=0)
    if not ranges:
        raise ValueError("noised_metrics needs the range of a metric, such as accuracy=(0, 1)")
    found = []
    for name, given in ranges.items():
        what = f"the range of {name!r} in noised_metrics"
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ValueError(f"{what} must be its least and greatest value, such as (0, 1); found {given!r}")
        low = check_number(f"the least value of {what}", given[0])
        found.append((name, (low, check_number(f"the greatest value of {what}", given[1], above=low))))
    return NoisedMetrics(noise, tuple(found))
