"""Each StableHLO operation as JAX: elementwise ones, shapes, products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.stablehlo.module import Block, Operation


class UnsupportedOperation(Exception):
    """An operation that cannot be compiled."""


class Scope(Protocol):
    """What a rule may ask of the function that is being evaluated."""

    def shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """A shape, or other attribute of sizes, for this batch."""

    def at(self, value: Any) -> Any:
        """A constant for this batch."""

    def run(self, block: Block, *arguments: Any) -> list[Any]:
        """The results of a region or function."""

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """The results of a named function."""

    def key(self) -> Any:
        """A random key that is not given out again."""

    def keyed(self, key: Any) -> AbstractContextManager[None]:
        """While it is entered, keys come from this one."""

    def draws(self, block: Block) -> bool:
        """Whether a region or function asks for keys."""


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers how operations are computed: (scope, operation, operands) -> the result, or a list of several."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys((name if "." in name else f"stablehlo.{name}" for name in names), function))
        return function

    return register


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "abs": lax.abs, "add": lax.add, "and": lax.bitwise_and, "atan2": lax.atan2, "cbrt": lax.cbrt, "ceil": lax.ceil,
    "clamp": lax.clamp, "complex": lax.complex, "cosine": lax.cos, "count_leading_zeros": lax.clz, "divide": lax.div,
    "exponential": lax.exp, "exponential_minus_one": lax.expm1, "floor": lax.floor, "imag": lax.imag,
    "is_finite": lax.is_finite, "log": lax.log, "log_plus_one": lax.log1p, "logistic": lax.logistic,
    "maximum": lax.max, "minimum": lax.min, "multiply": lax.mul, "negate": lax.neg, "not": lax.bitwise_not,
    "or": lax.bitwise_or, "popcnt": lax.population_count, "power": lax.pow, "real": lax.real, "remainder": lax.rem,
    "rsqrt": lax.rsqrt, "shift_left": lax.shift_left, "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical, "sign": lax.sign, "sine": lax.sin, "sqrt": lax.sqrt,
    "subtract": lax.sub, "tan": lax.tan, "tanh": lax.tanh, "xor": lax.bitwise_xor,
    "round_nearest_afz": lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "round_nearest_even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "select": lambda which, x, y: lax.select_n(which, y, x),
    "optimization_barrier": lambda *x: list(lax.optimization_barrier(x)),
    "mhlo.copy": lambda x: x,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "acos": lax.acos, "acosh": lax.acosh, "asin": lax.asin, "asinh": lax.asinh, "atan": lax.atan, "atanh": lax.atanh,
    "cosh": lax.cosh, "digamma": lax.digamma, "erf": lax.erf, "erf_inv": lax.erf_inv, "erfc": lax.erfc,
    "lgamma": lax.lgamma, "next_after": lax.nextafter, "sinh": lax.sinh, "square": lax.square, "tan": lax.tan,
}  # fmt: skip
_ELEMENTWISE |= {f"{dialect}.{name}": f for name, f in _FUNCTIONS.items() for dialect in ("mhlo", "chlo")}
MONOIDS: dict[str, Callable[..., Any]] = {
    "stablehlo.add": lax.add, "stablehlo.multiply": lax.mul, "stablehlo.maximum": lax.max,
    "stablehlo.minimum": lax.min, "stablehlo.and": lax.bitwise_and, "stablehlo.or": lax.bitwise_or,
    "stablehlo.xor": lax.bitwise_xor,
}  # fmt: skip
_COMPARISONS = {"EQ": lax.eq, "NE": lax.ne, "GE": lax.ge, "GT": lax.gt, "LE": lax.le, "LT": lax.lt}


def _elementwise(function: Callable[..., Any]) -> Rule:
    return lambda scope, operation, *operands: function(*operands)


for _name, _function in _ELEMENTWISE.items():
    rule(_name)(_elementwise(_function))


def monoid(block: Block) -> str | None:
    """The name of the operation that a region of two values is, if it is a single associative one."""
    if len(block.operations) != 1 or len(block.parameters) != 2:
        return None
    (operation,) = block.operations
    ordered = set(operation.operands) == set(block.parameters) and block.returned == operation.results
    return operation.name if ordered and operation.name in MONOIDS else None


def direction(block: Block) -> tuple[str, bool] | None:
    """(comparison, swapped) of a region that compares its first two values and does nothing else."""
    if len(block.operations) != 1 or block.operations[0].name != "stablehlo.compare":
        return None
    (operation,) = block.operations
    if set(operation.operands) != set(block.parameters[:2]) or block.returned != operation.results:
        return None
    return operation.attributes["comparison_direction"], operation.operands[0] != block.parameters[0]


def pairs(value: Any) -> list[tuple[int, int]]:
    """An attribute of pairs of numbers, [n, 2]."""
    return [(int(low), int(high)) for low, high in np.asarray(value).reshape(-1, 2)]


@rule("compare")
def _compare(scope: Scope, operation: Operation, x: Any, y: Any) -> Any:
    return _COMPARISONS[operation.attributes["comparison_direction"]](x, y)


@rule("constant")
def _constant(scope: Scope, operation: Operation) -> Any:
    return scope.at(operation.attributes["value"])


@rule("convert")
def _convert(scope: Scope, operation: Operation, x: Any) -> Any:
    dtype = operation.types[0].dtype
    if isinstance(x, np.ndarray):  # stays a constant that reductions know
        return x.astype(dtype)
    return lax.convert_element_type(x, dtype)


@rule("bitcast_convert")
def _bitcast(scope: Scope, operation: Operation, x: Any) -> Any:
    return lax.bitcast_convert_type(x, operation.types[0].dtype)


@rule("broadcast_in_dim")
def _broadcast_in_dim(scope: Scope, operation: Operation, x: Any) -> Any:
    shape = scope.shape(operation.types[0].shape)
    return lax.broadcast_in_dim(x, shape, operation.attributes["broadcast_dimensions"])


@rule("broadcast")
def _broadcast(scope: Scope, operation: Operation, x: Any) -> Any:
    return lax.broadcast(x, scope.shape(operation.attributes["broadcast_sizes"]))


@rule("reshape")
def _reshape(scope: Scope, operation: Operation, x: Any) -> Any:
    shape = scope.shape(operation.types[0].shape)
    return x if tuple(x.shape) == shape else lax.reshape(x, shape)


@rule("transpose")
def _transpose(scope: Scope, operation: Operation, x: Any) -> Any:
    order = operation.attributes["permutation"]
    return x if order == tuple(range(len(order))) else lax.transpose(x, order)


@rule("iota")
def _iota(scope: Scope, operation: Operation) -> Any:
    kind = operation.types[0]
    return lax.broadcasted_iota(kind.dtype, scope.shape(kind.shape), operation.attributes["iota_dimension"])


@rule("slice")
def _slice(scope: Scope, operation: Operation, x: Any) -> Any:
    start, limit, strides = (
        scope.shape(operation.attributes[name]) for name in ("start_indices", "limit_indices", "strides")
    )
    return lax.slice(x, start, limit, strides)


@rule("pad")
def _pad(scope: Scope, operation: Operation, x: Any, value: Any) -> Any:
    low, high, interior = (
        operation.attributes[f"{name}"] for name in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    return lax.pad(x, value, list(zip(scope.shape(low), scope.shape(high), scope.shape(interior), strict=True)))


@rule("concatenate")
def _concatenate(scope: Scope, operation: Operation, *parts: Any) -> Any:
    return lax.concatenate(parts, operation.attributes["dimension"])


@rule("reverse")
def _reverse(scope: Scope, operation: Operation, x: Any) -> Any:
    return lax.rev(x, operation.attributes["dimensions"])


@rule("dynamic_slice")
def _dynamic_slice(scope: Scope, operation: Operation, x: Any, *starts: Any) -> Any:
    return lax.dynamic_slice(x, starts, scope.shape(operation.attributes["slice_sizes"]))


@rule("dynamic_update_slice")
def _dynamic_update_slice(scope: Scope, operation: Operation, x: Any, update: Any, *starts: Any) -> Any:
    return lax.dynamic_update_slice(x, update, starts)


@rule("get_dimension_size")
def _get_dimension_size(scope: Scope, operation: Operation, x: Any) -> Any:
    return jnp.asarray(x.shape[operation.attributes["dimension"]], np.int32)


@rule("set_dimension_size")
def _set_dimension_size(scope: Scope, operation: Operation, x: Any, size: Any) -> Any:
    if not operation.attributes["whole"]:
        raise UnsupportedOperation("a shape that depends on values")
    return x


@rule("tuple")
def _tuple(scope: Scope, operation: Operation, *parts: Any) -> Any:
    return parts


@rule("get_tuple_element")
def _get_tuple_element(scope: Scope, operation: Operation, parts: Any) -> Any:
    return parts[operation.attributes["index"]]


@rule("dot")
def _dot(scope: Scope, operation: Operation, x: Any, y: Any) -> Any:
    return _product(operation, x, y, (((x.ndim - 1,), (0,)), ((), ())))


@rule("dot_general")
def _dot_general(scope: Scope, operation: Operation, x: Any, y: Any) -> Any:
    found = operation.attributes["dot_dimension_numbers"]
    over = found["lhs_contracting_dimensions"], found["rhs_contracting_dimensions"]
    batch = found["lhs_batching_dimensions"], found["rhs_batching_dimensions"]
    return _product(operation, x, y, (over, batch))


def _product(operation: Operation, x: Any, y: Any, numbers: Any) -> Any:
    return lax.dot_general(
        x, y, numbers, precision=precision(operation), preferred_element_type=operation.types[0].dtype
    )


def precision(operation: Operation) -> Any:
    """The precision of a product as JAX writes it."""
    found = operation.attributes.get("precision_config", ())
    return None if set(found) <= {"DEFAULT"} else tuple(lax.Precision[name] for name in found)


@rule("convolution")
def _convolution(scope: Scope, operation: Operation, x: Any, kernel: Any) -> Any:
    found = operation.attributes["dimension_numbers"]
    spatial = found["kernel_spatial_dimensions"]
    count = len(spatial)
    attributes = operation.attributes
    reversed_ = attributes.get("window_reversal") or (False,) * count
    turned = [axis for axis, turn in zip(spatial, reversed_, strict=True) if turn]
    padding = attributes.get("padding")
    return lax.conv_general_dilated(
        x,
        lax.rev(kernel, turned) if turned else kernel,
        attributes.get("window_strides") or (1,) * count,
        [(0, 0)] * count if padding is None else pairs(padding),
        attributes.get("lhs_dilation") or (1,) * count,
        attributes.get("rhs_dilation") or (1,) * count,
        lax.ConvDimensionNumbers(
            (found["input_batch_dimension"], found["input_feature_dimension"], *found["input_spatial_dimensions"]),
            (found["kernel_output_feature_dimension"], found["kernel_input_feature_dimension"], *spatial),
            (found["output_batch_dimension"], found["output_feature_dimension"], *found["output_spatial_dimensions"]),
        ),
        attributes["feature_group_count"],
        attributes["batch_group_count"],
        precision(operation),
        operation.types[0].dtype,
    )


@rule("cholesky")
def _cholesky(scope: Scope, operation: Operation, x: Any) -> Any:
    return lax.linalg.cholesky(x, symmetrize_input=False)


@rule("triangular_solve")
def _triangular_solve(scope: Scope, operation: Operation, a: Any, b: Any) -> Any:
    attributes = operation.attributes
    return lax.linalg.triangular_solve(
        a,
        b,
        left_side=attributes["left_side"],
        lower=attributes["lower"],
        transpose_a=attributes["transpose_a"] != "NO_TRANSPOSE",
        conjugate_a=attributes["transpose_a"] == "ADJOINT",
        unit_diagonal=attributes["unit_diagonal"],
    )


@rule("fft")
def _fft(scope: Scope, operation: Operation, x: Any) -> Any:
    return lax.fft(x, operation.attributes["fft_type"], operation.attributes["fft_length"])
