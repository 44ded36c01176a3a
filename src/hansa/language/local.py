"""Local computations: a JAX function with a type, traced to a jaxpr for whatever shapes it meets.

A local computation runs at one place on values that are there. Sizes written `?` in its type are symbolic when its
result's type is inferred and known (or symbolic, see `hansa.compiler.padding`) when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from hansa._tracebacks import add_note
from hansa.language.context import Trace, explaining_recursion, tracing
from hansa.language.sizes import batch_symbols, deciding
from hansa.language.unchanged import unchanged
from hansa.language.values import Value, check_trace
from hansa.types import FederatedType, SequenceType, Struct, StructType, TensorType, Type
from hansa.types import names as _names
from hansa.types.dtypes import tensor_notation
from hansa.types.members import members
from hansa.types.mismatch import Mismatch, describe
from hansa.types.narrow import HALVES, misfits, why


@dataclass(frozen=True)
class Traced:
    """A jaxpr from the leaves of the argument to those of the result, and how to put these together."""

    jaxpr: ClosedJaxpr
    result: jax.tree_util.PyTreeDef


Spread = tuple[int, ...] | None
"""Which field of a struct each parameter of a Python function gets; None where its one parameter gets it all."""


class NotCompilable(TypeError):
    """A function does something that cannot be compiled, for any size of batch."""


class LocalFunction:
    """A Python function of JAX values, traced once per combination of argument shapes.

    The function sees 32-bit JAX, as users have it, unless its argument holds 64-bit tensors: then it sees 64-bit JAX.
    With `bits` it always sees 32-bit JAX, and 64-bit tensors are converted for it, or always 64-bit JAX. What it is
    traced to may be used in a 64-bit program either way.

    Args:
        function: the Python function.
        parameter: the type of its argument, or None.
        spread: which field of the argument each of its parameters gets.
        name: its name.
        bits: see above.
        where: `file:line` of the user's code that made it, or an empty string.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        parameter: Type | None,
        spread: Spread,
        name: str,
        bits: int | None = None,
        where: str = "",
    ) -> None:
        self.function = function
        self.bits = bits
        self.parameter = parameter
        self.spread = spread
        self.name = name
        self.where = where
        self._traced: dict[Any, Traced] = {}

    def trace(self, argument: Any) -> Traced:
        """The jaxpr for an argument of arrays, tracers or `jax.ShapeDtypeStruct`s (also of symbolic shape)."""
        leaves = jax.tree.leaves(argument)
        key = tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves)
        if key not in self._traced:
            tree: list[jax.tree_util.PyTreeDef] = []

            def flat(*args: Any) -> list[Any]:
                results, treedef = jax.tree.flatten(self._run(args))
                tree[:] = [treedef]
                return results

            # Without a mesh, even while a program for some devices is traced: the jaxpr is for programs on any.
            nowhere = jax.sharding.use_abstract_mesh(_NO_MESH)
            with jax.enable_x64(True), nowhere, explaining_recursion(self.name), self._explaining(key):
                jaxpr = jax.make_jaxpr(flat)(*(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in key))
            self._traced[key] = Traced(jaxpr, tree[0])
        return self._traced[key]

    @property
    def first_trace(self) -> Traced | None:
        """The jaxpr by which the type of its result was found; None if it has not been traced."""
        return next(iter(self._traced.values()), None)

    @contextmanager
    def _explaining(self, key: Any) -> Iterator[None]:
        """Says which computation an error is from, as that may be called long after it was written."""
        try:
            yield
        except Exception as error:
            remedy = next((remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), "")
            made = f", made at {self.where}" if self.where else ""
            types = [tensor_notation(dtype, shape) for shape, dtype in key]
            shown = ", ".join(types[:_SHOWN]) + (f" and {len(types) - _SHOWN} more" if len(types) > _SHOWN else "")
            given = f", for {shown}" if types else ""
            add_note(error, f"This is the local computation {self.name!r}{made}{given}.{remedy}")
            raise

    def _run(self, leaves: tuple[Any, ...]) -> Any:
        """What the Python function returns for these leaves, as a struct; 64-bit mode must be on."""
        wide = self.bits == 64 or (self.bits is None and any(leaf.dtype.name in HALVES for leaf in leaves))
        if self.bits == 32:
            leaves = tuple(lax.convert_element_type(leaf, HALVES.get(leaf.dtype.name, leaf.dtype)) for leaf in leaves)
        with jax.enable_x64(wide), deciding(), tracing(Trace(self.name, "local computation")):
            return to_struct(self._call(leaves), self.name)

    def passed_on(self) -> Any:
        """In place of each array of the result, the number of the argument's array that it is, unchanged, or -1.

        The function must have been traced, as that of a `LocalComputation` is; for which sizes makes no difference.
        """
        traced = next(iter(self._traced.values()))
        return jax.tree.unflatten(traced.result, unchanged(traced.jaxpr))

    def dependence(self) -> list[frozenset[int]]:
        """For each array of the result, the numbers of the argument's arrays that it may depend on, once traced."""
        jaxpr = next(iter(self._traced.values())).jaxpr.jaxpr
        return _dependence(jaxpr, [frozenset((i,)) for i in range(len(jaxpr.invars))])

    def calls_python(self) -> bool:
        """Whether it calls functions of Python where it runs, which may tell or read anything; once traced."""
        return _calls_python(next(iter(self._traced.values())).jaxpr.jaxpr)

    def eager(self, argument: Any) -> Any:
        """The function's result on arrays, by calling the Python function itself with concrete JAX arrays, untraced.

        Raises:
            ValueError: if a number does not fit the 32 bits that the function computes in.
        """
        for leaf in jax.tree.leaves(argument) if self.bits == 32 else ():
            array = np.atleast_1d(np.asarray(leaf))
            for row in misfits(array)[:1].tolist():
                raise ValueError(f"the argument of {self.name!r} {why(array[row])}")
        with jax.enable_x64(True):
            return self._run(tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(argument)))

    def _call(self, leaves: tuple[Any, ...]) -> Any:
        if self.parameter is None:
            return self.function()
        argument = unflatten(self.parameter, list(leaves))
        if self.spread is None:
            return self.function(argument)
        return self.function(*(argument[i] for i in self.spread))

    def __call__(self, argument: Any) -> Any:
        """The function's result on arrays or tracers; 64-bit mode must be on, as it is while a program is traced."""
        traced = self.trace(argument)
        return jax.tree.unflatten(traced.result, jaxpr_as_fun(traced.jaxpr)(*jax.tree.leaves(argument)))

    def result_type(self) -> Type:
        """The type of the result, by tracing with symbolic sizes, or with two sets of sizes where that fails."""
        if self.parameter is None or all(None not in leaf.shape for leaf in tensors(self.parameter)):
            return _type_of(self.trace(_arguments(self.parameter, lambda i, axis: 0)))
        symbols = batch_symbols()
        try:
            return _type_of(
                self.trace(_arguments(self.parameter, lambda i, axis: symbols[min(axis, len(symbols) - 1)]))
            )
        except NotCompilable:
            raise
        except Exception:
            pass  # Not within the handler: an error of the examples is not to be shown as one that came of this.
        return self._result_type_by_example()

    def _result_type_by_example(self) -> Type:
        def of(size: int) -> Type:
            return _type_of(self.trace(_arguments(self.parameter, lambda i, axis: size + axis)))

        raised = None
        for size, other in ((5, 11), (3, 4), (1, 2)):  # some functions take only so many
            try:
                return _generalise(of(size), of(other))
            except Exception as error:
                raised = raised or error
        assert raised is not None
        raise raised


