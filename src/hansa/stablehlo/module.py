"""A StableHLO module as plain data: operations with Python attributes, values numbered in the order of definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir


@dataclass(frozen=True)
class Tensor:
    """The type of a value. Sizes are integers, or `sizes.Size`s in a module for batches of every size."""

    shape: tuple[Any, ...]
    dtype: Any


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: with its dialect, `stablehlo.add`.
        operands: the numbers of the values that it takes.
        results: the numbers of the values that it gives.
        types: the types of the results that are tensors.
        attributes: by name, as Python numbers, strings, tuples, dicts and NumPy arrays.
        regions: the functions that it holds.
        where: where it comes from in the program that was compiled.
    """

    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[Tensor, ...]
    attributes: dict[str, Any]
    regions: tuple[Block, ...]
    where: str


@dataclass(frozen=True)
class Block:
    """A function: its parameters, operations in order, and the numbers of the values that it returns."""

    parameters: tuple[int, ...]
    types: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    returned: tuple[int, ...]


@dataclass(frozen=True)
class Module:
    """Functions by name, of which `main` is the one that is called.

    Attributes:
        functions: by name.
        updates: for each result of `main` that is the new value of a parameter, the number of that parameter.
    """

    functions: dict[str, Block]
    updates: dict[int, int]

    @property
    def main(self) -> Block:
        """The function that is called."""
        return self.functions["main"]


def read(text: str) -> Module:
    """The module that a text holds."""
    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        # Names hold counters that differ from one compilation to the next.
        names = [ir.StringAttr(operation.attributes["sym_name"]).value for operation in module.body.operations]
        plain = {name: "main" if name == "main" else f"function_{i}" for i, name in enumerate(names)}
        functions = {
            plain[name]: _Reader(plain).block(operation.regions[0].blocks[0])
            for name, operation in zip(names, module.body.operations, strict=True)
        }
        notes = {named.name: named.attr for named in _named(module.operation.attributes)}
        return Module(functions, dict(map(_update, notes.get("mhlo.input_output_alias", ()))))


def _update(alias: Any) -> tuple[int, int]:
    fields = ir.DictAttr(alias)
    source = ir.DictAttr(fields["alias"])
    output = list(ir.DenseI64ArrayAttr(fields["output_index"]))
    return (output[0] if output else 0), ir.IntegerAttr(source["parameter_number"]).value


class _Reader:
    """Reads one function, whose values it numbers."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._numbers: dict[Any, int] = {}
        self._constants: dict[int, Any] = {}

    def block(self, block: Any) -> Block:
        """The block, and those in it."""
        parameters = tuple(map(self._number, block.arguments))
        types = tuple(_type(argument.type) for argument in block.arguments)
        *operations, last = list(block.operations)
        read = tuple(self._operation(view.operation) for view in operations)
        return Block(parameters, types, read, tuple(self._numbers[value] for value in last.operands))

    def _operation(self, operation: Any) -> Operation:
        operands = tuple(self._numbers[value] for value in operation.operands)
        results = tuple(map(self._number, operation.results))
        types = tuple(_type(value.type) for value in operation.results if not _is(value.type, ir.TupleType))
        if operation.name == "stablehlo.constant" and types[0].dtype.kind in "cV":  # the bindings have no access to it
            attributes = {"value": _elements_in_text(str(operation), types[0])}
        else:
            attributes = {
                named.name: _attribute(named.attr)
                for named in _named(operation.attributes)
                if not named.name.startswith(("mhlo.", "xla_"))  # notes for the compiler
            }
        if operation.name == "stablehlo.constant":
            self._constants[results[0]] = attributes["value"]
        if operation.name == "stablehlo.set_dimension_size":
            known = self._constants.get(operands[1])
            attributes["whole"] = known is not None and known == types[0].shape[attributes["dimension"]]
        if "callee" in attributes:
            attributes["callee"] = self._names[attributes["callee"]]
        regions = tuple(self.block(region.blocks[0]) for region in operation.regions)
        return Operation(operation.name, operands, results, types, attributes, regions, _where(operation.location))

    def _number(self, value: Any) -> int:
        self._numbers[value] = len(self._numbers)
        return self._numbers[value]


def _named(attributes: Any) -> Iterator[Any]:
    # Its iterator yields attributes in some versions of the bindings and names in others.
    for i in range(len(attributes)):
        yield attributes[i]


def _where(location: Any) -> str:
    """The name that the framework gave the operation, which is the last in JAX's notation of a fused location."""
    text = str(location)
    names = [part for part in text.split('"')[1::2] if not part.endswith(".py")]
    return names[0] if names else ""


_DTYPES = {
    "index": np.int64, "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "ui8": np.uint8, "ui16": np.uint16, "ui32": np.uint32, "ui64": np.uint64,
    "f16": np.float16, "bf16": jnp.bfloat16, "f32": np.float32, "f64": np.float64,
    "complex<f32>": np.complex64, "complex<f64>": np.complex128,
}  # fmt: skip


def _type(kind: Any) -> Tensor:
    if not isinstance(kind, ir.RankedTensorType):
        kind = ir.RankedTensorType(kind)
    return Tensor(tuple(kind.shape), np.dtype(_DTYPES[str(kind.element_type)]))


