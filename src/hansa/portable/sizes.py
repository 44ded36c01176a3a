"""Looks at a function again when the sizes of its arguments are known, and with them all sizes in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import export
from jax._src.interpreters import mlir  # the only place that says what sizes a module has for arguments of known sizes

from hansa.portable import calls, windows
from hansa.portable.tensors import Refused, Tensor, tensor


def check_at(exported: export.Exported, shapes: Sequence[jax.ShapeDtypeStruct]) -> None:
    """Looks at the sizes of all values in a function, and at its calls of outside code, for arguments of these shapes.

    Raises:
        Refused: if a value is too large, or a call has sizes that JAX would not give it, or the arguments do not tell.
    """
    module: Any = jax.jit(lambda *arrays: exported.call(*arrays)).lower(*shapes).compiler_ir("stablehlo")
    try:
        refined = mlir.refine_polymorphic_shapes(module)
    except ValueError as error:
        raise Refused(f"sizes that do not follow of those of its arguments: {error.__cause__ or error}") from error
    regions = list(refined.operation.regions)
    while regions:
        for block in regions.pop().blocks:
            for view in block.operations:
                operation = view.operation
                regions.extend(operation.regions)
                results = _tensors(operation.results)
                if operation.name == "stablehlo.custom_call":
                    _call(operation, results)
                windows.check(operation, _tensors(operation.operands))


def _call(operation: Any, results: list[Tensor]) -> None:
    if calls.check(operation.attributes, _tensors(operation.operands), results):
        raise Refused(f"a call of {operation.attributes['call_target_name']} whose sizes the arguments do not tell")


def _tensors(values: Any) -> list[Tensor]:
    return [tensor(str(value.type)) for value in values]
