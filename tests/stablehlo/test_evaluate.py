"""Operations read from StableHLO compute what the JAX functions do that they were lowered from."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hansa.stablehlo import UnsupportedOperation, evaluate, read

FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
COMPLEX = ["complex64", "complex128"]


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def some(dtype, *shape, seed=0, low=-3, high=3):
    """Random numbers of a dtype: all of its bits for integers, else between two bounds."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values = rng.uniform(low, high, shape)
    return (values + 1j * rng.uniform(low, high, shape) if dtype.kind == "c" else values).astype(dtype)


def f32(*shape, seed=0):
    return some("float32", *shape, seed=seed)


def text_of(function, *arguments, platform=None):
    traced = jax.jit(function, keep_unused=True).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,) if platform else None).as_text()


def results(text, *arguments, seed=0):
    module = read(text)
    return jax.jit(lambda *arguments: evaluate(module, arguments, jax.random.key(seed)))(*arguments)


def assert_same(found, expected, tolerance=1e-6):
    assert len(found) == len(expected)
    for value, other in zip(found, map(np.asarray, expected), strict=True):
        assert (value.shape, value.dtype) == (other.shape, other.dtype)
        if other.dtype.kind in "biu":
            np.testing.assert_array_equal(value, other)
        elif other.dtype.kind == "c":
            np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance)
        else:
            slack = max(tolerance, 2 * float(jnp.finfo(other.dtype).eps) if other.dtype.itemsize == 2 else 0)
            wide = np.asarray(value, np.float64), np.asarray(other, np.float64)
            np.testing.assert_allclose(*wide, rtol=slack, atol=slack)


def check(function, *arguments, platform=None, tolerance=1e-6, contains=None):
    """Compares a function with what is read from its text, which is to contain an operation."""
    text = text_of(function, *arguments, platform=platform)
    if contains is not None:
        assert contains in text
    module = read(text)

    def both(*arguments):  # in one program: compiling takes most of the time
        return evaluate(module, arguments, jax.random.key(0)), jax.tree.leaves(function(*arguments))

    assert_same(*jax.jit(both)(*arguments), tolerance)


UNARY = {
    "abs": lax.abs, "cbrt": lax.cbrt, "ceil": lax.ceil, "cos": lax.cos, "exp": lax.exp, "expm1": lax.expm1,
    "floor": lax.floor, "is_finite": lax.is_finite, "logistic": lax.logistic, "neg": lax.neg,
    "round_even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "round_away": lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "sign": lax.sign, "sin": lax.sin, "tan": lax.tan, "tanh": lax.tanh, "erf": lax.erf, "erfc": lax.erfc,
    "sinh": lax.sinh, "cosh": lax.cosh, "asinh": lax.asinh, "atan": lax.atan, "square": lax.square,
    "lgamma": lax.lgamma, "digamma": lax.digamma,
}  # fmt: skip
POSITIVE = {"log": lax.log, "log1p": lax.log1p, "sqrt": lax.sqrt, "rsqrt": lax.rsqrt}
INSIDE = {"asin": lax.asin, "acos": lax.acos, "atanh": lax.atanh, "erf_inv": lax.erf_inv}


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_float(name):
    x = np.append(f32(50), np.float32([0.5, 1.5, -0.5, -1.5, 2.5]))
    check(lambda x, y: (UNARY[name](x), UNARY[name](y)), x, x.astype("float64"))


@pytest.mark.parametrize("name", POSITIVE)
def test_functions_of_a_positive_float(name):
    check(POSITIVE[name], np.abs(f32(50)) + np.float32(0.1))


@pytest.mark.parametrize("name", INSIDE)
def test_functions_of_a_float_between_minus_one_and_one(name):
    check(INSIDE[name], f32(50) * np.float32(0.3), tolerance=1e-5)


def test_acosh():
    check(lax.acosh, np.abs(f32(50)) + 1)


def test_special_values():
    x = np.float32([np.inf, -np.inf, np.nan, 0, -0.0, 1e-45, 3e38])
    check(lambda x: (lax.is_finite(x), lax.exp(x), lax.sign(x), lax.max(x, x[::-1]), x == x[::-1], x != x), x)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_numbers(dtype):
    def function(x, y):
        return (
            *(lax.real(x), lax.imag(x), lax.conj(x), lax.complex(lax.real(x), lax.imag(y)), lax.abs(x), x == y),
            *(x + y, x - y, x * y, x / y, lax.exp(x), lax.log(x), lax.sqrt(x), lax.rsqrt(x), lax.sin(x), lax.tanh(x)),
            *(x**y, lax.expm1(x), lax.log1p(x), lax.sign(x), x.sum(), jnp.where(x.real > 0, x, y), 2j * x),
        )

    check(function, some(dtype, 20), some(dtype, 20, seed=1), tolerance=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_two_floats(dtype):
    def function(x, y):
        return (
            *(x + y, x - y, x * y, x / y, lax.rem(x, y), lax.max(x, y), lax.min(x, y), lax.atan2(x, y)),
            *(lax.pow(lax.abs(x), y), x < y, x <= y, x > y, x >= y, x == y, x != y, lax.nextafter(x, y) > x),
        )

    check(function, some(dtype, 40), some(dtype, 40, seed=1))


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED)
def test_functions_of_integers(dtype):
    def function(x, y, bits):
        divisor = jnp.where(y == 0, jnp.ones_like(y), y)
        return (
            *(x + y, x - y, x * y, lax.div(x, divisor), lax.rem(x, divisor), lax.max(x, y), lax.min(x, y)),
            *(x & y, x | y, x ^ y, ~x, lax.population_count(x), lax.clz(x), lax.sign(x), lax.neg(x)),
            *(lax.shift_left(x, bits), lax.shift_right_logical(x, bits), lax.shift_right_arithmetic(x, bits)),
            *(x < y, x <= y, x > y, x >= y, x == y, x != y, x**3),
        )

    bits = np.arange(60).astype(dtype) % 8
    check(function, some(dtype, 60), some(dtype, 60, seed=1), bits)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_absolute_value_of_integers(dtype):
    check(lax.abs, some(dtype, 60))


