"""What a function hands on unchanged, as far as its jaxpr tells."""

import jax
import jax.numpy as jnp
import optax
import pytest

from hansa.language.unchanged import unchanged

W = jnp.ones((3, 3))


def of(function, *arguments):
    return unchanged(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x, f: w,
        lambda w, x, f: w + jnp.zeros_like(w),
        lambda w, x, f: w - 0.1 * jnp.zeros((3, 3)),
        lambda w, x, f: w + f * (w - w),
        lambda w, x, f: jnp.where(f > 0, w + 0.0, w),
        lambda w, x, f: jax.jit(lambda v: (v + 0.0).astype(jnp.float32))(w),
        lambda w, x, f: jax.lax.cond(f > 0, lambda: w, lambda: -jnp.zeros((3, 3)) + w),
        lambda w, x, f: w - f * jax.grad(lambda v: (jax.lax.stop_gradient(v) @ x).sum())(w),
        lambda w, x, f: jax.lax.fori_loop(0, 3, lambda i, c: (c[0] + jnp.zeros_like(x), c[1] + x), (w, x))[0],
        lambda w, x, f: jax.lax.while_loop(lambda c: c[1] < f, lambda c: (c[0], c[1] + 1), (w, 0.0))[0],
        lambda w, x, f: jax.lax.scan(lambda c, row: (c - jnp.zeros((3, 3)), row @ c), w, x)[0],
    ],
)
def test_what_a_literal_zero_is_added_to_is_handed_on(function):
    assert of(function, W, W, 1.0) == [0]


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x, f: w + x,
        lambda w, x, f: w.T,
        lambda w, x, f: w + x * jnp.zeros((3, 3)),  # which is NaN where x is infinite
        lambda w, x, f: jnp.where(f > 0, w, x),
        lambda w, x, f: w.astype(jnp.bfloat16).astype(jnp.float32),
        lambda w, x, f: jax.lax.cond(f > 0, lambda: w, lambda: w + x),
        lambda w, x, f: jax.lax.fori_loop(0, 3, lambda i, v: v + x, w),
        lambda w, x, f: jax.lax.fori_loop(0, 3, lambda i, c: (c[1], c[0]), (w, x))[0],
        lambda w, x, f: jax.lax.fori_loop(0, 3, lambda i, v: w, x),  # of no step it is x
        lambda w, x, f: jax.lax.scan(lambda c, row: (row, c), w[0], w)[1],
        lambda w, x, f: jnp.zeros((3, 3)),
    ],
)
def test_all_else_may_be_another(function):
    assert of(function, W, W, 1.0) == [-1]


@pytest.mark.parametrize(
    "freeze",
    [
        lambda labels: optax.multi_transform({True: optax.set_to_zero(), False: optax.adam(0.1)}, labels),
        lambda labels: optax.chain(optax.sgd(0.1, momentum=0.9), optax.masked(optax.set_to_zero(), labels)),
        lambda labels: optax.chain(optax.masked(optax.set_to_zero(), labels), optax.sgd(0.1)),
    ],
)
def test_masks_of_optax(freeze):
    weights = {"frozen": W, "trained": W}
    optimizer = freeze({"frozen": True, "trained": False})

    def step(weights, state, gradients):
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates)

    assert of(step, weights, optimizer.init(weights), weights) == [0, -1]
