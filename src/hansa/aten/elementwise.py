"""Operations of each element by itself: arithmetic, comparisons, activations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.aten.table import as_array, operation, register_all


def _same(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _each(function: Any) -> Any:
    """A function of tensors, which may be given numbers and symbolic sizes."""
    return lambda *given: function(*(as_array(x) if not isinstance(x, int | float | bool) else x for x in given))


register_all(
    {
        "abs": jnp.abs, "ceil": jnp.ceil, "floor": jnp.floor, "trunc fix": jnp.trunc, "neg negative": jnp.negative,
        "sign sgn": jnp.sign, "positive": _same, "square": jnp.square, "reciprocal": lambda x: 1 / x,
        "exp": jnp.exp, "exp2 special_exp2": jnp.exp2, "expm1 special_expm1": jnp.expm1, "log": jnp.log,
        "log2": jnp.log2, "log10": jnp.log10, "log1p special_log1p": jnp.log1p, "sqrt": jnp.sqrt, "rsqrt": lax.rsqrt,
        "sin": jnp.sin, "cos": jnp.cos, "tan": jnp.tan, "asin arcsin": jnp.arcsin, "acos arccos": jnp.arccos,
        "atan arctan": jnp.arctan, "sinh": jnp.sinh, "cosh": jnp.cosh, "tanh": jnp.tanh, "asinh arcsinh": jnp.arcsinh,
        "acosh arccosh": jnp.arccosh, "atanh arctanh": jnp.arctanh, "erf special_erf": jax.scipy.special.erf,
        "erfc special_erfc": jax.scipy.special.erfc, "erfinv special_erfinv": jax.scipy.special.erfinv,
        "lgamma special_gammaln": jax.scipy.special.gammaln, "digamma special_digamma": jax.scipy.special.digamma,
        "sinc special_sinc": jnp.sinc, "deg2rad": jnp.deg2rad, "rad2deg": jnp.rad2deg,
        "special_ndtr": jax.scipy.special.ndtr,
        "isnan": jnp.isnan, "isinf": jnp.isinf, "isfinite": jnp.isfinite, "signbit": jnp.signbit,
        "isposinf": jnp.isposinf, "isneginf": jnp.isneginf,
        "logical_not": jnp.logical_not, "logical_and": jnp.logical_and, "logical_or": jnp.logical_or,
        "logical_xor": jnp.logical_xor, "bitwise_not": jnp.bitwise_not, "bitwise_and __and__": _each(jnp.bitwise_and),
        "bitwise_or __or__": _each(jnp.bitwise_or), "bitwise_xor __xor__": _each(jnp.bitwise_xor),
        "bitwise_left_shift __lshift__": _each(jnp.left_shift),
        "bitwise_right_shift __rshift__": _each(jnp.right_shift),
        "eq": _each(jnp.equal), "ne not_equal": _each(jnp.not_equal), "lt less": _each(jnp.less),
        "le less_equal": _each(jnp.less_equal), "gt greater": _each(jnp.greater),
        "ge greater_equal": _each(jnp.greater_equal),
        "maximum max.other": jnp.maximum, "minimum min.other": jnp.minimum, "fmax": jnp.fmax, "fmin": jnp.fmin,
        "mul multiply": _each(jnp.multiply), "atan2 arctan2": jnp.arctan2, "hypot": jnp.hypot,
        "remainder": _each(jnp.remainder), "fmod": _each(jnp.fmod), "copysign": _each(jnp.copysign),
        "floor_divide": _each(jnp.floor_divide), "logaddexp": jnp.logaddexp, "logaddexp2": jnp.logaddexp2,
        "heaviside": jnp.heaviside, "nextafter": jnp.nextafter, "gcd": jnp.gcd, "lcm": jnp.lcm,
        "relu": jax.nn.relu, "sigmoid special_expit": jax.nn.sigmoid, "silu": jax.nn.silu,
        "log_sigmoid": jax.nn.log_sigmoid, "log_sigmoid_forward": lambda x: (jax.nn.log_sigmoid(x), None),
        "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
        "selu": jax.nn.selu, "hardswish": lambda x: x * _between(x + 3, 0, 6) / 6,
        "hardsigmoid": lambda x: _between(x + 3, 0, 6) / 6, "relu6": lambda x: _between(x, 0, 6),
        "clone alias lift_fresh_copy lift_fresh contiguous _to_copy to type_as _conj resolve_conj resolve_neg "
        "_assert_tensor_metadata dropout_ feature_dropout_": _same,
        "_local_scalar_dense item": _same,
        "detach": lax.stop_gradient,
    }
)  # fmt: skip


def _between(x: Any, low: Any, high: Any) -> Any:
    """Kept between two numbers, with no gradient at them."""
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


operation("hardtanh")(lambda x, low=-1.0, high=1.0: _between(x, low, high))


@operation("add")
def _add(x: Any, y: Any, alpha: Any = 1) -> Any:
    x, y = as_array(x), as_array(y)
    return jnp.logical_or(x, y) if x.dtype == y.dtype == bool else x + (y if alpha == 1 else y * alpha)


@operation("sub", "subtract")
def _sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return as_array(x) - (as_array(y) if alpha == 1 else as_array(y) * alpha)


@operation("rsub")
def _rsub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return _sub(y, x, alpha)


@operation("div", "divide", "true_divide")
def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    x, y = as_array(x), as_array(y)
    if rounding_mode is None:
        return x / y
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    if jnp.issubdtype(jnp.result_type(x, y), jnp.integer):
        return lax.div(*jnp.broadcast_arrays(*(z.astype(jnp.result_type(x, y)) for z in (x, y))))
    return jnp.trunc(x / y)


@operation("pow")
def _pow(x: Any, y: Any) -> Any:
    if isinstance(y, float) and y.is_integer() and abs(y) < 2**31:
        y = int(y)
    if isinstance(y, int) and jnp.issubdtype(x.dtype, jnp.floating):
        return lax.integer_pow(x, y)
    return jnp.power(as_array(x), y)


operation("float_power")(_pow)


@operation("round")
def _round(x: Any, decimals: int = 0) -> Any:
    return jnp.round(x, decimals)


@operation("frac")
def _frac(x: Any) -> Any:
    return x - jnp.trunc(x)


@operation("xlogy", "special_xlogy")
def _xlogy(x: Any, y: Any) -> Any:
    x, y = as_array(x), as_array(y)
    none = x == 0
    return jnp.where(none & ~jnp.isnan(y), 0, x * jnp.log(jnp.where(none, 1, y)))


@operation("where")
def _where(condition: Any, x: Any, y: Any) -> Any:
    return jnp.where(condition, as_array(x), as_array(y))


@operation("masked_fill")
def _masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return jnp.where(mask, as_array(value).astype(x.dtype), x)


@operation("clamp", "clip")
def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """Between bounds; the gradient is one at a bound, and zero beyond."""
    if min is not None:
        x = jnp.where(x < min, min, x)
    return x if max is None else jnp.where(x > max, max, x)


operation("clamp_min")(lambda x, least: _clamp(x, least))
operation("clamp_max")(lambda x, most: _clamp(x, None, most))


@operation("nan_to_num")
def _nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    return jnp.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf)


@operation("lerp")
def _lerp(start: Any, end: Any, weight: Any) -> Any:
    return start + weight * (end - start)


@operation("addcmul")
def _addcmul(x: Any, a: Any, b: Any, value: Any = 1) -> Any:
    return x + value * a * b


@operation("addcdiv")
def _addcdiv(x: Any, a: Any, b: Any, value: Any = 1) -> Any:
    return x + value * a / b


@operation("logit", "special_logit")
def _logit(x: Any, eps: Any = None) -> Any:
    x = x if eps is None else _clamp(x, eps, 1 - eps)
    return jnp.log(x) - jnp.log1p(-x)


@operation("isclose")
def _isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return jnp.isclose(x, y, rtol, atol, equal_nan)


# Activations with options.


@operation("gelu")
def _gelu(x: Any, approximate: str = "none") -> Any:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


@operation("leaky_relu")
def _leaky_relu(x: Any, slope: Any = 0.01) -> Any:
    return jnp.where(x > 0, x, x * slope)


@operation("elu")
def _elu(x: Any, alpha: Any = 1.0, scale: Any = 1.0, inner: Any = 1.0) -> Any:
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x) * inner))


@operation("celu")
def _celu(x: Any, alpha: Any = 1.0) -> Any:
    return _elu(x, alpha, 1.0, 1.0 / alpha)


@operation("prelu", "_prelu_kernel")
def _prelu(x: Any, weight: Any) -> Any:
    if weight.ndim == 1 and weight.size > 1:
        weight = weight.reshape(-1, *(1,) * (x.ndim - 2))
    return jnp.where(x > 0, x, x * weight)


@operation("softplus")
def _softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    large = x * beta > threshold
    return jnp.where(large, x, jax.nn.softplus(jnp.where(large, 0, x) * beta) / beta)


@operation("threshold")
def _threshold(x: Any, threshold: Any, value: Any) -> Any:
    return jnp.where(x <= threshold, value, x)


@operation("hardshrink")
def _hardshrink(x: Any, lambd: Any = 0.5) -> Any:
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x)


@operation("softshrink")
def _softshrink(x: Any, lambd: Any = 0.5) -> Any:
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0 * x))


@operation("glu")
def _glu(x: Any, dim: int = -1) -> Any:
    a, b = jnp.split(x, 2, dim)
    return a * jax.nn.sigmoid(b)
