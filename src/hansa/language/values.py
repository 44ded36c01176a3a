"""`Value`: what the Python function of a federated computation sees in place of data.

A value knows its type and gives access to the fields of structs. Everything else is done by intrinsics; arithmetic on
a value is refused with the remedy, since only a local computation may look inside.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from hansa.language.context import Trace, current_trace, user_line
from hansa.language.graph import Literal, MakeStruct, Node, Select
from hansa.types import FederatedType, Struct, StructType, Type, infer_type, to_value


class Value:
    """A value in a federated computation that is being traced.

    Attributes:
        type_signature: its type.
    """

    __slots__ = ("_node", "_trace")

    def __init__(self, node: Node, trace: Trace) -> None:
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_trace", trace)

    _node: Node
    _trace: Trace

    @property
    def type_signature(self) -> Type:
        """The value's type."""
        return self._node.type

    def _struct(self) -> StructType | None:
        kind = self._node.type
        member = kind.member if isinstance(kind, FederatedType) else kind
        return member if isinstance(member, StructType) else None

    def _field(self, index: int) -> Value:
        return Value(select(self._node, index), self._trace)

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__"):
            raise AttributeError(name)
        struct = self._struct()
        if struct is None:
            raise AttributeError(
                f"a value of type {self._node.type} has no field {name!r}: it is no struct. What is in a value is "
                "reached "
                "in a local computation: use hansa.federated_map with a @hansa.jax_computation."
            )
        if name not in struct.names:
            raise AttributeError(_no_field(name, struct))
        return self._field(struct.names.index(name))

    def __getitem__(self, key: int | str) -> Value:
        struct = self._struct()
        if struct is None:
            raise TypeError(
                f"a value of type {self._node.type} cannot be indexed: it is no struct. Index its tensors in a local "
                "computation."
            )
        if isinstance(key, str):
            if key not in struct.names:
                raise KeyError(_no_field(key, struct))
            return self._field(struct.names.index(key))
        if not -len(struct) <= key < len(struct):
            raise IndexError(f"the struct {struct} has {len(struct)} fields, there is none at index {key}")
        return self._field(key % len(struct))

    def __iter__(self) -> Iterator[Value]:
        struct = self._struct()
        if struct is None:
            raise TypeError(
                f"a value of type {self._node.type} cannot be iterated over: it is no struct. Use "
                "hansa.sequence_reduce or "
                "hansa.sequence_map for a sequence, hansa.federated_map for each client's value."
            )
        return iter([self._field(i) for i in range(len(struct))])

    def __len__(self) -> int:
        struct = self._struct()
        if struct is None:
            raise TypeError(f"a value of type {self._node.type} has no length while the computation is traced")
        return len(struct)

    def __repr__(self) -> str:
        return f"Value({self._node.type})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"values are immutable: cannot set {name!r}; build a new struct instead")

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"a value of type {self._node.type} is not known while the computation is traced, so it can decide no "
            "`if`, `while` "
            "or `and`; decide with jax.lax.cond or jnp.where in a local computation"
        )

    __hash__ = object.__hash__


def _refuse(symbol: str) -> Any:
    def operator(self: Value, *_: Any) -> NoReturn:
        raise TypeError(
            f"`{symbol}` on a value of type {self._node.type}: arithmetic is done in local computations; use "
            f"hansa.federated_map(fn, value) with a @hansa.jax_computation, or call the local computation on the value"
        )

    return operator


for _name, _symbol in {
    **{f"__{side}{name}__": symbol for side in ("", "r") for name, symbol in [
        ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%"), ("pow", "**"),
        ("matmul", "@"), ("and", "&"), ("or", "|"), ("xor", "^"), ("lshift", "<<"), ("rshift", ">>")]},
    **{f"__{name}__": symbol for name, symbol in [
        ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!="),
        ("neg", "-"), ("pos", "+"), ("abs", "abs"), ("invert", "~"), ("float", "float()"), ("int", "int()"),
        ("index", "an index")]},
}.items():  # fmt: skip
    setattr(Value, _name, _refuse(_symbol))


def _no_field(name: str, struct: StructType) -> str:
    names = [known for known in struct.names if known is not None]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the struct {struct} has no field {name!r}{hint}"


def select(node: Node, index: int) -> Node:
    """The node of one field of a struct node, federated or not."""
    if isinstance(node, MakeStruct):
        return node.elements[index]
    kind = node.type
    if isinstance(kind, FederatedType):
        assert isinstance(kind.member, StructType)
        field_type: Type = FederatedType(kind.member[index], kind.placement, kind.all_equal)
    else:
        assert isinstance(kind, StructType)
        field_type = kind[index]
    return Select(field_type, node, index, where=user_line())


def make_struct(names: list[str | None], elements: list[Node], container: type[Struct] | None = None) -> Node:
    """The node of a struct; a literal if all its elements are."""
    kind = StructType(zip(names, (e.type for e in elements), strict=True), container=container)
    literals = [e.value for e in elements if isinstance(e, Literal)]
    if len(literals) == len(elements):
        return Literal(kind, (container or Struct)(zip(names, literals, strict=True)), where=user_line())
    return MakeStruct(kind, tuple(names), tuple(elements), where=user_line())


def to_node(value: Any, expected: Type | None = None, what: str = "value") -> Node:
    """The node for a value, or for Python data (also nested) that may hold values.

    Args:
        value: a `Value`, a Python scalar, an array, or a struct, list, tuple, dict, named tuple or dataclass of those.
        expected: the type that Python data is read as; by default its own.
        what: how messages name it.
    """
    if isinstance(value, Value):
        if value._trace is not current_trace():
            raise TypeError(
                f"{what} is a value of {value._trace}, used in {current_trace() or 'no computation'}: a computation "
                "cannot "
                "capture the values of another; pass it as an argument"
            )
        return value._node
    pairs = _pairs(value)
    if pairs is not None and _holds_value(value):
        names, elements = [], []
        for i, (name, element) in enumerate(pairs):
            inner = None
            if isinstance(expected, StructType) and len(expected) == len(pairs):
                inner = expected[name] if name is not None and name in expected.names else expected[i]
            names.append(name)
            elements.append(to_node(element, inner, f"{what}.{name}" if name else f"{what}[{i}]"))
        return make_struct(names, elements, type(value) if isinstance(value, Struct) else None)
    if expected is not None and not isinstance(expected, FederatedType):
        return Literal(expected, to_value(value, expected, what), where=user_line())
    kind = infer_type(value)
    return Literal(kind, to_value(value, kind, what), where=user_line())


def _pairs(value: Any) -> list[tuple[str | None, Any]] | None:
    if isinstance(value, Struct):
        return list(value._items())
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return [(None, element) for element in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in fields(value)]
    return None


def _holds_value(value: Any) -> bool:
    if isinstance(value, Value):
        return True
    pairs = _pairs(value)
    return pairs is not None and any(_holds_value(element) for _, element in pairs)
