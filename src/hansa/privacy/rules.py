"""Aggregators with noise: rules of aggregation of which `hansa.learning` knows what a private process needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

import jax
import numpy as np

from hansa._tracebacks import boundaries
from hansa.aggregators import Aggregation, Factory
from hansa.aggregators.checks import check_floats, check_number, check_whole
from hansa.aggregators.writing import FLOAT, aggregation, none
from hansa.language import intrinsics as on
from hansa.language._typing import Operand
from hansa.language.computation import Computation
from hansa.language.private_sums import federated_private_sum
from hansa.language.tracing import federated_computation, jax_computation
from hansa.language.values import Value
from hansa.privacy.clipping import Adaptive, per_layer, weighed, with_count
from hansa.privacy.mechanisms import Gaussian, Local, Matrix, Mechanism, Skellam
from hansa.privacy.metric_ranges import NoisedMetrics
from hansa.privacy.weighting import Capped
from hansa.templates import MeasuredOutput
from hansa.types import SERVER, StructType, Type

Metrics: TypeAlias = Literal["none", "open"] | NoisedMetrics
"""What a round of a private process tells beside the model: nothing of the clients, their metrics without noise, or
some of them with noise."""


@boundaries
class PrivateFactory(Factory):
    """A rule whose result is a noised sum of clipped values, over the number of clients that is expected.

    Args:
        name: what it is called.
        settings: what it was made with.
        clip: the bound.
        mechanism: the noise.
        cohort: how many clients are expected in a round.
        layers: whether each tensor has a bound of its own.
        metrics: what a round tells beside the model.
        max_clients: how many may come at most.
        multiplies: whether values are multiplied by the clients' weights, which are at most 1.

    Examples:
        >>> rule = hansa.privacy.gaussian(clip=1.0, noise_multiplier=1.0, cohort=100)
        >>> rule.mechanism, rule.cohort, rule.stddev
        (Gaussian(noise_multiplier=1.0), 100, 1.0)
        >>> rule.weighing(hansa.privacy.capped(64)).multiplies
        True
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, object],
        *,
        clip: float | Adaptive,
        mechanism: Mechanism,
        cohort: float,
        layers: bool = False,
        metrics: Metrics = "none",
        max_clients: int | None = None,
        multiplies: bool = False,
    ) -> None:
        super().__init__(name, self._of, settings)
        if not isinstance(clip, Adaptive):
            check_number(f"the clip of {name}", clip, above=0)
        elif layers:
            raise ValueError(f"per_layer of {name} has one fixed bound: clip must be a number, found {clip!r}")
        check_number(f"the cohort of {name}", cohort, above=0)
        if metrics not in ("none", "open") and not isinstance(metrics, NoisedMetrics):
            raise ValueError(
                f"the metrics of {name} are 'none' or 'open', or hansa.privacy.noised_metrics(…), found {metrics!r}"
            )
        if max_clients is not None:
            check_whole(f"the max_clients of {name}", max_clients, 1)
        self.clip, self.mechanism, self.cohort, self.layers = clip, mechanism, cohort, layers
        self.metrics, self.max_clients, self.multiplies = metrics, max_clients, multiplies
        self._parts = clip.split(self.stddev, cohort) if isinstance(clip, Adaptive) else (1.0, 0.0)

    @property
    def stddev(self) -> float:
        """The standard deviation of the noise in one round's sum, in units of the bound, with `cohort` clients."""
        mechanism = self.mechanism
        if isinstance(mechanism, Local | Skellam):
            return mechanism.share * math.sqrt(self.cohort)
        return math.sqrt(sum(weight**2 for weight in mechanism.weights))

    def weighing(self, weighting: object) -> PrivateFactory:
        """The rule for values with such weights.

        Raises:
            ValueError: if weights of that kind are not sound.
        """
        if weighting is None or weighting == "uniform":
            return self
        if not isinstance(weighting, Capped):
            raise ValueError(
                f"client_weighting is {weighting!r}, and the aggregator is {self!r}: a weight that may be of any size "
                "lets "
                'one client change the model by more than the noise covers; say client_weighting="uniform", or '
                "client_weighting=hansa.privacy.capped(64) for min(number of examples, 64) / 64"
            )
        return PrivateFactory(
            self.name,
            self._settings,
            clip=self.clip,
            mechanism=self.mechanism,
            cohort=self.cohort,
            layers=self.layers,
            metrics=self.metrics,
            max_clients=self.max_clients,
            multiplies=True,
        )

    def _of(self, value: Type, weight: Type) -> Aggregation:
        check_floats(self.name, value)
        return self._adaptive(value, weight) if isinstance(self.clip, Adaptive) else self._fixed(value, weight)

    def private_sum(self, values: Operand, bound: float, noise_multiplier: float | None = None) -> Value:
        """A sum over the clients with noise of the rule's kind; it is called within a federated computation.

        Args:
            values: at the clients.
            bound: of a client's part.
            noise_multiplier: of the noise; by default the rule's.

        Examples:
            >>> rule = hansa.privacy.gaussian(clip=1.0, noise_multiplier=1.0, cohort=4)
            >>> @hansa.federated_computation("{float32}@CLIENTS")
            ... def total(values):
            ...     return rule.private_sum(values, 1.0, 1e-6)
            >>> round(float(total([0.5, 2.0])), 3)
            1.5
        """
        mechanism = replace(self.mechanism, noise_multiplier=noise_multiplier or self.mechanism.noise_multiplier)
        # A cohort that is drawn by chance may be larger than is expected.
        most = self.max_clients or math.ceil(self.cohort + 10 * math.sqrt(self.cohort) + 10)
        return federated_private_sum(values, bound, mechanism, max_clients=most)

    def _fixed(self, value: Type, weight: Type) -> Aggregation:
        bound = float(cast(float, self.clip))
        factor = np.float32(bound / self.cohort)

        @jax_computation(value, weight)
        def given(value: Any, weight: Any) -> Any:
            kept = weighed(value, weight, self.multiplies)
            return per_layer(kept, bound) if self.layers else kept

        @jax_computation(value)
        def mean(total: Any) -> Any:
            return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), total)

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            total = self.private_sum(on.federated_map(given, [values, weights]), bound)
            measured = {
                "clipping_norm": on.federated_value(np.float32(bound), SERVER),
                "noise_stddev": on.federated_value(np.float32(self.stddev * bound / self.cohort), SERVER),
            }
            return MeasuredOutput(state, on.federated_map(mean, total), on.federated_zip(measured))

        return aggregation(none, step, value, weight)

    def _adaptive(self, value: Type, weight: Type) -> Aggregation:
        clip, parts, cohort = cast(Adaptive, self.clip), self._parts, self.cohort
        both = StructType([("value", value), ("within", FLOAT)])
        spread = np.float32(self.stddev / (parts[0] * cohort))

        @jax_computation(value, weight, FLOAT)
        def given(value: Any, weight: Any, bound: Any) -> Any:
            return with_count(weighed(value, weight, self.multiplies), weight > 0, bound, parts)

        @jax_computation(both, FLOAT)
        def finished(total: Any, bound: Any) -> Any:
            factor = bound / np.float32(parts[0] * cohort)
            return {
                "mean": jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), total.value),
                "bound": clip.after(bound, total.within, parts[1], cohort),
                "noise_stddev": bound * spread,
            }

        @federated_computation
        def initialize() -> Any:
            return on.federated_zip({"clipping_norm": on.federated_value(np.float32(clip.start), SERVER)})

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            now = state.clipping_norm
            vectors = on.federated_map(given, [values, weights, on.federated_broadcast(now)])
            done = on.federated_map(finished, [self.private_sum(vectors, 1.0), now])
            measured = {"clipping_norm": now, "noise_stddev": done.noise_stddev}
            after = on.federated_zip({"clipping_norm": done.bound})
            return MeasuredOutput(after, done.mean, on.federated_zip(measured))

        return aggregation(cast(Computation, initialize), step, value, weight)


