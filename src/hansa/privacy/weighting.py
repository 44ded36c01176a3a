"""How much a client counts where privacy is promised."""

from __future__ import annotations

from dataclasses import dataclass

from hansa._checks import check_number
from hansa._tracebacks import boundaries


@boundaries
@dataclass(frozen=True)
class Capped:
    """A weight of min(number of examples, cap) / cap, which is never above 1.

    Examples:
        >>> hansa.privacy.capped(64)
        Capped(cap=64.0)
    """

    cap: float


def capped(cap: float) -> Capped:
    """Weights by numbers of examples that a private aggregator takes: min(number, cap) / cap.

    A client's update is multiplied by its weight, and then clipped; the sum is divided by the number of clients that is
    expected. So a client with many examples counts more, and none changes the result by more than before.

    Args:
        cap: from how many examples a client counts fully.

    Raises:
        ValueError: if it is not a positive number.

    Examples:
        >>> process = hansa.learning.build_federated_averaging_process(
        ...     model,
        ...     client_weighting=hansa.privacy.capped(64),
        ...     aggregator=hansa.privacy.gaussian(clip=0.4, noise_multiplier=1.0, cohort=10),
        ... )
    """
    return Capped(check_number("the cap of capped", cap, above=0))
