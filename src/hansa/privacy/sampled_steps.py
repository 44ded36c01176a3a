"""`DPSGD`: what DP-SGD on a client is, as data that computations and accountants read alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hansa._checks import check_number, check_whole
from hansa._tracebacks import boundaries

_MOST_EXAMPLES = 2**22
"""So many integers of 2**30 add up to what float64 holds exactly."""


@boundaries
@dataclass(frozen=True)
class DPSGD:
    """How a client trains with noise for each of its examples: what `hansa.privacy.dpsgd` makes.

    Attributes:
        clip: the Euclidean norm to which the gradient of an example is shortened.
        noise_multiplier: the standard deviation of the noise in the sum of a step's gradients, in units of `clip`.
        steps: of a client in a round.
        max_examples: how many examples of a client are used at most, the first ones.
        batch_size: how many examples are expected in a step; None where `sampling_rate` is given.
        sampling_rate: the probability of each example to be in a step; None where `batch_size` is given.
        physical_batch_size: how many gradients of examples are in memory at a time.
        metrics: what a round tells beside the model: nothing of the clients, "none", or their metrics without noise,
            "open".
        optimizer: what follows the noised gradients; None for the model's own; no file has it.

    Examples:
        >>> rule = hansa.privacy.dpsgd("sgd", 1.0, 1.1, steps=20, max_examples=1000, batch_size=50)
        >>> print(rule)
        DP-SGD of 20 steps with Gaussian noise of 1.1, for each example at each client, against the server
        >>> rule.rate_of(500), rule.rate_of(20)
        (0.1, 1.0)
    """

    clip: float
    noise_multiplier: float
    steps: int
    max_examples: int
    batch_size: float | None = None
    sampling_rate: float | None = None
    physical_batch_size: int = 1
    metrics: Literal["none", "open"] = "none"
    optimizer: object = field(default=None, repr=False, compare=False)

    place: ClassVar[Literal["server", "clients", "reports"]] = "reports"
    """Where noise is added: each client adds all that its own report needs."""

    unit: ClassVar[str] = "example"
    """Whose data is protected."""

    def __post_init__(self) -> None:
        check_number("the clip of dpsgd", self.clip, above=0)
        noise = self.noise_multiplier
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < 2**16:
            raise ValueError(f"the noise_multiplier of dpsgd must be a number from 0, such as 1.1; found {noise!r}")
        for name in ("steps", "max_examples", "physical_batch_size"):
            check_whole(f"the {name} of dpsgd", getattr(self, name), 1)
        if self.max_examples > _MOST_EXAMPLES:
            raise ValueError(
                f"the max_examples of dpsgd is {self.max_examples:,}; sums of at most {_MOST_EXAMPLES:,} gradients are "
                "exact"
            )
        if (self.batch_size is None) == (self.sampling_rate is None):
            raise ValueError(
                "dpsgd takes batch_size, how many examples are expected in a step, or sampling_rate, the probability "
                f"of each; found batch_size={self.batch_size!r} and sampling_rate={self.sampling_rate!r}: give one"
            )
        if self.batch_size is not None:
            check_number("the batch_size of dpsgd", self.batch_size, above=0)
        rate = self.sampling_rate
        if rate is not None and not 0 < check_number("the sampling_rate of dpsgd", rate, above=0) <= 1:
            raise ValueError(f"the sampling_rate of dpsgd must be above 0, up to 1; found {rate!r}")
        if self.metrics not in ("none", "open"):
            raise ValueError(f"the metrics of dpsgd are 'none' or 'open', found {self.metrics!r}")

    def rate_of(self, num_examples: int) -> float:
        """The probability with which each example of a client is in a step.

        Args:
            num_examples: how many examples the client has.
        """
        used = min(num_examples, self.max_examples)
        return self.sampling_rate if self.batch_size is None else min(1.0, self.batch_size / max(used, 1))  # type: ignore[return-value]

    def __str__(self) -> str:
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        noise = f"Gaussian noise of {self.noise_multiplier:.3g}" if self.noise_multiplier else "no noise"
        return f"DP-SGD of {steps} with {noise}, for each example at each client, against the server"
