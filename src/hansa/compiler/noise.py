"""Keys of noise as arguments: how every runtime hands them to a computation that asks for them.

A computation with noise becomes one that takes the keys, too, and the argument gets them. So engines pack, send and
place them like any other value at the server. A client's key is made of one at the server and of the client's number:
that is for simulations, in which all is in one process.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hansa.compiler.partition import inline
from hansa.language import operands
from hansa.language.cipher_stream import words
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.graph import Intrinsic, MakeStruct, Node, Parameter, RuntimeValue, walk
from hansa.language.noise import NoiseKeys
from hansa.language.occasions import current_occasion
from hansa.language.runtime_values import CLIENT_ID, CLIENT_NOISE, is_noise, noise_numbers
from hansa.language.tracing import wide_computation
from hansa.language.values import select
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, TensorType, is_federated
from hansa.types.values import field_values

_KEYS = "noise_keys"


def with_noise(computation: Computation, argument: Any, *, drawn: bool = True) -> tuple[Computation, Any]:
    """A computation that takes the keys of its noise, and its argument with them; others are as they are.

    Args:
        computation: the computation.
        argument: its argument.
        drawn: whether keys are drawn; else they are zeros, for a program that is compiled and not run.

    Raises:
        ValueError: if keys are asked for that there are none of here.
    """
    found = _lowered(computation)
    if found is None:
        return computation, argument
    lowered, asked = found
    keys = NoiseKeys(current_occasion())
    values = Struct(
        (None, keys.of(number, terms, rounds) if drawn else np.zeros((terms, 8), np.uint32))
        for number, terms, rounds in asked
    )
    kind = computation.type_signature.parameter
    if kind is None:
        return lowered, Struct([(_KEYS, values)])
    before: list[tuple[str | None, Any]] = [(None, argument)]
    if _is_spread(kind):
        assert isinstance(kind, StructType)
        before = list(
            zip(kind.names, field_values(argument, kind, f"the argument of {computation.name!r}"), strict=True)
        )
    return lowered, Struct([*before, (_KEYS, values)])


def noise_at_clients(computation: Computation) -> bool:
    """Whether clients add noise of their own."""
    return any(node.name == CLIENT_NOISE for node in keys_of(computation))


def keys_of(computation: Computation) -> list[RuntimeValue]:
    """The keys of noise that a computation asks its runtime for."""
    if not isinstance(computation, GraphComputation):
        return []
    return [node for node in walk(inline(computation.result, {})) if isinstance(node, RuntimeValue) and is_noise(node)]


_Asked = tuple[int, int, int | None]
_Lowered = tuple[GraphComputation, tuple[_Asked, ...]]
_known: WeakKeyDictionary[Computation, _Lowered | None] = WeakKeyDictionary()


def _lowered(computation: Computation) -> _Lowered | None:
    """The computation that takes keys, and for each sum its number, how many keys there are, and for how many rounds;
    None if it needs none."""
    if not isinstance(computation, GraphComputation):
        return None
    if computation not in _known:
        _known[computation] = _lower(computation)
    return _known[computation]


def _lower(computation: GraphComputation) -> _Lowered | None:
    result = inline(computation.result, {})
    asked = [node for node in walk(result) if isinstance(node, RuntimeValue) and is_noise(node)]
    if not asked:
        return None
    numbers = noise_numbers(asked)
    terms = [_terms(node) for node in asked]
    kinds = StructType([(None, TensorType("uint32", (each, 8))) for each in terms])
    given = [] if computation.parameter is None else [computation.parameter.type]
    kind = given[0] if given else None
    fields: list[tuple[str | None, Any]] = [(None, kind)] if kind is not None else []
    if kind is not None and _is_spread(kind):
        assert isinstance(kind, StructType)
        fields = list(kind.fields)
    parameter = Parameter(StructType([*fields, (_KEYS, FederatedType(kinds, SERVER))]))
    keys = select(parameter, len(fields))
    bound: dict[Node, Node] = {node: _key(node, select(keys, i)) for i, node in enumerate(asked)}
    if computation.parameter is not None:
        parts = tuple(select(parameter, i) for i in range(len(fields)))
        spread = _is_spread(computation.parameter.type)
        names = tuple(name for name, _ in fields)
        bound[computation.parameter] = MakeStruct(computation.parameter.type, names, parts) if spread else parts[0]
    lowered = GraphComputation(computation.name, parameter, inline(result, bound), computation.where)
    return lowered, tuple(zip(numbers, terms, (node.rounds for node in asked), strict=True))


def _terms(node: RuntimeValue) -> int:
    kind = operands.member(node)
    assert isinstance(kind, TensorType)
    return (kind.shape[0] or 1) if len(kind.shape) == 2 else 1


def _key(node: RuntimeValue, given: Node) -> Node:
    """What stands for a key: what is given, or, for that of a client, what is made of it."""
    if node.name != CLIENT_NOISE:
        return given
    kind = operands.member(given)
    sent = Intrinsic(FederatedType(kind, CLIENTS, True), "federated_broadcast", (given,))
    both = StructType([(None, kind), (None, TensorType("int32"))])
    pair = Intrinsic(FederatedType(both, CLIENTS), "federated_zip", (sent, CLIENT_ID))
    own = wide_computation(kind, TensorType("int32"))(_own_key)
    return Intrinsic(node.type, "federated_map", (pair,), (own,))


def _own_key(keys: Any, client: Any) -> Any:
    return words(keys[0], 8, nonce=(client, 0, 0))


def _is_spread(kind: Any) -> bool:
    """Whether a parameter is several placed values, of which keys can be one more."""
    return isinstance(kind, StructType) and is_federated(kind)
