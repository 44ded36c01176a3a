"""Hypothesis strategies for well-typed computations and for arguments of them.

A computation is built while it is traced: again and again one of the operations that fit the values there are is
applied to some of them. So every computation that is built is one that a user could have written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import hansa
from hansa import CLIENTS, SERVER, FederatedType, SequenceType, Struct, StructType, TensorType, Type
from hansa.types import contains, is_federated, is_fully_defined, is_integer, is_tensor_structure, tensor_leaves
from hansa.types.dtypes import kind as kind_of

DTYPES = ["bool", "int8", "int32", "int64", "uint8", "uint32", "float16", "bfloat16", "float32", "float64", "complex64"]
SHAPES: list[tuple[int | None, ...]] = [(), (), (2,), (2, 3), (1, 0)]
NAMES: list[Any] = [None, "a", "b/c", "d", "values"]


class Pair(Struct):
    """A class of one's own for structs."""


class Couple(NamedTuple):
    """What a local computation may return."""

    first: Any
    second: Any


@dataclass
class Case:
    """A computation, and a call of it.

    Attributes:
        computation: what is called.
        argument: makes the argument anew, as iterators serve for one call.
        num_clients: how many clients take part.
        steps: how it was built, for messages.
    """

    computation: Any
    argument: Callable[[], Any]
    num_clients: int
    steps: list[str]

    def __call__(self) -> Any:
        """The result in the current runtime."""
        parameter = self.computation.type_signature.parameter
        return self.computation() if parameter is None else self.computation(self.argument())

    def __repr__(self) -> str:
        return "\n  ".join([f"{self.computation!r} of {self.num_clients} clients", *self.steps])


# Types


def tensor_types(shapes: list[tuple[int | None, ...]] = SHAPES) -> st.SearchStrategy[Type]:
    return st.builds(TensorType, st.sampled_from(DTYPES), st.sampled_from(shapes))


@st.composite
def struct_types(draw: st.DrawFn, members: st.SearchStrategy[Type], least: int = 1) -> Type:
    types = draw(st.lists(members, min_size=least, max_size=3))
    names = draw(st.permutations(NAMES[1:])) if draw(st.booleans()) else [None] * 3
    return StructType(zip(names, types, strict=False), container=draw(st.sampled_from([None, None, Pair])))


def element_types() -> st.SearchStrategy[Type]:
    """What sequences are made of: tensors, structs of them, and batches, whose leading sizes are unknown."""
    batches = struct_types(tensor_types([(None,), (None, 2)]))
    mixed = struct_types(tensor_types([(None,), (None, 2), ()]))
    return st.one_of(tensor_types(), struct_types(tensor_types()), batches, batches, mixed, tensor_types([(None, 2)]))


def member_types() -> st.SearchStrategy[Type]:
    """What may be placed."""
    plain = st.one_of(tensor_types(), struct_types(st.one_of(tensor_types(), struct_types(tensor_types(), 0))))
    sequences = st.builds(SequenceType, element_types())
    open_ = tensor_types([(None,), (None, 2)])
    return st.one_of(plain, plain, sequences, sequences, open_, struct_types(st.one_of(tensor_types(), sequences)))


def parameter_types() -> st.SearchStrategy[Type]:
    placed = st.one_of(
        st.builds(FederatedType, member_types(), st.just(CLIENTS)),
        st.builds(FederatedType, member_types(), st.just(CLIENTS)),
        st.builds(FederatedType, member_types(), st.just(SERVER)),
        st.builds(FederatedType, member_types(), st.just(CLIENTS), st.just(True)),
    )
    return st.one_of(placed, placed, placed, struct_types(placed))


# Values


