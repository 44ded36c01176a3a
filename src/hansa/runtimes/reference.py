"""The runtime to read and to step through: it does what a computation says, one node of its graph after another.

A value at the clients is a list with one value per client (one value, if it is the same for all), a sequence is the
list of its elements, a struct a `Struct`, a tensor a NumPy array. Nothing is compiled, traced, padded or spread over
devices, so this is what the other runtimes are tested against, and where a debugger stops in the user's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from hansa._tracebacks import add_note, boundaries
from hansa.compiler.noise import with_noise
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.language.local import tensors, type_of_arrays, unflatten
from hansa.language.protected_sums import check_total
from hansa.language.terms import check_cohort, no_rows, too_few
from hansa.runtimes.arguments import pack, settle, survey
from hansa.runtimes.client_sizes import check_client_sizes
from hansa.runtimes.columns import Room
from hansa.runtimes.exact import exact_mean, exact_sum
from hansa.runtimes.leaves import LEAF, merged
from hansa.runtimes.reference_values import as_values, is_listed, member, read, typed
from hansa.types import (
    Struct,
    StructType,
    Type,
)
from hansa.types.dtypes import kind as kind_of

Array = npt.NDArray[Any]
OnNode = Callable[[Node, Any], None]


@boundaries
class ReferenceRuntime:
    """Executes computations in Python and NumPy, node by node. It is slow, and simple.

    Local computations are called as the Python functions that they are, with concrete JAX arrays: `print`,
    `breakpoint()` and debuggers see numbers in them. (A TensorFlow function runs as TensorFlow has lowered it.) An
    exception that passes through says in its notes which operations it comes from, and from which client.

    Args:
        default_num_clients: how many clients take part in a computation whose argument does not say.
        on_node: called with each node of the graph and its value, as soon as there is one.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def average(readings):
        ...     return hansa.federated_mean(readings)
        >>> def show(node, value):
        ...     print(node, value)
        >>> with hansa.runtime(hansa.ReferenceRuntime(on_node=show)):
        ...     result = average([1.0, 2.0])
        the parameter: {float32}@CLIENTS [np.float32(1.0), np.float32(2.0)]
        federated_mean: float32@SERVER 1.5
    """

    def __init__(self, default_num_clients: int = 0, on_node: OnNode | None = None) -> None:
        self.default_num_clients = default_num_clients
        self.on_node = on_node

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Run `computation`; see `hansa.language.context.Runtime`.

        Examples:
            >>> add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
            >>> hansa.ReferenceRuntime().invoke(add, [1, 2])
            np.int32(3)
        """
        computation, argument = with_noise(computation, argument)
        kind, what = computation.type_signature.parameter, f"the argument of {computation.name!r}"
        cohort = survey(kind, argument, what)
        argument = settle(kind, argument, what, cohort)
        check_client_sizes(kind, argument, what)
        pack(kind, argument, Room(), what)  # for its checks: what one runtime refuses, the other does
        size = self.default_num_clients if cohort.size is None else cohort.size
        ids = np.arange(size, dtype=np.int32) if cohort.ids is None else cohort.ids
        call = _Call(size, {"client_id": ids}, self.on_node)
        value = call.run(computation) if kind is None else call.run(computation, read(kind, argument))
        result = computation.type_signature.result
        return as_values(typed(value, result), result, ids if cohort.client_ids is None else cohort.client_ids)