def gaussian(
    clip: float | Adaptive,
    noise_multiplier: float,
    cohort: float,
    *,
    per_layer: bool = False,
    metrics: Metrics = "none",
    max_clients: int | None = None,
) -> PrivateFactory:
    """The mean of clipped values with Gaussian noise: DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963, algorithm 1).

    The sum of the clipped values, with noise of the standard deviation `noise_multiplier * clip`, is divided by the
    number of clients that is expected, not by that of those who came: how many these are is a fact about the clients.

    Args:
        clip: to which Euclidean norm a client's value is shortened; or `Adaptive(…)`, for a norm that moves.
        noise_multiplier: the standard deviation of the noise, in clipping norms; `hansa.privacy.calibrate` finds it.
        cohort: how many clients are expected in a round.
        per_layer: whether each of the L tensors of a value is shortened to clip / sqrt(L) by itself.
        metrics: what a round tells beside the model: "none" of the clients' metrics; `noised_metrics(…)`, some of them
            with noise, which is charged with that of the model; or all of them as they are, "open": then what is
            promised of the model is not promised of them.
        max_clients: how many clients may come; by default ten standard deviations above what is expected.

    Returns:
        A rule for values of float dtypes. It measures `clipping_norm` and `noise_stddev`, that of the noise in the
        mean.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> rule = hansa.privacy.gaussian(clip=1.0, noise_multiplier=1e-6, cohort=4)
        >>> aggregation = rule("float32[2]")
        >>> output = aggregation.next(aggregation.initialize(), [[3.0, 4.0], [0.0, 0.5]], [1.0, 1.0])
        >>> [round(float(number), 3) for number in output.result]
        [0.15, 0.325]
    """
    settings: dict[str, object] = {"clip": clip, "noise_multiplier": noise_multiplier, "cohort": cohort}
    return PrivateFactory(
        "gaussian",
        {**settings, **_said(per_layer=per_layer, metrics=metrics)},
        clip=clip,
        mechanism=Gaussian(noise_multiplier),
        cohort=cohort,
        layers=per_layer,
        metrics=metrics,
        max_clients=max_clients,
    )


