"""The decorators: from a Python function and its parameter types to a computation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, overload

from hansa.language.computations import Computation, GraphComputation, LocalComputation, PolymorphicComputation
from hansa.language.context import Trace, explaining_recursion, tracing, user_line
from hansa.language.graph import Parameter
from hansa.language.local import LocalFunction, tensors
from hansa.language.values import Value, explaining_values, to_node
from hansa.types import FunctionType, StructType, Type, to_type

Decorated = Callable[[Callable[..., Any]], Any]


@overload
def federated_computation(first: Type | str, /, *types: Any) -> Decorated: ...
@overload
def federated_computation(first: Any, /, *types: Any) -> Any: ...
def federated_computation(*args: Any) -> Any:
    """Makes a computation out of a Python function that composes others.

    The function is called once, with a `Value` for each parameter; the intrinsics and computations that it calls on
    them record a graph. It may hold federated values, or be a local composition (`sequence_reduce` and the like).

    Use it as a decorator with the types of the parameters, `@federated_computation(float32, int32)`; without types,
    `@federated_computation`, for a function without parameters, or one that takes its types from its arguments when it
    is called; or as a function, `federated_computation(function, float32, int32)`.

    Returns:
        A computation with a `type_signature`. Several parameters are one struct parameter, named by the function's own.

    Raises:
        TypeError: if the function's parameters do not fit the types, or it returns None.
    """
    return _decorate(args, "federated_computation", _trace_graph)


@overload
def jax_computation(first: Type | str, /, *types: Any) -> Decorated: ...
@overload
def jax_computation(first: Any, /, *types: Any) -> Any: ...
def jax_computation(*args: Any) -> Any:
    """Makes a local computation out of a JAX function.

    The function gets arrays, and `Struct`s of arrays (with access by name, attribute and index), of the declared types;
    it is traced by JAX, so it must be a pure function of them. It returns an array, or a struct, list, tuple, dict or
    dataclass of arrays. Sizes declared `?` are known only at run time; the leading one of a batch may differ from call
    to call, and the function then sees the true size.

    Used like `federated_computation`.

    Raises:
        TypeError: if the function's parameters do not fit the types, or a type is not made of tensors and structs.
    """
    return _decorate(args, "jax_computation", _trace_local)


_Tracer = Callable[[Callable[..., Any], str, Type | None, bool, str], Computation]


def _decorate(args: tuple[Any, ...], decorator: str, tracer: _Tracer) -> Any:
    if args and _is_function(args[0]):
        return _build(args[0], args[1:], decorator, tracer)
    if not args:
        raise TypeError(f"write @hansa.{decorator} without parentheses, or with the types of the parameters")
    if any(_is_function(arg) for arg in args):
        raise TypeError(f"the function comes first, and its types after it: hansa.{decorator}(function, type, …)")
    types = tuple(to_type(spec) for spec in args)
    return lambda function: _build(function, types, decorator, tracer)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | Type | Value) and not hasattr(value, "dtype")


def _build(function: Any, specs: tuple[Any, ...], decorator: str, tracer: _Tracer) -> Any:
    if isinstance(function, Computation | PolymorphicComputation):
        raise TypeError(
            f"{function.name!r} is a computation already; decorate a Python function with @hansa.{decorator}"
        )
    if not callable(function):
        raise TypeError(f"@hansa.{decorator} decorates a Python function, found {function!r}")
    name = getattr(function, "__name__", type(function).__name__)
    for kind, test in (("generator", inspect.isgeneratorfunction), ("coroutine", inspect.iscoroutinefunction)):
        if test(function):
            raise TypeError(
                f"{name!r} is a {kind} function: a computation is traced by one call, which returns a value; write it "
                f"without `{'yield' if kind == 'generator' else 'async'}`"
            )
    names = _parameter_names(function, name)
    types = tuple(to_type(spec) for spec in specs)
    where = user_line()

    def typed(types: tuple[Type, ...]) -> Computation:
        return _typed(function, name, names, types, tracer, where)

    return PolymorphicComputation(name, len(names), typed, where) if not types and names else typed(types)


def _typed(
    function: Callable[..., Any], name: str, names: list[str], types: tuple[Type, ...], tracer: _Tracer, where: str
) -> Computation:
    if len(types) == 1 and len(names) > 1 and isinstance(types[0], StructType) and len(types[0]) == len(names):
        return tracer(function, name, types[0], True, where)
    if len(types) != len(names):
        has = f"{_plural(len(names), 'parameter')} ({', '.join(names)})" if names else "no parameters"
        method = "; it seems to be a method: decorate a function without `self`" if names[:1] == ["self"] else ""
        raise TypeError(
            f"{name!r} has {has}, but is given {_plural(len(types), 'type')}: {', '.join(map(str, types))}{method}"
        )
    if not types:
        return tracer(function, name, None, False, where)
    if len(types) == 1:
        return tracer(function, name, types[0], False, where)
    return tracer(function, name, StructType(zip(names, types, strict=True)), True, where)


def _plural(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def _parameter_names(function: Callable[..., Any], name: str) -> list[str]:
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{name!r} takes {parameter}: a computation has a fixed number of typed parameters; name them "
                "one by one, "
                f"or wrap it: lambda a, b: {name if name.isidentifier() else 'f'}(a, b)"
            )
        if parameter.default is not parameter.empty:
            raise TypeError(
                f"the parameter {parameter.name!r} of {name!r} has a default: a computation has none; close over the "
                "value instead, "
                "or pass it"
            )
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(f"the parameter {parameter.name!r} of {name!r} is keyword-only; make it positional")
        names.append(parameter.name)
    return names


def _trace_graph(
    function: Callable[..., Any], name: str, parameter: Type | None, unpack: bool, where: str
) -> Computation:
    with tracing(Trace(name, "federated computation")) as trace:
        node = None if parameter is None else Parameter(parameter, where=where)
        with explaining_recursion(name), explaining_values(name):
            if node is None:
                result = function()
            else:
                value = Value(node, trace)
                result = function(*value) if unpack else function(value)
        if result is None:
            raise TypeError(f"{name!r} returned None: a computation must return a value; is a `return` missing?")
        return GraphComputation(name, node, to_node(result, what=f"what {name!r} returns"), where)


def narrow_computation(*types: Type) -> Decorated:
    """`jax_computation` for a function that is to see 32-bit JAX whatever it is given: 64-bit tensors are converted.

    For functions that Hansa wraps around a user's model, which keeps its dtypes beside 64-bit labels.
    """
    return lambda function: _build(function, types, "jax_computation", partial(_trace_local, bits=32))


def wide_computation(*types: Type) -> Decorated:
    """`jax_computation` for a function that is to see 64-bit JAX whatever it is given."""
    return lambda function: _build(function, types, "jax_computation", partial(_trace_local, bits=64))


def tf_computation(*args: Any) -> Any:
    """Makes a local computation out of a TensorFlow function.

    The function gets tensors, and structs of tensors (dicts, lists, or whatever the declared types say), and returns a
    tensor, or a struct, list, tuple or dict of tensors. TensorFlow compiles it to StableHLO when it is traced, and does
    not run afterwards. Variables that it reads are constants, and so are random numbers that have no seed. What asks
    for the size of a batch as a Python number, `x.shape[0]`, is compiled for each size; `tf.shape(x)[0]` is for every
    size. Otherwise like `jax_computation`.

    Raises:
        ImportError: if TensorFlow is not installed.
        TypeError: if the function's parameters do not fit the types, or it does what cannot be compiled; the message
            names the operation and the line.
    """
    return _decorate(args, "tf_computation", _trace_tensorflow)


def _trace_tensorflow(
    function: Callable[..., Any], name: str, parameter: Type | None, unpack: bool, where: str
) -> Computation:
    from hansa.language.tensorflow import local_function

    return _trace_local(local_function(function, name, parameter, unpack), name, parameter, unpack, where, bits=64)


def _trace_local(
    function: Callable[..., Any],
    name: str,
    parameter: Type | None,
    unpack: bool,
    where: str,
    bits: int | None = None,
) -> Computation:
    _refuse_strings(name, parameter)
    local = LocalFunction(function, parameter, unpack, name, bits, where)
    return LocalComputation(local, FunctionType(parameter, local.result_type()))


def _refuse_strings(name: str, parameter: Type | None) -> None:
    if any(leaf.dtype.kind == "U" for leaf in tensors(parameter)):
        raise TypeError(
            f"the local computation {name!r} takes {parameter}, but strings cannot be computed with; give it the other "
            "fields only, or a number for each string"
        )
