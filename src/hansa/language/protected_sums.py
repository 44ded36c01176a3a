"""Sums of which nobody is to see a single summand: the operations, and when their results fit their dtypes.

A protocol for such sums adds integers modulo some number, so it needs to know how large the result may be. Each client
brings its values into a range, and the sum must hold the most that all clients together can then have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import operands
from hansa.language._typing import Operand
from hansa.language.computation import Computation
from hansa.language.context import Trace
from hansa.language.excluding import terms_of
from hansa.language.graph import Intrinsic, Node
from hansa.language.intrinsics import federated_map
from hansa.language.tracing import wide_computation
from hansa.language.values import Value, select, to_node
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    Struct,
    StructType,
    TensorType,
    Type,
    is_federated,
    tensor_leaves,
    to_value,
)
from hansa.types import names as _names

Bits: TypeAlias = "int | Struct | Mapping[str, Bits] | Sequence[Bits]"
"""A number of bits for all tensors, or one for each."""


def federated_secure_sum(
    value: Operand,
    max_input: Operand,
    min_input: Operand = 0,
    *,
    count_clipped: bool = False,
    min_cohort: int | None = None,
) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the sum of integers over the clients, of which nobody is to see a single summand.

    The sum never wraps: a call with so many clients that their values could add up to more than the dtype holds is
    refused before anything runs, and so is a bound that the dtype itself does not hold.

    Args:
        value: integer tensors, or a struct of them. Each client brings its numbers into the range `min_input` to
            `max_input`, whichever end is nearer, so that none can spoil the sum.
        max_input: an integer, or one at the server; or a struct like the value, with one for each tensor.
        min_input: likewise, no more than `max_input`.
        count_clipped: whether to count the numbers that were outside of the range, in one more protected sum.
        min_cohort: a call in which fewer clients take part is refused, before it has a result.

    Returns:
        The sum, in the dtype of the value. With `count_clipped` a struct of it, `sum`, and of how many numbers all
        clients together had to bring into the range, `num_clipped`, int64. In this process, the sums are computed like
        any other: they are simulated, and `hansa.explain` marks what would be protected.

    Raises:
        TypeError: if the value is not of integers, or the bound is not.
        ValueError: if `max_input` is below `min_input`, or a bound is more than the dtype holds. At the call: if the
        sum
            might be, or the range is from 0 and a bound at the server is negative; one that the round makes of what
            clients report counts as 0 then.

    Examples:
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def votes(answers):
        ...     return hansa.federated_secure_sum(answers, 1, count_clipped=True)
        >>> votes([1, 0, 1, 50])
        <sum=3,num_clipped=1>
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def balance(steps):
        ...     return hansa.federated_secure_sum(steps, 10, -10)
        >>> balance([3, -70])
        np.int32(-7)
    """
    name = "federated_secure_sum"
    trace, node = _at_clients(value, name)
    if _is_integer(min_input) and int(cast(int, min_input)) == 0:
        bounds = _bounds(max_input, node, f"the max_input of {name}", trace)
        return _secure_sum(name, trace, node, bounds, count_clipped, min_cohort)
    lowest = _bounds(min_input, node, f"the min_input of {name}", trace, signed=True)
    most = _bounds(max_input, node, f"the max_input of {name}", trace, signed=True)
    if isinstance(lowest, list) and isinstance(most, list):
        _check_range(lowest, most, operands.member(node), name)
    return _secure_sum(name, trace, node, most, count_clipped, min_cohort, lowest)


def federated_secure_sum_bitwidth(
    value: Operand, bitwidth: Bits, *, count_clipped: bool = False, min_cohort: int | None = None
) -> Value:
    """`federated_secure_sum` of integers of at most `bitwidth` bits, 1 to 62: 0 to 2**bitwidth - 1.

    `bitwidth` may be a struct like the value, with a number of bits for each tensor.

    Examples:
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def total(numbers):
        ...     return hansa.federated_secure_sum_bitwidth(numbers, 8)
        >>> total([200, 100])
        np.int32(300)
    """
    name = "federated_secure_sum_bitwidth"
    trace, node = _at_clients(value, name)
    what = f"the bitwidth of {name}"
    widths: Any = bitwidth if isinstance(bitwidth, dict | list | tuple | Struct) else [bitwidth]
    if widths is bitwidth:
        widths = jax.tree.leaves(to_value(bitwidth, _scalars(operands.member(node)), what))
    for bits in widths:
        if isinstance(bits, bool) or not _is_integer(bits) or not 1 <= int(bits) <= 62:
            raise ValueError(f"{what} must be a number of bits from 1 to 62, found {bits!r}")
    bounds = [2 ** int(bits) - 1 for bits in widths]
    _check_constants(bounds, operands.member(node), what)
    return _secure_sum(name, trace, node, bounds, count_clipped, min_cohort)


