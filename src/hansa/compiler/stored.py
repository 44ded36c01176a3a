"""Stages and aggregates as StableHLO: what a computation that was read from a file is made of.

Such a computation is a graph like any other, in which one node stands for all that a stage computes: a stage is a
function of placed values, applied like a federated computation, and an aggregate is an operation with its fold. So what
partitions graphs, runs programs and explains them need not know where a computation comes from.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy.typing as npt
from jax.export import Exported

from hansa.compiler.boundary import flatten, unflatten
from hansa.language.computations import Computation
from hansa.types import FederatedType, FunctionType, Struct, StructType, Type


class StoredFunction:
    """A function of arrays, exported from JAX.

    Args:
        exported: takes the constants and then the arguments, and returns a sequence of arrays.
        constants: the arrays that it is given first.
    """

    def __init__(self, exported: Exported, constants: tuple[npt.NDArray[Any], ...]) -> None:
        self.exported = exported
        self.constants = constants
        self._on_device: list[Any] | None = None

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """The results; 64-bit mode must be on."""
        if self._on_device is None:
            with jax.ensure_compile_time_eval():
                self._on_device = [jnp.asarray(array) for array in self.constants]
        return list(self.exported.call(*self._on_device, *arrays))


class StoredStage(Computation):
    """What a stage computes, or a part of it: `(<A,B,…> -> <C,D,…>)`, or `( -> <C,D,…>)`.

    Args:
        name: as in messages.
        signature: its type; the values are all placed, or none is.
        function: from the arrays of the arguments to those of the results, as in `boundary`.
        output_names: what the results are called, for people.
    """

    def __init__(
        self, name: str, signature: FunctionType, function: StoredFunction, output_names: tuple[str, ...]
    ) -> None:
        super().__init__(name, signature)
        self.function = function
        self.output_names = output_names

    def run(self, argument: Any) -> Struct:
        """The results, from a struct of the arguments or None."""
        parameter, result = self.type_signature.parameter, self.type_signature.result
        arrays = [] if parameter is None else flatten(unplaced(parameter), argument)
        values: Struct = unflatten(unplaced(result), iter(self.function(arrays)))
        return values


class StoredFold(Computation):
    """How contributions become a value at the server: `(<T,U,…> -> R)`, from one client's contributions to the report.

    Args:
        name: the operation's, for people.
        signature: its type, unplaced.
        start: the type of the value that the state of no clients is made from, or None.
        functions: zero, accumulate, merge and report, of the arrays of states, contributions and results.
        collective: see `hansa.compiler.aggregates.Aggregate`.
        protected: see there.
    """

    def __init__(
        self,
        name: str,
        signature: FunctionType,
        start: Type | None,
        functions: tuple[StoredFunction, StoredFunction, StoredFunction, StoredFunction],
        collective: str | None,
        protected: bool,
    ) -> None:
        super().__init__(name, signature)
        self.start = start
        self.functions = functions
        self.collective = collective
        self.protected = protected

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
