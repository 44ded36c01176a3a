"""What a private process must be: nothing of the clients is in its results but noised sums.

The noise is of the aggregator, or of the steps on the clients (DP-SGD).
"""

from __future__ import annotations

from typing import Any

from hansa.aggregators import Aggregation
from hansa.language import operands
from hansa.language.computation import Computation
from hansa.language.noised import mechanisms_in
from hansa.language.tracing import wide_computation
from hansa.language.values import Value
from hansa.learning.weighting import AnyWeighting
from hansa.privacy.requirements import require_private
from hansa.privacy.rules import PrivateFactory
from hansa.privacy.sampled_steps import DPSGD


def check_process(
    next: Computation, aggregation: Aggregation | None, private: PrivateFactory | None, rule: DPSGD | None
) -> None:
    """Checks a round of a process whose aggregator or clients add noise.

    Args:
        next: the round.
        aggregation: the aggregator.
        private: the rule that it was made of, if that is one of `hansa.privacy`.
        rule: how clients add noise for each of their examples, if they do.

    Raises:
        ValueError: if results are made of the clients' values without noise; the message names them, and what to write.
    """
    if rule is not None and rule.noise_multiplier:
        require_private(next, open=("metrics",) if rule.metrics == "open" else ())
        return
    if private is None and (aggregation is None or not any(True for _ in mechanisms_in(aggregation.next))):
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


def check_hooks(weighting: AnyWeighting, **hooks: object) -> None:
    """Checks that a training by DP-SGD looks at the clients' examples in no other way.

    Raises:
        ValueError: if it does.
    """
    for name, hook in hooks.items():
        if hook is not None:
            raise ValueError(
                f"`{name}` cannot be used with client_optimizer=hansa.privacy.dpsgd(…): it looks at a client's "
                "examples without noise, or chooses among its batches; take an algorithm without it, such as federated "
                "averaging or FedProx"
            )
    if weighting == "sample_weight":
        raise ValueError(
            'client_weighting is "sample_weight", which tells of the weights of examples without noise, and clients '
            'train by hansa.privacy.dpsgd; say client_weighting="num_examples", which counts as known, or "uniform"'
        )
    if callable(weighting):
        raise ValueError(
            f"client_weighting is the function {weighting!r} of what a client has measured without noise, and clients "
            'train by hansa.privacy.dpsgd; say client_weighting="num_examples", which counts as known, or "uniform"'
        )


def check_example_level(rule: DPSGD | None, **others: object) -> None:
    """Checks that the parts of a process go with DP-SGD on its clients, if that is how they train.

    Raises:
        ValueError: if one does not.
    """
    for name, other in others.items() if rule is not None else ():
        if other is not None:
            raise ValueError(
                f"{name} is given, and clients train by hansa.privacy.dpsgd, which protects examples: {_WHY_NOT[name]}"
            )


_WHY_NOT = {
    "survey": "what the algorithm asks all clients before a round has no noise; take one that does not, such as "
    "federated averaging",
    "server_data": "the server's own examples need no noise; leave out server_data, or dpsgd",
    "aggregator": "a private aggregator protects clients as a whole, and one run has one unit of privacy; leave out "
    "one of the two",
}


def with_noise_of(value: Any, rule: DPSGD) -> Any:
    """What clients report, told to be made of noised sums of their examples, and of the number of these."""
    node = operands.placed(value, "what clients report")
    same = wide_computation(operands.member(node))(_reported)
    told = operands.operation("federated_map", node.type, node, functions=(same,), mechanism=rule)
    return Value(told, operands.require_trace("what clients report"))


def _reported(report: Any) -> Any:
    return report
