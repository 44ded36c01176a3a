"""Sequences of batches of any sizes: functions see the true batch, padded or not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from tests.compiler.padding.batch_functions import BRANCHED, M, T, W, X, Y

SIZES = [2, 3, 1, 3]
rng = np.random.default_rng(0)


def field(kind: str, size: int) -> np.ndarray:
    if kind == Y:
        return rng.integers(0, 6, size)
    return rng.normal(size=(size, *{X: (6,), T: (3, 4), M: (3, 3)}[kind]))


def folded(function: Any, kinds: tuple[str, ...], data: Any) -> float:
    """`state * 0.5 + sum of the function's results`, over the batches in order."""
    batch = hansa.to_type(list(kinds))

    @hansa.jax_computation("float64", batch)
    def step(state, batch):
        return state * 0.5 + sum(jnp.sum(x) for x in jax.tree.leaves(function(*batch)))

    @hansa.federated_computation(hansa.SequenceType(batch))
    def fold(batches):
        return hansa.sequence_reduce(batches, np.float64(0), step)

    return float(fold(data))


@pytest.mark.parametrize("name", BRANCHED)
def test_a_function_that_looks_across_the_batch_sees_the_true_one(name: str) -> None:
    kinds, function = BRANCHED[name]
    data = [[field(kind, size) for kind in kinds] for size in SIZES]
    expected = 0.0
    for batch in data:
        with jax.enable_x64(True):
            results = jax.tree.leaves(function(*(jnp.asarray(x) for x in batch)))
        expected = 0.5 * expected + sum(float(np.asarray(x).sum()) for x in results)
    assert folded(function, kinds, data) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_mapped_sequence_whose_rows_after_the_batch_are_not_finite() -> None:
    """What a map leaves in those rows, here NaN and infinity, is not seen by the reduction."""

    @hansa.jax_computation("float64[?,6]")
    def standardise(x):
        return x / jnp.sum(x), jnp.cumsum(1 / x, 0)

    @hansa.jax_computation("float64[6,6]", "<float64[?,6],float64[?,6]>")
    def gram(state, pair):
        a, b = pair
        return state + a.T @ jnp.tanh(b) / a.shape[0] + (a.T * jnp.mean(b)) @ a

    @hansa.federated_computation("float64[?,6]*")
    def total(batches):
        return hansa.sequence_reduce(hansa.sequence_map(standardise, batches), np.zeros((6, 6)), gram)

    data = [field(X, size) for size in SIZES]
    expected = np.zeros((6, 6))
    for x in data:
        a, b = x / x.sum(), np.cumsum(1 / x, 0)
        expected += a.T @ np.tanh(b) / len(a) + (a.T * b.mean()) @ a
    np.testing.assert_allclose(total(data), expected, rtol=1e-9)


def test_maps_that_transpose_merge_and_forget_the_batch() -> None:
    @hansa.jax_computation("float64[?,3,4]")
    def rearrange(t):
        return t.reshape(-1, 4), t.sum(2).T, t.sum()

    @hansa.jax_computation("float64", "<float64[?,4],float64[3,?],float64>")
    def add(state, parts):
        merged, transposed, total = parts
        return state + jnp.max(merged) * jnp.mean(transposed[2]) + total

    @hansa.jax_computation("float64", "<float64[?,4],float64[3,?],float64>")
    def add_by_branches(state, parts):
        merged, transposed, total = parts
        return state + jnp.sort(merged, 0)[-1].max() * jnp.median(transposed[2]) + total

    def reduce_with(op):
        @hansa.federated_computation("float64[?,3,4]*")
        def reduce(batches):
            return hansa.sequence_reduce(hansa.sequence_map(rearrange, batches), np.float64(0), op)

        return reduce

    data = [field(T, size) for size in SIZES]
    sums = [x.sum(2) for x in data]
    expected = sum(x.max() * s[:, 2].mean() + x.sum() for x, s in zip(data, sums, strict=True))
    assert float(reduce_with(add)(data)) == pytest.approx(expected, rel=1e-9)
    expected = sum(x.max() * np.median(s[:, 2]) + x.sum() for x, s in zip(data, sums, strict=True))
    assert float(reduce_with(add_by_branches)(data)) == pytest.approx(expected, rel=1e-9)


def test_a_function_that_needs_two_examples_and_takes_nine() -> None:
    def best(x: Any) -> Any:
        return jnp.zeros((9, 6)).at[: x.shape[0]].set(x).sum(0)[0] + jax.lax.top_k(x[:, 0], 2)[0]

    data = [[field(X, size)] for size in (2, 3, 2)]
    expected = 0.0
    for (x,) in data:
        expected = 0.5 * expected + 2 * x[:, 0].sum() + np.sort(x[:, 0])[-2:].sum()
    assert folded(best, (X,), data) == pytest.approx(expected, rel=1e-6)


def test_a_map_must_return_whole_rows_of_the_batch() -> None:
    @hansa.jax_computation("float32[?]")
    def shorten(x):
        return x[1:]

    @hansa.jax_computation("float32", "float32[?]")
    def add(state, x):
        return state + x.sum()

    @hansa.federated_computation("float32[?]*")
    def total(batches):
        return hansa.sequence_reduce(hansa.sequence_map(shorten, batches), 0.0, add)

    with pytest.raises(TypeError, match=r"\(b - 1\).*same number of rows for each example.*sequence_reduce"):
        total([np.ones(3, np.float32)])


def test_the_number_of_examples_may_be_returned_as_it_is() -> None:
    @hansa.jax_computation("<n=int32,s=float32>", "float32[?,2]")
    def step(state, x):
        return {"n": state.n + x.shape[0], "s": state.s + x.shape[0] * x.mean()}

    @hansa.jax_computation("float32[?,2]")
    def size(x):
        return x.shape[0]

    @hansa.federated_computation("float32[?,2]*")
    def count(batches):
        return hansa.sequence_reduce(batches, {"n": 0, "s": 0.0}, step), hansa.sequence_sum(
            hansa.sequence_map(size, batches)
        )

    assert size.type_signature.compact() == "(float32[?,2] -> int32)"
    state, total = count([np.ones((n, 2), np.float32) for n in (3, 3, 1)])
    assert (int(state.n), float(state.s), int(total)) == (7, 7.0, 7)


def test_sequences_of_scalars_are_reduced_in_order_and_summed() -> None:
    @hansa.jax_computation("float32", "float32")
    def halve_and_add(state, x):
        return state / 2 + x

    @hansa.federated_computation("float32*")
    def both(values):
        return hansa.sequence_reduce(values, 0.0, halve_and_add), hansa.sequence_sum(values)

    reduced, total = both([1.0, 2.0, 4.0])
    assert (float(reduced), float(total)) == (5.25, 7.0)
    assert [float(x) for x in both([])] == [0.0, 0.0]


def test_a_gradient_step_per_batch_equals_a_loop() -> None:
    @hansa.jax_computation("float64[6,6]", [X, Y])
    def step(w, batch):
        x, y = batch

        def loss(w):
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ w), y[:, None], 1))

        return w - 0.1 * jax.grad(loss)(w)

    @hansa.federated_computation("float64[6,6]", f"<{X},{Y}>*")
    def train(w, batches):
        return hansa.sequence_reduce(batches, w, step)

    data = [(field(X, size), field(Y, size)) for size in SIZES]
    w = W.copy()
    for x, y in data:
        logits = x @ w
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        w = w - 0.1 * x.T @ (p - np.eye(6)[y]) / len(x)
    np.testing.assert_allclose(train(W, data), w, rtol=1e-9)
