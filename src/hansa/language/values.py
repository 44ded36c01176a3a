"""`Value`: what the Python function of a federated computation sees in place of data.

A value knows its type and gives access to the fields of structs. Everything else is done by intrinsics; arithmetic on
a value is refused with the remedy, since only a local computation may look inside.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from hansa._tracebacks import add_note
from hansa.language.context import Trace, current_trace, user_line
from hansa.language.graph import Intrinsic, Literal, MakeStruct, Node, Select
from hansa.types import FederatedType, SequenceType, Struct, StructType, Type, infer_type, to_value
from hansa.types import names as _names
from hansa.types.arrangement import arranged_type, have_same_names
from hansa.types.members import members
from hansa.types.mismatch import Mismatch


class Value:
    """A value in a federated computation that is being traced.

    Attributes:
        type_signature: its type.

    Examples:
        >>> @hansa.federated_computation("{<x=float32,y=int32>}@CLIENTS")
        ... def mean_of_x(examples):
        ...     print(examples.type_signature, examples.x.type_signature)
        ...     return hansa.federated_mean(examples.x)
        {<x=float32,y=int32>}@CLIENTS {float32}@CLIENTS
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

    def _part(self, indices: Sequence[int]) -> Value:
        """Some of the fields, as a struct; as one federated value, if this is one."""
        kind, struct = self._node.type, self._struct()
        assert struct is not None
        names = [struct.names[i] for i in indices]
        fields = [select(self._node, i) for i in indices]
        node = zip_fields(names, fields, kind) if isinstance(kind, FederatedType) else make_struct(names, fields)
        return Value(node, self._trace)

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__"):
            raise AttributeError(name)
        struct = self._struct()
        if struct is None:
            raise AttributeError(
                f"a value of type {self._node.type} is no struct, and has no {name!r}; {_remedy(self)}"
            )
        if name not in struct.names:
            raise AttributeError(_no_field(name, struct))
        return self._field(struct.names.index(name))

    def __getitem__(self, key: int | str | slice) -> Value:
        struct = self._struct()
        if struct is None:
            raise TypeError(f"a value of type {self._node.type} is no struct, and cannot be indexed; {_remedy(self)}")
        if isinstance(key, str):
            if key not in struct.names:
                raise KeyError(_no_field(key, struct))
            return self._field(struct.names.index(key))
        if isinstance(key, slice):
            return self._part(range(len(struct))[key])
        if not hasattr(key, "__index__"):
            raise TypeError(f"a field of {struct} is reached by its index or name, one at a time; found [{key!r}]")
        index = operator.index(key)
        if not -len(struct) <= index < len(struct):
            raise IndexError(f"the struct {struct} has {len(struct)} fields, there is none at index {index}")
        return self._field(index % len(struct))

    def __iter__(self) -> Iterator[Value]:
        struct = self._struct()
        if struct is None:
            raise TypeError(
                f"a value of type {self._node.type} is no struct, and cannot be iterated over; {_remedy(self)}"
            )
        return iter([self._field(i) for i in range(len(struct))])

    def __len__(self) -> int:
        struct = self._struct()
        if struct is None:
            count = "; count with hansa.sequence_reduce" if isinstance(_member(self._node.type), SequenceType) else ""
            raise TypeError(
                f"a value of type {self._node.type} is no struct, and has no length while the computation is "
                f"traced{count or '; ' + _remedy(self)}"
            )
        return len(struct)

    def __repr__(self) -> str:
        return f"Value({self._node.type})"

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError(
                f"a value of type {self._node.type} has no number to format as {spec!r} while the computation is "
                "traced; format what the computation returns when it is called"
            )
        return repr(self)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"values are immutable: cannot set {name!r}; build a new struct instead")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(f"values are immutable: cannot set [{key!r}]; build a new struct instead")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"values are immutable: cannot delete {name!r}; build a new struct instead")

    def __bool__(self) -> NoReturn:
        check_trace(self, "what decides")
        raise TypeError(
            f"a value of type {self._node.type} is not known while the computation is traced, so no `if`, `while`, "
            "`and`, `or` or `not` can depend on it; decide in a local computation, with jnp.where or jax.lax.cond"
        )

    def __contains__(self, item: Any) -> NoReturn:
        check_trace(self, "the right side of `in`")
        names = "; the names of its fields are value.type_signature.names" if self._struct() is not None else ""
        raise TypeError(f"`in` on a value of type {self._node.type}: {_REASON}; {_remedy(self)}{names}")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises: a value is no function."""
        raise TypeError(
            f"a value of type {self._node.type} is no function, and cannot be called; computations are, and take values"
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"a value of type {self._node.type} cannot be pickled or copied: it is a part of {self._trace}, and there "
            "only while that is traced; keep what the computation returns when it is called"
        )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise _no_array(self)

    def __array_ufunc__(self, *_: Any, **__: Any) -> NoReturn:
        raise _no_array(self)

    @property
    def __jax_array__(self) -> NoReturn:
        # A property, as JAX asks whether there is such a method, and where there is one has an error of its own.
        raise _no_array(self)

    __hash__ = object.__hash__


_REASON = "only local computations see data"


def _remedy(value: Value, several: bool = False) -> str:
    """What to write where a value's data is wanted."""
    kind = value._node.type
    what = "[a, b]" if several else "value"
    if isinstance(_member(kind), SequenceType):
        return (
            "use hansa.sequence_map(fn, value) or hansa.sequence_reduce(value, zero, fn), where fn is a "
            "@hansa.jax_computation"
        )
    if isinstance(kind, FederatedType):
        return f"use hansa.federated_map(fn, {what}), where fn is a @hansa.jax_computation"
    return f"call a @hansa.jax_computation on it: fn({'a, b' if several else 'value'})"


