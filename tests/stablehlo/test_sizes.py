"""Functions compiled for batches of a few sizes are read as functions for batches of every size."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from hansa.compiler import padding
from hansa.compiler.padding import batch as batch_of
from hansa.stablehlo import NotSized, evaluate, read_sized


def read_function(function, *shapes):
    """The function, lowered for batches of the sample sizes; "b" in a shape is the batch."""

    def compile(size):
        arguments = [jax.ShapeDtypeStruct(sized(shape, size), dtype) for dtype, shape in map(typed, shapes)]
        return jax.jit(function, keep_unused=True).lower(*arguments).as_text()

    return read_sized(compile)


def typed(shape):
    return (shape[0], shape[1:]) if shape and isinstance(shape[0], type) else (np.float32, shape)


def sized(shape, size):
    return tuple(size if part == "b" else part for part in shape)


def arrays(shapes, size, seed=0):
    rng = np.random.default_rng(seed)
    drawn = {np.int32: lambda shape: rng.integers(0, 4, shape), np.float32: lambda shape: rng.uniform(-2, 2, shape)}
    return [drawn[dtype](sized(shape, size)).astype(dtype) for dtype, shape in map(typed, shapes)]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for value, other in zip(found, expected, strict=True):
        assert (value.shape, value.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-5)


def symbolic(module, shapes):
    """The module traced for a batch of symbolic size."""
    (b,) = export.symbolic_shape("b")
    avals = [jax.ShapeDtypeStruct(sized(shape, b), dtype) for dtype, shape in map(typed, shapes)]
    with jax.enable_x64(True):
        return jax.make_jaxpr(lambda *arguments: evaluate(module, arguments, jax.random.key(0)))(*avals)


def check_concrete(module, function, arguments):
    """Compares the function with what is read for one batch, and returns its results."""

    def both(*arguments):
        return evaluate(module, arguments, jax.random.key(0)), jax.tree.leaves(function(*arguments))

    found, expected = jax.jit(both)(*arguments)
    assert_close(found, expected)
    return expected


SIZES = [1, 30]
CAPACITY = 40


def check(function, *shapes, sizes=SIZES, padded=True):
    """Compares the function with what is read, for batches of concrete sizes, of a symbolic one, and padded ones."""
    module = read_function(function, *shapes)
    jaxpr = symbolic(module, shapes)
    outputs = [aval.shape for aval in jaxpr.out_avals]

    @jax.jit
    def on_padded(size, *arguments):
        with jax.enable_x64(True):
            batch = padding.Batch(size, CAPACITY)
            rows = [
                padding.copy_first(argument, aval.shape, batch)
                for argument, aval in zip(arguments, jaxpr.in_avals, strict=True)
            ]
            return padding.evaluate(jaxpr, rows, batch)

    for size in sizes:
        arguments = arrays(shapes, size, seed=size)
        expected = check_concrete(module, function, arguments)
        if not padded:
            continue
        full = arrays(shapes, CAPACITY, seed=1000)
        for whole, part, (_, shape) in zip(full, arguments, map(typed, shapes), strict=True):
            axis = shape.index("b") if "b" in shape else None
            whole[tuple(slice(size) if i == axis else slice(None) for i in range(len(shape)))] = part
        found = [
            value[tuple(slice(batch_of._evaluate(dim, size)) for dim in shape)]
            for value, shape in zip(map(np.asarray, on_padded(jnp.int32(size), *full)), outputs, strict=True)
        ]
        assert_close(found, expected)


def positions(x):
    return jnp.arange(x.shape[0], dtype=np.float32)


X, Y, W = ("b", 3), (np.int32, "b"), (3, 4)

FUNCTIONS = {
    "a mean": (lambda x: jnp.mean(x), X),
    "a mean of each feature": (lambda x: jnp.mean(x, 0), X),
    "a gradient of a mean loss": (lambda w, x: jax.grad(lambda w: jnp.mean((x @ w) ** 2))(w), W, X),
    "an unbiased variance": (lambda x: jnp.sum((x - jnp.mean(x, 0)) ** 2, 0) / np.float32(x.shape[0] - 1), X),
    "a sum over the root of the size": (lambda x: jnp.sum(x) / np.float32(x.shape[0]) ** np.float32(0.5), X),
    "the size": (lambda x: (jnp.int32(x.shape[0]), jnp.float32(2.5 * x.shape[0]), jnp.sum(x)), X),
    "the square of the size": (lambda x: jnp.sum(x) * (x.shape[0] ** 2), X),
    "the size and a rest": (lambda x: jnp.sum(x) * np.float32(x.shape[0] + 3), X),
    "the batch and time merged": (lambda x, w: (x.reshape(-1, 3) @ w).reshape(-1, 5, 4), ("b", 5, 3), W),
    "all flat": (lambda x: x.reshape(-1) * 2, X),
    "positions": (lambda x: x * positions(x)[:, None], X),
    "truncated positions": (lambda x: x[:, 0] * np.float32(3) + 2 * positions(x) + 1, X),
    "every element": (lambda x: jnp.arange(3 * x.shape[0], dtype=np.float32).reshape(-1, 3) + x, X),
    "a table of positions": (lambda x: x[:, 0] * np.arange(1, 1 + x.shape[0], dtype=np.float32), X),
    "a full array": (lambda x: jnp.full(x.shape, 7.0) + x, X),
    "one-hot labels": (lambda y: jax.nn.one_hot(y, 4), Y),
    "a cross entropy": (
        lambda w, x, y: -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ w), y[:, None], 1)), W, X, Y,
    ),
    "hits": (lambda w, x, y: jnp.sum(jnp.argmax(x @ w, 1) == y), W, X, Y),
    "two batches": (lambda x, y: (x * y[:, None].astype(x.dtype)).sum(), X, Y),
    "a transpose": (lambda x: (x.T @ x, x.T), X),
    "a loop": (lambda x: lax.fori_loop(0, 3, lambda i, s: jnp.tanh(s) + jnp.mean(x), x), X),
    "a branch": (lambda x: lax.cond(jnp.mean(x) > 0, lambda x: x - jnp.mean(x), lambda x: 2 * x, x), X),
    "no batch in the result": (lambda w, x: (w * 2, w.sum()), W, X),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_a_batch(name):
    function, *shapes = FUNCTIONS[name]
    check(function, *shapes)


def test_sizes_to_forty():
    def function(x):
        n = x.shape[0]
        merged = x.reshape(-1) + jnp.arange(3 * n, dtype=np.float32)
        return jnp.mean(x), jnp.full((n, 2), 7), merged.reshape(n, 3), x.sum() / np.float32(n - 1), np.float32(n**0.5)

    module = read_function(function, X)
    for size in range(1, 41, 3):
        check_concrete(module, function, arrays([X], size, seed=size))


def test_the_reciprocal_of_the_size_less_one():
    check(lambda x: jnp.sum((x - jnp.mean(x, 0)) ** 2, 0) * np.float32(1 / (x.shape[0] - 1)), X, sizes=[2, 5, 40])


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_constants_of_other_floats(dtype):
    def mean(x):
        return jnp.sum(x) * np.asarray(1 / x.shape[0], dtype)

    with jax.enable_x64(True):
        module = read_sized(lambda n: jax.jit(mean).lower(jax.ShapeDtypeStruct((n,), dtype)).as_text())
        for size in (1, 5, 32):
            x = np.linspace(0, 1, size).astype(dtype)
            (found,) = evaluate(module, [x], jax.random.key(0))
            tolerance = 1e-12 if dtype == np.float64 else 2 * float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(np.float64(found), np.float64(mean(x)), rtol=tolerance)


def test_a_slice_to_the_end_of_the_batch():
    check(lambda x: (x[1:], x[:-1] - x[1:], x[::-1]), X, sizes=[3, 13, 40], padded=False)


def test_a_batch_on_another_axis_and_behind_the_parameters():
    check(lambda w, x: w @ x / x.shape[1], (4, 3), (3, "b"))


def test_a_function_without_a_batch_is_what_it_is():
    module = read_function(lambda x: 2 * x, (3,))
    assert_close(evaluate(module, [np.float32([1, 2, 3])], jax.random.key(0)), [np.float32([2, 4, 6])])


def test_a_scan_over_the_batch_runs_for_each_example():
    module = read_function(lambda x: lax.scan(lambda s, row: (s * 0.5 + row, s), jnp.zeros(3), x), X)
    for size in (1, 8, 13):
        (x,) = arrays([X], size)
        total, states = np.zeros(3, np.float32), []
        for row in x:
            states.append(total)
            total = total * np.float32(0.5) + row
        assert_close(evaluate(module, [x], jax.random.key(0)), [total, np.stack(states)])


TABLE = np.random.default_rng(0).normal(size=100).astype(np.float32)

NOT_SIZED = {
    "an if": (lambda x: jnp.sin(x) if x.shape[0] > 15 else jnp.cos(x), r"the operations differ: .*cosine.*sine"),
    "one more step": (lambda x: jnp.sin(x) if x.shape[0] > 15 else x, r"the operations differ"),
    "an odd size": (lambda x: x + {13: 1, 17: 2, 23: 9}[x.shape[0]], r"of stablehlo.constant .* is 1.0, 2.0, 9.0"),
    "a table": (lambda x: x[:, 0] * TABLE[: x.shape[0]], r"is a table with \(13,\), \(17,\), \(23,\) elements"),
    "half a batch": (lambda x: x[: x.shape[0] // 3], r"has the sizes 4, 5, 7"),
    "a comparison": (lambda x: x > 0 if x.shape[0] > 15 else x < 0, r"comparison_direction .* differ: LT, GT, GT"),
    "the square of the batch": (lambda x: jnp.outer(x, x).reshape(-1), r"has the sizes"),
    "a rank": (lambda x: x if x.shape[0] > 15 else x[:, 0], r"differ"),
    "a dtype": (lambda x: x.astype(np.int32 if x.shape[0] > 15 else np.int16), r"the dtypes of .* differ"),
    "what is returned": (lambda x: (x + 1, x * 2)[:: 1 if x.shape[0] > 15 else -1], r"differ"),
    "the number of loops": (
        lambda x: lax.fori_loop(0, {13: 1, 17: 5, 23: 2}[x.shape[0]], lambda i, s: jnp.sin(s), x), r"is 1, 5, 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_SIZED)
def test_functions_that_are_not_one_program_for_every_size(name):
    function, message = NOT_SIZED[name]
    with pytest.raises(NotSized) as error:
        read_function(function, X)
    assert re.search(message, str(error.value), re.DOTALL)
    assert "(13, 17, 23)" in str(error.value) or name == "a table"


STEPS = {
    "tanh": jnp.tanh,
    "centred": lambda x: x - jnp.mean(x, 0),
    "scaled": lambda x: x / x.shape[0],
    "cumulated": lambda x: x * (1 + positions(x)[:, None]) / x.shape[0],
    "doubled": lambda x: jnp.concatenate([x, 2 * x], 1)[:, :3],
    "normalized": lambda x: x / (1 + jnp.sum(jnp.abs(x), 0)),
    "merged": lambda x: (x.reshape(-1) * 0.5).reshape(x.shape),
    "softmax": lambda x: jax.nn.softmax(x, 0),
    "times its products": lambda x: x @ (x.T @ x) / x.shape[0],
}  # fmt: skip


@settings(max_examples=6)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4), st.integers(1, CAPACITY))
def test_random_programs(names, size):
    def function(x):
        for name in names:
            x = STEPS[name](x)
        return x, jnp.mean(x)

    check(function, X, sizes=[size])
