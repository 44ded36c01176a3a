"""Parameters of function type: computations that take computations.

Where such a computation is declared, placeholders stand for the functions, so that its type is known. Called with
functions, it is traced again with these in their places, once for each; what is left is a computation of the data
alone, and the only one that a runtime sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, PolymorphicComputation, Runnable, concrete, pack
from hansa.language.context import Trace
from hansa.language.graph import Apply, Node, Parameter
from hansa.language.values import Value, select
from hansa.types import FunctionType, Struct, StructType, Type, contains
from hansa.types import names as _names
from hansa.types.values import field_values

Given = Any
"""The functions of an argument: a computation for a function type, a tuple of these for a struct, None for data."""


class FunctionalComputation(Runnable):
    """A computation some of whose parameters are functions.

    Args:
        name: its name.
        parameter: the type of its parameter.
        where: `file:line` of the user's code that made it, or an empty string.
        build: traces it for some functions.

    Raises:
        TypeError: if one of these functions is to take or to return a function.
    """

    def __init__(self, name: str, parameter: Type, where: str, build: Callable[[Given], Computation]) -> None:
        declared = build(_placeholders(parameter, name))
        super().__init__(name, FunctionType(parameter, declared.type_signature.result), where)
        self._parameter = parameter
        self._build = build
        self._built: dict[Given, Computation] = {}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs it with functions on data, or records the call; functions are computations."""
        argument = pack(self.name, self._parameter, args, kwargs)
        given, data = _split(self._parameter, argument, f"the argument of {self.name!r}")
        return self._for(given).called_with(data)

    def specialize(self, *functions: Computation | PolymorphicComputation) -> Computation:
        """The computation of the data alone, with these functions for those that it takes, in the order of its type."""
        kinds = list(_functions(self._parameter))
        if len(functions) != len(kinds):
            raise TypeError(f"{self.name!r} takes {len(kinds)} functions, found {len(functions)}")
        return self._for(_filled(self._parameter, iter(functions)))

    def _for(self, given: Given) -> Computation:
        if given not in self._built:
            self._built[given] = self._build(_fitting(self._parameter, given, f"the argument of {self.name!r}"))
        return self._built[given]


def takes_functions(kind: Type | None) -> bool:
    """Whether there is a function type in the type of a parameter."""
    return kind is not None and contains(kind, lambda part: isinstance(part, FunctionType))


def data_type(kind: Type) -> Type | None:
    """The type of what is left of a parameter without its functions: None for nothing, one field for itself."""
    if not takes_functions(kind):
        return kind
    if not isinstance(kind, StructType):
        return None
    fields = [(name, data) for name, member in kind.fields if (data := data_type(member)) is not None]
    return StructType(fields) if len(fields) > 1 else fields[0][1] if fields else None


def handed(kind: Type, node: Node | None, given: Given, trace: Trace) -> Any:
    """What the Python function gets for a parameter: values of the data, and the functions that are given.

    Args:
        kind: the parameter's type.
        node: the node of its data; None if there is none.
        given: its functions.
        trace: the computation that is being traced.
    """
    if isinstance(kind, FunctionType):
        return given
    if not takes_functions(kind):
        assert node is not None
        return Value(node, trace)
    assert isinstance(kind, StructType)
    places = [i for i, member in enumerate(kind) if data_type(member) is not None]
    nodes = [] if node is None else [node] if len(places) == 1 else [select(node, i) for i in range(len(places))]
    data = dict(zip(places, nodes, strict=True))
    parts = [handed(member, data.get(i), given[i], trace) for i, member in enumerate(kind)]
    return (kind.container or Struct)(zip(kind.names, parts, strict=True))


def _functions(kind: Type) -> Iterator[FunctionType]:
    if isinstance(kind, FunctionType):
        yield kind
    elif isinstance(kind, StructType):
        for member in kind:
            yield from _functions(member)


def _placeholders(kind: Type, name: str) -> Given:
    """Computations of the declared types, which have no bodies."""
    if isinstance(kind, StructType) and takes_functions(kind):
        return tuple(_placeholders(part, field or f"#{i}") for i, (field, part) in enumerate(kind.fields))
    if not isinstance(kind, FunctionType):
        return None
    if takes_functions(kind.parameter) or takes_functions(kind.result):
        raise TypeError(f"a function that a computation takes is of values, and neither takes nor returns one: {kind}")
    return Runnable(name, kind)


def _filled(kind: Type, functions: Iterator[Any]) -> Given:
    if isinstance(kind, FunctionType):
        return next(functions)
    return tuple(_filled(part, functions) for part in kind) if isinstance(kind, StructType) else None


def _split(kind: Type, value: Any, what: str) -> tuple[Given, Any]:
    """The functions in an argument, and the rest of it."""
    if isinstance(kind, FunctionType):
        if not isinstance(value, Computation | PolymorphicComputation):
            concrete(value, kind.parameter, what)  # says what it is instead
        return value, None
    if not takes_functions(kind):
        return None, value
    assert isinstance(kind, StructType)
    given, data = [], []
    for i, ((name, member), part) in enumerate(zip(kind.fields, field_values(value, kind, what), strict=True)):
        functions, rest = _split(member, part, what + _names.step(name, i))
        given.append(functions)
        if data_type(member) is not None:
            data.append((name, rest))
    return tuple(given), Struct(data) if len(data) > 1 else data[0][1] if data else None


def _fitting(kind: Type, given: Given, what: str) -> Given:
    """The functions as computations of exactly the declared types."""
    if isinstance(kind, StructType) and takes_functions(kind):
        parts = enumerate(zip(kind.fields, given, strict=True))
        return tuple(_fitting(part, one, what + _names.step(name, i)) for i, ((name, part), one) in parts)
    if not isinstance(kind, FunctionType):
        return None
    function = concrete(given, kind.parameter, what)
    kind.result.check_assignable_from(function.type_signature.result, what=f"what {what}, {function.name!r}, returns")
    if function.type_signature == kind:
        return function
    node = None if kind.parameter is None else Parameter(kind.parameter, where=function.where)
    called = Apply(kind.result, function, node, where=function.where)
    return GraphComputation(function.name, node, called, function.where)