@contextmanager
def explaining_values(name: str) -> Iterator[None]:
    """While a federated computation is traced: adds to errors of other libraries what a `Value` is."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if any(sign in str(error) for sign in (f"{__name__}.Value", "of type Value ")):
            add_note(
                error,
                f"A hansa.Value stands for data that is not there while the federated computation {name!r} is traced: "
                f"{_REASON}; use hansa.federated_map(fn, value), where fn is a @hansa.jax_computation.",
            )
        raise


def _member(kind: Type) -> Type:
    return kind.member if isinstance(kind, FederatedType) else kind


def _no_array(value: Value) -> TypeError:
    return misplaced(value, "what becomes an array") or TypeError(
        f"a value of type {value._node.type} is no array, and cannot be given to functions of JAX, NumPy or "
        f"TensorFlow: {_REASON}; {_remedy(value)}"
    )


def _refuse(symbol: str) -> Any:
    def refuse(self: Value, *others: Any) -> NoReturn:
        check_trace(self, f"what `{symbol}` is to be applied to")
        several = any(isinstance(other, Value) for other in others)
        raise TypeError(f"`{symbol}` on a value of type {self._node.type}: {_REASON}; {_remedy(self, several)}")

    return refuse


for _name, _symbol in {
    **{f"__{side}{name}__": symbol for side in ("", "r") for name, symbol in [
        ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%"), ("pow", "**"),
        ("matmul", "@"), ("and", "&"), ("or", "|"), ("xor", "^"), ("lshift", "<<"), ("rshift", ">>"),
        ("divmod", "divmod()")]},
    **{f"__{name}__": symbol for name, symbol in [
        ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!="),
        ("neg", "-"), ("pos", "+"), ("abs", "abs()"), ("invert", "~"), ("round", "round()"), ("float", "float()"),
        ("int", "int()"), ("complex", "complex()"), ("index", "range() or an index")]},
}.items():  # fmt: skip
    setattr(Value, _name, _refuse(_symbol))


def _no_field(name: str, struct: StructType) -> str:
    return (
        f"a struct with the fields {_names.listing(struct.names)} has no field {name!r}"
        f"{_names.suggestion(name, struct.names)}"
    )


def check_trace(value: Value, what: str) -> None:
    """Raises a `TypeError` if a value is used in another computation than its own.

    Args:
        value: the value.
        what: how the message names it.
    """
    error = misplaced(value, what)
    if error is not None:
        raise error


def misplaced(data: Any, what: str) -> TypeError | None:
    """The error for data that is, or that holds, a value of another computation than the current one; else None."""
    if not isinstance(data, Value):
        try:
            parts = enumerate(_pairs(data, what) or ())
        except TypeError:
            return None  # of a container that stands for no struct: what is wrong with it, the check of types says
        errors = (misplaced(part, what + _names.step(name, index)) for index, (name, part) in parts)
        return next((error for error in errors if error is not None), None)
    here = current_trace()
    if data._trace is here:
        return None
    made = f", made at {data._node.where}," if data._node.where else ""
    if here is None:
        return TypeError(
            f"{what} is a value of {data._trace}{made} but is used outside of it, where it stands for no data; use "
            "what the computation returns when it is called"
        )
    return TypeError(
        f"{what} is a value of {data._trace}{made} but is used in {here}: a computation cannot capture the values of "
        "another; pass it as an argument"
    )


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


def zip_fields(names: Sequence[str | None], fields: Sequence[Node], kind: FederatedType) -> Node:
    """Some fields of a federated struct of the type `kind` as one federated value; no fields are the same for all."""
    members = [(name, _member(field.type)) for name, field in zip(names, fields, strict=True)]
    found = FederatedType(StructType(members), kind.placement, kind.all_equal or not fields)
    if not fields:
        empty = Literal(found.member, Struct(), where=user_line())
        return Intrinsic(found, "federated_value", (empty,), where=user_line())
    return Intrinsic(found, "federated_zip", tuple(fields), where=user_line())


def arranged_node(node: Node, like: Type) -> Node:
    """The node with its structs' fields in the order of those of `like`, wherever both have the same names.

    Placements do not matter. The elements of sequences stay as they are.
    """
    kind = node.type
    struct, other = _member(kind), _member(like)
    if (
        not isinstance(struct, StructType)
        or not isinstance(other, StructType)
        or arranged_type(struct, other) == struct
    ):
        return node
    by_name = have_same_names(struct.names, other.names)
    indices = [struct.names.index(name) for name in other.names] if by_name else range(len(struct))
    fields = [arranged_node(select(node, i), part) for i, part in zip(indices, other, strict=True)]
    names = [struct.names[i] for i in indices]
    return zip_fields(names, fields, kind) if isinstance(kind, FederatedType) else make_struct(names, fields)


def to_node(value: Any, expected: Type | None = None, what: str = "value") -> Node:
    """The node for a value, or for Python data (also nested) that may hold values.

    Args:
        value: a `Value`, a Python scalar, an array, or a struct, list, tuple, dict, named tuple or dataclass of those.
        expected: the type that Python data is read as; by default its own.
        what: how messages name it.
    """
    if isinstance(value, Value):
        check_trace(value, what)
        return value._node
    pairs = _pairs(value, what)
    if pairs is not None and _holds_value(value):
        names, elements = [], []
        for i, (name, element) in enumerate(pairs):
            inner = None
            if isinstance(expected, StructType) and len(expected) == len(pairs):
                inner = expected[name] if name is not None and name in expected.names else expected[i]
            names.append(name)
            elements.append(to_node(element, inner, what + _names.step(name, i)))
        return make_struct(names, elements, type(value) if isinstance(value, Struct) else None)
    if expected is not None and not isinstance(expected, FederatedType):
        return Literal(expected, to_value(value, expected, what), where=user_line())
    if callable(value) and _pairs(value) is None and not hasattr(value, "dtype"):
        name = getattr(value, "__name__", type(value).__name__)
        raise TypeError(
            f"{what} must be a value, found the function {name!r}; call it, or pass it where a function goes"
        )
    kind = infer_type(value, what)
    return Literal(kind, to_value(value, kind, what), where=user_line())


def _pairs(value: Any, what: str = "value") -> list[tuple[str | None, Any]] | None:
    try:
        found = members(value)
    except Mismatch as mismatch:
        raise mismatch.error(what) from None
    return None if found is None else list(zip(found.names, found.values, strict=True))


def _holds_value(value: Any) -> bool:
    if isinstance(value, Value):
        return True
    pairs = _pairs(value)
    return pairs is not None and any(_holds_value(element) for _, element in pairs)
