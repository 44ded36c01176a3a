"""Computations: what the decorators return, and what happens when one is called.

Called with `Value`s, inside another computation, a computation records a node; called with data, it is executed by the
current runtime. `tracing` makes computations from Python functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import is_dataclass
from typing import Any

import jax

from hansa._tracebacks import boundaries
from hansa.language import elsewhere, occasions
from hansa.language.computation import Computation
from hansa.language.context import Trace, current_runtime, current_trace, user_line
from hansa.language.graph import Apply, Node, Parameter
from hansa.language.local import LocalFunction, to_struct, type_of_arrays
from hansa.language.values import Value, arranged_node, misplaced, to_node
from hansa.types import FederatedType, FunctionType, Struct, StructType, Type, infer_type, is_federated
from hansa.types import names as _names
from hansa.types.arrangement import arranged, arranged_type
from hansa.types.members import Members, members
from hansa.types.mismatch import Mismatch, describe


@boundaries
class Runnable(Computation):
    """A computation that the current runtime runs where it is called with data."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs it on data, or records the call if the arguments are values of a computation that is being traced."""
        return self.called_with(pack(self.name, self.type_signature.parameter, args, kwargs))

    def called_with(self, argument: Any) -> Any:
        """Runs it, or records the call, with the one argument that it takes, or None."""
        trace = current_trace()
        if trace is None:
            try:
                runtime = current_runtime()
                kind, what = self.type_signature.parameter, f"the argument of {self.name!r}"
                elsewhere.check_argument(kind, argument, what, runtime)
                with occasions.calling():
                    return runtime.invoke(self, argument)
            except TypeError:
                # Values are looked for only where there is an error, as there may be much data.
                error = misplaced(argument, f"the argument of {self.name!r}")
                if error is not None:
                    raise error from None
                raise
        if trace.kind == "local computation":
            return self._inline(argument, trace)
        return Value(apply(self, argument), trace)

    def _inline(self, argument: Any, trace: Trace) -> Any:
        raise TypeError(
            f"{trace} calls {self.name!r}, which is not a local computation; compose the two in a "
            "@hansa.federated_computation"
        )

    def __reduce__(self) -> Any:
        raise _no_pickle(self)


class LocalComputation(Runnable):
    """A JAX function with a type."""

    def __init__(self, function: LocalFunction, signature: FunctionType) -> None:
        super().__init__(function.name, signature, function.where)
        self.function = function

    def _inline(self, argument: Any, trace: Trace) -> Any:
        if self.type_signature.parameter is None:
            return self.function.function()
        value = arranged(to_struct(argument, self.name), self.type_signature.parameter)
        found = type_of_arrays(value)
        self.type_signature.parameter.check_assignable_from(found, what=f"in {trace}, the argument of {self.name!r}")
        return self.function._call(tuple(jax.tree.leaves(value)))


class GraphComputation(Runnable):
    """A computation recorded as a graph.

    Attributes:
        parameter: the node of its parameter, or None.
        result: the node of its result.
        declared: what its results are made of, where a file says it (`hansa.language.declared_flows`); else None.
    """

    def __init__(
        self, name: str, parameter: Parameter | None, result: Node, where: str = "", *, declared: Any = None
    ) -> None:
        super().__init__(name, FunctionType(parameter.type if parameter else None, result.type), where)
        self.parameter = parameter
        self.result = result
        self.declared = declared


