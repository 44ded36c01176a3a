"""What a process with a private aggregator must be: nothing of the clients is in its results but noised sums."""

from __future__ import annotations

from hansa.aggregators import Aggregation
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, Intrinsic, walk
from hansa.privacy.requirements import require_private
from hansa.privacy.rules import PrivateFactory


def check_process(next: Computation, aggregation: Aggregation | None, private: PrivateFactory | None) -> None:
    """Checks a round of a process whose aggregator adds noise.

    Args:
        next: the round.
        aggregation: the aggregator.
        private: the rule that it was made of, if that is one of `hansa.privacy`.

    Raises:
        ValueError: if results are made of the clients' values without noise; the message names them, and what to write.
    """
    if private is None and (aggregation is None or not _has_noise(aggregation.next)):
        return
    is_open = private is not None and private.metrics == "open"
    try:
        require_private(next, open=("metrics",) if is_open else ())
    except ValueError as error:
        if private is not None:
            remedy = "the client work or the finalizer needs more of the clients than the noised mean of their updates"
        else:
            remedy = (
                "give the rule of hansa.privacy itself as the aggregator: what is around it looks at the clients "
                "without noise"
            )
        raise ValueError(f"the aggregator adds noise, and yet the process is not private: {error}. {remedy}") from None


def _has_noise(computation: Computation) -> bool:
    if not isinstance(computation, GraphComputation):
        return False
    if computation.declared is not None:
        return True
    for node in walk(computation.result):
        if isinstance(node, Intrinsic) and node.mechanism is not None:
            return True
        if isinstance(node, Apply) and _has_noise(node.computation):
            return True
    return False
