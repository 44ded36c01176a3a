"""Evaluates a StableHLO module with JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from hansa.stablehlo import reductions  # noqa: F401 (it registers its rules)
from hansa.stablehlo.module import Block, Module
from hansa.stablehlo.operations import RULES, UnsupportedOperation
from hansa.stablehlo.sizes import Constant, Range, Size, batch_size, dimension_at


def evaluate(module: Module, arguments: Sequence[Any], key: Any) -> list[Any]:
    """The results of a module's main function.

    Args:
        module: as `read` or `read_sized` gives it.
        arguments: arrays or tracers of the types of its parameters; the batch may be of symbolic size if the module is
            for every size.
        key: a JAX random key, for the random numbers that the function draws from no state of its own.

    Raises:
        UnsupportedOperation: if an operation has no counterpart in JAX; the message names it and where it comes from.
    """
    with jax.enable_x64(True):  # the module says which dtype each value has
        return _Scope(module, batch_size(module, arguments), key).run(module.main, *arguments)


class _Scope:
    """The values of the functions and regions that are being evaluated."""

    def __init__(self, module: Module, b: Any, key: Any) -> None:
        self._module, self._b, self._key = module, b, key
        self._draws = 0
        self._values: dict[int, Any] = {}

    def shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(dimension_at(size, self._b) for size in shape)

    def at(self, value: Any) -> Any:
        return value.at(self._b) if isinstance(value, Constant | Range | Size) else value

    def key(self) -> Any:
        self._draws += 1
        return jax.random.fold_in(self._key, self._draws)

    @contextmanager
    def keyed(self, key: Any) -> Iterator[None]:
        outer, self._key = self._key, key
        try:
            yield
        finally:
            self._key = outer

    def draws(self, block: Block) -> bool:
        return any(
            operation.name == "stablehlo.rng"
            or (operation.name == "func.call" and self.draws(self._module.functions[operation.attributes["callee"]]))
            or any(map(self.draws, operation.regions))
            for operation in block.operations
        )

    def call(self, name: str, *arguments: Any) -> list[Any]:
        outer, self._values = self._values, {}
        try:
            return self.run(self._module.functions[name], *arguments)
        finally:
            self._values = outer

    def run(self, block: Block, *arguments: Any) -> list[Any]:
        values = self._values
        values.update(zip(block.parameters, arguments, strict=True))
        for operation in block.operations:
            rule = RULES.get(operation.name)
            what = f"{operation.name}" + (f", which is {operation.where!r} in the function" if operation.where else "")
            if rule is None:
                raise UnsupportedOperation(f"the operation {what}")
            try:
                found = rule(self, operation, *(values[number] for number in operation.operands))
            except UnsupportedOperation as error:
                raise UnsupportedOperation(f"{error}: {what}") from None
            results = found if isinstance(found, list) else [found]
            values.update(zip(operation.results, results, strict=True))
        return [values[number] for number in block.returned]
