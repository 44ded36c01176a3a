"""Images with their channels behind the batch lie with the channels last in the steps of a loop."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hansa.compiler.rewrites import faster
from tests.compiler.test_rewrites import both, primitives

LAYOUT = ("NCHW", "OIHW", "NCHW")


def behind(x, kernel):
    """A convolution as Flax or Haiku may write it."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def between_transposes(x, kernel):
    """The same with the channels last, as PyTorch's are evaluated."""
    x, kernel = jnp.moveaxis(x, 1, -1), jnp.moveaxis(kernel, (0, 1), (-1, -2))
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.moveaxis(y, -1, 1)


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def normed(x):
    mean = x.mean((0, 2, 3), keepdims=True)
    return (x - mean) / jnp.sqrt(jnp.square(x - mean).mean((0, 2, 3), keepdims=True) + 1e-5)


def plain(x, y):
    return pooled(jax.nn.relu(x + y[:, None, None]))


def residual(x, y):
    return jnp.concatenate([x + jnp.tanh(normed(x)), jnp.flip(x, 3)], 1) * y.mean()


def padded(x, y):
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)))[:, :, :-1, 1:-1]
    return jax.nn.gelu(x) + jnp.where(x.max(1, keepdims=True) > 0, x, y[None, :, None, None])


def squeezed(x, y):
    return x * jax.nn.sigmoid(x[:, :1].squeeze(1) + 1.0)[:, None] + x.sum(3, keepdims=True).transpose(0, 1, 3, 2)


def averaged(x, y):
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, 3, 3), (1, 1, 2, 2), "SAME") / 9.0 + y.max()


BLOCKS = [plain, residual, padded, squeezed, averaged]


def trained(convolution, block, x, first, second, scale, out):
    """Some steps of training a small network in a loop."""

    def loss(weights):
        first, second, scale, out = weights
        hidden = block(convolution(x, first), scale)
        hidden = convolution(hidden, second)
        return jnp.square(hidden.reshape(hidden.shape[0], -1) @ out - 1.0).mean()

    def step(_, weights):
        return jax.tree.map(lambda w, g: w - 0.01 * g, weights, jax.grad(loss)(weights))

    return lax.fori_loop(0, jnp.where(scale[0] == 0, 0, 3), step, (first, second, scale, out))


def case(block):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 6, 6))
    hidden = jax.eval_shape(block, jax.ShapeDtypeStruct((3, 4, 6, 6), "float32"), jax.ShapeDtypeStruct((4,), "float32"))
    shapes = (4, 2, 3, 3), (5, hidden.shape[1], 3, 3), (4,), (5 * math.prod(hidden.shape[2:]), 2)
    return x, *(rng.normal(size=shape) / math.sqrt(shape[-1]) for shape in shapes)


CASES = [(behind, plain), (between_transposes, plain), (between_transposes, residual)]
MORE = [(convolution, block) for convolution in (behind, between_transposes) for block in BLOCKS]


@pytest.mark.parametrize(
    ("convolution", "block"),
    [*CASES, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE if each not in CASES)],
)
def test_training_in_a_loop_is_the_same(convolution, block):
    expected, found, equations = both(lambda *args: trained(convolution, block, *args), *case(block))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    if block in (plain, residual):
        images = {eqn.invars[0].aval.shape for eqn in equations if eqn.primitive.name == "transpose"}
        activations = {shape for shape in images if shape[:1] == (3,) and shape[1:3] in ((4, 6), (8, 6))}
        assert not activations  # of what the convolution and the block give


@pytest.mark.parametrize("most", [2, None])
def test_what_a_loop_carries_and_reads_keeps_its_order(most):
    """A loop of a known number of steps is a scan."""

    def steps(x, kernel):
        def step(_, carry):
            x, seen = carry
            y = behind(x, kernel)
            return y, jnp.argmax(y, 1) + seen

        return lax.fori_loop(0, most or jnp.int32(x[0, 0, 0, 0] < 99) * 2, step, (x, jnp.zeros((2, 5, 5), jnp.int64)))

    rng = np.random.default_rng(1)
    expected, found, equations = both(steps, rng.normal(size=(2, 3, 5, 5)), rng.normal(size=(3, 3, 3, 3)))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert {"while", "scan"} & {eqn.primitive.name for eqn in equations} == {"scan" if most else "while"}


def test_loops_without_images_stay():
    """Attention transposes, too, and has no convolution."""

    def steps(x):
        return lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3), x)

    closed = jax.make_jaxpr(steps)(np.zeros((2, 3, 4, 5), "float32"))
    assert faster(closed).jaxpr is closed.jaxpr
    assert sum(eqn.primitive.name == "transpose" for eqn in primitives(closed.jaxpr)) == 2
