"""Floating-point operations are counted as one counts them by hand, and as XLA does where it sees the whole program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import hansa
from hansa.compiler.explain.counting import count
from hansa.compiler.explain.flops import Flops, Term, Turn

F = jnp.float32
(B,) = export.symbolic_shape("b")


def array(*shape: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, F)


def counted(function: Any, *arguments: Any) -> Flops:
    return count(jax.make_jaxpr(function)(*arguments))


def xla(function: Any, *arguments: Any) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_a_dense_network_forward_and_backward_is_what_the_formulas_of_backpropagation_cost() -> None:
    def gradients(w: Any, x: Any, y: Any) -> Any:
        hidden = x @ w[0] + w[1]
        active = jnp.maximum(hidden, 0)
        error = active @ w[2] + w[3] - y
        back = (error @ w[2].T) * (hidden > 0)
        return x.T @ back, back.sum(0), active.T @ error, error.sum(0)

    b, n, h, k = 20, 784, 512, 10
    by_hand = 2 * b * n * h + b * h + b * h  # hidden, and its bias; active
    by_hand += 2 * b * h * k + 2 * b * k  # outputs, their bias, error
    by_hand += 2 * b * k * h + 2 * b * h  # back: product, mask, comparison
    by_hand += 2 * b * n * h + b * h + 2 * b * h * k + b * k
    found = counted(gradients, (array(n, h), array(h), array(h, k), array(k)), array(b, n), array(b, k))
    assert found.at() == by_hand
    symbolic = counted(gradients, (array(n, h), array(h), array(h, k), array(k)), array(B, n), array(B, k))
    assert [term.linear for term in symbolic.terms] == [(0, by_hand // b)]
    assert symbolic.at(batch_size=b) == by_hand


def test_what_jax_differentiates_is_three_products_and_little_more() -> None:
    def loss(w: Any, x: Any, y: Any) -> Any:
        logits = jax.nn.relu(x @ w[0] + w[1]) @ w[2] + w[3]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    b, n, h, k = 20, 784, 512, 10
    w = (array(n, h), array(h), array(h, k), array(k))
    arguments = (w, array(b, n), jax.ShapeDtypeStruct((b,), jnp.int32))
    found = counted(jax.value_and_grad(loss), *arguments).at()
    products = 2 * 2 * b * n * h + 3 * 2 * b * h * k
    assert products < found < products + 10 * b * (h + k)
    assert found == pytest.approx(xla(jax.value_and_grad(loss), *arguments), rel=0.01)


def met_by_loops(size: int, window: int, stride: int, padding: tuple[int, int], spread: int, within: int) -> int:
    """How many products a convolution along one axis has with its input, counted one by one."""
    inside = [None] * padding[0]
    for i in range(size):
        inside += [i] + [None] * (spread - 1 if i < size - 1 else 0)
    inside += [None] * padding[1]
    reach = (window - 1) * within + 1
    starts = range(0, len(inside) - reach + 1, stride)
    return sum(inside[start + k * within] is not None for start in starts for k in range(window))


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "spread", "within"),
    [
        (9, 3, 1, (0, 0), 1, 1),
        (9, 3, 2, (1, 1), 1, 1),
        (5, 3, 1, (1, 1), 2, 1),
        (11, 3, 1, (2, 2), 1, 2),
        (4, 4, 3, (3, 0), 3, 2),
    ],
)
def test_a_convolution_is_its_products_with_what_is_there(
    size: int, window: int, stride: int, padding: tuple[int, int], spread: int, within: int
) -> None:
    def convolve(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(
            x, kernel, (stride, 1), (padding, (0, 0)), (spread, 1), (within, 1), ("NHWC", "HWIO", "NHWC")
        )

    batch, channels, features = 6, 4, 8
    along = met_by_loops(size, window, stride, padding, spread, within) * met_by_loops(7, 2, 1, (0, 0), 1, 1)
    arguments = array(batch, size, 7, channels), array(window, 2, channels, features)
    assert counted(convolve, *arguments).at() == 2 * batch * channels * features * along
    assert counted(convolve, *arguments).at() == xla(convolve, *arguments)
    any_size = counted(convolve, array(B, size, 7, channels), arguments[1])
    assert any_size.at(batch_size=batch) == 2 * batch * channels * features * along


def test_the_gradients_of_a_convolution_cost_what_it_costs() -> None:
    def convolve(kernel: Any, x: Any) -> Any:
        return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def backward(kernel: Any, x: Any, out: Any) -> Any:
        return jax.vjp(convolve, kernel, x)[1](out)

    arguments = array(3, 3, 4, 8), array(B, 9, 9, 4)
    forward = counted(convolve, *arguments)
    assert counted(backward, *arguments, array(B, 5, 5, 8)).at(batch_size=7) == 2 * forward.at(batch_size=7)


def test_groups_of_a_convolution_see_their_own_channels() -> None:
    def depthwise(x: Any, kernel: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=4)

    assert counted(depthwise, array(2, 5, 5, 4), array(3, 3, 1, 4)).at() == 2 * 2 * 3 * 3 * 9 * 4


def test_batched_products_and_reductions() -> None:
    assert (
        counted(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), array(7, 2, 3), array(7, 3, 5)).at() == 7 * 2 * 2 * 3 * 5
    )
    assert counted(lambda x: x.sum(1).max(), array(4, 6)).at() == 24 + 4
    assert counted(lambda x: jnp.cumsum(x), array(9)).at() == 9
    pool = counted(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"), array(8))
    assert pool.at() == 4 * 2


def test_the_bodies_of_control_flow_are_counted() -> None:
    def scanned(x: Any) -> Any:
        return lax.scan(lambda carry, row: (jnp.sin(carry) + row, carry), x[0], x)

    assert counted(scanned, array(5, 3)).at() == 5 * 2 * 3
    assert counted(lambda x: lax.cond(x[0] > 0, lambda x: jnp.exp(jnp.sin(x)), lambda x: x, x), array(6)).at() == 1 + 12
    own = jax.custom_vjp(jnp.tanh)
    own.defvjp(lambda x: (own(x), x), lambda x, out: (out * x,))
    for function in (jax.jit(jnp.tanh), jax.checkpoint(jnp.tanh), own, jax.nn.relu):  # relu is a custom_jvp
        assert counted(function, array(6)).at() == 6


def test_a_loop_of_unknown_length_is_counted_by_the_turn() -> None:
    def until(x: Any) -> Any:
        return lax.while_loop(lambda x: x[0] < 1, lambda x: x * 2 + 1, x)

    flops = counted(lambda x: until(x) - 1, array(4))
    assert str(flops) == "4 FLOP + 9 FLOP per iteration of a while loop"
    assert flops.at(iterations=10) == 94
    twice = counted(lambda x: until(until(x)), array(4))
    assert len(twice.terms) == 2, "two loops have no turns in common"
    assert counted(lambda x: lax.fori_loop(0, 5, lambda i, x: x + x, x), array(4)).at() == 20, "its length is known"


def test_what_no_result_needs_is_not_counted() -> None:
    @jax.jit
    def both(x: Any) -> Any:
        return jnp.sin(x), x @ x

    assert counted(lambda x: both(x)[0], array(6, 6)).at() == 36


def test_integers_and_moving_values_are_free() -> None:
    def moved(x: Any) -> Any:
        key = jax.random.bits(jax.random.key(0), (4,))
        return x.T.reshape(-1)[::2].astype(jnp.bfloat16), jnp.where(x > 0, x, 0), key + 1, jnp.arange(4) * 3

    assert counted(moved, array(2, 4)).at() == 8, "only the comparison"


def test_factorizations_are_leading_terms_and_what_is_unknown_is_named() -> None:
    assert counted(jnp.linalg.cholesky, array(30, 30)).at() == pytest.approx(30**3 / 3, rel=0.2)
    solved = counted(jnp.linalg.solve, array(30, 30), array(30))
    assert solved.at() == pytest.approx(2 / 3 * 30**3 + 2 * 30**2, rel=0.05)
    flops = counted(lambda x: jnp.linalg.svd(x)[1] + 1, array(3, 3))
    assert str(flops) == "3 FLOP (without svd)"
    assert flops


def test_flops_print_for_people() -> None:
    batch = Turn("batch", "data")
    assert str(Flops()) == "0 FLOP"
    assert str(Flops.of(9_216)) == "9,216 FLOP"
    assert str(Flops.of(10_000)) == "10 kFLOP"
    assert str(Flops.of(999_999)) == "1 MFLOP"
    assert str(Flops.of(1_637_376)) == "1.64 MFLOP"
    assert str(Flops.of(2 * B + 3)) == "3 FLOP + 2 FLOP per row"
    assert str(Flops.of(B * B).in_turn(batch)) == "(b^2) FLOP per batch of b examples"
    assert str(Flops.of(7 * B * B + 1)) == "(7*b^2 + 1) FLOP for b rows"
    work = Flops.total([Flops.of(5), Flops.of(10 + 4 * B).in_turn(batch), Flops.of(1).in_turn(batch)])
    assert str(work) == "5 FLOP + 11 FLOP per batch + 4 FLOP per example"
    assert work.at(batch_size=20, turns=3) == 5 + 3 * (11 + 80)
    other = Flops.total([work, Flops.of(1).in_turn(Turn("batch", "more"))])
    assert str(other) == "5 FLOP + 11 FLOP per batch of data + 4 FLOP per example of data + 1 FLOP per batch of more"
    assert work.times(2).terms[0] == Term(10)
    assert not Flops.of(0)


def explained(function: Any, *kinds: str) -> Any:
    return hansa.explain(hansa.federated_computation(function, *kinds))


def test_mapping_and_reducing_a_sequence_is_counted_by_batch_and_example() -> None:
    def work(data: Any) -> Any:
        doubled = hansa.sequence_map(hansa.jax_computation(lambda batch: {"x": batch.x * 2}), data)
        fold = hansa.jax_computation(lambda total, batch: total + (batch.x @ jnp.ones((3, 4), F)).sum())
        return hansa.federated_sum(hansa.sequence_reduce(doubled, 0.0, fold))

    flops = explained(work, "{<x=float32[?,3]>*}@CLIENTS").client_flops
    # Per example: 3 doubled, 2 * 3 * 4 for the product, 4 added up; per batch, the total.
    assert str(flops) == "1 FLOP per batch + 31 FLOP per example"
    assert flops.at(batch_size=10, turns=7) == 7 * (1 + 310)


def test_a_sequence_of_numbers_is_counted_by_element() -> None:
    text = explained(lambda data: hansa.federated_sum(hansa.sequence_sum(data)), "{float32*}@CLIENTS")
    assert str(text.client_flops) == "1 FLOP per element"
    assert str(text.adding_flops) == "1 FLOP"


def test_a_function_that_asks_for_the_size_is_counted_by_example() -> None:
    def fold(total: Any, batch: Any) -> Any:
        return total + (batch.sum() if batch.shape[0] == 1 else (batch * 2).sum())

    def work(data: Any) -> Any:
        return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, hansa.jax_computation(fold)))

    flops = explained(work, "{float32[?,3]*}@CLIENTS").client_flops
    assert str(flops) == "1 FLOP per batch + 6 FLOP per example (by example)"


def test_a_map_that_gives_more_rows_than_it_gets_makes_more_work_after_it() -> None:
    def work(data: Any) -> Any:
        twice = hansa.sequence_map(hansa.jax_computation(lambda x: jnp.concatenate([x, x])), data)
        return hansa.federated_sum(
            hansa.sequence_reduce(twice, 0.0, hansa.jax_computation(lambda total, x: total + x.sum()))
        )

    assert str(explained(work, "{float32[?]*}@CLIENTS").client_flops) == "1 FLOP per batch + 2 FLOP per example"


def test_the_server_adds_up_and_divides() -> None:
    def work(value: Any, weight: Any) -> Any:
        return hansa.federated_mean(value, weight)

    text = explained(work, "{float32[1000]}@CLIENTS", "{float32}@CLIENTS")
    assert text.adding_flops.at() == 2 * 1000 + 1
    assert 1000 <= text.server_flops.at() <= 1010
    assert text.client_flops == Flops()


def test_own_aggregates_are_counted_too() -> None:
    accumulate = hansa.jax_computation(lambda state, x: state + x * x)
    merge, report = hansa.jax_computation(lambda a, b: a + b), hansa.jax_computation(lambda s: jnp.sqrt(s))
    text = explained(
        lambda v: hansa.federated_aggregate(v, np.zeros(5, np.float32), accumulate, merge, report),
        "{float32[5]}@CLIENTS",
    )
    assert (text.adding_flops.at(), text.server_flops.at()) == (10, 5)


def test_the_server_works_for_each_client_that_it_collects() -> None:
    def work(value: Any) -> Any:
        fold = hansa.jax_computation(lambda total, x: total + x @ x)
        return hansa.sequence_reduce(hansa.federated_collect(value), 0.0, fold)

    assert str(explained(work, "{float32[8]}@CLIENTS").server_flops) == "17 FLOP per collected value"
