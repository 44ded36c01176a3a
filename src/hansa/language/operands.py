"""The operands of the language's operations: values read as nodes and checked for placement and type, and functions.

Which operation takes what is said in `intrinsics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from hansa.language.computation import Computation
from hansa.language.computations import made
from hansa.language.context import Trace, current_trace, user_line
from hansa.language.graph import Intrinsic, MakeStruct, Node
from hansa.language.mechanism import Mechanism
from hansa.language.terms import NO_TERMS, Terms
from hansa.language.values import Value, arranged_node, select, to_node
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    Placement,
    SequenceType,
    StructType,
    TensorType,
    Type,
    is_federated,
    tensor_leaves,
)
from hansa.types import names as _names
from hansa.types.dtypes import kind as dtype_kind


def require_trace(name: str) -> Trace:
    """The federated computation that is being traced, in which alone the operation `name` works."""
    trace = current_trace()
    if trace is None:
        raise TypeError(
            f"hansa.{name} works only inside a @hansa.federated_computation, and none is being traced here; write a "
            "function that uses it, decorate that, and call it with the data"
        )
    if trace.kind == "local computation":
        raise TypeError(
            f"hansa.{name} is used in {trace}: a local computation runs at one place; move it to the "
            "federated_computation"
        )
    return trace


def operation(
    name: str,
    kind: Type,
    *arguments: Node,
    functions: tuple[Any, ...] = (),
    terms: Terms = NO_TERMS,
    mechanism: Mechanism | None = None,
) -> Node:
    """The node of an operation."""
    return Intrinsic(kind, name, arguments, functions, terms=terms, mechanism=mechanism, where=user_line())


def recorded(
    name: str, kind: Type, trace: Trace, *arguments: Node, functions: tuple[Any, ...] = (), terms: Terms = NO_TERMS
) -> Value:
    """The result of an operation, as what the user's function goes on with."""
    return Value(operation(name, kind, *arguments, functions=functions, terms=terms), trace)


def member(node: Node) -> Type:
    """The type of a node at one member of its placement, or of an unplaced one."""
    return node.type.member if isinstance(node.type, FederatedType) else node.type


def placement(value: Any, what: str) -> Placement:
    """The placement that an operation is told."""
    if not isinstance(value, Placement):
        raise TypeError(f"the placement of {what} must be hansa.CLIENTS or hansa.SERVER, found {value!r}")
    return value


def unplaced(kind: Type, what: str, remedy: str) -> None:
    """Checks that a type has no placement in it."""
    if is_federated(kind):
        raise TypeError(f"{what} needs an unplaced value, found {kind}; {remedy}")


def placed(value: Any, what: str, place: Placement | None = None) -> Node:
    """The node of a federated value; a struct of them is zipped. Checks the placement if one is asked for."""
    node = to_node(value, what=f"the value of {what}")
    if isinstance(node.type, StructType) and is_federated(node.type):
        node = zipped(node, what)
    if not isinstance(node.type, FederatedType):
        raise TypeError(_no_placement(node.type, what, place))
    if place is not None and node.type.placement is not place:
        hint = (
            "send it there with hansa.federated_broadcast"
            if place is CLIENTS
            else "aggregate it first, with hansa.federated_sum or another"
        )
        raise TypeError(f"{what} needs a value at {place}, found {node.type}; {hint}")
    return node


def _no_placement(kind: Type, what: str, place: Placement | None) -> str:
    if place is None:
        return (
            f"{what} needs a federated value, found {kind}, which is at no placement; place it with "
            "hansa.federated_value(value, hansa.SERVER or hansa.CLIENTS)"
        )
    wanted = f"{{{kind}}}@CLIENTS" if place is CLIENTS else f"{kind}@SERVER"
    return (
        f"{what} needs a value at {place}, found {kind}, which is at no placement; take it as a parameter of type "
        f"'{wanted}', or place it with hansa.federated_value(value, hansa.{place})"
    )


def at_server(value: Any, what: str, kind: Type | None = None) -> Node:
    """The node of a value at the server; an unplaced one is placed there. Its type is checked if one is asked for."""
    node = to_node(value, what=what) if kind is None or isinstance(value, Value) else to_node(value, kind, what)
    if not is_federated(node.type):
        node = operation("federated_value", FederatedType(node.type, SERVER, True), node)
    node = placed(Value(node, cast(Trace, current_trace())), what, SERVER)
    if kind is not None:
        kind.check_assignable_from(member(node), what=what)
    return node


def zipped(node: Node, what: str) -> Node:
    """A struct of federated values as one federated value of a struct."""
    kind = node.type
    if isinstance(kind, FederatedType):
        return node
    if not isinstance(kind, StructType):
        raise TypeError(
            f"{what} needs federated values only, found {kind} among them; place it with hansa.federated_value"
        )
    place = next((part.placement for part in kind.components() if isinstance(part, FederatedType)), None)
    if place is None and _is_nothing(kind):
        raise TypeError(f"{what} cannot place an empty struct; use hansa.federated_value([], hansa.SERVER or CLIENTS)")
    elements = node.elements if isinstance(node, MakeStruct) else [select(node, i) for i in range(len(kind))]
    parts = [
        operation("federated_value", FederatedType(element.type, place, True), element)
        if place is not None and _is_nothing(element.type)  # which is wherever the others are
        else zipped(element, what)
        for element in elements
    ]
    members: list[FederatedType] = [part.type for part in parts]  # type: ignore[misc]
    if len({m.placement for m in members}) > 1:
        raise TypeError(
            f"{what} needs values at one placement, found {kind}; bring those at the server to the clients with "
            "hansa.federated_broadcast, or aggregate those at the clients"
        )
    struct = StructType(
        [(name, m.member) for name, m in zip(kind.names, members, strict=True)], container=kind.container
    )
    return operation(
        "federated_zip", FederatedType(struct, members[0].placement, all(m.all_equal for m in members)), *parts
    )