def _dependence(jaxpr: Jaxpr, given: list[frozenset[int]]) -> list[frozenset[int]]:
    """What the results of a jaxpr depend on, from what its arguments do; that of a loop's or a branch's, on all."""
    known = dict(zip(jaxpr.invars, given, strict=True))
    nothing: frozenset[int] = frozenset()

    def of(variable: Any) -> frozenset[int]:
        return nothing if isinstance(variable, Literal) else known.get(variable, nothing)

    for equation in jaxpr.eqns:
        inputs = [of(variable) for variable in equation.invars]
        called = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "pjit") else None
        if isinstance(called, ClosedJaxpr):
            outputs = _dependence(called.jaxpr, inputs)
        else:
            outputs = [nothing.union(*inputs)] * len(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _calls_python(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr has a callback, in a function that it calls, too."""
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name or "debug" in equation.primitive.name:
            return True
        for each in equation.params.values():
            for part in each if isinstance(each, tuple | list) else (each,):
                inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
                if isinstance(inner, Jaxpr) and _calls_python(inner):
                    return True
    return False


_SHOWN = 4

_REMEDIES: Mapping[type[Exception], str] = MappingProxyType(
    {
        jax.errors.TracerBoolConversionError: " Its values are not known while it is traced, so no `if`, `while`, "
        "`and`, `or` or `not` can depend on them; use jnp.where, jax.lax.cond or jax.lax.while_loop.",
        jax.errors.TracerIntegerConversionError: " Its values are not known while it is traced, so none can be a "
        "Python integer, as range() or a shape need it; use jax.lax.fori_loop, or make it a constant.",
        jax.errors.TracerArrayConversionError: " Its values are not known while it is traced, so none can be a NumPy "
        "array, nor one of TensorFlow; use the functions of jax.numpy, or keras.ops.",
        jax.errors.UnexpectedTracerError: " What was computed in one call was kept, in a list or an attribute, and "
        "used in another; return it, or, in a metric or layer of Keras, keep it in a variable: self.total = "
        "self.add_weight(…), and self.total.assign(…).",
        jax.errors.NonConcreteBooleanIndexError: " The sizes of its arrays cannot depend on data; use jnp.where, or "
        "weights of zero and one, in place of a boolean index.",
        jax.errors.ConcretizationTypeError: " Its values are not known while it is traced, so none can be a Python "
        "number, and no size can depend on them; keep them as arrays.",
    }
)
"""What to write instead, for JAX's errors; the first class that fits counts."""

_NO_MESH = jax.sharding.AbstractMesh((), ())


def tensors(kind: Type | None) -> list[TensorType]:
    """The tensor types in a struct or tensor type, in order."""
    if kind is None:
        return []
    if isinstance(kind, TensorType):
        return [kind]
    if isinstance(kind, StructType):
        return [leaf for member in kind for leaf in tensors(member)]
    if isinstance(kind, FederatedType):
        remedy = "map it over placed values with hansa.federated_map"
    elif isinstance(kind, SequenceType):
        remedy = "give it the type of an element, and use hansa.sequence_map or hansa.sequence_reduce"
    else:
        remedy = "close over functions instead of passing them"
    raise TypeError(f"a local computation takes and returns tensors and structs of tensors, not {kind}; {remedy}")


def is_wide(kind: Type) -> bool:
    """Whether a struct or tensor type holds 64-bit tensors, which 32-bit JAX has not."""
    return any(leaf.dtype.name in HALVES for leaf in tensors(kind))


def unflatten(kind: Type, leaves: list[Any]) -> Any:
    """A value of type `kind` made of `leaves`, which is consumed from the front."""
    if isinstance(kind, StructType):
        pairs = [(name, unflatten(member, leaves)) for name, member in kind.fields]
        return (kind.container or Struct)(pairs)
    return leaves.pop(0)


def _arguments(kind: Type | None, size: Callable[[int, int], Any]) -> Any:
    """Abstract values of a type, with `size(leaf, axis)` for each unknown size."""
    return [
        jax.ShapeDtypeStruct(tuple(size(i, axis) if n is None else n for axis, n in enumerate(leaf.shape)), leaf.dtype)
        for i, leaf in enumerate(tensors(kind))
    ]


def type_of_arrays(value: Any) -> Type:
    """The type of a struct of arrays, which may be of symbolic shape."""
    if isinstance(value, Struct):
        return StructType([(name, type_of_arrays(part)) for name, part in value._items()])
    return TensorType(value.dtype, tuple(n if isinstance(n, int) else None for n in value.shape))


def _type_of(traced: Traced) -> Type:
    leaves = [
        TensorType(aval.dtype, tuple(n if isinstance(n, int) else None for n in aval.shape))
        for aval in traced.jaxpr.out_avals
    ]
    return tree_type(jax.tree.unflatten(traced.result, leaves))


def tree_type(value: Any) -> Type:
    """The type of a canonical result whose leaves are tensor types."""
    if isinstance(value, Struct):
        container = None if type(value) is Struct else type(value)
        return StructType([(name, tree_type(element)) for name, element in value._items()], container=container)
    assert isinstance(value, Type)
    return value


def _generalise(first: Type, second: Type) -> Type:
    """The type with `?` where two examples of it differ."""
    if isinstance(first, StructType) and isinstance(second, StructType):
        members = [(name, _generalise(a, b)) for (name, a), b in zip(first.fields, second, strict=True)]
        return StructType(members, container=first.container)
    assert isinstance(first, TensorType) and isinstance(second, TensorType)
    return TensorType(first.dtype, tuple(a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)))


def to_struct(value: Any, name: str, path: str = "") -> Any:
    """What a local computation returned, as an array or a `Struct` of arrays.

    Dicts, lists, tuples, named tuples and dataclasses become structs; Python scalars become int32, float32 and bool.

    Args:
        value: what it returned, or the part of that at `path`.
        name: the computation's, for messages.
        path: the way to the value.
    """
    returned, at = f"{name!r} returned", f" at {path}" if path else ""
    if isinstance(value, Value):
        check_trace(value, f"what {name!r} returns{at}")
    try:
        found = members(value)
    except Mismatch as mismatch:
        raise mismatch.error(f"what {name!r} returns{path}") from None
    if found is not None:
        parts = zip(found.names, found.values, strict=True)
        pairs = [(field, to_struct(part, name, path + _names.step(field, i))) for i, (field, part) in enumerate(parts)]
        return (type(value) if isinstance(value, Struct) else Struct)(pairs)
    if value is None:
        remedy = "leave the field out" if path else "is a `return` missing?"
        raise TypeError(f"{returned} None{at}: {_RETURNED}; {remedy}")
    if export.is_symbolic_dim(value):
        return jnp.asarray(value, np.int32)
    if isinstance(value, bool | int | float):
        return jnp.asarray(value, {bool: bool, int: np.int32, float: np.float32}[type(value)])
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        remedy = "; return it from the federated computation around it" if isinstance(value, str) else ""
        raise TypeError(f"{returned} {describe(value)}{at}: {_RETURNED}{remedy}")
    return jnp.asarray(value)


_RETURNED = "a local computation must return arrays, or a struct of arrays"