class _Call:
    """One call by the user. Its methods with the names of operations say what these do, given their inputs.

    Args:
        clients: how many take part.
        own: what the runtime has for each of them, by the names of `hansa.language.runtime_values`.
        on_node: called with each node and its value.
    """

    def __init__(self, clients: int, own: Mapping[str, Array], on_node: OnNode | None) -> None:
        self.clients, self.own, self.on_node = clients, own, on_node
        self.without_rows: list[Intrinsic] = []

    def run(self, computation: Computation, *parts: Any) -> Any:
        """The result of a computation without parameter, of one value, or of a struct of several values."""
        argument = Struct([(None, part) for part in parts]) if len(parts) > 1 else parts[0] if parts else None
        if isinstance(computation, LocalComputation):
            return _run_local(computation, argument)
        if not isinstance(computation, GraphComputation):
            raise TypeError(
                f"{computation.name!r} was loaded from a file, which holds compiled stages and no operations to run "
                "one by one; call the computation in hansa.InProcessRuntime(), or the one that was saved"
            )
        values: dict[Node, Any] = {}
        for node in walk(computation.result):
            with _note(f"in {node!r}" + (f", made at {node.where}" if node.where else "")):
                if isinstance(node, Parameter):
                    values[node] = typed(argument, node.type)
                else:
                    values[node] = self.compute(node, *(values[source] for source in node.inputs))
            if self.on_node is not None:
                self.on_node(node, values[node])
        return values[computation.result]

    def compute(self, node: Node, *inputs: Any) -> Any:
        """The value of a node, by its kind."""
        match node:
            case Literal():
                return typed(node.value, node.type)
            case RuntimeValue():
                return list(self.own[node.name])
            case MakeStruct():
                return Struct(zip(node.names, inputs, strict=True))
            case Select() if isinstance(node.source.type, StructType):
                return inputs[0][node.index]
            case Select():
                return self.pointwise(node, lambda struct: struct[node.index], *inputs)
            case Apply(argument=None):
                return self.run(node.computation)
            case Apply(argument=Node() as argument):
                expected = node.computation.type_signature.parameter
                assert expected is not None
                return self.run(node.computation, self.listed(inputs[0], argument.type, expected))
            case Intrinsic():
                check_cohort(node.name, node.terms, self.clients, node.where)
                return self.operate(node, *inputs)
        raise AssertionError(f"a node of an unknown kind: {node}")

    def operate(self, node: Intrinsic, *inputs: Any) -> Any:
        """The value of an operation. Where it fails and there is a stack of no clients, that is why."""
        try:
            return getattr(self, node.name)(node, *inputs)
        except Exception as error:  # whatever a function of no rows raises
            if not self.without_rows:
                raise
            raise no_rows(self.without_rows[0].name, self.without_rows[0].where, error) from error

    def pointwise(self, node: Node, function: Callable[..., Any], *inputs: Any) -> Any:
        """The function of the inputs; of each client's, if the node has a value for each."""
        if not is_listed(node.type):
            return function(*inputs)
        columns = [self.at_each(value, source.type) for value, source in zip(inputs, node.inputs, strict=True)]
        results = []
        for i in range(self.clients):
            with _note(f"at client {i}"):
                results.append(function(*(column[i] for column in columns)))
        return results

    def at_each(self, value: Any, kind: Type) -> list[Any]:
        """What each client has of a value at the clients."""
        return list(value) if is_listed(kind) else [value] * self.clients

    def listed(self, value: Any, kind: Type, expected: Type) -> Any:
        """A value with lists where they are expected: what all clients share may go where they need not share it."""
        if isinstance(kind, StructType) and isinstance(expected, StructType):
            return Struct(zip(expected.names, map(self.listed, value, kind, expected), strict=True))
        return self.at_each(value, kind) if is_listed(expected) else value

    def fold(
        self, function: Computation, state: Any, values: list[Any], kind: Type, what: str, *given: Any, number: int = 0
    ) -> Any:
        """function(…function(function(state, first), second)…, last), of a state of that type.

        What is given is another argument of the function, the same each time. The first value has a number in messages.
        """
        for i, value in enumerate(values, number):
            with _note(f"with {what} {i}"):
                state = typed(self.run(function, state, value, *given), kind)
        return state

    def federated_value(self, node: Intrinsic, value: Any) -> Any:
        """The value, now at every member of a placement."""
        return value

    federated_broadcast = federated_value

    def federated_map(self, node: Intrinsic, *inputs: Any) -> Any:
        """The function of each member's value; without a value, its result for each."""
        return self.pointwise(node, lambda *parts: self.run(node.functions[0], *parts), *inputs)

    federated_eval = federated_map

    def federated_zip(self, node: Intrinsic, *inputs: Any) -> Any:
        """At each member a struct of what it has in each input."""
        return self.pointwise(node, lambda *parts: typed(parts, member(node.type)), *inputs)

    def federated_collect(self, node: Intrinsic, value: Any) -> Any:
        """The clients' values, now a sequence at the server."""
        return self.at_each(value, node.arguments[0].type)

    def federated_stack(self, node: Intrinsic, value: Any) -> Any:
        """The clients' values, each tensor in one array."""
        self.without_rows += [] if self.clients else [node]
        kind = node.arguments[0].type
        return _tensorwise(lambda stack: stack, member(kind), self.at_each(value, kind))

    def federated_select(self, node: Intrinsic, keys: Any, count: Any, source: Any) -> Any:
        """The function of the server's value and each of a client's keys, brought into the range 0 to count - 1."""

        def slices(keys: Array, count: Array, source: Any) -> Any:
            found = [self.run(node.functions[0], source, key) for key in np.clip(keys, 0, max(int(count), 1) - 1).flat]
            return found if np.ndim(keys) else found[0]

        return self.pointwise(node, slices, keys, count, source)

    def check_left(self, node: Intrinsic, weights: Array) -> None:
        """Refuses a sum or mean of fewer clients than there must be, where some are excluded: these have no weight."""
        least = node.terms.min_cohort
        if node.terms.excludes and least is not None and np.count_nonzero(weights) < least:
            raise too_few(least, node.name, node.where)

    def federated_sum(self, node: Intrinsic, value: Any, *counts: Any) -> Any:
        """The sum over the clients; what else it takes says who counts."""
        for each in counts:
            self.check_left(node, np.array(self.at_each(each, node.arguments[1].type)))
        return _tensorwise(exact_sum, member(node.type), self.at_each(value, node.arguments[0].type))

    def federated_secure_sum(self, node: Intrinsic, value: Any, bounds: Any) -> Any:
        """The sum of values that are in their ranges already, if the dtype holds it."""
        most = [int(bound) for bound in jax.tree.leaves(bounds)]
        check_total(node.name, member(node.type), most, self.clients, node.where)
        return self.federated_sum(node, value)

    federated_secure_sum_bitwidth = federated_secure_sum

    def federated_secure_modular_sum(self, node: Intrinsic, value: Any, *bounds: Any) -> Any:
        """The sum modulo a power of two; of values in a range, if it does not wrap around."""
        for each in bounds:
            check_total(node.name, member(node.type), [int(x) for x in jax.tree.leaves(each)], self.clients, node.where)
        return self.federated_sum(node, value)

    def federated_min(self, node: Intrinsic, value: Any) -> Any:
        """The smallest or largest over the clients, and the last value that the dtype has, which is that of none."""
        low = node.name == "federated_min"

        def extreme(values: Array) -> Any:
            limits = np.iinfo(values.dtype) if kind_of(values.dtype) == "int" else None
            last = (limits.max if low else limits.min) if limits else (np.inf if low else -np.inf)
            padded = np.concatenate([np.full((1, *values.shape[1:]), last, values.dtype), values])
            found = padded.min(axis=0) if low else padded.max(axis=0)
            if limits:
                return found
            # Of two zeros the negative one is less, as in XLA; to NumPy they are alike, and the first is taken.
            other = ((padded == 0) & (np.signbit(padded) == low)).any(axis=0)
            return np.where((found == 0) & other, values.dtype.type(-0.0 if low else 0.0), found)

        return _tensorwise(extreme, member(node.type), self.at_each(value, node.arguments[0].type))

    federated_max = federated_min

    def federated_mean(self, node: Intrinsic, value: Any, *weight: Any) -> Any:
        """sum(weight * value) / sum(weight), and zero where that divides by zero."""
        each = self.at_each(value, node.arguments[0].type)
        weights = np.array(self.at_each(weight[0], node.arguments[1].type) if weight else np.ones(len(each)))
        self.check_left(node, weights)
        return _tensorwise(lambda values: exact_mean(values, weights), member(node.type), each)

    def federated_aggregate(self, node: Intrinsic, value: Any, zero: Any) -> Any:
        """Accumulates the clients in order, by leaves, merges these by a fixed tree, and reports."""
        accumulate, merge, report = node.functions
        each, kind = self.at_each(value, node.arguments[0].type), node.arguments[1].type
        leaves = [
            self.fold(accumulate, zero, each[first : first + LEAF], kind, "what comes from client", number=first)
            for first in range(0, max(len(each), 1), LEAF)
        ]
        return self.run(report, merged(leaves, lambda a, b: typed(self.run(merge, a, b), kind)))

    def sequence_map(self, node: Intrinsic, sequence: Any) -> Any:
        """The function of each element."""
        return self.pointwise(node, lambda each: [self.run(node.functions[0], one) for one in each], sequence)

    def sequence_reduce(self, node: Intrinsic, sequence: Any, zero: Any, *given: Any) -> Any:
        """The function of a state, which is `zero` at first, each element in turn, and what is given."""
        fold, kind = node.functions[0], member(node.type)

        def reduced(each: Any, start: Any, *given: Any) -> Any:
            return self.fold(fold, start, each, kind, "element", *given)

        return self.pointwise(node, reduced, sequence, zero, *given)

    def sequence_sum(self, node: Intrinsic, sequence: Any) -> Any:
        """The sum of the elements."""
        return self.pointwise(node, lambda each: _tensorwise(_sum, member(node.type), each), sequence)


