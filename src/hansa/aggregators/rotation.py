"""The rule that rotates values at random before another one takes them."""

from __future__ import annotations

from typing import Any, cast

import jax

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.codecs.codec import flat, in_single, size_of
from hansa.aggregators.codecs.rotations import BLOCK, block_of, check_block, rotate, rotate_back
from hansa.aggregators.factory import Factory, check_factory
from hansa.aggregators.states import nested, parts, state_around, state_within
from hansa.aggregators.sums import mean
from hansa.aggregators.turns import KEY, Turns
from hansa.aggregators.writing import aggregation, counted
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, narrow_computation
from hansa.templates import MeasuredOutput
from hansa.types import SERVER, FederatedType, Type


def rotated(inner: Factory | None = None, *, block: int = BLOCK, seed: int = 0) -> Factory:
    """Values are rotated at random, the same way at all clients, go into another rule, and its result is rotated back.

    In blocks of 2**k numbers the vector of a value is multiplied by random signs and by the orthonormal Hadamard matrix
    (Suresh et al. 2017, arXiv:1611.00429, section 3). Norms stay, and large numbers are spread over the block, so that
    `quantised` inside has a smaller error: of the order of log(block) instead of block. Since all share the rotation,
    sums of rotated values are rotated sums.

    Args:
        inner: the rule that takes rotated vectors; by default `mean()`. One that keeps something at the clients does
            not fit, as each round has a rotation of its own: use `compressed(codecs.rotated(…), error_feedback=True)`.
        block: how many numbers are rotated together, a power of two. The paper rotates the whole vector at once; of
            blocks the last one only is filled up.
        seed: the root of the draws.

    Returns:
        A rule for values of float dtypes. It needs what the inner one needs.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> rule = hansa.aggregators.rotated(hansa.aggregators.quantised(bits=4))
        >>> aggregation = rule("float32[1000]")
        >>> x = np.float32(np.eye(1, 1000)[0])
        >>> result = aggregation.next(aggregation.initialize(), [x, x], [1.0, 1.0]).result
        >>> bool(np.linalg.norm(result - x) < 0.2)
        True
        >>> hansa.aggregators.rotated()("float32[1000]").needs
        'sums'
    """
    inside = mean() if inner is None else check_factory(inner, "hansa.aggregators.rotated")
    check_block("block of rotated", block)

    def create(value: Type, weight: Type) -> Aggregation:
        turns = Turns("rotated", seed)
        encode, size = _rotation(value, block)
        rows = encode.type_signature.result
        within = inside(rows, weight)
        if parts(within.state_type).clients is not None:
            raise TypeError(
                f"{inside!r} keeps something at the clients, and each round has a rotation of its own, so it does not "
                "fit in rotated; use compressed(codecs.rotated(…), error_feedback=True)"
            )
        FederatedType(rows, SERVER).check_assignable_from(
            within.result_type, what=f"the result of {inside!r}, which is rotated back,"
        )

        @in_single(value, rows, KEY)
        def back(rows: Any, key: Any) -> Any:
            width = block_of(size, block)
            return rotate_back(rows.reshape(-1, width), jax.random.wrap_key_data(key), size)

        @federated_computation
        def initialize() -> Any:
            return state_around({"rounds": turns.first()}, inside.name, within.initialize())

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            rounds = parts(state).server.rounds
            key = turns.key(rounds)
            of_each = counted(values, weights)
            sent = on.federated_map(encode, [of_each.value, on.federated_broadcast(key)])
            then = within.next(state_within(state, inside.name, within.state_type), sent, of_each.weight)
            own = {"rounds": turns.after(rounds, on.federated_sum(of_each.one))}
            return MeasuredOutput(
                state_around(own, inside.name, then.state),
                on.federated_map(back, [then.result, key]),
                nested({}, inside.name, then.measurements),
            )

        return aggregation(cast(Computation, initialize), step, value, weight)

    return Factory("rotated", create, {"inner": inside, "block": block} | ({"seed": seed} if seed else {}))


def _rotation(value: Type, block: int) -> tuple[Computation, int]:
    """`(<value,key> -> the rotated vector)`, and the size of the vector."""
    size = size_of("rotated", value)

    @narrow_computation(value, KEY)
    def encode(value: Any, key: Any) -> Any:
        return rotate(flat(value), jax.random.wrap_key_data(key), block).reshape(-1)

    return encode, size