def is_bounded(node: Intrinsic) -> bool:
    """Whether an aggregate is a sum of integers in a range."""
    ranges = node.name in ("federated_secure_sum", "federated_secure_sum_bitwidth")
    return ranges or (node.name == "federated_secure_modular_sum" and len(node.arguments) > 1)


def check_total(name: str, kind: Type, bounds: list[int], clients: int, where: str = "") -> None:
    """Checks that a protected sum cannot be more than its dtype holds.

    Args:
        name: the operation.
        kind: the type of the sum.
        bounds: the largest number of each tensor that a client gives, or one for all tensors.
        clients: how many take part.
        where: the user's line.

    Raises:
        ValueError: if it can, naming the dtype that would do; or if a bound is negative.
    """
    line = f" at {where}" if where else ""
    for (path, leaf), bound in _with_bounds(kind, bounds):
        at = f" at {path}" if path else ""
        if bound < 0:
            raise ValueError(f"{name}{line}: the bound{at} must not be negative, and the server has {bound}")
        largest = int(np.iinfo(leaf.dtype).max)
        each = min(bound, largest)
        if each * clients > largest and name == "federated_secure_modular_sum":
            raise ValueError(
                f"federated_private_sum{line}: {clients} clients take part, and {leaf.dtype} holds the sum of no more "
                f"than {largest // each}; say max_clients={clients} there, or more"
            )
        if each * clients > largest:
            raise ValueError(
                f"{name}{line}: {clients} clients with values of up to {each}{at} may add "
                f"up to {each * clients}, and {leaf.dtype} holds no more than {largest}; "
                f"{_remedy(leaf, each * clients)}"
            )


def largest_bounds(kind: Type) -> list[int]:
    """What bounds of a type may be, where only the round itself tells them."""
    return [int(np.iinfo(leaf.dtype).max) for leaf in tensor_leaves(kind)]


def _remedy(leaf: TensorType, most: int) -> str:
    names = [f"{kind}{bits}" for bits in (16, 32, 64) for kind in ("int", "uint")]
    prefix = "uint" if leaf.dtype.kind == "u" else "int"
    names.sort(key=lambda name: not name.startswith(prefix))
    fitting = next((name for name in names if np.iinfo(name).max >= most), None)
    if fitting is None:
        return "give a smaller bound"
    # A local computation of values of fewer bits sees 32-bit JAX, which has no other integers.
    wide = ", with jax.enable_x64(True)" if fitting.endswith("64") else ""
    return f"convert the values to {fitting} in a local computation first{wide}, or give a smaller bound"


def _at_clients(value: Any, name: str) -> tuple[Trace, Node]:
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    operands.numeric(operands.member(node), name, ("int",), "integers")
    return trace, node


def _bounds(max_input: Any, node: Node, what: str, trace: Trace, signed: bool = False) -> list[int] | Node:
    """The bounds: integers, one for all tensors or one for each; or a value at the server, of one or of each."""
    kind = operands.member(node)
    if _is_integer(max_input):
        bounds = [int(max_input)]
    else:
        given = to_node(max_input, what=what)
        if isinstance(given.type, StructType) and not is_federated(given.type):
            bounds = [int(leaf) for leaf in jax.tree.leaves(to_value(max_input, _scalars(kind), what))]
        else:
            return _bounds_at_server(given, kind, what, trace)
    _check_constants(bounds, kind, what, signed)
    return bounds


def _bounds_at_server(given: Node, kind: Type, what: str, trace: Trace) -> Node:
    """One integer at the server, or a struct of one for each tensor, in their order."""
    if not isinstance(given.type, TensorType):
        given = operands.placed(Value(given, trace), what, SERVER)
    found = operands.member(given)
    if isinstance(found, TensorType):
        if isinstance(given.type, TensorType) or found.dtype.kind not in "iu" or found.shape:
            raise TypeError(
                f"{what} must be a non-negative integer, an integer scalar at the server, or a struct of one for "
                f"each tensor of {kind}; found {given.type}"
            )
        return given
    each = _in_order(given, kind)
    if each is None:
        raise TypeError(f"{what}: expected an integer for each tensor of {kind}, like {_scalars(kind)}; found {found}")
    return operands.placed(Value(to_node([Value(part, trace) for part in each]), trace), what, SERVER)


