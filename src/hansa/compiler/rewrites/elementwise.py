"""Which primitives of JAX compute element by element, and which reduce axes."""

from __future__ import annotations

from typing import Any

ELEMENTWISE = frozenset({
    "abs", "add", "add_any", "and", "bitcast_convert_type", "cbrt", "ceil", "clamp", "convert_element_type", "copy",
    "div", "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "reduce_precision", "rem", "round",
    "rsqrt", "select_n", "shift_left", "shift_right_logical", "sign", "sqrt", "square", "stop_gradient", "sub", "tanh",
    "xor",
})  # fmt: skip
REDUCTIONS = frozenset(f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or"))
CALLS = frozenset({"jit", "pjit", "closed_call"})
"""The primitives that call a jaxpr once, and are not differentiated in a way of their own."""


def bound(eqn: Any, arrays: list[Any]) -> list[Any]:
    """The results of an equation's primitive on other operands."""
    outs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return outs if eqn.primitive.multiple_results else [outs]