def test_truth_values():
    x, y = some(bool, 20), some(bool, 20, seed=1)
    check(lambda x, y: (x & y, x | y, x ^ y, ~x, x == y, x != y, x < y, x.all(), x.any(), x.sum()), x, y)


def test_select_and_clamp_with_arrays_and_with_scalars():
    def function(which, x, y):
        scalar = lax.select_n(which[0], x, y)
        return jnp.where(which, x, y), scalar, lax.clamp(-y, x, y), lax.clamp(np.float32(-1), x, np.float32(1))

    check(function, some(bool, 20), f32(20), np.abs(f32(20, seed=1)))


CONVERTED = ["bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", *FLOATS, *COMPLEX]


@pytest.mark.parametrize("dtype", CONVERTED)
def test_conversions(dtype):
    x = np.array([0, 1, 2, 100, 3.75]).astype(dtype)
    wanted = [other for other in CONVERTED if np.dtype(dtype).kind != "c" or np.dtype(other).kind == "c"]
    check(lambda x: [lax.convert_element_type(x, other) for other in wanted], x)


@pytest.mark.parametrize("source, target", [("float32", "int32"), ("int64", "float64"), ("float32", "uint8")])
def test_bits_read_as_another_type(source, target):
    check(lambda x: lax.bitcast_convert_type(x, target), some(source, 3, 4))


def test_bits_of_four_numbers_read_as_one():
    check(lambda x: lax.bitcast_convert_type(x, "float32"), some("uint8", 3, 4))


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *UNSIGNED, *FLOATS, *COMPLEX])
def test_constants(dtype):
    values = [some(dtype, *shape) for shape in [(), (1,), (5,), (2, 3), (0,), (20, 20)]]
    expected = [*values, np.full((2, 3), values[0])]
    assert_same(results(text_of(lambda: [jnp.asarray(value) for value in expected])), expected, tolerance=0)


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED)
def test_the_largest_and_smallest_constants(dtype):
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.max], dtype)
    expected = [ends, ends[0], ends[1], np.full(3, ends[1])]
    assert_same(results(text_of(lambda: [jnp.asarray(value) for value in expected])), expected)


def test_constants_that_are_no_numbers():
    values = np.float32([np.nan, np.inf, -np.inf, 1])
    expected = [values, values.astype("bfloat16"), values.astype("complex64"), *values, *values.astype("bfloat16")]
    assert_same(results(text_of(lambda: [jnp.asarray(value) for value in expected])), expected)


SHAPES = {
    "broadcast": (lambda x: jnp.broadcast_to(x, (4, 3, 5)), (3, 5)),
    "broadcast of ones": (lambda x: jnp.broadcast_to(x, (3, 4, 5)), (3, 1, 5)),
    "broadcast in the middle": (lambda x: lax.broadcast_in_dim(x, (3, 4, 5), (0, 2)), (3, 5)),
    "reshape": (lambda x: x.reshape(6, 10), (3, 4, 5)),
    "reshape to a scalar": (lambda x: x.reshape(()), (1, 1)),
    "expanded": (lambda x: x[:, None, :, None], (3, 4)),
    "transpose": (lambda x: x.T, (3, 4, 5)),
    "permuted": (lambda x: x.transpose(2, 0, 1), (3, 4, 5)),
    "slice": (lambda x: x[1:3, :2], (4, 5)),
    "slice with strides": (lambda x: x[1:9:3, ::2], (10, 5)),
    "an empty slice": (lambda x: x[2:2], (4, 5)),
    "negative strides": (lambda x: x[::-2], (7, 2)),
    "pad": (lambda x: lax.pad(x, np.float32(7), [(1, 2, 0), (0, 3, 0)]), (3, 4)),
    "pad inside": (lambda x: lax.pad(x, np.float32(7), [(1, 0, 2), (0, 0, 1)]), (3, 4)),
    "cropped": (lambda x: lax.pad(x, np.float32(7), [(-1, -2, 0), (2, -1, 0)]), (5, 4)),
    "cropped inside": (lambda x: lax.pad(x, np.float32(7), [(-1, -2, 2), (-2, 5, 1)]), (5, 4)),
    "reversed": (lambda x: lax.rev(x, (0, 2)), (3, 4, 5)),
    "concatenated": (lambda x: jnp.concatenate([x, 2 * x, x[:, :1]], 1), (3, 4)),
    "stacked": (lambda x: jnp.stack([x, x + 1], -1), (3, 4)),
    "iota": (lambda x: x * lax.broadcasted_iota(np.float32, (3, 4), 1) + jnp.arange(3)[:, None], (3, 4)),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (jnp.argmax(x[0]), 1), (2, 3)), (5, 5)),
    "dynamic slice beyond the end": (lambda x: lax.dynamic_slice(x, (jnp.int32(9), jnp.int32(-4)), (2, 3)), (5, 5)),
    "dynamic update": (lambda x: lax.dynamic_update_slice(x, x[:2, :2] * 2, (jnp.argmin(x[0]), 1)), (5, 5)),
    "dynamic update beyond the end": (lambda x: lax.dynamic_update_slice(x, x[:2, :2] * 2, (9, -3)), (5, 5)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    function, shape = SHAPES[name]
    check(function, f32(*shape))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "float16", "bfloat16", "complex64"])