@dataclass
class Data:
    """Makes values of types: halves of small integers, which most dtypes hold, so that most sums are exact.

    Attributes:
        rng: chooses.
        num_clients: how many clients there are.
        ids: their numbers, for those forms that tell them.
        forms: how clients' values are passed.
        special: whether floats may be infinite or not a number.
    """

    rng: np.random.Generator
    num_clients: int
    ids: Any
    forms: list[str]
    special: bool

    def tensor(self, kind: TensorType, rows: int) -> Any:
        shape = tuple(rows if size is None else size for size in kind.shape)
        whole = self.rng.integers(0 if kind.dtype.kind in "bu" else -6, 2 if kind.dtype.kind == "b" else 7, shape)
        match kind_of(kind.dtype):
            case "float":
                special = self.rng.choice([np.nan, np.inf, -np.inf], shape)
                rare = self.rng.random(shape) < (0.3 if self.special else 0)
                return np.asarray(np.where(rare, special, whole / 2)).astype(kind.dtype)
            case "complex":
                return np.asarray(whole / 2 - 1j).astype(kind.dtype)
        large = 2**40 if kind.dtype.itemsize == 8 else 0
        return np.asarray(whole + large).astype(kind.dtype)

    def value(self, kind: Type, rows: int) -> Any:
        """A value of an unplaced type."""
        if isinstance(kind, SequenceType):
            count, sizes = self.rng.integers(0, 4), self.rng.choice([0, 1, 2, 3, 3, 5], 4)
            return [self.value(kind.element, int(size)) for size in sizes[:count]]
        if isinstance(kind, StructType):
            return (kind.container or Struct)((name, self.value(member, rows)) for name, member in kind.fields)
        return self.tensor(kind, rows)

    def argument(self, kind: Type) -> Callable[[], Any]:
        """Makes a value of a type as a user would pass it, always the same one."""
        if isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal:
            form = self.forms[self.rng.integers(len(self.forms))]
            if form == "columns" and isinstance(kind.member, SequenceType) and _all_batched(kind.member.element):
                columns = self.columns(kind.member.element)
                return lambda: columns
            rows = int(self.rng.integers(1, 4))
            each = [self.value(kind.member, rows) for _ in range(self.num_clients)]
            if form == "iterators" and isinstance(kind.member, SequenceType):
                return lambda: [iter(sequence) for sequence in each]
            return lambda: tuple(each) if form == "tuples" else list(each)
        if isinstance(kind, FederatedType):
            return self.argument(kind.member)
        if isinstance(kind, StructType) and is_federated(kind):
            parts = [(name, self.argument(member)) for name, member in kind.fields]
            return lambda: Struct((name, make()) for name, make in parts)
        value = self.value(kind, int(self.rng.integers(1, 4)))
        return lambda: value

    def columns(self, element: Type) -> hansa.ClientBatches:
        counts = self.rng.integers(0, 8, self.num_clients)
        examples = self.value(element, int(counts.sum()))
        return hansa.ClientBatches(examples, np.cumsum([0, *counts]), 3, self.ids)


def _all_batched(kind: Type) -> bool:
    leaves = tensor_leaves(kind)
    return bool(leaves) and all(leaf.shape[:1] == (None,) for leaf in leaves)


# Local computations: each function of a value works for any struct of tensors.


def number(leaf: Any) -> Any:
    return jnp.real(leaf).astype(jnp.float32)


def total(value: Any) -> Any:
    return sum((jnp.sum(number(leaf)) for leaf in jax.tree.leaves(value)), jnp.float32(0)) / 8


def size(value: Any) -> Any:
    return sum(leaf.size for leaf in jax.tree.leaves(value))


def whole(value: Any) -> Any:
    integers = [
        jnp.sum(leaf.astype(jnp.int32), dtype=jnp.int32)
        for leaf in jax.tree.leaves(value)
        if kind_of(leaf.dtype) == "int"
    ]
    return sum(integers, jnp.int32(size(value)))


def changed(value: Any) -> Any:
    def change(leaf: Any) -> Any:
        if leaf.dtype == bool:
            return ~leaf
        return leaf * 3 + 1 if kind_of(leaf.dtype) == "int" else leaf * 0.5 + 0.25

    return jax.tree.map(change, value)


def summarised(value: Any) -> Any:
    return {"size": size(value), "total": total(value), "two": 2, "half": 0.5, "yes": True}