def _in_order(bounds: Node, kind: Type) -> list[Node] | None:
    """The bound of each tensor of a type, by name where both have names; `None` if they are of another form."""
    found = operands.member(bounds)
    if not isinstance(kind, StructType):
        scalar = isinstance(found, TensorType) and found.dtype.kind in "iu" and not found.shape
        return [bounds] if scalar else None
    if not isinstance(found, StructType) or len(found) != len(kind):
        return None
    by_name = set(found.names) == set(kind.names) and None not in kind.names
    if not by_name and any(name not in (None, other) for name, other in zip(found.names, kind.names, strict=True)):
        return None
    parts = [
        _in_order(select(bounds, found.names.index(name) if by_name else i), part)
        for i, (name, part) in enumerate(kind.fields)
    ]
    return None if None in parts else [leaf for part in parts if part is not None for leaf in part]


def _check_constants(bounds: list[int], kind: Type, what: str, signed: bool = False) -> None:
    for (path, leaf), bound in _with_bounds(kind, bounds):
        at = f" at {path}" if path else ""
        if bound < 0 and not signed:
            raise ValueError(f"{what} must not be negative, found {bound}{at}")
        if bound < 0 and leaf.dtype.kind == "u":
            raise ValueError(
                f"{what} is {bound}{at}, and {leaf.dtype} holds no number below 0; convert the values first"
            )
        if abs(bound) > np.iinfo(leaf.dtype).max:
            raise ValueError(
                f"{what} allows values of up to {bound}{at}, and {leaf.dtype} holds no more than "
                f"{np.iinfo(leaf.dtype).max}; {_remedy(leaf, abs(bound))}"
            )


def _check_range(lowest: list[int], most: list[int], kind: Type, name: str) -> None:
    for ((path, _), low), (_, high) in zip(_with_bounds(kind, lowest), _with_bounds(kind, most), strict=True):
        if low > high:
            at = f" at {path}" if path else ""
            raise ValueError(f"{name}: the max_input must be no less than the min_input; found {low} to {high}{at}")


def _is_integer(value: Any) -> bool:
    if isinstance(value, np.ndarray | jax.Array):
        return value.ndim == 0 and value.dtype.kind in "iu"
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _scalars(kind: Type) -> Type:
    """The type with an int64 in the place of each tensor."""
    if isinstance(kind, StructType):
        return StructType([(name, _scalars(part)) for name, part in kind.fields])
    return TensorType("int64")


def _with_bounds(kind: Type, bounds: list[int]) -> Iterator[tuple[tuple[str, TensorType], int]]:
    """Each tensor of a type with the path to it, and its bound."""
    leaves = list(_paths(kind))
    yield from zip(leaves, bounds * len(leaves) if len(bounds) == 1 else bounds, strict=True)


def _paths(kind: Type, path: str = "") -> Iterator[tuple[str, TensorType]]:
    if isinstance(kind, StructType):
        for index, (name, part) in enumerate(kind.fields):
            yield from _paths(part, path + _names.step(name, index))
    else:
        assert isinstance(kind, TensorType)
        yield path, kind