@boundaries
class PolymorphicComputation:
    """A computation without declared types: traced once for each type of argument it is called with.

    Attributes:
        name: the name of the Python function.
        parameters: the names of its parameters.
        where: `file:line` of the user's code that made it, or an empty string.
    """

    __wrapped__: Any

    def __init__(
        self, name: str, parameters: tuple[str, ...], build: Callable[[tuple[Type, ...]], Computation], where: str = ""
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.where = where
        self.__name__ = self.__qualname__ = name
        self._build = build
        self._built: dict[tuple[Type, ...], Computation] = {}

    def specialize(self, *types: Type) -> Computation:
        """The computation for arguments of these types.

        Raises:
            TypeError: if it is being traced for these types already, that is, calls itself.
        """
        if types not in self._built:
            self._refuse_recursion(types)
            token = _in_progress.set((*_in_progress.get(), (self, types)))
            try:
                self._built[types] = self._build(types)
            finally:
                _in_progress.reset(token)
        return self._built[types]

    def _refuse_recursion(self, types: tuple[Type, ...]) -> None:
        calls = _in_progress.get()
        names = [repr(computation.name) for computation, _ in calls]
        shown = ", ".join(kind.compact() for kind in types) or "no arguments"
        if (self, types) in calls:
            first, *others = names[calls.index((self, types)) :]
            way = f"{first} calls " + ", which calls ".join([*others, first] if others else ["itself"])
            raise TypeError(
                f"{way}, for the types {shown}{made(self)}: tracing it would never end, as it does not depend on data; "
                "repeat with hansa.sequence_reduce or, in a local computation, jax.lax.while_loop or jax.lax.fori_loop"
            )
        if sum(computation is self for computation, _ in calls) >= _DEEPEST:
            raise TypeError(
                f"{self.name!r} calls itself for ever new types, the last of them {shown}{made(self)}: a computation "
                "that calls itself must come to types for which it does not"
            )

    def specialize_to(self, parameter: Type | None) -> Computation:
        """The computation for one parameter, which is spread over the Python parameters if there are several."""
        if parameter is None:
            return self.specialize()
        if not isinstance(parameter, StructType) or any(parameter.names):
            return self.specialize(parameter)
        one_for_each = len(parameter) == len(self.parameters) > 1
        return self.specialize(*parameter) if one_for_each else self.specialize(parameter)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the computation for arguments of these types."""
        args = self._one_for_each(args, kwargs)
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name!r} takes {_count(len(self.parameters))}, {_given(len(args))}")
        trace = current_trace()
        types = [self._type_of(i, arg, trace) for i, arg in enumerate(args)]
        return self.specialize(*types)(*args)

    def _one_for_each(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by position; one struct may be passed for several parameters."""
        if len(args) == 1 and not kwargs and len(self.parameters) > 1:
            try:
                found = _members(args[0]) or Members((None,), args)
            except Mismatch as mismatch:
                raise mismatch.error(f"the argument of {self.name!r}") from None
            if not any(found.names):
                return found.values
            args, kwargs = (), {str(name): value for name, value in zip(found.names, found.values, strict=True)}
        return tuple(value for _, value in _bind(self.name, self.parameters, args, kwargs)) if kwargs else args

    def _type_of(self, index: int, argument: Any, trace: Trace | None) -> Type:
        what = f"argument {index} of {self.name!r}"
        if isinstance(argument, Computation):
            return argument.type_signature
        if isinstance(argument, PolymorphicComputation):
            raise TypeError(f"{what} is {argument.name!r}, which has no declared types{made(argument)}; declare them")
        if trace is not None and trace.kind != "local computation":
            return to_node(argument, what=what).type
        try:
            return infer_type(argument, what)
        except (TypeError, ValueError) as error:
            raise misplaced(argument, what) or error from None

    def __repr__(self) -> str:
        return f"<PolymorphicComputation {self.name}, typed when called>"

    def __reduce__(self) -> Any:
        raise _no_pickle(self)

    def __deepcopy__(self, memo: Any) -> PolymorphicComputation:
        """The same: only what it has traced is added to it."""
        return self


_in_progress: ContextVar[tuple[tuple[PolymorphicComputation, tuple[Type, ...]], ...]] = ContextVar(
    "hansa_in_progress", default=()
)
"""The computations that are being traced for some types, the innermost last."""

_DEEPEST = 32
"""How often a computation may be in the middle of being traced, for different types."""


def made(computation: Computation | PolymorphicComputation) -> str:
    """Where a computation was made, for messages."""
    return f" (made at {computation.where})" if computation.where else ""


def _no_pickle(computation: Computation | PolymorphicComputation) -> TypeError:
    return TypeError(
        f"the computation {computation.name!r}{made(computation)} cannot be pickled, as it is made of Python "
        "functions; define it in a module, and import that in the other process"
    )


def concrete(function: Any, parameter: Type | None, what: str) -> Computation:
    """`function` as a computation that takes a `parameter`, or an error that says why not."""
    if isinstance(function, PolymorphicComputation):
        if parameter is None and function.parameters:
            raise TypeError(
                f"{what}, {function.name!r}{made(function)}, takes {_count(len(function.parameters))}, but is to be "
                "given nothing; close over what it needs, or map it over a value"
            )
        function = function.specialize_to(parameter)
    if not isinstance(function, Computation):
        raise TypeError(_no_computation(function, what))
    expected = function.type_signature.parameter
    what = f"{what}, {function.name!r}{made(function)},"
    if expected is None:
        if parameter is not None:
            raise TypeError(
                f"{what} takes no parameter, but is to be given {parameter}; give it one, or use hansa.federated_eval"
            )
        return function
    if parameter is None:
        raise TypeError(
            f"{what} takes a parameter of type {expected}, but is to be given nothing; close over what it needs, or "
            "map it over a value"
        )
    if is_federated(expected) and not is_federated(parameter):
        raise TypeError(
            f"{what} takes placed values, of type {expected}, but is to be given {parameter} at each member; call it "
            "on the value itself, without mapping"
        )
    given = arranged_type(parameter, expected)
    expected.check_assignable_from(given, what=f"{what} in its argument")
    return function if given == parameter else _taking(function, parameter)


def _taking(function: Computation, parameter: Type) -> Computation:
    """The function for an argument of a type whose named fields stand in another order."""
    node = Parameter(parameter, where=function.where)
    expected, result = function.type_signature.parameter, function.type_signature.result
    assert expected is not None
    called = Apply(result, function, arranged_node(node, expected), where=function.where)
    return GraphComputation(function.name, node, called, function.where)


def _no_computation(function: Any, what: str) -> str:
    if isinstance(function, Value):
        return (
            f"{what} must be a computation, found a value of type {function.type_signature}; pass the computation "
            "itself, without calling it"
        )
    if callable(function):
        return (
            f"{what} is the plain Python function {getattr(function, '__name__', function)!r}; decorate it with "
            "@hansa.jax_computation (or @hansa.federated_computation, if it composes others)"
        )
    return (
        f"{what} must be a computation, found {describe(function)}; pass a function decorated with "
        "@hansa.jax_computation"
    )


def apply(computation: Computation, argument: Any) -> Node:
    """The node of a computation called on values or data."""
    expected = computation.type_signature.parameter
    if expected is None:
        return Apply(computation.type_signature.result, computation, None, where=user_line())
    what = f"the argument of {computation.name!r}"
    node = arranged_node(to_node(argument, expected, what=what), expected)
    if is_federated(node.type) and not is_federated(expected):
        raise TypeError(
            f"{what} must be unplaced, {expected}, found {node.type}; apply it to the value at each member with "
            "hansa.federated_map(fn, value)"
        )
    expected.check_assignable_from(node.type, what=what)
    return Apply(computation.type_signature.result, computation, node, where=user_line())


def pack(name: str, parameter: Type | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The one argument that a call's positional and keyword arguments stand for; None for a computation without one."""
    count = len(args) + len(kwargs)
    if parameter is None:
        if count:
            raise TypeError(f"{name!r} takes no arguments, {_given(count)}")
        return None
    if count == 1 and args and (not isinstance(parameter, StructType) or _is_struct(args[0], parameter)):
        return args[0]
    if not isinstance(parameter, StructType):
        if kwargs and count == 1:
            raise TypeError(
                f"{name!r} takes one argument, of type {parameter}; pass it without the name {next(iter(kwargs))!r}"
            )
        raise TypeError(f"{name!r} takes one argument, of type {parameter}; {_given(count)}")
    return Struct(_bind(name, parameter.names, args, kwargs))


def _bind(
    name: str, names: tuple[str | None, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str | None, Any]]:
    takes = f"{name!r} takes {_count(len(names))} ({', '.join(field or f'#{i}' for i, field in enumerate(names))})"
    if len(args) > len(names):
        raise TypeError(f"{takes}, {_given(len(args))}")
    twice = [field for field in names[: len(args)] if field in kwargs]
    if twice:
        raise TypeError(f"{takes}; {twice[0]!r} is given twice, by position and by name")
    for field in kwargs:
        if field not in names:
            raise TypeError(f"{takes}; it has none called {field!r}{_names.suggestion(field, names)}")
    missing = [field or f"#{i}" for i, field in enumerate(names) if i >= len(args) and field not in kwargs]
    if missing:
        raise TypeError(f"{takes}; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return [*zip(names, args, strict=False), *((field, kwargs[field]) for field in names[len(args) :] if field)]


def _count(number: int) -> str:
    return "one argument" if number == 1 else f"{number} arguments"


def _given(number: int) -> str:
    return "one was given" if number == 1 else f"{number or 'none'} were given"


def _members(value: Any) -> Members | None:
    """The fields of a container, or of a struct that is not placed as a whole; None if it is neither."""
    kind = value.type_signature if isinstance(value, Value) else None
    return Members(kind.names, tuple(value)) if isinstance(kind, StructType) else members(value)


def _is_struct(value: Any, parameter: StructType) -> bool:
    """Whether a value stands for the whole struct parameter, and not for its first field."""
    if isinstance(value, Value):
        kind = value.type_signature
        inside = isinstance(kind, FederatedType) and isinstance(kind.member, StructType)
        return isinstance(kind, StructType) or (inside and not is_federated(parameter))
    return isinstance(value, Struct | Mapping | list | tuple) or is_dataclass(value)
