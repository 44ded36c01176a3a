"""TensorFlow functions as JAX functions: TensorFlow lowers them to StableHLO, which is read as JAX. No TensorFlow runs
when they do.

Variables that a function reads are inputs of what is read, and variables that it assigns are outputs.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa import stablehlo
from hansa._extras import require
from hansa.language.local import NotCompilable, Spread, tensors
from hansa.stablehlo.sizes import is_symbolic
from hansa.types import StructType, TensorType, Type

if TYPE_CHECKING:
    import tensorflow as tf


def import_tensorflow(what: str) -> ModuleType:
    """TensorFlow.

    Args:
        what: what needs it, for the message.

    Raises:
        ModuleNotFoundError: if it is not installed, with the command that installs it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module: ModuleType = require("tensorflow", "tensorflow", what)
    return module


def converted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the user's as TensorFlow runs it in a graph, where `if` and `for` may depend on tensors."""
    tf = import_tensorflow("a TensorFlow function")
    compiled = isinstance(function, tf.types.experimental.PolymorphicFunction)
    found: Callable[..., Any] = function if compiled else tf.function(function)
    return found


class TensorFlowFunction:
    """A Python function of TensorFlow tensors, for use on JAX arrays.

    It is traced and lowered when its results are asked for: once for batches of all sizes where that is possible, else
    for each combination of shapes.

    Args:
        function: takes the tensors and returns tensors, in any structure of dicts, lists, tuples and None.
        types: the tensors'; the leading size of a batch is `?`.
        name: what messages call it.
        known: gives variables that it may use without reading them, as some optimizers do.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        types: Sequence[TensorType],
        name: str,
        known: Callable[[], Iterable[Any]] = tuple,
    ) -> None:
        self.name = name
        self._known = known
        self._tf = import_tensorflow(f"the TensorFlow function {name!r}")
        self._types = tuple(types)
        self._tree: Any = None
        for kind in types:
            if np.dtype(kind.dtype).kind in "OSUT":
                raise NotCompilable(f"{name!r} takes {kind}: strings cannot be compiled; give the model their numbers")

        def flat(*leaves: Any) -> list[Any]:
            results, self._tree = jax.tree.flatten(_in_order(function(*leaves)))
            return [self._tf.convert_to_tensor(result) for result in results]

        self._function = self._tf.function(flat, jit_compile=True, autograph=False)
        self._sizeless = self._tf.function(flat, autograph=False)
        self._lowered: dict[Any, stablehlo.Module | None] = {}
        self._captured: list[Any] | None = None

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that the function reads or assigns, in order."""
        return [variable for variable in self._captures() if isinstance(variable, self._tf.Variable)]

    @property
    def assigned(self) -> list[tf.Variable]:
        """The variables that it assigns."""
        captured, first = self._captures(), len(self._types)
        return [captured[parameter - first] for parameter in self._any_module().updates.values()]

    def __call__(
        self, leaves: Sequence[Any], variables: Mapping[Any, Any], key: Any
    ) -> tuple[Any, list[tuple[tf.Variable, Any]]]:
        """The function's results, and the variables that it assigned with their new values.

        Args:
            leaves: arrays or tracers of the types, of which the batch may be of symbolic size.
            variables: from the `ref()` of a variable to its value; of one that is not there the value it has now.
            key: a JAX random key, for what the function draws without a seed.
        """
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        module = self._module(shapes)
        captured = [self._value(capture, variables) for capture in self._captures()]
        with jax.enable_x64(True):
            arguments = [
                jnp.asarray(leaf, kind.dtype)
                for leaf, kind in zip([*leaves, *captured], module.main.types, strict=True)
            ]
        try:
            found = stablehlo.evaluate(module, arguments, key)
        except stablehlo.UnsupportedOperation as error:
            raise NotCompilable(f"the TensorFlow function {self.name!r} cannot be compiled: {error}") from None
        first, count = len(self._types), self._tree.num_leaves
        updates = [(self._captures()[parameter - first], found[result]) for result, parameter in module.updates.items()]
        return jax.tree.unflatten(self._tree, found[:count]), updates

    def _value(self, capture: Any, variables: Mapping[Any, Any]) -> Any:
        if isinstance(capture, self._tf.Variable):
            reference = capture.ref()
            return variables[reference] if reference in variables else capture.numpy()
        return capture.numpy()

    def _captures(self) -> list[Any]:
        """The variables, and constants, that the lowered function takes after the arguments."""
        if self._captured is None:
            with self._quiet():
                concrete = self._concrete(stablehlo.SAMPLE_SIZES[0])
            known = (*self._known(), *concrete.graph.variables)
            variables = {id(variable.handle): variable for variable in known}
            captured = [variables.get(id(value), value) for value in concrete.captured_inputs]
            tables = any(getattr(value, "dtype", None) == self._tf.resource for value in captured)
            for operation in _operations(concrete.graph):
                if operation.type in _HOST_OPERATIONS or (tables and operation.type.startswith("LookupTable")):
                    raise self._not_in_xla(operation, "which is not part of XLA")
            self._captured = captured
        return self._captured

    def _concrete(self, size: int) -> Any:
        return self._function.get_concrete_function(*self._specs([_sized(kind.shape, size) for kind in self._types]))

    def _specs(self, shapes: Sequence[Sequence[int | None]]) -> list[Any]:
        return [
            self._tf.TensorSpec(shape, self._tf.as_dtype(kind.dtype))
            for shape, kind in zip(shapes, self._types, strict=True)
        ]

    def _any_module(self) -> stablehlo.Module:
        module = self._for_every_size() if any(None in kind.shape for kind in self._types) else None
        if module is None:
            module = self._module(tuple(_sized(kind.shape, stablehlo.SAMPLE_SIZES[0]) for kind in self._types))
        return module

    def _module(self, shapes: tuple[tuple[Any, ...], ...]) -> stablehlo.Module:
        module = self._for_every_size() if _one_batch(self._types, shapes) else None
        if module is not None:
            return module
        if any(map(is_symbolic, shapes)):
            raise stablehlo.NotSized(f"the function {self.name!r} is another program for each size of a batch")
        if shapes not in self._lowered:
            self._lowered[shapes] = stablehlo.read(self._text(shapes))
        found = self._lowered[shapes]
        assert found is not None
        return found

    def _for_every_size(self) -> stablehlo.Module | None:
        """The module for batches of every size, or None if there is no such."""
        if "every" not in self._lowered:
            try:
                found = stablehlo.read_sized(
                    lambda size: self._text(tuple(_sized(kind.shape, size) for kind in self._types))
                )
                self._lowered["every"] = found if self._is_sizeless() else None
            except stablehlo.NotSized:
                self._lowered["every"] = None
        return self._lowered["every"]

    def _is_sizeless(self) -> bool:
        """Whether Python can trace the function without the sizes. Else it may do another thing for a small batch,
        which those that were compiled do not show.
        """
        try:
            with self._quiet():
                self._sizeless.get_concrete_function(*self._specs([kind.shape for kind in self._types]))
        except Exception:
            return False
        return True

    def _text(self, shapes: Sequence[Sequence[int]]) -> str:
        specs = self._specs(shapes)
        self._captures()
        try:
            with self._quiet():
                return str(self._function.experimental_get_compiler_ir(*specs)(stage="stablehlo"))
        except (self._tf.errors.OpError, ValueError) as error:
            raise self._not_compilable(error, self._function.get_concrete_function(*specs).graph) from error

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without the advice to trace for fewer shapes: here a function is traced for a few on purpose."""
        logger = self._tf.get_logger()
        level = logger.level
        logger.setLevel("ERROR")
        try:
            yield
        finally:
            logger.setLevel(level)

    def _not_compilable(self, error: Exception, graph: Any) -> Exception:
        """What to say of an operation that XLA does not have."""
        named = set(re.findall(r"\b([A-Z]\w+) \(No registered", str(error))) | set(
            re.findall(r"unsupported operations?[^:]*: ?([A-Z]\w+)", str(error))
        )
        for operation in _operations(graph):
            texts = any(tensor.dtype == self._tf.string for tensor in (*operation.inputs, *operation.outputs))
            if operation.type in named or texts:
                return self._not_in_xla(operation, "which handles strings" if texts else "which is not part of XLA")
        return NotCompilable(f"the TensorFlow function {self.name!r} cannot be compiled: {error}")

    def _not_in_xla(self, operation: Any, why: str) -> NotCompilable:
        return NotCompilable(
            f"the TensorFlow function {self.name!r} cannot be compiled: {user_line(operation.traceback)} uses the "
            f"operation {operation.type} ({operation.name!r}), {why}. A round runs without TensorFlow and without "
            "Python; write it with TensorFlow's numeric operations, or prepare the data before"
        )


_HOST_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}


def _operations(graph: Any) -> Iterator[Any]:
    """The operations of a graph, and of the functions that it calls."""
    yield from graph.get_operations()
    for function in getattr(graph, "_functions", {}).values():
        inner = getattr(function, "graph", None)
        if inner is not None:
            yield from _operations(inner)


def user_line(frames: Any) -> str:
    """The innermost line, among those that led somewhere, that is in no library."""
    libraries = (f"{os.sep}tensorflow{os.sep}", f"{os.sep}keras{os.sep}", f"{os.sep}hansa{os.sep}language{os.sep}")
    own = [frame for frame in frames if not any(part in frame.filename for part in libraries)]
    last = (own or list(frames))[-1]
    return f"{last.filename}:{last.lineno}"


def _sized(shape: tuple[int | None, ...], size: int) -> tuple[int, ...]:
    return tuple(size if n is None else n for n in shape)


def _one_batch(types: Sequence[TensorType], shapes: Sequence[Sequence[Any]]) -> bool:
    """Whether the unknown sizes of the types, of which there is one at least, are one and the same size."""
    sizes = [
        size
        for kind, shape in zip(types, shapes, strict=True)
        for known, size in zip(kind.shape, shape, strict=True)
        if known is None
    ]
    return bool(sizes) and all(size is sizes[0] or str(size) == str(sizes[0]) for size in sizes)


def local_function(
    function: Callable[..., Any], name: str, parameter: Type | None, spread: Spread
) -> Callable[..., Any]:
    """A TensorFlow function of a type's parameters, as a JAX function of them."""
    user = converted(function)

    def flat(*leaves: Any) -> Any:
        if parameter is None:
            return user()
        argument = _as_python(parameter, list(leaves))
        if spread is None:
            return user(argument)
        parts = _parts(argument)
        return user(*(parts[i] for i in spread))

    lowered = TensorFlowFunction(flat, tensors(parameter), name)

    def call(*arguments: Any) -> Any:
        results, updates = lowered(jax.tree.leaves(arguments), {}, jax.random.key(0))
        if updates:
            raise NotCompilable(
                f"{name!r} assigns the variable {updates[0][0].name!r}: a tf_computation is a function of its "
                "arguments; return the new value instead"
            )
        return results

    return call


def _as_python(kind: Type, leaves: list[Any]) -> Any:
    """Tensors as the structure that a type was made of: a dict if all fields have names, else a list."""
    if not isinstance(kind, StructType):
        return leaves.pop(0)
    parts = [_as_python(member, leaves) for member in kind]
    if kind.container is not None:
        return kind.container(zip(kind.names, parts, strict=True))
    names = [name for name in kind.names if name is not None]
    return Fields(zip(names, parts, strict=True)) if len(names) == len(parts) else parts


def _in_order(value: Any) -> Any:
    """A result whose dicts keep the order of their entries, which JAX sorts."""
    if isinstance(value, Mapping):
        return OrderedDict((name, _in_order(part)) for name, part in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(_in_order, value))
    return value


def _parts(argument: Any) -> list[Any]:
    return list(argument.values()) if isinstance(argument, Mapping) else list(argument)


class Fields(OrderedDict[str, Any]):
    """A dict whose entries are attributes, too, as TensorFlow functions get structs."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}, but {', '.join(self)}") from None
