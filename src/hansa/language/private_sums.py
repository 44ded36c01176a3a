"""Sums with noise, of which a client's part is bounded: the operation that differential privacy is made of."""

from __future__ import annotations

import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import operands
from hansa.language._typing import Operand
from hansa.language.encoding import decode, encode, rounded_gaussian
from hansa.language.intrinsics import federated_broadcast
from hansa.language.mechanism import STEPS, Mechanism
from hansa.language.modular_sums import modular_sum
from hansa.language.runtime_values import client_noise, server_noise
from hansa.language.skellam import skellam
from hansa.language.tracing import wide_computation
from hansa.language.values import Value, to_node
from hansa.types import CLIENTS, SERVER, FederatedType, StructType, TensorType, Type, tensor_leaves
from hansa.types.mismatch import describe

_TAIL = 10
"""How many standard deviations of a client's noise there is room for: beyond them is one number of 10**23."""


def federated_private_sum(
    value: Operand,
    bound: Operand,
    mechanism: Mechanism | None,
    *,
    max_clients: int | None = None,
    min_cohort: int | None = None,
) -> Value:
    """`{T}@CLIENTS, float32@SERVER -> T@SERVER`: the sum of bounded values over the clients, in units of the bound,
    with noise.

    All tensors of a client's value together are shortened to the Euclidean norm `bound`, and become integers, 2**20
    steps to the bound. So one client changes the sum by the norm 1 exactly or less, in units of the bound, whatever
    that is. The integers are added up modulo 2**32, and noise is added to the sum. The result is `sum / bound + noise`:
    what is made of it, such as a mean over the number of clients that is expected, is the caller's.

    Args:
        value: float tensors of known size, or a struct of them. If one number of a client is not finite, the whole
            value of the client counts as zero, and so it does if the bound is not above zero.
        bound: a positive number, or a float scalar at the server, which must itself be private: made of nothing of the
            clients but sums with noise.
        mechanism: what noise is added: `hansa.privacy.Gaussian(…)` or another of `hansa.privacy`. None adds no noise,
            and then nothing is private; that is for tests.
        max_clients: how many clients take part at most. By default the sum is modulo 2**32, which holds that of 2047
            clients, and of fewer where clients add noise; for a number that it does not hold it is modulo 2**64, with
            twice the bytes. A call with more clients than the integers hold is refused before anything runs.
        min_cohort: a call in which fewer clients take part is refused. With noise that clients add, it is what the
            mechanism says, or more.

    Returns:
        The sum in units of the bound, in the dtypes of the value. The bits depend on the clients, their values and the
        noise only: on no order, devices or chunks.

    Raises:
        TypeError: if the value is not of floats, or an argument is another.
        ValueError: if the bound is not positive, or an argument is out of its range.

    Examples:
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_private_sum(values, 5.0, hansa.privacy.Gaussian(1e-6))
        >>> result = total([[3.0, 4.0], [0.0, 50.0]])
        >>> [round(float(number), 3) for number in result]
        [0.6, 1.8]
    """
    name = "federated_private_sum"
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    kind = operands.member(node)
    operands.numeric(kind, name, ("float",), "floats")
    if mechanism is not None and not isinstance(mechanism, Mechanism):
        raise TypeError(
            f"the mechanism of {name} must be one of hansa.privacy, such as hansa.privacy.Gaussian(1.0), or None; "
            f"found {describe(mechanism)}"
        )
    share = getattr(mechanism, "share", 0.0)
    each = 2 * math.ceil(STEPS * (1 + _TAIL * share))
    width = _width(max_clients, each, name)
    known, given = _bound(bound, name)
    least = _least(mechanism, min_cohort)
    place = None if mechanism is None else mechanism.place
    key = [Value(client_noise(), trace)] if place in ("clients", "reports") else []
    parts = [Value(node, trace), *([] if given is None else [federated_broadcast(given)]), *key]
    encoder = _encoder(kind, known, given, mechanism, width)
    encoded = Value(
        operands.operation(
            "federated_map",
            FederatedType(encoder.type_signature.result, CLIENTS),
            operands.placed(_one(parts), name),
            functions=(encoder,),
            mechanism=mechanism if place == "reports" else None,
        ),
        trace,
    )
    disclosure = "sum" if mechanism is None else "each" if place == "reports" else "noised sum"
    total = modular_sum(encoded, each, least, mechanism if place == "clients" else None, disclosure)
    at_server = place == "server"
    weights = tuple(mechanism.weights) if at_server else ()  # type: ignore[union-attr]
    keys = [Value(server_noise(len(weights), getattr(mechanism, "rounds", None)), trace)] if at_server else []
    release = _releaser(kind, width, weights)
    noised = operands.operation(
        "federated_map",
        FederatedType(kind, SERVER),
        operands.placed(_one([Value(total, trace), *keys]), name),
        functions=(release,),
        mechanism=mechanism if at_server else None,
    )
    return Value(noised, trace)


def _width(max_clients: Any, each: int, name: str) -> int:
    """How many bits hold a sum of so many clients' integers."""
    if max_clients is None:
        return 32
    if isinstance(max_clients, bool) or not isinstance(max_clients, int) or not 1 <= max_clients * each < 2**64:
        raise ValueError(f"the max_clients of {name} must be a number of clients, from 1; found {max_clients!r}")
    return 32 if max_clients * each < 2**32 else 64