def matrix(
    clip: float | Adaptive,
    noise_multiplier: float,
    cohort: float,
    *,
    rounds: int,
    separation: int,
    terms: int = 16,
    power: float | None = None,
    metrics: Metrics = "none",
    max_clients: int | None = None,
) -> PrivateFactory:
    """The mean of clipped values with noise that cancels over rounds: DP-FTRL by matrix factorisation.

    Models are sums over rounds, and in these most of the noise cancels. No sampling by chance is needed; but a client
    may take part only once in `separation` rounds, which the sampler of the run must keep. The noise of a round is made
    of the draws of the last `terms` rounds, which the run's secret gives again. See `hansa.privacy.Matrix` for sources.

    Args:
        clip, cohort, metrics, max_clients: as of `gaussian`.
        noise_multiplier: that of the whole run, which is one Gaussian.
        rounds: how many rounds a run has at most.
        separation: a client takes part at most once in so many rounds in a row.
        terms: of how many rounds draws are added up: more are better, and cost as much more.
        power: how strongly noise cancels; by default the best one, in steps of 0.05.

    Returns:
        A rule like that of `gaussian`. It works in rounds of a run only, which have numbers.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> rule = hansa.privacy.matrix(clip=1.0, noise_multiplier=2.0, cohort=10, rounds=256, separation=32)
        >>> rule.mechanism.power, round(rule.stddev, 2)
        (0.55, 12.08)
    """
    from hansa.privacy.matrix_factorization import best_power

    for what, value in (("rounds", rounds), ("separation", separation), ("terms", terms)):
        check_whole(f"the {what} of matrix", value, 1)
    chosen = best_power(terms, rounds, separation) if power is None else power
    mechanism = Matrix(noise_multiplier, terms, chosen, separation, rounds)
    settings: dict[str, object] = {"clip": clip, "noise_multiplier": noise_multiplier, "cohort": cohort}
    return PrivateFactory(
        "matrix",
        {**settings, "rounds": rounds, "separation": separation, **_said(metrics=metrics)},
        clip=clip,
        mechanism=mechanism,
        cohort=cohort,
        metrics=metrics,
        max_clients=max_clients,
    )


