"""The operations that a file may hold: those that JAX's export writes, and that compute, and do nothing else.

Not among them: what talks to other devices or to the host, tokens, tuples, and what JAX does not write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hansa.portable import calls, windows
from hansa.portable.tensors import Refused, Tensor, tensor

_OF_STABLEHLO = {
    "abs", "add", "and", "atan2", "bitcast_convert", "broadcast_in_dim", "case", "cbrt", "ceil", "cholesky",
    "clamp", "compare", "complex", "composite", "concatenate", "constant", "convert", "convolution", "cosine",
    "count_leading_zeros", "custom_call", "divide", "dot_general", "dynamic_broadcast_in_dim", "dynamic_conv",
    "dynamic_gather", "dynamic_iota", "dynamic_pad", "dynamic_reshape", "dynamic_slice", "dynamic_update_slice",
    "exponential", "exponential_minus_one", "fft", "floor", "gather", "get_dimension_size", "if", "imag", "iota",
    "is_finite", "log", "log_plus_one", "logistic", "maximum", "minimum", "multiply", "negate", "not",
    "optimization_barrier", "or", "pad", "popcnt", "power", "real", "real_dynamic_slice", "reduce",
    "reduce_precision", "reduce_window", "remainder", "reshape", "return", "reverse", "rng", "rng_bit_generator",
    "round_nearest_afz", "round_nearest_even", "rsqrt", "scatter", "select", "select_and_scatter", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sine", "slice", "sort", "sqrt", "subtract", "tan",
    "tanh", "transpose", "triangular_solve", "while", "xor",
}  # fmt: skip
ALLOWED = frozenset({"func.call", "func.return", *(f"stablehlo.{name}" for name in _OF_STABLEHLO)})

_NOTES = frozenset({"mhlo.backend_config", "mhlo.frontend_attributes", "sdy.sharding_rule"})
"""The attributes of other dialects that JAX gives to calls; no other operation has any."""

_UNARY = {
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i1e", "conj", "cosh", "digamma", "erf", "erf_inv",
    "erfc", "is_inf", "is_neg_inf", "is_pos_inf", "lgamma", "sinh", "square", "tan",
}  # fmt: skip
"""Functions of one tensor that JAX writes as a composite, from which XLA takes its own form of them."""


def check_name(operation: Any) -> None:
    """Looks at what an operation is called.

    Raises:
        Refused: if no file may hold it.
    """
    if operation.name not in ALLOWED:
        raise Refused(f"the operation {operation.name}")


def check(operation: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    """Looks at one operation, its regions apart.

    Raises:
        Refused: if no file may hold it.
    """
    name, attributes = operation.name, operation.attributes
    for key in attributes:
        if ("." in key or key.startswith("_")) and not (name == "stablehlo.custom_call" and key in _NOTES):
            raise Refused(f"the operation {name} with the attribute {key!r}")
    if name == "stablehlo.custom_call":
        calls.check(attributes, operands, results)
    windows.check(operation, operands)
    rule = _RULES.get(name)
    if rule is not None:
        rule(operation, operands, results)


def _sort(operation: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    """XLA's unstable sort reads and writes beyond its arrays if the comparison is no order; a stable one does not."""
    if "is_stable" not in operation.attributes or str(operation.attributes["is_stable"]) != "true":
        raise Refused("the operation stablehlo.sort that is not stable")


def _rng_bit_generator(operation: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    if operands != [Tensor((2,), "ui64")]:
        raise Refused(f"the operation stablehlo.rng_bit_generator of a state {', '.join(map(str, operands))}")


_RANDOM = {"bf16", "f16", "f32", "f64", *(f"{sign}{bits}" for sign in ("i", "ui") for bits in (8, 16, 32, 64))}


def _rng(operation: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    """XLA ends the process for elements that it has no random numbers of."""
    if results[0].element not in _RANDOM:
        raise Refused(f"the operation stablehlo.rng of elements of type {results[0].element}")


def _composite(operation: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    name = str(operation.attributes["name"]).strip('"')
    given = operation.attributes
    extra = str(given["composite_attributes"]) if "composite_attributes" in given else "{}"
    if name in {f"chlo.{unary}" for unary in _UNARY}:
        right = extra == "{}" and len(operands) == len(results) == 1 and operands[0].shape == results[0].shape
    elif name == "chlo.top_k":
        right = (
            len(operands) == 1
            and len(results) == 2
            and bool(operands[0].shape)
            and _is_top_k(operands[0], results, extra)
        )
    elif name == "chlo.scan":
        right = _is_scan(operation, operands, results, extra)
    else:
        raise Refused(f"the operation stablehlo.composite of {name!r}")
    if not right:
        raise Refused(f"the operation stablehlo.composite of {name!r} that takes and gives other types than JAX's")


def _is_top_k(operand: Tensor, results: list[Tensor], attributes: str) -> bool:
    *batch, size = operand.shape
    values, indices = results
    k = values.shape[-1] if values.shape else None
    return (
        k is not None
        and (size is None or k <= size)
        and values == Tensor((*batch, k), operand.element)
        and indices == Tensor((*batch, k), "i32")
        and attributes in (f"{{k = {k} : i64}}", f"{{is_stable = true, k = {k} : i64}}")  # the second from JAX 0.12 on
    )


_SCAN = re.compile(
    r"\{dimension = (\d+) : i64, is_associative = true, is_reverse = (?:true|false), "
    r"operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>\}"
)


def _is_scan(operation: Any, operands: list[Tensor], results: list[Tensor], attributes: str) -> bool:
    """A cumulative reduction, as JAX from 0.12 on writes it for GPUs: of an array, and a start that lacks its axis."""
    found = _SCAN.fullmatch(attributes)
    if found is None or len(operands) != 2 or results != operands or None in operands[0].shape:
        return False
    (whole, start), axis = operands, int(found[1])
    if axis >= len(whole.shape) or start != Tensor(whole.shape[:axis] + whole.shape[axis + 1 :], whole.element):
        return False
    blocks = [block for region in operation.regions for block in region.blocks]
    if len(operation.regions) != 1 or len(blocks) != 1:
        return False
    taken, given = blocks[0].arguments, list(blocks[0].operations)[-1].operands
    return [tensor(str(value.type)) for value in (*taken, *given)] == [start] * 4


_RULES: dict[str, Callable[[Any, list[Tensor], list[Tensor]], None]] = {
    "stablehlo.sort": _sort,
    "stablehlo.rng": _rng,
    "stablehlo.rng_bit_generator": _rng_bit_generator,
    "stablehlo.composite": _composite,
}