def _run_local(computation: LocalComputation, argument: Any) -> Any:
    with _note(f"in {computation.name!r}"):
        result = computation.function.eager(argument)
        declared = computation.type_signature.result
        declared.check_assignable_from(type_of_arrays(result), what=f"what {computation.name!r} returns")
    return typed(jax.tree.map(np.asarray, result), declared)


@contextmanager
def _note(where: str) -> Iterator[None]:
    """Adds to an exception where it comes from."""
    try:
        yield
    except Exception as error:
        add_note(error, where)
        raise


def _wide(dtype: Any) -> Any:
    """The dtype in which values of a dtype are added up: its own, but float32 for narrower floats."""
    return np.dtype(np.float32) if kind_of(dtype) == "float" and dtype.itemsize < 4 else dtype


def _sum(values: Array) -> Any:
    return values.astype(_wide(values.dtype)).sum(axis=0, dtype=_wide(values.dtype))


def _tensorwise(function: Callable[[Array], Any], kind: Type, values: list[Any]) -> Any:
    """A value of a type, of which each tensor is a function of that tensor in all of `values`, stacked."""
    rows = [jax.tree.leaves(value) for value in values]
    results = []
    for i, leaf in enumerate(tensors(kind)):
        stack = np.array([row[i] for row in rows], leaf.dtype).reshape(len(rows), *leaf.shape)
        with np.errstate(all="ignore"):
            results.append(np.asarray(function(stack)).astype(leaf.dtype))
    return typed(unflatten(kind, results), kind)
