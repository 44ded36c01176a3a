"""Products taken out of scans give what the scans give, and are out of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from hansa.compiler.rewrites import with_products_outside

ROWS, UNITS, FEATURES, STEPS = 5, 6, 4, 7


def arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.5, shape) for shape in shapes]


def both(function: Any, *args: Any) -> tuple[ClosedJaxpr, list[Any], list[Any]]:
    """The rewritten program, its results, and those of the program as it was written; in float64."""
    with jax.enable_x64(True):
        before = jax.make_jaxpr(function)(*args)
        after = with_products_outside(before)
        leaves = jax.tree.leaves(args)
        return after, jax.jit(jaxpr_as_fun(after))(*leaves), jaxpr_as_fun(before)(*leaves)


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert [x.shape for x in found] == [x.shape for x in expected]
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def jaxprs_in(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, tuple | list):
        return [inner for part in value for inner in jaxprs_in(part)]
    return [value] if isinstance(value, Jaxpr) else []


def products_in_scans(jaxpr: Jaxpr, inside: bool = False) -> int:
    """How many products a step of each scan has, summed over the scans."""
    total = 0
    for eqn in jaxpr.eqns:
        total += inside and eqn.primitive.name == "dot_general"
        for inner in jaxprs_in(list(eqn.params.values())):
            total += products_in_scans(inner, inside or eqn.primitive.name == "scan")
    return total


def cell(kind: str) -> Any:
    """One step of a layer: (kernel, recurrent kernel, bias), state, input -> state."""

    def lstm(weights: Any, state: Any, x: Any) -> Any:
        w, u, b = weights
        h, c = state
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def gru(weights: Any, state: Any, x: Any) -> Any:
        w, u, b = weights
        (h,) = state
        z, r, n = jnp.split(x @ w + b, 3, axis=-1)
        uz, ur, un = jnp.split(h @ u, 3, axis=-1)
        z, r = jax.nn.sigmoid(z + uz), jax.nn.sigmoid(r + ur)
        return (z * h + (1 - z) * jnp.tanh(n + r * un),)

    def columns(weights: Any, state: Any, x: Any) -> Any:
        """With the weights at the left, and the rows of the batch in the columns."""
        w, u, b = weights
        (h,) = state
        return (jnp.tanh(w.T @ x.T + u.T @ h.T + b[:, None]).T,)

    return {"lstm": (lstm, 4, 2), "gru": (gru, 3, 1), "columns": (columns, 1, 1)}[kind]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("kind", "left"), [("lstm", 2), ("gru", 2), ("columns", 2)])
def test_a_recurrent_layer_keeps_one_product_a_step_in_each_direction(kind: str, left: int, reverse: bool) -> None:
    step, gates, states = cell(kind)
    w, u, b, x, readout = arrays(
        (FEATURES, gates * UNITS), (UNITS, gates * UNITS), (gates * UNITS,), (STEPS, ROWS, FEATURES), (UNITS, 3)
    )

    def loss(weights: Any, readout: Any, x: Any) -> Any:
        def one(state: Any, x: Any) -> Any:
            after = step(weights, state, x)
            return after, after[0] @ readout

        start = tuple(jnp.zeros((ROWS, UNITS), x.dtype) for _ in range(states))
        last, outputs = lax.scan(one, start, x, reverse=reverse)
        return jnp.sum(last[0] ** 2) + jnp.sum(jnp.sin(outputs))

    after, found, expected = both(jax.value_and_grad(loss, (0, 1, 2)), (w, u, b), readout, x)
    assert_equal(found, expected)
    assert products_in_scans(after.jaxpr) == left


def test_layers_on_each_other_and_clients_side_by_side() -> None:
    step, gates, _ = cell("lstm")
    clients = 3
    first, second, x = arrays(
        (clients, FEATURES, gates * UNITS), (clients, UNITS, gates * UNITS), (clients, STEPS, 2, 4)
    )
    kernels, biases = arrays((2, clients, UNITS, gates * UNITS), (clients, gates * UNITS), seed=1)

    def loss(w: Any, v: Any, u: Any, b: Any, x: Any) -> Any:
        start = (jnp.zeros((2, UNITS), x.dtype),) * 2

        def layer(weights: Any, x: Any) -> Any:
            return lax.scan(lambda state, x: (lambda after: (after, after[0]))(step(weights, state, x)), start, x)[1]

        return jnp.sum(layer((v, u[1], b), layer((w, u[0], b), x)) ** 2)

    gradients = jax.vmap(jax.grad(loss, (0, 1, 2, 3)), in_axes=(0, 0, 1, 0, 0))
    after, found, expected = both(gradients, first, second, kernels, biases, x)
    assert_equal(found, expected)
    assert products_in_scans(after.jaxpr) == 4


def test_of_any_number_of_rows() -> None:
    """Before the batch's size is known, the weights' gradients contract the steps and a symbolic number of rows."""
    step, gates, _ = cell("lstm")
    weights = arrays((FEATURES, gates * UNITS), (UNITS, gates * UNITS), (gates * UNITS,))

    def loss(weights: Any, x: Any) -> Any:
        start = (jnp.zeros((x.shape[1], UNITS), x.dtype),) * 2
        return jnp.sum(lax.scan(lambda state, x: (step(weights, state, x), None), start, x)[0][0])

    with jax.enable_x64(True):
        (rows,) = export.symbolic_shape("b")
        avals = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in weights]
        x = jax.ShapeDtypeStruct((STEPS, rows, FEATURES), jnp.float64)
        after = with_products_outside(jax.make_jaxpr(jax.grad(loss))(avals, x))
        assert products_in_scans(after.jaxpr) == 2
        exported = export.export(jax.jit(jaxpr_as_fun(after)))(*avals, x)
        for count in (1, 3):
            (value,) = arrays((STEPS, count, FEATURES), seed=count)
            assert_equal(exported.call(*weights, value), jax.grad(loss)(list(weights), value))


def test_a_scan_that_gains_nothing_stays() -> None:
    (u, x) = arrays((UNITS, UNITS), (STEPS, ROWS, UNITS))
    counts = np.arange(STEPS)
    for function in (
        lambda u, x: lax.scan(lambda h, x: (jnp.tanh(h @ u + x), h), x[0], x),  # a product of the step before
        lambda u, x: lax.scan(lambda total, x: (total + x.T @ x @ total, None), u, x),  # a sum that is read
        lambda u, x: lax.scan(lambda total, n: (total + u @ u, n), u, counts),  # the same in each step
        lambda u, x: lax.scan(lambda total, n: (total + n, n), 0, counts),  # no product
    ):
        with jax.enable_x64(True):
            before = jax.make_jaxpr(function)(u, x)
            after = with_products_outside(before)
            assert all(new is old for new, old in zip(after.eqns, before.eqns, strict=True))


def test_what_would_take_too_much_memory_stays() -> None:
    def gradient(a: Any, b: Any) -> Any:
        return lax.scan(lambda total, n: (total + jnp.sin(a * n).T @ jnp.cos(b * n), None), jnp.zeros((8, 8)), steps)

    steps = jnp.arange(1000.0)
    few, many = (jax.ShapeDtypeStruct((rows, 8), jnp.float32) for rows in (10, 10_000))
    for aval, left in ((few, 0), (many, 1)):
        assert products_in_scans(with_products_outside(jax.make_jaxpr(gradient)(aval, aval)).jaxpr) == left


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_of_any_step(data: st.DataObject) -> None:
    """Random steps of square matrices: of constants, carries (of which some are sums), inputs; and what is made of
    them."""
    size, length = 3, data.draw(st.integers(1, 4))
    carries, inputs = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    unary = st.sampled_from([jnp.sin, jnp.transpose, lambda a: a])
    products = [jnp.matmul, lambda a, b: a.T @ b, lambda a, b: a @ b.T]
    with_constant = st.tuples(unary, st.sampled_from(products), st.integers(2, 20), st.integers(0, 1))
    with_another = st.tuples(unary, st.sampled_from([*products, jnp.add]), st.integers(2, 20), st.integers(2, 20))
    plan = data.draw(st.lists(with_constant | with_another, min_size=2, max_size=8))
    ends = data.draw(st.lists(st.integers(0, 8), min_size=carries, max_size=carries))
    added = data.draw(st.lists(st.tuples(*[st.integers(2, 20)] * 2, st.booleans()), max_size=2))
    outs = data.draw(st.lists(st.integers(0, 20), max_size=3))
    constants, start, zeros, xs = arrays(
        (2, size, size), (carries, size, size), (len(added), size, size), (length, inputs, size, size), seed=length
    )

    def step(carry: Any, x: Any) -> Any:
        state, totals = carry
        values = [*constants, *state, *x]
        for one, two, i, j in plan:
            values.append(two(one(values[i % len(values)]), values[j % len(values)]))
        made = values[2 + carries :]
        after = [made[end % len(made)] for end in ends]
        terms = [values[i % len(values)].T @ values[j % len(values)] for i, j, _ in added]
        sums = [total + (x.T if turned else x) for total, x, (*_, turned) in zip(totals, terms, added, strict=True)]
        return (after, sums), [values[out % len(values)] for out in outs]

    def function(start: Any, zeros: Any, xs: Any) -> Any:
        return lax.scan(step, (start, zeros), xs, reverse=data.draw(st.booleans()))

    _, found, expected = both(function, list(start), list(zeros), [xs[:, i] for i in range(inputs)])
    assert_equal(found, expected)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_bits_are_those_of_each_step(kind: str) -> None:
    x, w = arrays((STEPS, ROWS, UNITS), (UNITS, UNITS), seed=3)
    keys = jax.random.split(jax.random.key(0, impl=kind), STEPS)

    def function(w: Any, x: Any, keys: Any) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            row, key = inputs
            return jnp.tanh((row * jax.random.bernoulli(key, 0.5, row.shape)) @ w + state), None

        return lax.scan(step, x[0], (x, keys))[0]

    after, found, expected = both(function, w, x, keys)
    assert_equal(found, expected)
    assert products_in_scans(after.jaxpr) == (1 if kind == "rbg" else 0)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_random_bits_behind_a_product_are_those_of_each_step(kind: str) -> None:
    x, w = arrays((STEPS, ROWS, UNITS), (UNITS, UNITS), seed=3)
    keys = jax.random.split(jax.random.key(0, impl=kind), STEPS)

    @jax.jit
    def dropout(y: Any, key: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 0.5, y.shape), y, 0)

    def function(w: Any, x: Any, keys: Any) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            row, key = inputs
            return jnp.tanh(row + state), dropout(state @ w, key) @ w

        return lax.scan(step, x[0], (x, keys))[1]

    _, found, expected = both(function, w, x, keys)
    assert_equal(found, expected)


@pytest.mark.parametrize("kind", ["unsafe_rbg", "rbg", "threefry2x32"])
def test_whatever_is_made_of_keys_is_that_of_each_step(kind: str) -> None:
    x, w = arrays((STEPS, ROWS, UNITS), (UNITS, UNITS), seed=3)
    keys = jax.random.split(jax.random.key(0, impl=kind), STEPS)

    def function(w: Any, x: Any, keys: Any) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            row, key = inputs
            first, second = jax.random.split(key)
            third = jax.random.fold_in(key, 7)
            drawn = jax.random.gamma(first, 2.0, row.shape) + jax.random.normal(third, row.shape)
            after = jax.random.gamma(second, jax.nn.softplus(state @ w))
            return jnp.tanh(drawn @ w + state), after @ w

        return lax.scan(step, x[0], (x, keys))

    _, found, expected = both(function, w, x, keys)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_equal(one, other)
