"""The faster forms of products equal the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from hansa.compiler.padding import Batch, evaluate
from hansa.compiler.products import contract_few, without_transposes


def trace(function, *shapes):
    (b,) = export.symbolic_shape("b")
    avals = [jax.ShapeDtypeStruct(tuple(b if dim == "b" else dim for dim in shape), np.float32) for shape in shapes]
    return jax.make_jaxpr(function)(*avals)


def gradient(w, x, y):
    return w - 0.1 * jax.grad(lambda w: jnp.mean((jnp.tanh(x @ w) - y) ** 2))(w)


@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize("shape", [(784, 10), (4, 2048), (3, 5)])
def test_a_step_on_a_few_rows_is_that_of_numpy(size, shape):
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=shape).astype("float32"), rng.normal(size=(10, shape[0])).astype("float32")
    y = rng.normal(size=(10, shape[1])).astype("float32")
    (found,) = evaluate(trace(gradient, shape, ("b", shape[0]), ("b", shape[1])), [w, x, y], Batch(size, 10))
    x, y = x[:size].astype("float64"), y[:size].astype("float64")
    out = np.tanh(x @ w)
    expected = w - 0.1 * x.T @ (2 * (out - y) / y.size * (1 - out**2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_few_rows_of_matrices_in_any_layout(axes):
    rng = np.random.default_rng(1)
    shapes = [(7, 80) if axis == 0 else (80, 7) for axis in axes]
    a, b = (rng.normal(size=shape).astype("float32") for shape in shapes)
    numbers = (((axes[0],), (axes[1],)), ((), ()))
    params = {"dimension_numbers": numbers, "precision": None, "preferred_element_type": None}
    product = contract_few([jax.typeof(jnp.asarray(x)) for x in (a, b)], params, 7)
    assert product is not None
    np.testing.assert_allclose(
        jax.jit(product)(a, b), np.tensordot(a, b, axes=(axes[0], axes[1])), rtol=1e-4, atol=1e-5
    )


def test_rows_in_another_order_are_read_once_and_not_for_each_element():
    x = jax.ShapeDtypeStruct((7, 80, 4), np.float32)
    g = jax.ShapeDtypeStruct((7, 300), np.float32)
    params = {"dimension_numbers": (((0,), (0,)), ((), ())), "precision": None, "preferred_element_type": None}

    def step(w, g, x):
        rows = x.transpose(0, 2, 1).reshape(7, 320)  # as PyTorch flattens what a convolution has left
        product = contract_few([jax.typeof(g), jax.typeof(rows)], params, 7)
        assert product is not None
        return w - product(g, rows)

    text = jax.jit(step).lower(jax.ShapeDtypeStruct((300, 320), np.float32), g, x).compile().as_text()
    (update,) = [
        line for line in text.splitlines() if " f32[300,320]" in line and "ENTRY" not in line and "fusion(" in line
    ]
    assert "f32[7,80,4]" not in update and "%x" not in update
    # What the update is computed of is in memory, in the order in which it is read.
    operands = update.partition("fusion(")[2].partition(")")[0].split(", ")
    made = {line.split(" = ")[0].strip().removeprefix("ROOT "): line for line in text.splitlines() if " = " in line}
    assert sum("f32[7,320]" in made[name] for name in operands) == 1


@pytest.mark.parametrize(
    "shapes, rows",
    [([(32, 80), (32, 80)], 32), ([(7, 8), (7, 8)], 7), ([(2, 7, 80), (2, 7, 80)], 7)],
    ids=["many rows", "few elements", "no matrices"],
)
def test_other_products_stay_as_they_are(shapes, rows):
    numbers = (((len(shapes[0]) - 2,), (len(shapes[0]) - 2,)), ((), ()))
    params = {"dimension_numbers": numbers, "precision": None, "preferred_element_type": None}
    assert contract_few([jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes], params, rows) is None


def test_a_product_that_is_only_transposed_is_turned_around():
    closed = trace(lambda x, d: (d.T @ x).T, (5, 784), (5, 10))
    names = [eqn.primitive.name for eqn in without_transposes(closed.jaxpr)]
    assert names[-1] == "dot_general"
    twice = trace(lambda x, d: ((d.T @ x).T, d.T @ x), (5, 784), (5, 10))
    used = trace(lambda x, d: (lambda p: (p.T, p))(jax.lax.dot(d.T, x)), (5, 784), (5, 10))
    assert len(without_transposes(used.jaxpr)) == len(used.jaxpr.eqns)
    x, d = np.ones((5, 784), "float32"), np.arange(50, dtype="float32").reshape(5, 10)
    for closed in (twice, used):
        for found, expected in zip(evaluate(closed, [x, d], Batch(5, 5)), [x.T @ d, d.T @ x], strict=True):
            np.testing.assert_allclose(found, expected)