def test_iota_of_every_type(dtype):
    if dtype != "bool":
        check(lambda: lax.broadcasted_iota(dtype, (3, 4), 0))


PRODUCTS = [
    ((3, 4), (4, 5), ((1,), (0,)), ((), ())),
    ((4, 3), (4, 5), ((0,), (0,)), ((), ())),
    ((4, 3), (5, 4), ((0,), (1,)), ((), ())),
    ((4,), (4,), ((0,), (0,)), ((), ())),
    ((3, 4), (4,), ((1,), (0,)), ((), ())),
    ((2, 3, 4), (2, 4, 5), ((2,), (1,)), ((0,), (0,))),
    ((3, 2, 4), (4, 5, 2), ((2,), (0,)), ((1,), (2,))),
    ((2, 3, 4), (3, 4, 5), ((1, 2), (0, 1)), ((), ())),
    ((2, 3, 4), (4, 3, 5), ((1, 2), (1, 0)), ((), ())),
    ((2, 3, 4, 5), (3, 2, 5, 6), ((3,), (2,)), ((0, 1), (1, 0))),
    ((2, 3), (4, 5), ((), ()), ((), ())),
]


@pytest.mark.parametrize("numbers", PRODUCTS, ids=str)
def test_products_in_every_layout(numbers):
    left, right, *axes = numbers
    check(lambda x, y: lax.dot_general(x, y, axes), f32(*left), f32(*right, seed=1), tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bfloat16", "float64", "complex64"])
def test_products_of_every_type(dtype):
    function = lambda x, y: lax.dot(x, y)  # noqa: E731
    check(function, some(dtype, 3, 4), some(dtype, 4, 5, seed=1), tolerance=1e-5)


def test_products_into_a_wider_type_and_with_a_precision():
    def function(x, y):
        return (
            lax.dot(x, y, preferred_element_type=np.int32),
            lax.dot(x.astype("float32"), y.astype("float32"), precision=lax.Precision.HIGHEST),
            lax.dot(x.astype("bfloat16"), y.astype("bfloat16"), preferred_element_type=np.float32),
        )

    check(function, some("int8", 3, 4), some("int8", 4, 5, seed=1))


CONVOLUTIONS = {
    "valid": ((2, 8, 8, 3), (3, 3, 3, 4), {}),
    "same": ((2, 8, 8, 3), (3, 3, 3, 4), {"padding": "SAME"}),
    "strides": ((2, 9, 8, 3), (3, 2, 3, 4), {"window_strides": (2, 3), "padding": "SAME"}),
    "padding": ((2, 5, 6, 3), (3, 3, 3, 4), {"padding": [(2, 0), (1, 3)]}),
    "cropping": ((2, 9, 9, 3), (3, 3, 3, 4), {"padding": [(-1, 0), (1, -2)]}),
    "dilated kernel": ((2, 9, 9, 3), (3, 3, 3, 4), {"rhs_dilation": (2, 3)}),
    "dilated input": ((2, 5, 4, 3), (3, 3, 3, 4), {"lhs_dilation": (2, 3), "padding": [(1, 1), (2, 2)]}),
    "groups": ((2, 6, 6, 4), (3, 3, 2, 6), {"feature_group_count": 2}),
    "depthwise": ((2, 6, 6, 4), (3, 3, 1, 4), {"feature_group_count": 4}),
    "groups of the batch": ((4, 6, 6, 3), (3, 3, 3, 4), {"batch_group_count": 2}),
}


def convolve(x, kernel, options, layout=("NHWC", "HWIO", "NHWC")):
    options = {"window_strides": (1, 1), "padding": "VALID"} | options
    return lax.conv_general_dilated(x, kernel, **options, dimension_numbers=layout)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_gradients(name):
    image, kernel, options = CONVOLUTIONS[name]

    def function(x, k):
        value = convolve(x, k, options)
        return value, *jax.grad(lambda x, k: (convolve(x, k, options) ** 2).sum(), (0, 1))(x, k)

    check(function, some("float32", *image, high=1, low=-1), some("float32", *kernel, seed=1, low=-1, high=1),
          tolerance=5e-5, contains="stablehlo.convolution")  # fmt: skip


@pytest.mark.parametrize("layout", [("NCHW", "OIHW", "NCHW"), ("NHWC", "OHWI", "HWNC"), ("CHWN", "IHWO", "NCHW")])
def test_convolutions_in_other_layouts(layout):
    sizes = {"N": 2, "H": 6, "W": 7, "C": 3, "I": 3, "O": 4}
    x = f32(*(sizes[letter] for letter in layout[0]))
    kernel = f32(*(min(sizes[letter], 4) for letter in layout[1]))
    check(lambda x, k: convolve(x, k, {}, layout), x, kernel, tolerance=1e-5)


def test_convolutions_of_one_and_three_axes():
    check(lambda x, k: lax.conv(x, k, (2,), "SAME"), f32(2, 3, 9), f32(4, 3, 3, seed=1), tolerance=1e-5)
    check(lambda x, k: lax.conv(x, k, (1, 2, 1), "VALID"), f32(1, 2, 5, 6, 5), f32(3, 2, 2, 3, 2), tolerance=1e-5)


REDUCTIONS = {
    "sum": jnp.sum, "prod": jnp.prod, "max": jnp.max, "min": jnp.min, "argmax": jnp.argmax, "argmin": jnp.argmin,
    "mean": jnp.mean, "logsumexp": jax.nn.logsumexp, "var": jnp.var,
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    check(lambda x: [REDUCTIONS[name](x, axis) for axis in (None, 0, 1, -1)], f32(3, 4, 5), tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16", "bfloat16", "float64"])
def test_reductions_of_every_type(dtype):
    def function(x):
        return (lax.reduce_sum(x, (0,)), lax.reduce_max(x, (1,)), lax.reduce_min(x, (0, 1)), lax.argmax(x, 1, np.int32))

    check(function, some(dtype, 6, 7, low=0, high=1), tolerance=1e-5)


def test_reductions_of_bits_and_truth_values():
    integers, truths = some("int32", 5, 6), some(bool, 5, 6)

    def function(x, y):
        return (
            *(lax.reduce_and(x, (0,)), lax.reduce_or(x, (1,)), lax.reduce_xor(x, (0, 1))),
            *(lax.reduce_and(y, (0,)), lax.reduce_or(y, (1,)), lax.reduce_xor(y, (0, 1)), lax.argmax(y, 1, np.int64)),
        )

    check(function, integers, truths)


def test_the_first_of_several_extremes_and_a_nan_before_all():
    ties = np.float32([[1, 3, 3, 0], [2, 2, 2, 2], [0, np.nan, 5, np.nan], [-0.0, 0.0, -1, -1]])
    check(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1), jnp.max(x, 1), jnp.min(x, 0)), ties)


def test_reductions_from_another_value_than_the_identity():
    check(lambda x: lax.reduce(x, np.float32(10), lax.add, (0,)), f32(4, 5))
    check(lambda x: lax.reduce(x, np.float32(0.5), lax.max, (0, 1)), f32(4, 5))
    check(lambda x, y: lax.reduce(x, y[0], lax.min, (1,)), f32(4, 5), f32(3, seed=1))


def test_reductions_of_several_arrays_by_a_function():
    def combine(before, value):
        (count, mean), (other, another) = before, value
        total = count + other
        return total, (count * mean + other * another) / jnp.maximum(total, 1)

    def function(x):
        return lax.reduce((jnp.ones_like(x), x), (np.float32(0), np.float32(0)), combine, (1,))

    check(function, f32(4, 50), tolerance=1e-5)


WINDOWS = {
    "max": (lax.max, -np.inf, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "max with overlap": (lax.max, -np.inf, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    "min": (lax.min, np.inf, (1, 2, 3, 1), (1, 1, 2, 1), "SAME"),
    "sum": (lax.add, 0.0, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"),
    "padding": (lax.add, 0.0, (1, 3, 2, 1), (1, 2, 1, 1), [(0, 0), (2, 1), (0, 1), (0, 0)]),
    "product": (lax.mul, 1.0, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name):
    operation, start, *rest = WINDOWS[name]
    check(lambda x: lax.reduce_window(x, np.float32(start), operation, *rest), f32(2, 7, 8, 3), tolerance=1e-5)


def test_dilated_windows():
    def function(x):
        return lax.reduce_window(x, np.float32(0), lax.add, (2, 3), (1, 2), "VALID", (2, 1), (1, 2))

    check(function, f32(6, 9), tolerance=1e-5)


def test_windows_of_integers_and_cumulative_sums():
    x = some("int32", 4, 9)
    check(lambda x: lax.reduce_window(x, np.int32(-(2**31)), lax.max, (1, 3), (1, 2), "SAME"), x)
    check(lambda x: (lax.cumsum(x, 1), lax.cummax(x, 0, reverse=True)), x)
    check(lambda x: (lax.cumsum(x, 1), lax.cummax(x, 0, reverse=True)), x, platform="tpu", contains="reduce_window")


@pytest.mark.parametrize("best, start", [(lax.max, -np.inf), (lax.min, np.inf)], ids=["max", "min"])
@pytest.mark.parametrize(
    "strides, padding", [((2, 2), "VALID"), ((1, 2), "SAME"), ((2, 1), [(0, 0), (1, 1), (0, 1), (0, 0)])]
)
def test_gradients_of_pooling(best, start, strides, padding):
    def pool(x):
        return lax.reduce_window(x, np.float32(start), best, (1, 3, 2, 1), (1, *strides, 1), padding)

    x = f32(2, 7, 8, 3)
    weights = f32(*jax.eval_shape(pool, x).shape, seed=1)
    check(jax.grad(lambda x: (pool(x) * weights).sum()), x, contains="select_and_scatter")


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_sorting(dtype):
    x, y = some(dtype, 6, 9), some("int32", 6, 9)
    check(lambda x, y: (lax.sort(x), *lax.sort((x, y), 0, num_keys=1)), x, y)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint32"])
@pytest.mark.parametrize("direction", ["LT", "LE", "GT", "GE"])
@pytest.mark.parametrize("swapped", [False, True])
def test_sorts_as_other_frameworks_write_them(dtype, direction, swapped):
    kind = {"float32": "f32", "int8": "i8", "uint32": "ui32"}[dtype]
    first, second = ("%b", "%a") if swapped else ("%a", "%b")
    text = f"""
    func.func @main(%x: tensor<4x7x{kind}>, %y: tensor<4x7xi32>) -> (tensor<4x7x{kind}>, tensor<4x7xi32>) {{
      %0:2 = "stablehlo.sort"(%x, %y) <{{dimension = 1 : i64, is_stable = true}}> ({{
      ^bb0(%a: tensor<{kind}>, %b: tensor<{kind}>, %c: tensor<i32>, %d: tensor<i32>):
        %less = stablehlo.compare {direction}, {first}, {second} : (tensor<{kind}>, tensor<{kind}>) -> tensor<i1>
        stablehlo.return %less : tensor<i1>
      }}) : (tensor<4x7x{kind}>, tensor<4x7xi32>) -> (tensor<4x7x{kind}>, tensor<4x7xi32>)
      return %0#0, %0#1 : tensor<4x7x{kind}>, tensor<4x7xi32>
    }}"""
    x = some(dtype, 4, 7)
    ascending = (direction in ("LT", "LE")) != swapped
    order = np.argsort(x, 1)
    order = order if ascending else order[:, ::-1]
    y = some("int32", 4, 7)
    found = results(text, x, y)
    assert_same(found, [np.take_along_axis(value, order, 1) for value in (x, y)])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_the_largest_few(dtype):
    check(lambda x: lax.top_k(x, 3), some(dtype, 5, 8))


def test_equal_keys_keep_their_order():
    x = np.int32([[2, 1, 2, 1, 2, 1, 1, 2]])
    check(lambda x, y: lax.sort((x, y), is_stable=True, num_keys=1), x, np.arange(8)[None])


GATHERS = {
    "rows": lambda x, i: x[i % 5],
    "rows and columns": lambda x, i: x[i % 5, (i * 3) % 6],
    "columns": lambda x, i: x[:, i % 6],
    "two axes of indices": lambda x, i: x[(i % 5).reshape(2, -1)],
    "along an axis": lambda x, i: jnp.take_along_axis(x, (i % 5)[:, None] * jnp.ones((1, 6), i.dtype), 0),
    "clamped": lambda x, i: x.at[i].get(mode="clip"),
    "a value beyond the end": lambda x, i: x.at[i].get(mode="fill", fill_value=7),
    "each of a batch": lambda x, i: jax.vmap(lambda row, j: row[j % 6])(x, i[:5]),
    "windows": lambda x, i: jax.vmap(lambda j: lax.dynamic_slice(x, (j, j), (2, 3)))(i),
}


@pytest.mark.parametrize("name", GATHERS)
def test_gathers(name):
    check(GATHERS[name], f32(5, 6), np.int32([0, 4, 7, 2, -1, 9]), contains="gather")


def test_gathers_beyond_the_end_are_clamped():
    x, indices = f32(5, 6), np.int32([0, 4, 5, 100, -7, -100])
    text = text_of(lambda x, i: x.at[i].get(mode="promise_in_bounds"), x, indices)
    assert_same(results(text, x, indices), [x[[0, 4, 4, 4, 0, 0]]])


SCATTERS = {
    "add": lambda x, i, y: x.at[i % 5].add(y), "multiply": lambda x, i, y: x.at[i % 5].multiply(y),
    "min": lambda x, i, y: x.at[i % 5].min(y), "max": lambda x, i, y: x.at[i % 5].max(y),
    "set": lambda x, i, y: x.at[jnp.array([3, 1, 4])].set(y[:3]),
    "elements": lambda x, i, y: x.at[i % 5, 2].add(y[:, 0]),
    "columns": lambda x, i, y: x.at[:, i % 6].add(y[:5, :6]), "dropped": lambda x, i, y: x.at[i].add(y, mode="drop"),
    "clamped": lambda x, i, y: x.at[i].add(y, mode="clip"), "a window": lambda x, i, y: x.at[1:3].set(y[:2]),
    "each of a batch": lambda x, i, y: jax.vmap(lambda row, j, v: row.at[j % 6].add(v))(x, i[:5], y[:5, 0]),
    "gradient of rows": lambda x, i, y: jax.grad(lambda x: (x[i % 5] * y).sum())(x),
}  # fmt: skip


@pytest.mark.parametrize("name", SCATTERS)
def test_scatters(name):
    check(SCATTERS[name], f32(5, 6), np.int32([0, 4, 7, 2, -1, 9]), f32(6, 6, seed=1), tolerance=1e-5)


@pytest.mark.parametrize("change", ["add", "set", "max", "min"])
def test_scatters_beyond_the_end_are_dropped(change):
    x, y, indices = f32(5, 6), f32(4, 6, seed=1), np.int32([4, 5, -7, 100])
    text = text_of(lambda x, i, y: getattr(x.at[i], change)(y, mode="promise_in_bounds"), x, indices, y)
    combine = {"add": np.add, "set": lambda x, y: y, "max": np.maximum, "min": np.minimum}[change]
    expected = x.copy()
    expected[4] = combine(x[4], y[0])
    assert_same(results(text, x, indices, y), [expected])


def test_a_sort_by_another_function_is_refused():
    with pytest.raises(UnsupportedOperation, match=r"a sort by a function of the user: stablehlo.sort"):
        results(text_of(lambda x: lax.sort((x, -x), num_keys=2), f32(3)), f32(3))


def test_a_scatter_by_another_function_is_refused():
    text = text_of(lambda x, y: x.at[0].apply(lambda value: value * 2) + y[0], f32(3), f32(3))
    assert "stablehlo.scatter" in text
    with pytest.raises(UnsupportedOperation, match=r"a scatter by a function of the user: stablehlo.scatter"):
        results(text, f32(3), f32(3))


CONTROL = {
    "while": lambda x: lax.while_loop(lambda s: s[1] < 5, lambda s: (jnp.tanh(s[0]) * 2, s[1] + 1), (x, 0))[0],
    "fori": lambda x: lax.fori_loop(0, x.shape[0], lambda i, s: s + x[i] * i, jnp.zeros_like(x[0])),
    "scan": lambda x: lax.scan(lambda s, row: (s + row.sum(), s * row), 0.0, x),
    "if": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "if not": lambda x: lax.cond(x[0, 0] < 0, jnp.sin, jnp.cos, x),
    "nested": lambda x: lax.fori_loop(
        0, 3, lambda i, s: lax.cond(i % 2 == 0, lambda s: lax.fori_loop(0, i, lambda j, t: t + x * j, s), jnp.sin, s), x
    ),
    "call": lambda x: jax.jit(jnp.sin)(x) + jax.jit(lambda y: jax.jit(jnp.sin)(y) * 2)(x + 1),
    "call in a loop": lambda x: lax.fori_loop(0, 3, lambda i, s: jax.jit(lambda y: jnp.where(y > 0, y, x))(s - 1), x),
    "checkpoint": lambda x: jax.grad(lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)).sum())(x))(x),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow(name):
    check(CONTROL[name], f32(4, 5), tolerance=1e-5)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_case(which):
    check(lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, jnp.exp], x), np.int32(which), f32(4), contains="case")


@pytest.mark.parametrize("which", [-1, 3])
def test_a_case_beyond_the_branches_is_the_last(which):
    text = """
    func.func @main(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
      %0 = "stablehlo.case"(%i) ({
        stablehlo.return %x : tensor<f32>
      }, {
        %1 = stablehlo.negate %x : tensor<f32>
        stablehlo.return %1 : tensor<f32>
      }) : (tensor<i32>) -> tensor<f32>
      return %0 : tensor<f32>
    }"""
    assert_same(results(text, np.int32(which), np.float32(2)), [np.float32(-2)])


def test_cholesky():
    x = f32(2, 4, 4)
    positive = x @ x.transpose(0, 2, 1) + np.eye(4, dtype="float32")
    check(lambda x: lax.linalg.cholesky(x), positive, platform="tpu", contains="stablehlo.cholesky", tolerance=1e-5)


@pytest.mark.parametrize("left", [False, True])
def test_triangular_solve(left):
    a = f32(4, 4) * np.float32(0.2) + 2 * np.eye(4, dtype="float32")

    def function(a, b):
        return [
            lax.linalg.triangular_solve(a, b, left_side=left, lower=lower, transpose_a=transposed, unit_diagonal=unit)
            for lower, transposed, unit in itertools.product([False, True], repeat=3)
        ]

    check(function, a, f32(4, 4, seed=1), platform="tpu", contains="triangular_solve", tolerance=1e-5)


@pytest.mark.parametrize(
    "kind, dtype", [("FFT", "complex64"), ("IFFT", "complex128"), ("RFFT", "float32"), ("IRFFT", "complex64")]
)
def test_fourier_transforms(kind, dtype):
    lengths = (4, 14) if kind == "IRFFT" else (4, 8)
    check(lambda x: lax.fft(x, kind, lengths), some(dtype, 3, 4, 8), contains="stablehlo.fft", tolerance=1e-5)


def test_bits_of_a_generator():
    def function(state):
        return lax.rng_bit_generator(state, (200, 200), np.uint32)

    state = np.arange(4, dtype=np.uint32)
    text = text_of(function, state)
    assert "rng_bit_generator" in text
    after, bits = results(text, state)
    assert not np.array_equal(after, state)
    mean = np.unpackbits(np.asarray(bits).view(np.uint8)).mean()
    assert abs(mean - 0.5) < 0.002
    assert np.array_equal(results(text, state)[1], bits)
    assert not np.array_equal(results(text, after)[1], bits)


RNG = """
    func.func @main(%a: tensor<{kind}>, %b: tensor<{kind}>) -> (tensor<100x200x{kind}>, tensor<100x200x{kind}>) {{
      %shape = stablehlo.constant dense<[100, 200]> : tensor<2xi64>
      %0 = stablehlo.rng %a, %b, %shape, distribution = {distribution} :
        (tensor<{kind}>, tensor<{kind}>, tensor<2xi64>) -> tensor<100x200x{kind}>
      %1 = stablehlo.rng %a, %b, %shape, distribution = {distribution} :
        (tensor<{kind}>, tensor<{kind}>, tensor<2xi64>) -> tensor<100x200x{kind}>
      return %0, %1 : tensor<100x200x{kind}>, tensor<100x200x{kind}>
    }}"""


@pytest.mark.parametrize("kind, dtype", [("f32", np.float32), ("f64", np.float64)])
def test_uniform_and_normal_numbers(kind, dtype):
    low, high = dtype(-1), dtype(3)
    first, second = results(RNG.format(kind=kind, distribution="UNIFORM"), low, high)
    assert first.dtype == dtype
    assert -1 <= first.min() < -0.99 and 2.99 < first.max() <= 3
    assert abs(first.mean() - 1) < 0.03
    assert not np.array_equal(first, second)
    normal, _ = results(RNG.format(kind=kind, distribution="NORMAL"), dtype(5), dtype(2))
    assert abs(normal.mean() - 5) < 0.05
    assert abs(normal.std() - 2) < 0.05


def test_uniform_integers_and_other_keys():
    text = RNG.format(kind="i32", distribution="UNIFORM")
    first, _ = results(text, np.int32(-2), np.int32(3))
    assert sorted(set(np.asarray(first).ravel().tolist())) == [-2, -1, 0, 1, 2]
    assert np.array_equal(first, results(text, np.int32(-2), np.int32(3))[0])
    assert not np.array_equal(first, results(text, np.int32(-2), np.int32(3), seed=1)[0])


def test_random_numbers_differ_between_the_rounds_of_a_loop():
    text = """
    func.func @main() -> tensor<10xf32> {
      %start = stablehlo.constant dense<0> : tensor<i32>
      %zeros = stablehlo.constant dense<0.0> : tensor<10xf32>
      %0:2 = stablehlo.while(%i = %start, %x = %zeros) : tensor<i32>, tensor<10xf32>
      cond {
        %count = stablehlo.constant dense<10> : tensor<i32>
        %less = stablehlo.compare LT, %i, %count : (tensor<i32>, tensor<i32>) -> tensor<i1>
        stablehlo.return %less : tensor<i1>
      } do {
        %one = stablehlo.constant dense<1> : tensor<i32>
        %next = stablehlo.add %i, %one : tensor<i32>
        %drawn = func.call @draw() : () -> tensor<1xf32>
        %y = stablehlo.dynamic_update_slice %x, %drawn, %i
          : (tensor<10xf32>, tensor<1xf32>, tensor<i32>) -> tensor<10xf32>
        stablehlo.return %next, %y : tensor<i32>, tensor<10xf32>
      }
      return %0#1 : tensor<10xf32>
    }
    func.func private @draw() -> tensor<1xf32> {
      %low = stablehlo.constant dense<0.0> : tensor<f32>
      %high = stablehlo.constant dense<1.0> : tensor<f32>
      %shape = stablehlo.constant dense<[1]> : tensor<1xi64>
      %0 = stablehlo.rng %low, %high, %shape, distribution = UNIFORM :
        (tensor<f32>, tensor<f32>, tensor<1xi64>) -> tensor<1xf32>
      return %0 : tensor<1xf32>
    }"""
    (drawn,) = results(text)
    assert len(set(np.asarray(drawn).tolist())) == 10


def normalized(x, mean, variance, scale, offset, epsilon):
    return (x - mean) / np.sqrt(variance + epsilon) * scale + offset


def test_batch_normalization_in_training_and_inference():
    text = """
    func.func @main(%x: tensor<5x3x4xf32>, %s: tensor<3xf32>, %o: tensor<3xf32>, %m: tensor<3xf32>, %v: tensor<3xf32>)
        -> (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<5x3x4xf32>) {
      %0:3 = "stablehlo.batch_norm_training"(%x, %s, %o) <{epsilon = 1.000000e-02 : f32, feature_index = 1 : i64}>
        : (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>)
      %1 = "stablehlo.batch_norm_inference"(%x, %s, %o, %m, %v)
        <{epsilon = 1.000000e-02 : f32, feature_index = 1 : i64}>
        : (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<5x3x4xf32>
      return %0#0, %0#1, %0#2, %1 : tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<5x3x4xf32>
    }"""
    x, scale, offset, mean = f32(5, 3, 4), f32(3, seed=1), f32(3, seed=2), f32(3, seed=3)
    variance = np.abs(f32(3, seed=4))
    wide, (s, o, m, v) = x.astype("float64"), (value[:, None] for value in (scale, offset, mean, variance))
    own = wide.mean((0, 2)), wide.var((0, 2))
    expected = [
        normalized(wide, own[0][:, None], own[1][:, None], s, o, 0.01), *own, normalized(wide, m, v, s, o, 0.01)
    ]  # fmt: skip
    found = results(text, x, scale, offset, mean, variance)
    assert_same(found, [value.astype("float32") for value in expected], tolerance=1e-5)


def test_gradients_of_batch_normalization():
    text = """
    func.func @main(%x: tensor<5x3x4xf32>, %s: tensor<3xf32>, %m: tensor<3xf32>, %v: tensor<3xf32>,
        %g: tensor<5x3x4xf32>) -> (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>) {
      %0:3 = "stablehlo.batch_norm_grad"(%x, %s, %m, %v, %g) <{epsilon = 1.000000e-02 : f32, feature_index = 1 : i64}>
        : (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<5x3x4xf32>)
        -> (tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>)
      return %0#0, %0#1, %0#2 : tensor<5x3x4xf32>, tensor<3xf32>, tensor<3xf32>
    }"""
    x, scale, grad = f32(5, 3, 4), f32(3, seed=1), f32(5, 3, 4, seed=2)
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    centred, deviation = x - mean[:, None], np.sqrt(variance + 0.01)[:, None]
    # The specification's formula, written for a mean over n elements.
    n = 20
    sums = [value.sum((0, 2))[:, None] for value in (grad, grad * centred)]
    dx = scale[:, None] / deviation / n * (n * grad - sums[0] - centred * sums[1] / deviation**2)
    dscale = (grad * centred / deviation).sum((0, 2))
    found = results(text, x, scale, mean, variance, grad)
    expected = [value.astype("float32") for value in (dx, dscale, grad.sum((0, 2)))]
    assert_same(found, expected, tolerance=1e-5)


def test_operations_that_jax_does_not_write():
    text = """
    func.func @main(%x: tensor<3x4xf32>, %y: tensor<4x2xf32>) -> (tensor<3x2xf32>, tensor<2x4x2xf32>, tensor<i32>,
        tensor<3x4xf32>, tensor<3x4xf32>) {
      %0 = stablehlo.dot %x, %y : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
      %1 = stablehlo.broadcast %y, sizes = [2] : (tensor<4x2xf32>) -> tensor<2x4x2xf32>
      %2 = stablehlo.get_dimension_size %x, dim = 1 : (tensor<3x4xf32>) -> tensor<i32>
      %3 = "stablehlo.map"(%x) <{dimensions = array<i64: 0, 1>}> ({
      ^bb0(%a: tensor<f32>):
        %5 = stablehlo.tanh %a : tensor<f32>
        %6 = stablehlo.negate %5 : tensor<f32>
        stablehlo.return %6 : tensor<f32>
      }) : (tensor<3x4xf32>) -> tensor<3x4xf32>
      %4 = stablehlo.tuple %x, %y : tuple<tensor<3x4xf32>, tensor<4x2xf32>>
      %7 = stablehlo.get_tuple_element %4[0] : (tuple<tensor<3x4xf32>, tensor<4x2xf32>>) -> tensor<3x4xf32>
      return %0, %1, %2, %3, %7 : tensor<3x2xf32>, tensor<2x4x2xf32>, tensor<i32>, tensor<3x4xf32>, tensor<3x4xf32>
    }"""
    x, y = f32(3, 4), f32(4, 2, seed=1)
    assert_same(results(text, x, y), [x @ y, np.stack([y, y]), np.int32(4), -np.tanh(x), x], tolerance=1e-5)


def test_a_convolution_with_a_reversed_window():
    text = """
    func.func @main(%x: tensor<1x6x7x2xf32>, %k: tensor<3x2x2x4xf32>) -> tensor<1x4x6x4xf32> {
      %0 = stablehlo.convolution(%x, %k) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],
        window = {reverse = [1, 0]} {batch_group_count = 1 : i64, feature_group_count = 1 : i64}
        : (tensor<1x6x7x2xf32>, tensor<3x2x2x4xf32>) -> tensor<1x4x6x4xf32>
      return %0 : tensor<1x4x6x4xf32>
    }"""
    x, kernel = f32(1, 6, 7, 2), f32(3, 2, 2, 4, seed=1)
    assert_same(results(text, x, kernel), [convolve(x, kernel[::-1], {})], tolerance=1e-5)


def test_a_size_that_is_set_to_what_it_is():
    text = """
    func.func @main(%x: tensor<3x4xf32>, %n: tensor<i32>) -> (tensor<3x4xf32>, tensor<3x4xf32>) {{
      %c = stablehlo.constant dense<{size}> : tensor<i32>
      %0 = stablehlo.set_dimension_size %x, %c, dim = 1 : (tensor<3x4xf32>, tensor<i32>) -> tensor<3x4xf32>
      %1 = stablehlo.set_dimension_size %x, {second}, dim = 1 : (tensor<3x4xf32>, tensor<i32>) -> tensor<3x4xf32>
      return %0, %1 : tensor<3x4xf32>, tensor<3x4xf32>
    }}"""
    x = f32(3, 4)
    assert_same(results(text.format(size=4, second="%c"), x, np.int32(2)), [x, x])
    for size, second in ((3, "%c"), (4, "%n")):
        with pytest.raises(UnsupportedOperation, match=r"a shape that depends on values"):
            results(text.format(size=size, second=second), x, np.int32(2))


def test_an_operation_without_a_counterpart_is_named_with_its_place():
    text = """
    func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
      %0 = stablehlo.reduce_precision %x, format = e5m2 : tensor<3xf32> loc("model/dense/quantize")
      return %0 : tensor<3xf32>
    }"""
    message = r"the operation stablehlo.reduce_precision, which is 'model/dense/quantize' in the function"
    with pytest.raises(UnsupportedOperation, match=message):
        results(text, f32(3))


def test_a_call_of_what_is_no_part_of_xla_is_named():
    text = """
    func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
      %0 = stablehlo.custom_call @their_kernel(%x) : (tensor<3xf32>) -> tensor<3xf32>
      return %0 : tensor<3xf32>
    }"""
    with pytest.raises(UnsupportedOperation, match=r"a call of 'their_kernel', which is no part of XLA"):
        results(text, f32(3))


def network(parameters, x, y):
    kernel, w, b = parameters
    hidden = jax.nn.relu(convolve(x, kernel, {"padding": "SAME"}))
    hidden = lax.reduce_window(hidden, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    logits = jnp.tanh(hidden.reshape(x.shape[0], -1)) @ w + b
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1))


def test_a_step_of_training_a_network():
    parameters = f32(3, 3, 1, 4), f32(64, 10, seed=1), f32(10, seed=2)

    def step(parameters, x, y):
        loss, gradients = jax.value_and_grad(network)(parameters, x, y)
        return loss, jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradients)

    arguments = parameters, f32(5, 8, 8, 1), np.int32([0, 9, 3, 3, 1])
    leaves, tree = jax.tree.flatten(arguments)
    check(lambda *leaves: step(*jax.tree.unflatten(tree, leaves)), *leaves, tolerance=1e-5)
