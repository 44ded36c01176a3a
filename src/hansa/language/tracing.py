"""The decorators: from a Python function and its parameter types to a computation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np

from hansa._tracebacks import boundary
from hansa.language.binding import fields_of_parameters, parameter_names, signature_by_fields
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation, PolymorphicComputation
from hansa.language.context import Trace, explaining_recursion, tracing, user_line
from hansa.language.functions import FunctionalComputation, Given, data_type, handed, takes_functions
from hansa.language.graph import Parameter
from hansa.language.local import LocalFunction, Spread, tensors
from hansa.language.values import Value, explaining_values, to_node
from hansa.types import FunctionType, Struct, StructType, Type, to_type

Spec: TypeAlias = "Type | str | type | np.dtype[Any] | Struct | Mapping[str, Spec] | Sequence[Spec]"
"""What describes the type of a parameter; `to_type` reads it, and some more."""
Decorated: TypeAlias = Callable[[Callable[..., Any]], Any]
Typed: TypeAlias = Callable[[Callable[..., Any]], Computation]


@overload
def federated_computation() -> Decorated: ...
@overload
def federated_computation(first: Spec, /, *types: Spec) -> Typed: ...  # type: ignore[overload-overlap]
@overload
def federated_computation(function: Callable[..., object], /) -> Computation | PolymorphicComputation: ...
@overload
def federated_computation(function: Callable[..., object], first: Spec, /, *types: Spec) -> Computation: ...
def federated_computation(*args: Any) -> Any:
    """Makes a computation out of a Python function that composes others.

    The function is called once, with a `Value` for each parameter; the intrinsics and computations that it calls on
    them record a graph. It may hold federated values, or be a local composition (`sequence_reduce` and the like).

    Use it as a decorator with the types of the parameters, `@federated_computation(float32, int32)`; without types,
    `@federated_computation` or `@federated_computation()`, for a function without parameters, or one that takes its
    types from its arguments when it is called; or as a function, `federated_computation(function, float32, int32)`.

    One struct type for a function of several parameters is spread over them: a named field goes to the parameter of its
    name, a field without a name to the parameter at its place. A function of one parameter gets the struct itself.

    Returns:
        A computation with a `type_signature`, and the function's docstring. Several parameters are one struct
        parameter, named by the function's own.

    Raises:
        TypeError: if the function's parameters do not fit the types, or it returns None.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def warmest(readings):
        ...     return hansa.federated_max(readings)
        >>> print(warmest.type_signature)
        ({float32}@CLIENTS -> float32@SERVER)
        >>> warmest([18.5, 23.5])
        np.float32(23.5)
    """
    return _decorate(args, "federated_computation", _trace_graph)


@overload
def jax_computation() -> Decorated: ...
@overload
def jax_computation(first: Spec, /, *types: Spec) -> Typed: ...  # type: ignore[overload-overlap]
@overload
def jax_computation(function: Callable[..., object], /) -> Computation | PolymorphicComputation: ...
@overload
def jax_computation(function: Callable[..., object], first: Spec, /, *types: Spec) -> Computation: ...
def jax_computation(*args: Any) -> Any:
    """Makes a local computation out of a JAX function.

    The function gets arrays, and `Struct`s of arrays (with access by name, attribute and index), of the declared types;
    it is traced by JAX, so it must be a pure function of them. It returns an array, or a struct, list, tuple, dict or
    dataclass of arrays. Sizes declared `?` are known only at run time; the leading one of a batch may differ from call
    to call, and the function then sees the true size.

    Used like `federated_computation`.

    Raises:
        TypeError: if the function's parameters do not fit the types, or a type is not made of tensors and structs.

    Examples:
        >>> @hansa.jax_computation("float32[?]", "float32")
        ... def share_above(readings, threshold):
        ...     return jnp.mean(readings > threshold)
        >>> print(share_above.type_signature)
        (<readings=float32[?],threshold=float32> -> float32)
        >>> share_above([18.5, 21.0, 23.5], 20.0)
        np.float32(0.6666667)
    """
    return _decorate(args, "jax_computation", _trace_local)


_Tracer = Callable[[Callable[..., Any], str, Type | None, Spread, str], Computation]
_C = TypeVar("_C", Computation, PolymorphicComputation)


def _decorate(args: tuple[Any, ...], decorator: str, tracer: _Tracer) -> Any:
    if args and _is_function(args[0]):
        return _build(args[0], args[1:], decorator, tracer)
    if any(_is_function(arg) for arg in args):
        raise TypeError(f"the function comes first, and its types after it: hansa.{decorator}(function, type, …)")
    types = tuple(to_type(spec) for spec in args)
    return boundary(lambda function: _build(function, types, decorator, tracer))


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | Type | Value) and not hasattr(value, "dtype")


def _build(function: Any, specs: tuple[Any, ...], decorator: str, tracer: _Tracer) -> Any:
    if isinstance(function, Computation | PolymorphicComputation):
        raise TypeError(
            f"{function.name!r} is a computation already; decorate a Python function with @hansa.{decorator}"
        )
    if not callable(function):
        raise TypeError(f"@hansa.{decorator} decorates a Python function, found {function!r}")
    named = _named(function)
    name = getattr(named, "__name__", type(named).__name__)
    for kind, test in (("generator", inspect.isgeneratorfunction), ("coroutine", inspect.iscoroutinefunction)):
        if test(function):
            raise TypeError(
                f"{name!r} is a {kind} function: a computation is traced by one call, which returns a value; write it "
                f"without `{'yield' if kind == 'generator' else 'async'}`"
            )
    names = parameter_names(function, name)
    types = tuple(to_type(spec) for spec in specs)
    where = user_line()

    def typed(types: tuple[Type, ...]) -> Computation:
        return _dressed(_typed(function, name, names, types, tracer, where), function)

    if types or not names:
        return typed(types)
    return _dressed(PolymorphicComputation(name, names, typed, where), function)


def _named(function: Any) -> Any:
    """The function that a `functools.partial` was made of."""
    while isinstance(function, partial):
        function = function.func
    return function


def _dressed(computation: _C, function: Any) -> _C:
    """The computation with what `help` and `inspect` ask for: the function's docstring, module, names and itself."""
    update_wrapper(computation, _named(function), updated=())
    computation.__wrapped__ = function
    return computation