def bent(value: Any) -> Any:
    return Couple(jnp.tanh(total(value)), {"whole": whole(value), "again": [value]})


def branched(value: Any) -> Any:
    return jax.lax.cond(whole(value) % 2 == 0, lambda: total(value), lambda: jnp.float32(-1))


def looped(value: Any) -> Any:
    steps = whole(value) % 4
    return steps, jax.lax.fori_loop(0, steps, lambda i, x: x / 2 + i, total(value))


def drawn(value: Any) -> Any:
    key = jax.random.fold_in(jax.random.key(3), whole(value))
    return jax.random.uniform(key, (2,)), jnp.asarray(jax.tree.leaves(value)[0])


def keyed(value: Any) -> Any:
    return jnp.stack([whole(value) % 5 - 1, jnp.int32(7), jnp.int32(1)])


def same(value: Any) -> Any:
    return value


FUNCTIONS = [same, changed, changed, summarised, bent, branched, looped, drawn]


def zeros(kind: Type) -> Any:
    if isinstance(kind, StructType):
        return Struct((name, zeros(member)) for name, member in kind.fields)
    return np.zeros(kind.shape, kind.dtype)


def added(a: Any, b: Any) -> Any:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.unflatten(jax.tree.structure(a), [x | y if x.dtype == bool else x + y for x, y in leaves])


COUNTS = OrderedDict(n=np.int32(0), s=np.float32(0), top=np.float32(-100), big=np.int64(2**33))


def counted(state: Any, value: Any) -> Any:
    top = jnp.maximum(state.top, total(value))
    return OrderedDict(n=state.n + size(value), s=state.s + total(value), top=top, big=state.big + whole(value))


def recounted(state: Any, value: Any) -> Any:
    """A fold in which the order counts."""
    return state.n * 2 + size(value), state.s * 0.5 + total(value), jnp.tanh(total(value)), state.big * 3 + 1