def _is_nothing(kind: Type) -> bool:
    """Whether a type is an empty struct, or one of empty structs only."""
    return isinstance(kind, StructType) and all(map(_is_nothing, kind))


def sequence(value: Any, what: str) -> tuple[Node, Type]:
    """The node of a sequence, federated or not, and the type of its elements."""
    node = to_node(value, what=f"the sequence of {what}")
    kind = member(node)
    if not isinstance(kind, SequenceType):
        raise TypeError(
            f"{what} needs a sequence, found {node.type}; a sequence is a parameter of a type like "
            f"'{_like(node.type, SequenceType(kind)) if _may_repeat(kind) else 'float32*'}'"
        )
    return node, kind.element


def _may_repeat(kind: Type) -> bool:
    return not any(isinstance(part, SequenceType | FederatedType) for part in kind.components())


def _like(kind: Type, inner: Type) -> Type:
    return FederatedType(inner, kind.placement, kind.all_equal) if isinstance(kind, FederatedType) else inner


def numeric(kind: Type, what: str, kinds: tuple[str, ...], expected: str) -> None:
    """Checks that a type is made of tensors of these kinds of dtypes, of known size.

    Args:
        kind: the type.
        what: the operation that wants it.
        kinds: of `int`, `float` and `complex`, those that it takes.
        expected: these kinds in words.
    """
    for path, leaf in _leaves(kind):
        at = f" at {path} of {kind}" if path else ""
        if not isinstance(leaf, TensorType) or dtype_kind(leaf.dtype) not in kinds:
            raise TypeError(f"{what} takes {expected}, found {leaf}{at}; {_conversion(leaf, kinds)}")
        if None in leaf.shape:
            raise TypeError(
                f"{what} needs tensors of known size, found {leaf}{at}: members of different sizes do not add up; pad "
                "them to one size, or reduce them to one, in a local computation"
            )


def known_sizes(kind: Type, what: str) -> None:
    """Checks that a type is made of tensors of known size, and of no strings."""
    for path, leaf in _leaves(kind):
        at = f" at {path} of {kind}" if path else ""
        if not isinstance(leaf, TensorType) or leaf.dtype.kind == "U":
            remedy = _conversion(leaf, ("bool", "int", "float", "complex"))
        elif None in leaf.shape:
            remedy = "pad it to one size in a local computation"
        else:
            continue
        raise TypeError(f"{what} needs tensors of known size, or structs of them, found {leaf}{at}; {remedy}")


def _leaves(kind: Type, path: str = "") -> Iterator[tuple[str, Type]]:
    """What a type is made of besides structs, each with the path to it."""
    if isinstance(kind, StructType):
        for index, (name, part) in enumerate(kind.fields):
            yield from _leaves(part, path + _names.step(name, index))
    else:
        yield path, kind


def _conversion(kind: Type, kinds: tuple[str, ...]) -> str:
    """How a value that is not of these kinds is brought to one, in a local computation."""
    if isinstance(kind, SequenceType):
        return "reduce the sequence first, with hansa.sequence_reduce or hansa.sequence_sum"
    found = dtype_kind(kind.dtype) if isinstance(kind, TensorType) else ""
    if found == "str":
        return "text does not go through computations; give each text a number, before or instead"
    if found == "complex":
        return "take its real part or its absolute value in a local computation"
    if found == "float":
        return "scale it and round it to an integer in a local computation"
    wanted = "int32" if "int" in kinds else "float32"
    return f"convert it in a local computation, with .astype('{wanted}')"


def local_result(function: Computation, what: str) -> None:
    """Checks that a function that is applied to each member, or to each element, returns no placed value."""
    result = function.type_signature.result
    if is_federated(result):
        raise TypeError(
            f"{what}, {function.name!r}{made(function)}, returns the placed value {result}; call it on its own, "
            "without mapping"
        )


def not_swapped(name: str, fn: Any, value: Any) -> None:
    """Checks that the function comes first and the value second."""
    if not callable(value) or isinstance(value, Value):
        return
    if not callable(fn) or isinstance(fn, Value):
        raise TypeError(f"{name} takes the function first and the value second; they are swapped here")


def arranged_zero(node: Node, function: Any, zero: Any, what: str, name: str) -> Node:
    """The node of a fold's zero as its function, if that has declared types, takes the state; checks the type."""
    kind = function.type_signature.parameter if isinstance(function, Computation) else None
    if not isinstance(kind, StructType) or len(kind) not in (2, 3):
        return node
    node, state = arranged_node(node, kind[0]), kind[0]
    try:
        state.check_assignable_from(
            member(node),
            what=f"the zero of {name}, which {function.name!r}{made(function)}, {what}, takes for the state",
        )
    except TypeError as error:
        same = len(tensor_leaves(state)) == len(tensor_leaves(node.type)) and not isinstance(zero, Value)
        raise TypeError(f"{error}{'; in Python, 0 is int32 and 0.0 is float32' if same else ''}") from None
    return node


def check_fold(function: Computation, state: Type, what: str) -> None:
    """Checks that the function of a fold returns a state of the type that it began with."""
    state.check_assignable_from(
        function.type_signature.result, what=f"the state that {function.name!r}{made(function)}, {what}, returns"
    )