_STRUCTURED: dict[type, tuple[str, ...]] = {
    stablehlo.DotDimensionNumbers: (
        "lhs_batching_dimensions", "rhs_batching_dimensions",
        "lhs_contracting_dimensions", "rhs_contracting_dimensions",
    ),
    stablehlo.ConvDimensionNumbers: (
        "input_batch_dimension", "input_feature_dimension", "input_spatial_dimensions",
        "kernel_input_feature_dimension", "kernel_output_feature_dimension", "kernel_spatial_dimensions",
        "output_batch_dimension", "output_feature_dimension", "output_spatial_dimensions",
    ),
    stablehlo.GatherDimensionNumbers: (
        "offset_dims", "collapsed_slice_dims", "operand_batching_dims", "start_indices_batching_dims",
        "start_index_map", "index_vector_dim",
    ),
    stablehlo.ScatterDimensionNumbers: (
        "update_window_dims", "inserted_window_dims", "input_batching_dims", "scatter_indices_batching_dims",
        "scattered_dims_to_operand_dims", "index_vector_dim",
    ),
}  # fmt: skip

_ENUMERATIONS: tuple[type, ...] = (
    stablehlo.ComparisonDirectionAttr,
    stablehlo.ComparisonTypeAttr,
    stablehlo.FftTypeAttr,
    stablehlo.RngAlgorithmAttr,
    stablehlo.RngDistributionAttr,
    stablehlo.TransposeAttr,
    stablehlo.PrecisionAttr,
)

_SIMPLE: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (ir.BoolAttr, lambda attribute: bool(attribute.value)),
    (ir.IntegerAttr, lambda attribute: int(attribute.value)),
    (ir.FloatAttr, lambda attribute: float(attribute.value)),
    (ir.StringAttr, lambda attribute: attribute.value),
    (ir.FlatSymbolRefAttr, lambda attribute: attribute.value),
    (ir.DenseI64ArrayAttr, lambda attribute: tuple(attribute)),
    (ir.DenseBoolArrayAttr, lambda attribute: tuple(attribute)),
    (ir.ArrayAttr, lambda attribute: tuple(map(_attribute, attribute))),
    (ir.DenseElementsAttr, lambda attribute: _elements(attribute)),
)


def _is(attribute: Any, kind: Any) -> bool:
    """Whether an attribute is of a kind, in older bindings, which ask the kind, and in newer ones."""
    return bool(kind.isinstance(attribute)) if hasattr(kind, "isinstance") else isinstance(attribute, kind)


def _attribute(attribute: Any) -> Any:
    for kind, names in _STRUCTURED.items():
        if _is(attribute, kind):
            view = kind(attribute)
            values = ((name, getattr(view, name)) for name in names)
            return {name: value if isinstance(value, int) else tuple(value) for name, value in values}
    for kind in _ENUMERATIONS:
        if _is(attribute, kind):
            return kind(attribute).value
    for kind, convert in _SIMPLE:
        if _is(attribute, kind):
            return convert(kind(attribute))
    return str(attribute)


def _elements(attribute: Any) -> Any:
    """The array that a constant holds; where all elements are the same, one that takes no memory."""
    kind = _type(attribute.type)
    if attribute.is_splat:
        value = np.asarray(_scalar(attribute.get_splat_value(), kind.dtype), kind.dtype)
        return np.broadcast_to(value, kind.shape)
    if _is(attribute, ir.DenseIntElementsAttr):
        numbers: Any = ir.DenseIntElementsAttr(attribute)
        values = np.array(list(numbers))
        return values.astype(kind.dtype).reshape(kind.shape)
    return np.array(attribute).astype(kind.dtype).reshape(kind.shape)


def _elements_in_text(text: str, kind: Tensor) -> Any:
    """The array that the text of a constant of complex numbers, or of bfloat16, holds."""
    found = re.search(r"dense<(.*)> : tensor", text, re.DOTALL)
    assert found is not None
    digits = found[1]
    if digits.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(digits[3:-1]), kind.dtype).reshape(kind.shape)
    part = kind.dtype if kind.dtype.kind == "V" else np.dtype(f"f{kind.dtype.itemsize // 2}")
    numbers = [
        np.array(int(number, 16), f"u{part.itemsize}").view(part) if number.startswith("0x") else part.type(number)
        for number in re.findall(r"0x[0-9A-F]+|[-+0-9.eE]+", digits)
    ]
    values = np.array(numbers, part).view(kind.dtype)
    return np.broadcast_to(values.reshape(()), kind.shape) if values.size == 1 else values.reshape(kind.shape)


def _scalar(attribute: Any, dtype: Any) -> Any:
    if _is(attribute, ir.FloatAttr):
        return ir.FloatAttr(attribute).value
    if _is(attribute, ir.BoolAttr):
        return ir.BoolAttr(attribute).value
    value = ir.IntegerAttr(attribute).value
    return value % 2 ** (8 * dtype.itemsize) if jnp.issubdtype(dtype, jnp.unsignedinteger) else value
