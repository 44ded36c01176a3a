"""Computations: what the decorators return, and what happens when one is called.

Called with `Value`s, inside another computation, a computation records a node; called with data, it is executed by the
current runtime. `tracing` makes computations from Python functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from hansa.language.context import Trace, current_runtime, current_trace, user_line
from hansa.language.graph import Apply, Node, Parameter
from hansa.language.local import LocalFunction, arranged, to_struct, type_of_arrays
from hansa.language.values import Value, to_node
from hansa.types import FunctionType, Struct, StructType, Type, infer_type


class Computation:
    """A typed function: call it with data to run it, with values to use it in another computation.

    Attributes:
        type_signature: its type, such as `(<model=float32[10],batch=int32*> -> float32)`.
        name: the name of the Python function it was made from.
    """

    def __init__(self, name: str, signature: FunctionType) -> None:
        self.name = name
        self.type_signature = signature
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it on data, or records the call if the arguments are values of a computation that is being traced."""
        argument = pack(self.name, self.type_signature.parameter, args, kwargs)
        trace = current_trace()
        if trace is None:
            return current_runtime().invoke(self, argument)
        if trace.kind == "local computation":
            return self._inline(argument, trace)
        return Value(apply(self, argument), trace)

    def _inline(self, argument: Any, trace: Trace) -> Any:
        raise TypeError(
            f"{trace} calls {self.name!r}, which is not a local computation; compose the two in a "
            "@hansa.federated_computation"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.type_signature}>"


class LocalComputation(Computation):
    """A JAX function with a type."""

    def __init__(self, function: LocalFunction, signature: FunctionType) -> None:
        super().__init__(function.name, signature)
        self.function = function

    def _inline(self, argument: Any, trace: Trace) -> Any:
        if self.type_signature.parameter is None:
            return self.function.function()
        value = arranged(to_struct(argument, self.name), self.type_signature.parameter)
        found = type_of_arrays(value)
        self.type_signature.parameter.check_assignable_from(found, what=f"the argument of {self.name!r}, in {trace},")
        return self.function._call(tuple(jax.tree.leaves(value)))


class GraphComputation(Computation):
    """A computation recorded as a graph.

    Attributes:
        parameter: the node of its parameter, or None.
        result: the node of its result.
    """

    def __init__(self, name: str, parameter: Parameter | None, result: Node) -> None:
        super().__init__(name, FunctionType(parameter.type if parameter else None, result.type))
        self.parameter = parameter
        self.result = result


class PolymorphicComputation:
    """A computation without declared types: traced once for each type of argument it is called with."""

    def __init__(self, name: str, arity: int, build: Callable[[tuple[Type, ...]], Computation]) -> None:
        self.name = name
        self.arity = arity
        self.__name__ = name
        self._build = build
        self._built: dict[tuple[Type, ...], Computation] = {}

    def specialize(self, *types: Type) -> Computation:
        """The computation for arguments of these types."""
        if types not in self._built:
            self._built[types] = self._build(types)
        return self._built[types]

    def specialize_to(self, parameter: Type | None) -> Computation:
        """The computation for one parameter, whose fields go to the Python parameters in order if there are several."""
        if parameter is None:
            return self.specialize()
        if self.arity != 1 and isinstance(parameter, StructType) and len(parameter) == self.arity:
            return self.specialize(*parameter)
        return self.specialize(parameter)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the computation for arguments of these types."""
        if kwargs:
            raise TypeError(f"{self.name!r} has no declared types, so it is called with positional arguments only")
        if len(args) != self.arity:
            raise TypeError(f"{self.name!r} takes {self.arity} arguments, {len(args)} were given")
        if current_trace() is not None and current_trace().kind != "local computation":  # type: ignore[union-attr]
            types = [to_node(arg, what=f"argument {i} of {self.name!r}").type for i, arg in enumerate(args)]
        else:
            types = [infer_type(arg) for arg in args]
        return self.specialize(*types)(*args)

    def __repr__(self) -> str:
        return f"<PolymorphicComputation {self.name}, typed when called>"


def concrete(function: Any, parameter: Type | None, what: str) -> Computation:
    """`function` as a computation that takes a `parameter`, or an error that says why not."""
    if isinstance(function, PolymorphicComputation):
        function = function.specialize_to(parameter)
    if not isinstance(function, Computation):
        if callable(function):
            raise TypeError(
                f"{what} is the plain Python function {getattr(function, '__name__', function)!r}; decorate it with "
                "@hansa.jax_computation (or @hansa.federated_computation, if it composes others)"
            )
        raise TypeError(f"{what} must be a computation, found {function!r}")
    expected = function.type_signature.parameter
    if parameter is None or expected is None:
        if parameter is not expected:
            raise TypeError(
                f"{what}, {function.name!r}, has the type {function.type_signature}, but is to be given "
                f"{parameter or 'nothing'}"
            )
        return function
    expected.check_assignable_from(parameter, what=f"the argument of {function.name!r}, {what},")
    return function


def apply(computation: Computation, argument: Any) -> Node:
    """The node of a computation called on values or data."""
    expected = computation.type_signature.parameter
    if expected is None:
        return Apply(computation.type_signature.result, computation, None, where=user_line())
    node = to_node(argument, expected, what=f"the argument of {computation.name!r}")
    expected.check_assignable_from(node.type, what=f"the argument of {computation.name!r}")
    return Apply(computation.type_signature.result, computation, node, where=user_line())


def pack(name: str, parameter: Type | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The one argument that a call's positional and keyword arguments stand for; None for a computation without one."""
    count = len(args) + len(kwargs)
    if parameter is None:
        if count:
            raise TypeError(f"{name!r} takes no arguments, {count} were given")
        return None
    if (
        count == 1
        and args
        and not (isinstance(parameter, StructType) and len(parameter) == 1 and not _is_struct(args[0]))
    ):
        return args[0]
    if not isinstance(parameter, StructType):
        raise TypeError(f"{name!r} takes one argument, of type {parameter}; {count} were given")
    return Struct(_bind(name, parameter, args, kwargs))


def _bind(
    name: str, parameter: StructType, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str | None, Any]]:
    names = parameter.names
    shown = ", ".join(field or f"#{i}" for i, field in enumerate(names))
    if len(args) > len(names):
        raise TypeError(f"{name!r} takes {len(names)} arguments ({shown}), {len(args)} were given")
    bound: list[tuple[str | None, Any]] = list(zip(names, args, strict=False))
    for field in names[len(args) :]:
        if field is None or field not in kwargs:
            raise TypeError(f"{name!r} takes {len(names)} arguments ({shown}); {field or 'one of them'} is missing")
        bound.append((field, kwargs.pop(field)))
    if kwargs:
        raise TypeError(
            f"{name!r} takes the arguments {shown}; it has none called {', '.join(map(repr, kwargs))}, or it was given "
            "twice"
        )
    return bound


def _is_struct(value: Any) -> bool:
    if isinstance(value, Value):
        return isinstance(value.type_signature, StructType)
    return isinstance(value, Struct | dict | list | tuple)