def distributed(
    clip: float | Adaptive,
    noise_multiplier: float,
    cohort: float,
    *,
    min_cohort: int,
    corrupt: float = 0.0,
    metrics: Metrics = "none",
    max_clients: int | None = None,
) -> PrivateFactory:
    """The mean of clipped values to each of which its client adds a share of the noise (distributed Skellam mechanism:
    Agarwal et al. 2021, arXiv:2110.04995).

    Under a secure sum nobody, the server included, sees a sum with less noise than is said. With fewer than
    `min_cohort` clients there is no sum; with more of them there is more noise. Against the server no sampling helps,
    as it knows who takes part. In a simulation all of it is in one process, and devices cannot add noise yet.

    Args:
        clip, cohort, metrics, max_clients: as of `gaussian`.
        noise_multiplier: the standard deviation of the noise in the sum of `min_cohort` clients, in clipping norms.
        min_cohort: of how many clients there is a sum.
        corrupt: which part of these may add no noise.

    Returns:
        A rule like that of `gaussian`. What it measures as `noise_stddev` is for `cohort` clients.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> rule = hansa.privacy.distributed(clip=1.0, noise_multiplier=1.0, cohort=50, min_cohort=40)
        >>> rule.mechanism
        Skellam(noise_multiplier=1.0, min_cohort=40, corrupt=0.0)
    """
    settings: dict[str, object] = {"clip": clip, "noise_multiplier": noise_multiplier, "cohort": cohort}
    return PrivateFactory(
        "distributed",
        {**settings, "min_cohort": min_cohort, **_said(corrupt=corrupt, metrics=metrics)},
        clip=clip,
        mechanism=Skellam(noise_multiplier, min_cohort, corrupt),
        cohort=cohort,
        metrics=metrics,
        max_clients=max_clients,
    )


def local(
    clip: float,
    noise_multiplier: float,
    cohort: float,
    *,
    metrics: Metrics = "none",
    max_clients: int | None = None,
) -> PrivateFactory:
    """The mean of clipped values to each of which its client adds Gaussian noise: local differential privacy.

    Nobody needs to be trusted with the sum; but noise in the mean is larger by the square root of the cohort.

    Args:
        clip, cohort, metrics, max_clients: as of `gaussian`.
        noise_multiplier: the standard deviation of the noise in one client's report, in clipping norms. Two reports are
            at most two clipping norms apart.

    Returns:
        A rule like that of `gaussian`.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> hansa.privacy.local(clip=1.0, noise_multiplier=8.0, cohort=100).mechanism
        Local(noise_multiplier=8.0)
    """
    if isinstance(clip, Adaptive):
        raise ValueError(f"the clip of local must be a number: a norm that moves needs a sum; found {clip!r}")
    settings: dict[str, object] = {"clip": clip, "noise_multiplier": noise_multiplier, "cohort": cohort}
    return PrivateFactory(
        "local",
        {**settings, **_said(metrics=metrics)},
        clip=clip,
        mechanism=Local(noise_multiplier),
        cohort=cohort,
        metrics=metrics,
        max_clients=max_clients,
    )


def _said(**options: object) -> dict[str, object]:
    """The options that are not as they are by default."""
    return {name: value for name, value in options.items() if value not in (False, "none")}