def _secure_sum(
    name: str,
    trace: Trace,
    node: Node,
    bounds: list[int] | Node,
    count_clipped: bool,
    min_cohort: int | None,
    lowest: list[int] | Node | None = None,
) -> Value:
    """The sum of what each client has brought into its range, and perhaps of how often it had to."""
    kind, terms = operands.member(node), terms_of(name, min_cohort=min_cohort, disclosure="sum")
    if isinstance(bounds, list) and not isinstance(lowest, Node):
        pairs = zip(bounds, lowest or [0], strict=True) if len(bounds) == len(lowest or [0]) else None
        known, low = bounds, lowest
        if pairs is None:  # one of them is for all tensors
            number = max(len(bounds), len(lowest or [0]))
            pairs = zip(_repeated(bounds, number), _repeated(lowest or [0], number), strict=True)
        limits = Struct((None, np.uint64(max(abs(most), abs(least)))) for most, least in pairs)
        clip: Computation = wide_computation(kind)(lambda value: _clipped(value, known, count_clipped, low))
        given, at_server = node, operands.at_server(limits, "the bound")
    elif lowest is None:
        assert isinstance(bounds, Node)
        both = wide_computation(kind, operands.member(bounds))
        clip = both(lambda value, most: _clipped(value, jax.tree.leaves(most), count_clipped))
        given, at_server = to_node([Value(node, trace), Value(_sent(bounds), trace)]), bounds
    else:
        limits_at_server = [_at_server(each, kind) for each in (bounds, lowest)]
        ends = [operands.member(each) for each in limits_at_server]
        clip = wide_computation(kind, *ends)(
            lambda value, most, least: _clipped(value, jax.tree.leaves(most), count_clipped, jax.tree.leaves(least))
        )
        size = wide_computation(*ends)(_larger)
        given = to_node([Value(node, trace), *(Value(_sent(each), trace) for each in limits_at_server)])
        largest = federated_map(size, [Value(each, trace) for each in limits_at_server])
        at_server = operands.placed(largest, name, SERVER)
    clipped = operands.placed(federated_map(clip, Value(given, trace)), name, CLIENTS)

    def total(part: Node, bound: Node) -> Value:
        return operands.recorded(name, FederatedType(operands.member(part), SERVER), trace, part, bound, terms=terms)

    if not count_clipped:
        return total(clipped, at_server)
    most = sum(math.prod(n or 0 for n in leaf.shape) for leaf in tensor_leaves(kind))
    numbers = operands.at_server(Struct([(None, np.uint64(most))]), "the bound")
    parts = {"sum": total(select(clipped, 0), at_server), "num_clipped": total(select(clipped, 1), numbers)}
    return Value(to_node(parts), trace)


def _repeated(bounds: list[Any], number: int) -> list[Any]:
    """One bound for each tensor, where there is one for all."""
    return bounds * number if len(bounds) == 1 else bounds


def _sent(bounds: Node) -> Node:
    return operands.operation("federated_broadcast", FederatedType(operands.member(bounds), CLIENTS, True), bounds)


def _at_server(bounds: list[int] | Node, kind: Type) -> Node:
    """Bounds as a struct at the server with one for each tensor, or one for all."""
    if isinstance(bounds, list):
        return operands.at_server(Struct((None, np.int64(bound)) for bound in bounds), "the bound")
    return bounds


def _larger(most: Any, least: Any) -> Any:
    """How large numbers in some ranges are, signs apart; -1, which no range has, where one is empty."""
    tops, bottoms = jax.tree.leaves(most), jax.tree.leaves(least)
    number = max(len(tops), len(bottoms))
    sizes = [
        jnp.where(high.astype(np.int64) < low.astype(np.int64), -1, jnp.maximum(jnp.abs(high), jnp.abs(low)))
        for high, low in zip(_repeated(tops, number), _repeated(bottoms, number), strict=True)
    ]
    return Struct((None, size.astype(np.int64)) for size in sizes)


def _clipped(value: Any, bounds: list[Any], count: bool, lowest: list[Any] | None = None) -> Any:
    """A client's numbers in their ranges, and perhaps how many of them were outside."""
    leaves, tree = jax.tree.flatten(value)
    ranges = zip(leaves, _repeated(bounds, len(leaves)), _repeated(lowest or [0], len(leaves)), strict=True)
    signed = lowest is not None
    within = [jnp.clip(x, _limit(low, x.dtype, signed), _limit(high, x.dtype, signed)) for x, high, low in ranges]
    clipped = jax.tree.unflatten(tree, within)
    if not count:
        return clipped
    changed = [(x != y).sum(dtype=np.int64) for x, y in zip(leaves, within, strict=True)]
    return Struct([(None, clipped), (None, sum(changed, jnp.zeros((), np.int64)))])


def _limit(bound: Any, dtype: Any, signed: bool = False) -> Any:
    # Arrays, as a Python integer is an int64 to JAX, which ends half way in uint64.
    if isinstance(bound, int):
        return np.asarray(min(bound, np.iinfo(dtype).max), dtype)
    most = np.asarray(min(np.iinfo(dtype).max, np.iinfo(bound.dtype).max), bound.dtype)
    least = max(-np.iinfo(dtype).max, np.iinfo(bound.dtype).min) if signed and np.dtype(dtype).kind == "i" else 0
    return jnp.clip(bound, np.asarray(least, bound.dtype), most).astype(dtype)