def _typed(
    function: Callable[..., Any],
    name: str,
    names: tuple[str, ...],
    types: tuple[Type, ...],
    tracer: _Tracer,
    where: str,
) -> Computation:
    if len(types) == 1 and len(names) == 1:
        return tracer(function, name, types[0], None, where)
    if len(types) == 1 and len(names) > 1 and isinstance(types[0], StructType):
        spread = fields_of_parameters(name, names, types[0])
        computation = tracer(function, name, types[0], spread, where)
        computation.__signature__ = signature_by_fields(function, spread)
        return computation
    if len(types) != len(names):
        has = f"{_plural(len(names), 'parameter')} ({', '.join(names)})" if names else "no parameters"
        method = "; it seems to be a method: decorate a function without `self`" if names[:1] == ("self",) else ""
        given = ", ".join(kind.compact() for kind in types)
        raise TypeError(f"{name!r} has {has}, but is given {_plural(len(types), 'type')}: {given}{method}")
    if not types:
        return tracer(function, name, None, None, where)
    return tracer(function, name, StructType(zip(names, types, strict=True)), tuple(range(len(names))), where)


def _plural(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def _trace_graph(
    function: Callable[..., Any], name: str, parameter: Type | None, spread: Spread, where: str
) -> Computation:
    def traced(given: Given) -> GraphComputation:
        with tracing(Trace(name, "federated computation")) as trace:
            data = None if parameter is None else data_type(parameter)
            node = None if data is None else Parameter(data, where=where)
            with explaining_recursion(name), explaining_values(name):
                if parameter is None:
                    result = function()
                else:
                    value = handed(parameter, node, given, trace)
                    result = function(value) if spread is None else function(*(value[i] for i in spread))
            if result is None:
                raise TypeError(f"{name!r} returned None: a computation must return a value; is a `return` missing?")
            return GraphComputation(name, node, to_node(result, what=f"what {name!r} returns"), where)

    if parameter is not None and takes_functions(parameter):
        return FunctionalComputation(name, parameter, where, traced)
    return traced(None)


def narrow_computation(*types: Type) -> Decorated:
    """`jax_computation` for a function that is to see 32-bit JAX whatever it is given: 64-bit tensors are converted.

    For functions that Hansa wraps around a user's model, which keeps its dtypes beside 64-bit labels.
    """
    return lambda function: _build(function, types, "jax_computation", partial(_trace_local, bits=32))


def wide_computation(*types: Type) -> Decorated:
    """`jax_computation` for a function that is to see 64-bit JAX whatever it is given."""
    return lambda function: _build(function, types, "jax_computation", partial(_trace_local, bits=64))


@overload
def tf_computation() -> Decorated: ...
@overload
def tf_computation(first: Spec, /, *types: Spec) -> Typed: ...  # type: ignore[overload-overlap]
@overload
def tf_computation(function: Callable[..., object], /) -> Computation | PolymorphicComputation: ...
@overload
def tf_computation(function: Callable[..., object], first: Spec, /, *types: Spec) -> Computation: ...
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

    Examples:
        >>> import tensorflow as tf
        >>> @hansa.tf_computation("float32[?]")
        ... def norm(x):
        ...     return tf.sqrt(tf.reduce_sum(x * x))
        >>> norm([3.0, 4.0])
        np.float32(5.0)
    """
    return _decorate(args, "tf_computation", _trace_tensorflow)


def _trace_tensorflow(
    function: Callable[..., Any], name: str, parameter: Type | None, spread: Spread, where: str
) -> Computation:
    from hansa.language.tensorflow import local_function

    return _trace_local(local_function(function, name, parameter, spread), name, parameter, None, where, bits=64)


def _trace_local(
    function: Callable[..., Any],
    name: str,
    parameter: Type | None,
    spread: Spread,
    where: str,
    bits: int | None = None,
) -> Computation:
    _refuse_strings(name, parameter)
    local = LocalFunction(function, parameter, spread, name, bits, where)
    return LocalComputation(local, FunctionType(parameter, local.result_type()))


def _refuse_strings(name: str, parameter: Type | None) -> None:
    if any(leaf.dtype.kind == "U" for leaf in tensors(parameter)):
        raise TypeError(
            f"the local computation {name!r} takes {parameter}, but strings cannot be computed with; give it the other "
            "fields only, or a number for each string"
        )