def _least(mechanism: Mechanism | None, min_cohort: Any) -> Any:
    """Of how many clients a sum must be."""
    needed = getattr(mechanism, "min_cohort", None)
    if needed is None or min_cohort is None:
        return needed if min_cohort is None else min_cohort
    if isinstance(min_cohort, int) and min_cohort < needed:
        raise ValueError(
            f"min_cohort={min_cohort} of federated_private_sum is less than that of {mechanism!r}, and so many clients "
            "have less noise than it promises; leave it out, or make the mechanism for fewer clients"
        )
    return min_cohort


def _one(parts: list[Value]) -> Any:
    return parts if len(parts) > 1 else parts[0]


def _bound(bound: Any, name: str) -> tuple[float | None, Value | None]:
    """The bound as a number, or as a value at the server."""
    what = f"the bound of {name}"
    plain = bound.item() if isinstance(bound, np.generic) else bound
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        if not 0 < plain <= sys.float_info.max:
            raise ValueError(f"{what} must be a positive number, found {bound!r}")
        return float(plain), None
    node = to_node(bound, what=what)
    kind = operands.member(node)
    at_server = isinstance(node.type, FederatedType) and node.type.placement is SERVER
    if not at_server or not isinstance(kind, TensorType) or kind.shape or kind.dtype.kind != "f":
        raise TypeError(f"{what} must be a positive number, or a float scalar at the server; found {node.type}")
    return None, Value(node, operands.require_trace(name))


def _encoder(kind: Type, known: float | None, given: Value | None, mechanism: Mechanism | None, width: int) -> Any:
    """A client's value as integers modulo 2^width, with the noise that it adds itself."""
    kinds = [kind]
    if given is not None:
        kinds.append(operands.member(to_node(given)))
    share = mechanism is not None and mechanism.place != "server"
    if share:
        kinds.append(TensorType("uint32", (8,)))

    def encoded(value: Any, more: tuple[Any, ...]) -> Any:
        leaves, tree = jax.tree.flatten(value)
        rest = list(more)
        bound = jnp.float64(known) if known is not None else rest.pop(0).astype(jnp.float64)
        integers = encode(leaves, bound)
        if share:
            integers = _shared(integers, mechanism, rest.pop(0))
        words = jnp.dtype(f"uint{width}")
        return jax.tree.unflatten(tree, [leaf.astype(jnp.uint64).astype(words) for leaf in integers])

    if len(kinds) == 1:

        def bounded(value: Any) -> Any:
            return encoded(value, ())
    elif len(kinds) == 2:

        def bounded(value: Any, first: Any) -> Any:  # type: ignore[misc]
            return encoded(value, (first,))
    else:

        def bounded(value: Any, first: Any, second: Any) -> Any:  # type: ignore[misc]
            return encoded(value, (first, second))

    return wide_computation(*kinds)(bounded)


def _shared(integers: list[Any], mechanism: Any, key: Any) -> list[Any]:
    """Integers with the noise of one client."""
    number = sum(math.prod(leaf.shape) for leaf in integers)
    if mechanism.place == "clients":
        return _added(integers, skellam(key, mechanism.share * STEPS, number))
    return _added(integers, rounded_gaussian(key[None], (mechanism.share,), number))


def _releaser(kind: Type, width: int, weights: tuple[float, ...]) -> Any:
    """The sum in units of the bound, with the noise that the server adds."""
    words = _like(kind, f"uint{width}")
    dtypes = [leaf.dtype for leaf in tensor_leaves(kind)]
    number = sum(math.prod(n or 0 for n in leaf.shape) for leaf in tensor_leaves(kind))

    def released(total: Any, keys: Any) -> Any:
        leaves, tree = jax.tree.flatten(total)
        integers = [decode(leaf) for leaf in leaves]
        if weights:
            integers = _added(integers, rounded_gaussian(keys, weights, number))
        floats = [leaf.astype(jnp.float64) * (1 / STEPS) for leaf in integers]  # a power of two: exact
        return jax.tree.unflatten(tree, [x.astype(dtype) for x, dtype in zip(floats, dtypes, strict=True)])

    if not weights:

        def without_noise(total: Any) -> Any:
            return released(total, None)

        return wide_computation(words)(without_noise)

    def with_noise(total: Any, keys: Any) -> Any:
        return released(total, keys)

    return wide_computation(words, TensorType("uint32", (len(weights), 8)))(with_noise)


def _added(integers: list[Any], noise: Any) -> list[Any]:
    found, at = [], 0
    for leaf in integers:
        size = math.prod(leaf.shape)
        found.append(leaf + noise[at : at + size].reshape(leaf.shape))
        at += size
    return found


def _like(kind: Type, dtype: str) -> Type:
    """The type with another dtype in each tensor."""
    if isinstance(kind, StructType):
        return StructType([(name, _like(part, dtype)) for name, part in kind.fields], kind.container)
    assert isinstance(kind, TensorType)
    return TensorType(dtype, kind.shape)
