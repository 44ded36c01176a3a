"""Stages and aggregates as StableHLO: what a computation that was read from a file is made of.

Such a computation is a graph like any other, in which one node stands for all that a stage computes: a stage is a
function of placed values, applied like a federated computation, and an aggregate is an operation with its fold. So what
partitions graphs, runs programs and explains them need not know where a computation comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt
from jax import export, lax
from jax.export import Exported

from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.boundary import flatten, unflatten
from hansa.language.computations import Runnable
from hansa.portable.sizes import check_at
from hansa.portable.tensors import Refused
from hansa.types import FederatedType, FunctionType, Struct, StructType, Type


class Vectorised(NamedTuple):
    """A function's work for several clients at once.

    Attributes:
        function: takes and gives stacks, with an axis for the client first, of what is another one for each client.
        varying: which arguments those are; all results are.
        clients: for how many clients it is; None if for any number.
    """

    function: StoredFunction
    varying: tuple[bool, ...]
    clients: int | None

    def takes(self, size: int, stacked: Sequence[bool]) -> bool:
        """Whether it is for so many clients, of which these arguments differ."""
        fits = self.clients in (None, size)
        return fits and all(may for is_, may in zip(stacked, self.varying, strict=True) if is_)


ReadArray = Callable[[], npt.NDArray[Any]]
"""Gives an array that is not in memory before it is needed."""


class StoredFunction:
    """A function of arrays, exported from JAX.

    Args:
        exported: takes the constants and then the arguments, and returns a sequence of arrays.
        constants: the arrays that it is given first, each read when the function is called for the first time.
        vectorised: the same for several clients at once; without it, `jax.vmap` works on one after another.
        is_open: says whether it has sizes to look at when they are known.
    """

    def __init__(
        self,
        exported: Exported,
        constants: tuple[ReadArray, ...],
        vectorised: Vectorised | None = None,
        is_open: Callable[[], bool] = lambda: False,
    ) -> None:
        self.exported = exported
        self.constants = constants
        self.vectorised = vectorised
        self._is_open = is_open
        self._looked_at: set[tuple[tuple[int, ...], ...]] = set()
        self._on_device: list[Any] | None = None

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """The results; 64-bit mode must be on."""
        call = jax.custom_batching.custom_vmap(lambda *arrays: self._call(arrays))
        call.def_vmap(self._batched)
        return list(call(*arrays))

    def _call(self, arrays: Sequence[Any]) -> list[Any]:
        if self._on_device is None:
            with jax.ensure_compile_time_eval():
                self._on_device = [jax.device_put(read()) for read in self.constants]
        given = [*self._on_device, *arrays]
        if self._is_open():
            self._look_at(given)
        return list(self.exported.call(*given))

    def _look_at(self, given: list[Any]) -> None:
        """Looks at what could not be looked at without sizes. With symbolic ones it is to be saved, and comes back."""
        shapes = tuple(array.shape for array in given)
        if shapes not in self._looked_at and not any(export.is_symbolic_dim(n) for shape in shapes for n in shape):
            try:
                check_at(self.exported, [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in given])
            except Refused as error:
                raise ArtifactError(f"the function {self.exported.fun_name!r} of a file has {error}") from error
            self._looked_at.add(shapes)

    def _batched(self, size: int, stacked: list[bool], *arrays: Any) -> tuple[list[Any], list[bool]]:
        """The rule for `jax.vmap`: the results for arguments some of which are stacks."""
        several = self.vectorised
        if several is not None and several.takes(size, stacked):
            given = [
                lax.broadcast(array, (size,)) if may and not is_ else array
                for array, is_, may in zip(arrays, stacked, several.varying, strict=True)
            ]
            results = several.function(given)
        else:
            results = lax.map(lambda i: self(_at(arrays, stacked, i)), jnp.arange(size))
        return results, [True] * len(results)


def _at(arrays: Sequence[Any], stacked: Sequence[bool], i: Any) -> list[Any]:
    return [array[i] if is_ else array for array, is_ in zip(arrays, stacked, strict=True)]


def narrow_paths(found: dict[str, Any]) -> frozenset[tuple[int, ...]]:
    """The paths of tensors that a stage in a manifest converts to 32 bits; older files do not say."""
    return frozenset(tuple(map(int, path)) for path in found.get("narrow", ()))


class StoredStage(Runnable):
    """What a stage computes, or a part of it: `(<A,B,…> -> <C,D,…>)`, or `( -> <C,D,…>)`.

    Args:
        name: as in messages.
        signature: its type; the values are all placed, or none is.
        function: from the arrays of the arguments to those of the results, as in `boundary`.
        output_names: what the results are called, for people.
        narrow: the paths of tensors that it converts to 32 bits, after the number of the argument.
    """

    def __init__(
        self,
        name: str,
        signature: FunctionType,
        function: StoredFunction,
        output_names: tuple[str, ...],
        narrow: frozenset[tuple[int, ...]] = frozenset(),
    ) -> None:
        super().__init__(name, signature)
        self.narrow = narrow
        self.function = function
        self.output_names = output_names

    def run(self, argument: Any) -> Struct:
        """The results, from a struct of the arguments or None."""
        parameter, result = self.type_signature.parameter, self.type_signature.result
        arrays = [] if parameter is None else flatten(unplaced(parameter), argument)
        values: Struct = unflatten(unplaced(result), iter(self.function(arrays)))
        return values


class StoredFold(Runnable):
    """How contributions become a value at the server: `(<T,U,…> -> R)`, from one client's contributions to the report.

    Args:
        name: the operation's, for people.
        signature: its type, unplaced.
        start: the type of the value that the state of no clients is made from, or None.
        functions: zero, accumulate, merge and report, of the arrays of states, contributions and results.
        collective: see `hansa.compiler.aggregates.Aggregate`.
    """

    def __init__(
        self,
        name: str,
        signature: FunctionType,
        start: Type | None,
        functions: tuple[StoredFunction, StoredFunction, StoredFunction, StoredFunction],
        collective: str | None,
    ) -> None:
        super().__init__(name, signature)
        self.start = start
        self.functions = functions
        self.collective = collective

    @property
    def contributions(self) -> tuple[Type, ...]:
        """The types of what each client gives."""
        parameter = self.type_signature.parameter
        assert isinstance(parameter, StructType)
        return tuple(parameter)

    def zero(self, start: Any) -> list[Any]:
        """The state of no clients."""
        return self.functions[0]([] if self.start is None else flatten(self.start, start))

    def accumulate(self, state: list[Any], given: list[Any]) -> list[Any]:
        """The state with one more client's contributions."""
        arrays = [a for kind, value in zip(self.contributions, given, strict=True) for a in flatten(kind, value)]
        return self.functions[1]([*state, *arrays])

    def merge(self, a: list[Any], b: list[Any]) -> list[Any]:
        """The state of two groups of clients."""
        return self.functions[2]([*a, *b])

    def report(self, state: list[Any]) -> Any:
        """The result."""
        return unflatten(self.type_signature.result, iter(self.functions[3](state)))


def unplaced(kind: Type) -> Type:
    """A type without its placements: that of the values at one place."""
    if isinstance(kind, FederatedType):
        return kind.member
    if isinstance(kind, StructType):
        return StructType([(name, unplaced(field)) for name, field in kind.fields], container=kind.container)
    return kind