def ranked(state: Any, value: Any) -> Any:
    """A fold that looks across the batch, and asks in Python how large it is."""
    column = number(jax.tree.leaves(value)[0]).reshape(-1)
    if column.shape[0] == 0:
        return state
    middle = jnp.sort(column)[column.shape[0] // 2]
    return state.n + 1, state.s + (2 * middle if column.shape[0] == 3 else middle), state.top, state.big


def merged(a: Any, b: Any) -> Any:
    return OrderedDict(n=a.n + b.n, s=a.s + b.s, top=jnp.maximum(a.top, b.top), big=a.big + b.big - 2**33)


# Computations


def _member(value: hansa.Value) -> Type:
    kind = value.type_signature
    return kind.member if isinstance(kind, FederatedType) else kind


def _placement(value: hansa.Value) -> Any:
    kind = value.type_signature
    return kind.placement if isinstance(kind, FederatedType) else None


def _has_sequence(kind: Type) -> bool:
    return contains(kind, lambda part: isinstance(part, SequenceType))


def _is_plain(kind: Type) -> bool:
    return is_tensor_structure(kind) and bool(tensor_leaves(kind))


def _is_sized(kind: Type) -> bool:
    return _is_plain(kind) and is_fully_defined(kind)


def _is_summable(kind: Type, kinds: str) -> bool:
    return _is_sized(kind) and all(kind_of(leaf.dtype) in kinds.split() for leaf in tensor_leaves(kind))


@dataclass
class Builder:
    """Applies operations to values while a computation is traced.

    Attributes:
        draw: chooses.
        depth: how many computations this one is defined in.
        steps: what was applied, for messages.
        values: what there is to apply operations to.
        results: those of them that may be results.
    """

    draw: st.DrawFn
    depth: int
    steps: list[str]
    values: list[hansa.Value] = field(default_factory=list)
    results: list[hansa.Value] = field(default_factory=list)

    def choose(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def add(self, name: str, value: hansa.Value, returnable: bool = False) -> None:
        kind = value.type_signature
        self.steps.append(f"{'  ' * self.depth}{name}: {kind}")
        self.values.append(value)
        if returnable or not _has_sequence(kind):
            self.results.append(value)
        if isinstance(kind, StructType) and is_federated(kind):
            for part in value:
                self.add("  its field", part, returnable)

    def body(self, *parameters: hansa.Value) -> Any:
        """The Python function of the computation."""
        for parameter in parameters:
            self.add("parameter", parameter, returnable=True)
        for _ in range(self.choose([4, 6, 8, 10] if self.depth == 0 else [1, 2, 3])):
            operations = [op for op in OPERATIONS if self.fitting(op)]
            op = self.choose(operations)
            value = op(self, self.choose(self.fitting(op)))
            self.add(op.__name__, value, op is collect)
            if _is_sequence(value):
                self.add("  all of it", sequence_reduce(self, value))
        return self.result()

    def fitting(self, op: Any) -> list[Any]:
        """The values that an operation takes."""
        if not WHERE[op]:
            return [None] if self.placed() else []
        return [value for value in self.values if WHERE[op](value) and (op is not call or self.depth < 2)]

    def placed(self) -> bool:
        """Whether this is a federated computation, and not a local one."""
        return any(is_federated(value.type_signature) for value in self.values)

    def at(self, placement: Any) -> list[hansa.Value]:
        return [value for value in self.values if _placement(value) is placement]

    def result(self) -> Any:
        if not self.results:
            return 7
        last = len(self.results) - 1
        some = st.lists(st.integers(0, last), max_size=3, unique=True)
        indices = self.draw(st.one_of(st.just(range(max(0, last - 8), last + 1)), some))
        chosen = [self.results[i] for i in dict.fromkeys([last, *indices])]
        self.steps.append(f"{'  ' * self.depth}returns {', '.join(value.type_signature.compact() for value in chosen)}")
        if len(chosen) == 1:
            return chosen[0]
        named = {f"field{i}": value for i, value in enumerate(chosen)}
        literals = {"text": "ok", "n": 3, "more": [1.5, np.arange(3)]}
        forms = [chosen, named, {"nested": named, "all": chosen}]
        return self.choose(forms if self.depth else [*forms, {**literals, **named}])


Operation = Callable[[Builder, Any], hansa.Value]
WHERE: dict[Operation, Callable[[hansa.Value], bool] | None] = {}
"""For each operation the values that it takes; None for one that takes none."""


def on(where: Callable[[hansa.Value], bool] | None) -> Callable[[Operation], Operation]:
    def register(op: Operation) -> Operation:
        WHERE[op] = where
        return op

    return register


def at_clients(condition: Callable[[Type], bool]) -> Callable[[hansa.Value], bool]:
    return lambda value: _placement(value) is CLIENTS and condition(_member(value))


def _local(build: Builder, kind: Type) -> Any:
    """A local computation of a type."""
    if _is_plain(kind):
        function = build.choose(FUNCTIONS)
        build.steps.append(f"{'  ' * build.depth}  ({function.__name__})")
        if build.draw(st.booleans()):
            return hansa.jax_computation(function, kind)
        if build.depth:
            return hansa.jax_computation(function)
    inner = Builder(build.draw, build.depth + 1, build.steps)
    return hansa.federated_computation(lambda value: inner.body(value), kind)


@on(lambda value: _placement(value) is not None)
def map_(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.federated_map(_local(build, _member(value)), value)


@on(lambda value: _placement(value) is not None and _is_plain(_member(value)))
def map_two(build: Builder, value: hansa.Value) -> hansa.Value:
    others = [other for other in build.at(_placement(value)) if _is_plain(_member(other))]
    other = build.choose(others)

    def both(a: Any, b: Any) -> Any:
        return {"sum": total(a) - total(b), "a": a, "n": size(b)}

    return hansa.federated_map(hansa.jax_computation(both, _member(value), _member(other)), [value, other])


@on(lambda value: _placement(value) is None and _is_plain(value.type_signature))
def apply(build: Builder, value: hansa.Value) -> hansa.Value:
    return _local(build, value.type_signature)(value)


@on(lambda value: not is_federated(value.type_signature) and isinstance(value.type_signature, StructType))
def field_(build: Builder, value: hansa.Value) -> hansa.Value:
    return value[build.choose(range(len(value)))] if len(value) else value


@on(lambda value: isinstance(value.type_signature, FederatedType) and isinstance(_member(value), StructType))
def select_field(build: Builder, value: hansa.Value) -> hansa.Value:
    return value[build.choose(range(len(value)))] if len(value) else value


@on(lambda value: _placement(value) is not None)
def zip_(build: Builder, value: hansa.Value) -> hansa.Value:
    other = build.choose(build.at(_placement(value)))
    return hansa.federated_zip(build.choose([[value, other], {"a": value, "b": [other]}]))


@on(lambda value: _placement(value) is SERVER)
def broadcast(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.federated_broadcast(value)


@on(None)
def value_(build: Builder, _: Any) -> hansa.Value:
    return hansa.federated_value(build.choose([3, [1.5, True], {"x": np.arange(3)}]), build.choose([CLIENTS, SERVER]))


@on(None)
def eval_(build: Builder, _: Any) -> hansa.Value:
    constant = build.choose([lambda: jnp.arange(3), lambda: {"a": 1, "b": jnp.float16(0.5)}])
    return hansa.federated_eval(hansa.jax_computation(constant), build.choose([CLIENTS, SERVER]))


@on(None)
def client_id(build: Builder, _: Any) -> hansa.Value:
    return hansa.federated_client_id()


@on(None)
def client_key(build: Builder, _: Any) -> hansa.Value:
    return hansa.federated_client_key(5)


@on(at_clients(lambda kind: _is_summable(kind, "int float complex")))
def sum_(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.federated_sum(value)


@on(at_clients(lambda kind: _is_summable(kind, "int float")))
def extreme(build: Builder, value: hansa.Value) -> hansa.Value:
    return build.choose([hansa.federated_min, hansa.federated_max])(value)


@on(at_clients(lambda kind: _is_summable(kind, "float complex")))
def mean(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.federated_mean(value)


@on(at_clients(lambda kind: _is_summable(kind, "float complex")))
def weighted_mean(build: Builder, value: hansa.Value) -> hansa.Value:
    source = build.choose(v for v in build.at(CLIENTS) if _is_plain(_member(v)))
    weight = build.choose([lambda v: whole(v) % 3 + 0 * size(v), lambda v: jnp.abs(total(v)).astype(jnp.float16) + 0.5])
    return hansa.federated_mean(value, hansa.federated_map(hansa.jax_computation(weight, _member(source)), source))


@on(at_clients(_is_plain))
def aggregate(build: Builder, value: hansa.Value) -> hansa.Value:
    kind = _member(value)
    if _is_sized(kind) and build.draw(st.booleans()):
        add = hansa.jax_computation(added, kind, kind)
        return hansa.federated_aggregate(value, zeros(kind), add, add, _local(build, kind))
    state = hansa.infer_type(COUNTS)
    accumulate, merge = hansa.jax_computation(counted, state, kind), hansa.jax_computation(merged, state, state)
    return hansa.federated_aggregate(value, COUNTS, accumulate, merge, _local(build, state))


@on(at_clients(_is_sized))
def collect(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.federated_collect(value)


@on(at_clients(lambda kind: _is_summable(kind, "int")))
def secure_sum(build: Builder, value: hansa.Value) -> hansa.Value:
    if build.draw(st.booleans()):
        return hansa.federated_secure_sum_bitwidth(value, 2)
    if {leaf.dtype.name for leaf in tensor_leaves(_member(value))} != {"int64"}:
        return hansa.federated_secure_sum(value, 5)
    # Of 64 bits, so that no bound of 32 bits that the server computes lets the sum wrap.
    bounds = [v for v in build.at(SERVER) if is_integer(_member(v)) and _member(v) == TensorType("int32")]
    return hansa.federated_secure_sum(value, build.choose([*bounds, 5]), count_clipped=build.draw(st.booleans()))


@on(at_clients(_is_plain))
def select_slices(build: Builder, value: hansa.Value) -> hansa.Value:
    keys = hansa.federated_map(hansa.jax_computation(keyed, _member(value)), value)
    sources = [v for v in build.at(SERVER) if _is_plain(_member(v))]
    source = build.choose(sources) if sources else np.arange(3)
    slices = hansa.jax_computation(lambda source, key: {"key": key, "slice": total(source) * key})
    return hansa.federated_select(keys, build.choose([3, 1, 9]), source, slices)


def _composed(build: Builder, function: Any, kind: Type) -> Any:
    """The function, or a composition that calls it."""
    if build.draw(st.booleans()):
        return function
    return hansa.federated_computation(lambda value: function(value), kind)


def _is_sequence(value: hansa.Value) -> bool:
    return isinstance(_member(value), SequenceType)


@on(_is_sequence)
def sequence_map(build: Builder, value: hansa.Value) -> hansa.Value:
    kind = _member(value).element
    functions = [same, changed, bent] if not is_fully_defined(kind) else FUNCTIONS
    function = hansa.jax_computation(build.choose(functions), kind)
    return hansa.sequence_map(_composed(build, function, kind), value)


@on(_is_sequence)
def sequence_reduce(build: Builder, value: hansa.Value) -> hansa.Value:
    kind = _member(value).element
    if _is_sized(kind) and build.draw(st.booleans()):
        return hansa.sequence_reduce(value, zeros(kind), hansa.jax_computation(added, kind, kind))
    pair = StructType([("state", hansa.infer_type(COUNTS)), (None, kind)])
    op = hansa.jax_computation(build.choose([counted, recounted, ranked]), pair)
    return hansa.sequence_reduce(value, COUNTS, _composed(build, op, pair))


@on(lambda value: _is_sequence(value) and _is_summable(_member(value).element, "int float complex"))
def sequence_sum(build: Builder, value: hansa.Value) -> hansa.Value:
    return hansa.sequence_sum(value)


@on(lambda value: is_federated(value.type_signature))
def call(build: Builder, value: hansa.Value) -> hansa.Value:
    """Another federated computation, which need not know that what it gets is the same at all clients."""
    given = [value, build.choose(build.values)][: build.choose([1, 2])]
    inner = Builder(build.draw, build.depth + 1, build.steps)
    one = (lambda a: inner.body(a)) if len(given) == 1 else (lambda a, b: inner.body(a, b))
    if build.draw(st.booleans()):
        return hansa.federated_computation(one)(*given)
    types = [_less_known(value.type_signature) for value in given]
    if build.draw(st.booleans()):
        return hansa.federated_computation(one, *types)(*given)
    names = ["p", "q"]
    packed = hansa.federated_computation(lambda struct: inner.body(struct), StructType(zip(names, types, strict=False)))
    return packed(dict(zip(names, given, strict=False)))


def _less_known(kind: Type) -> Type:
    return FederatedType(kind.member, kind.placement) if isinstance(kind, FederatedType) else kind


OPERATIONS = list(WHERE)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Computations, federated ones and local ones, each with an argument for a cohort of up to five clients."""
    steps: list[str] = []
    build = Builder(draw, 0, steps)
    if draw(st.integers(0, 5)):
        types = draw(st.lists(parameter_types(), min_size=1, max_size=3))
    else:
        types = [draw(member_types())]
    functions = [lambda a: build.body(a), lambda a, b: build.body(a, b), lambda a, b, c: build.body(a, b, c)]
    computation = hansa.federated_computation(functions[len(types) - 1], *types)
    num_clients = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    ids = rng.integers(-9, 99, num_clients)
    forms = draw(st.sampled_from([["lists", "iterators", "tuples"], ["lists", "columns"]]))
    data = Data(rng, num_clients, ids, forms, draw(st.integers(0, 3)) == 0)
    return Case(computation, data.argument(computation.type_signature.parameter), num_clients, steps)
