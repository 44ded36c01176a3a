"""What is rewritten for a CPU gives what JAX gives, for functions and for their gradients."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from hansa.compiler.rewrites import faster
from hansa.compiler.rewrites.sorting import network


def primitives(jaxpr):
    """The equations of a jaxpr and of those in it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def both(function, *args):
    """The results of a function of float64 arrays and of its rewritten form, and the equations of the latter."""
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*args)
        rewritten = faster(closed)
        return (
            jax.jit(jaxpr_as_fun(closed))(*args),
            jax.jit(jaxpr_as_fun(rewritten))(*args),
            list(primitives(rewritten.jaxpr)),
        )


def assert_same(expected, found):
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
OTHER_LAYOUTS = {1: ("NCW", "OIW", "NCW"), 2: ("NCHW", "OIHW", "NHWC"), 3: ("NCDHW", "OIDHW", "NCDHW")}


@st.composite
def convolutions(draw):
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    sizes = st.integers(1, 4 if rank == 3 else 7)
    groups = draw(st.sampled_from([1, 1, 2, 3, "depthwise"]))
    depth = draw(st.integers(1, 4)) if groups == "depthwise" else draw(st.integers(1, 2)) * groups
    out = (depth if groups == "depthwise" else groups) * draw(st.integers(1, 3))
    groups = depth if groups == "depthwise" else groups
    window = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilation = [draw(st.integers(1, 2)) for _ in range(rank)]
    spread = [draw(st.integers(1, 2)) for _ in range(rank)]
    padding = draw(st.sampled_from(["SAME", "VALID", "any"]))
    if padding == "any" or max(spread) > 1:
        padding = [(draw(st.integers(-1, 2)), draw(st.integers(0, 2))) for _ in range(rank)]
    space = []
    for taps, gap, apart in zip(window, dilation, spread, strict=True):
        least = -(-((taps - 1) * gap + 1 + 2) // apart) + 1
        space.append(least + draw(sizes))
    layouts = draw(st.sampled_from([LAYOUTS, OTHER_LAYOUTS]))[rank]
    numbers = lax.conv_dimension_numbers((1,) * (rank + 2), (1,) * (rank + 2), layouts)
    batch = draw(st.integers(1, 3))

    def arranged(spec, first, second, rest):
        shape = [0] * (rank + 2)
        shape[spec[0]], shape[spec[1]] = first, second
        for axis, size in zip(spec[2:], rest, strict=True):
            shape[axis] = size
        return shape

    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.normal(size=arranged(numbers.lhs_spec, batch, depth, space))
    w = rng.normal(size=arranged(numbers.rhs_spec, out, depth // groups, window))
    options = {"window_strides": strides, "padding": padding, "lhs_dilation": spread, "rhs_dilation": dilation}
    return x, w, options | {"dimension_numbers": layouts, "feature_group_count": groups}


@settings(max_examples=12)
@given(convolutions())
def test_convolutions_and_their_gradients(case):
    x, w, options = case

    def trained(x, w):
        def loss(x, w):
            return jnp.sum(jnp.sin(lax.conv_general_dilated(x, w, **options)))

        return lax.conv_general_dilated(x, w, **options), *jax.grad(loss, (0, 1))(x, w)

    expected, found, equations = both(trained, x, w)
    assert_same(expected, found)
    for eqn in equations:
        if eqn.primitive.name == "conv_general_dilated":
            rank = x.ndim
            assert eqn.params["feature_group_count"] == eqn.params["batch_group_count"] == 1
            assert tuple(eqn.params["dimension_numbers"].lhs_spec) == (0, rank - 1, *range(1, rank - 1))


@pytest.mark.parametrize("layout", [LAYOUTS[2], OTHER_LAYOUTS[2]])
@pytest.mark.parametrize(("batch", "strides", "sizes"), [(7, (1, 1), {3}), (9, (2, 1), {7}), (3, (1, 1), {3})])
def test_gradients_of_kernels_are_summed_over_parts_of_a_batch(layout, batch, strides, sizes):
    rng = np.random.default_rng(4)
    numbers = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, layout)

    def shaped(spec, *sizes):
        return [sizes[spec.index(axis)] for axis in range(4)]

    x = rng.normal(size=shaped(numbers.lhs_spec, batch, 2, 60, 60))
    w = rng.normal(size=shaped(numbers.rhs_spec, 5, 2, 3, 3))

    def gradients(x, w):
        def loss(x, w):
            return jnp.sum(jnp.sin(lax.conv_general_dilated(x, w, strides, "SAME", dimension_numbers=layout)))

        return jax.grad(loss, (0, 1))(x, w)

    expected, found, equations = both(gradients, x, w)
    assert_same(expected, found)
    convolutions = [eqn for eqn in equations if eqn.primitive.name == "conv_general_dilated"]
    contracted = {eqn.invars[0].aval.shape[-1] for eqn in convolutions if eqn.outvars[0].aval.shape[1:3] == (3, 3)}
    assert contracted == sizes


@pytest.mark.parametrize("layout", [LAYOUTS[2], OTHER_LAYOUTS[2]])
@pytest.mark.parametrize("channels", [1, 4])
def test_the_gradient_of_a_kernel_by_one_example_is_a_product(layout, channels):
    rng = np.random.default_rng(3)
    sizes = {"N": 1, "H": 9, "W": 8, "C": channels, "I": channels, "O": 5}
    x = rng.normal(size=[sizes[axis] for axis in layout[0]])
    w = rng.normal(size=[{"H": 3, "W": 2}.get(axis, sizes[axis]) for axis in layout[1]])

    def gradient(x, w):
        def loss(w):
            y = lax.conv_general_dilated(x, w, (2, 1), [(2, 1), (0, -1)], dimension_numbers=layout)
            return jnp.sum(jnp.sin(y))

        return [jax.grad(loss)(w)]

    expected, found, equations = both(gradient, x, w)
    assert_same(expected, found)
    names = [eqn.primitive.name for eqn in equations]
    assert (names.count("conv_general_dilated"), names.count("dot_general")) == (1, 1)  # the first one is the model's


@pytest.mark.parametrize("batches", [2, 3])
def test_convolutions_whose_batch_is_in_groups(batches):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(6, 5, 5, 2)), rng.normal(size=(3, 3, 2, 6))
    expected, found, _ = both(
        lambda x, w: lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), batch_group_count=batches
        ),
        x,
        w,
    )
    assert_same(expected, found)


def test_what_is_not_rewritten_stays():
    rng = np.random.default_rng(2)
    x, w = rng.integers(0, 9, (2, 6, 6, 1)), rng.integers(0, 9, (3, 3, 1, 2))
    expected, found, equations = both(
        lambda x, w: lax.conv(x, w, (1, 1), "SAME"), x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1)
    )
    assert_same(expected, found)
    assert [eqn.primitive.name for eqn in equations] == ["conv_general_dilated"]
    wide = rng.normal(size=(1, 20, 20, 3)), rng.normal(size=(9, 9, 1, 3))
    numbers = ("NHWC", "HWIO", "NHWC")
    expected, found, equations = both(
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=3),
        *wide,
    )
    assert_same(expected, found)
    assert [eqn.primitive.name for eqn in equations] == ["conv_general_dilated"]


@settings(max_examples=12)
@given(st.data())
def test_gradients_of_max_pooling(data):
    rank = data.draw(st.sampled_from([1, 2, 2, 3]))
    window = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    padding = data.draw(st.sampled_from(["SAME", "VALID"]))
    space = [size + data.draw(st.integers(0, 5)) for size in window]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # Few values, so that windows have several greatest elements.
    x = rng.integers(0, data.draw(st.sampled_from([2, 5, 1000])), (2, *space, 2)).astype("float64")
    if data.draw(st.booleans()):
        x[rng.random(x.shape) < 0.1] = np.nan

    def pooled(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), padding)

    def gradient(x, source):
        return jax.vjp(pooled, x)[1](source)[0]

    expected, found, equations = both(gradient, x, rng.normal(size=jax.eval_shape(pooled, x).shape))
    assert_same(expected, found)
    left = any(eqn.primitive.name == "select_and_scatter_add" for eqn in equations)
    assert left == (math.prod(window) > 9)


def test_loops_branches_and_functions_within_are_rewritten_too():
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, 8, 8, 1)), rng.normal(size=(3, 3, 1, 2))

    @jax.jit
    def loss(w):
        y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") ** 2)

    def step(i, w):
        return lax.cond(i % 2 == 0, lambda w: w - 0.01 * jax.grad(loss)(w), lambda w: 0.9 * w, w)

    def trained(w):
        w = lax.fori_loop(0, 3, step, w)
        return lax.scan(lambda w, _: (w - 0.01 * jax.grad(jax.checkpoint(loss))(w), loss(w)), w, length=2)

    expected, found, equations = both(trained, w)
    assert_same(jax.tree.leaves(expected), jax.tree.leaves(found))
    assert "select_and_scatter_add" not in {eqn.primitive.name for eqn in equations}


def losses(kind):
    """Functions of a narrow matrix `w` and a batch, as layers, regularisers and clipping use it."""

    def outer(a, b):
        return lax.dot_general(a, b, (((), ()), ((), ())))

    return {
        "linear": lambda w, x, y: jnp.mean((x @ w - y) ** 2),
        "softmax": lambda w, x, y: -jnp.mean(jnp.sum(jax.nn.log_softmax(x @ w) * y, 1)),
        "regularised": lambda w, x, y: jnp.mean((x @ w - y) ** 2) + 0.1 * jnp.sum(w**2) + 0.1 * jnp.abs(w).sum(),
        "both ways": lambda w, x, y: jnp.mean((x - jnp.tanh(x @ w) @ w.T) ** 2),
        "columns": lambda w, x, y: jnp.mean((x @ (w * w.sum(0)) - y) ** 2) + jnp.sum(w[3] ** 2) + w.max(0).sum(),
        "outer": lambda w, x, y: jnp.mean((x @ w - y) ** 2) + jnp.tanh(outer(w, y[0]) @ y[0]).sum(),
        "branch": lambda w, x, y: lax.cond(x[0, 0] > 0.5, lambda w: jnp.sum(w**2), lambda w: jnp.sum(w @ y[0]) ** 2, w),
    }[kind]


@pytest.mark.parametrize("kind", ["linear", "softmax", "regularised", "both ways", "columns", "outer", "branch"])
@pytest.mark.parametrize("update", ["SGD", "clipped", "momentum"])
def test_narrow_matrices_are_transposed_in_loops(kind, update):
    rng = np.random.default_rng(5)
    x, y = rng.random((20, 7, 150)), rng.random((20, 7, 3))
    loss = losses(kind)

    def client(start, first):
        def step(i, carry):
            w, trace = carry
            gradient = jax.grad(loss)(w, x_[i], y_[i])
            if update == "clipped":
                gradient = gradient * jnp.minimum(1.0, 0.5 / jnp.linalg.norm(gradient))
            trace = 0.9 * trace + gradient if update == "momentum" else gradient
            return w - 0.01 * trace, trace

        x_, y_ = jnp.asarray(x), jnp.asarray(y)
        return lax.fori_loop(first, first + 5, step, (start, jnp.zeros_like(start)))[0]

    def clients(start, count):
        def add(i, total):
            delta = client(start, 5 * i) - start
            usable = jnp.isfinite(delta).all()
            return total + jnp.where(usable, delta, 0.0)

        return lax.fori_loop(0, count, add, jnp.zeros_like(start)), start

    expected, found, equations = both(clients, rng.normal(size=(150, 3)) * 0.1, 4)
    assert_same(expected, found)
    inside = [
        eqn
        for loop in equations
        if loop.primitive.name == "while"
        for eqn in primitives(loop.params["body_jaxpr"].jaxpr)
        if (150, 3) in [atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)]
    ]
    slow = {eqn.primitive.name for eqn in inside} & {"dot_general", "transpose"}
    assert not slow or kind in ("columns", "outer", "branch")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_hidden_weights_are_updated_in_place(momentum):
    rng = np.random.default_rng(6)
    x = rng.random((20, 100), "float32")
    sizes = [100, 150, 250, 120]
    shapes = list(itertools.pairwise(sizes))
    start = [rng.normal(size=shape).astype("float32") * 0.1 for shape in shapes]

    def loss(weights):
        y = x
        for weight in weights:
            y = jnp.tanh(y @ weight)
        return jnp.mean(y**2)

    def step(i, carry):
        weights, traces = carry
        traces = [momentum * trace + g for trace, g in zip(traces, jax.grad(loss)(weights), strict=True)]
        return [w - 0.5 * trace for w, trace in zip(weights, traces, strict=True)], traces

    def trained(weights, count):
        return lax.fori_loop(0, count, step, (weights, [jnp.zeros_like(w) for w in weights]))[0]

    closed = jax.make_jaxpr(trained)(start, 7)
    rewritten = faster(closed)

    def copies(closed):
        compiled = jax.jit(jaxpr_as_fun(closed)).lower(*start, 7).compile().as_text()
        copies = [line for line in compiled.splitlines() if " copy(" in line]
        return [sum(f"f32[{rows},{columns}]" in line for line in copies) for rows, columns in shapes]

    before, after = copies(closed), copies(rewritten)
    assert [b - a for b, a in zip(before, after, strict=True)] == [0, 1, 1]
    expected, found = (jax.jit(jaxpr_as_fun(each))(*start, 7) for each in (closed, rewritten))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_updates_that_others_need_stay_where_they_are():
    def step(i, carry):
        w, total = carry
        new = w - 0.1 * jnp.tanh(w)
        return new, total + jnp.sum(new @ w)

    def run(w):
        return lax.fori_loop(0, 3, step, (w, 0.0))

    expected, found, _ = both(run, np.random.default_rng(7).normal(size=(120, 120)))
    assert_same(expected, found)


def test_loops_of_several_at_once_with_bounds_of_their_own():
    rng = np.random.default_rng(8)
    x, start = rng.normal(size=(20, 150)), rng.normal(size=(4, 150, 3))

    def run(start, counts):
        def one(w, count):
            return lax.fori_loop(0, count, lambda i, w: w - 0.01 * x.T @ jnp.tanh(x @ w), w)

        return jax.vmap(one)(start, counts)

    expected, found, _ = both(run, start, np.arange(4))
    assert_same(expected, found)


def test_loops_whose_end_all_devices_find_together():
    x = np.random.default_rng(9).normal(size=(20, 150))
    mesh = jax.make_mesh((1,), ("devices",))

    def run(w, count):
        def more(state):
            return lax.psum(state[1], "devices") < count

        return lax.while_loop(more, lambda state: (state[0] - 0.01 * x.T @ (x @ state[0]), state[1] + 1), (w, 0))[0]

    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P(), P()), out_specs=P(), check_vma=False)
    expected, found, _ = both(mapped, np.ones((150, 3)), 5)
    assert_same(expected, found)


def test_what_is_chosen_by_platform_stays_so_in_loops():
    x = np.random.default_rng(10).normal(size=(20, 150))

    def step(i, w):
        decay = lax.platform_dependent(w, cpu=lambda w: 0.9 * w, tpu=lambda w: 0.8 * w)
        return decay - 0.01 * x.T @ jnp.tanh(x @ w)

    expected, found, equations = both(lambda w, count: lax.fori_loop(0, count, step, w), np.ones((150, 3)), 3)
    assert_same(expected, found)
    choices = [eqn.params["branches_platforms"] for eqn in equations if eqn.primitive.name == "cond"]
    assert choices == [(("cpu",), ("tpu",))]


def unchanged(function, *args):
    closed = jax.make_jaxpr(function)(*args)
    return all(new is old for new, old in zip(faster(closed).eqns, closed.eqns, strict=True))


def test_tables_of_which_steps_read_rows_and_what_is_only_read_are_not_transposed():
    def factorised(tables, users, items, count):
        def loss(tables, i):
            left, right = tables[0][users[i]], tables[1][items[i]]
            return jnp.mean((jnp.sum(left * right, 1) - 1) ** 2) + 0.001 * jnp.sum(tables[0].T @ tables[0])

        def step(i, tables):
            return jax.tree.map(lambda w, g: w - 0.1 * g, tables, jax.grad(loss)(tables, i))

        return lax.fori_loop(0, count, step, tables)

    tables, rows = [np.ones((5000, 16), "float32")] * 2, np.zeros((10, 32), "int32")
    assert unchanged(factorised, tables, rows, rows, 10)

    def full_batch(w, x, y, count):
        return lax.fori_loop(0, count, lambda i, w: w - 0.01 * jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(w), w)

    assert unchanged(full_batch, np.ones((16, 4), "float32"), np.ones((500, 16), "float32"), np.ones((500, 4)), 10)


def test_what_nothing_needs_is_not_computed_for_an_updates_sake():
    def step(i, w):
        jnp.sum(w @ w)  # as the value of a loss of which only the gradient is used
        return w - 0.1 * jnp.tanh(w)

    assert unchanged(lambda w, count: lax.fori_loop(0, count, step, w), np.ones((200, 200), "float32"), 3)


def test_networks_sort_whatever_there_is():
    """Of zeros and ones, so of anything (Knuth 5.3.4, theorem Z)."""
    rng = np.random.default_rng(0)
    for number in range(1, 33):
        values = (
            rng.integers(0, 2, (number, 400)) if number > 8 else np.array([*itertools.product((0, 1), repeat=number)]).T
        )
        for low, high in network(number):
            values[low], values[high] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
        assert (np.diff(values, axis=0) >= 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_few_long_rows_are_sorted_row_by_row(axis):
    values = np.random.default_rng(1).normal(size=(5, 5000)).astype("float32")
    values[:, :3] = [[np.nan, -np.inf, 1e-40]] * 5
    values[2, :50], values[3, 50:60] = np.nan, -0.0
    values = np.moveaxis(values[:, None], 0, axis)
    (expected,), (found,), equations = both(lambda x: (jnp.sort(x, axis),), values)
    np.testing.assert_array_equal(found, expected)
    assert "sort" not in {eqn.primitive.name for eqn in equations}


def made_of_rows(equations):
    """Whether no array of sorted rows is made."""
    return not {"sort", "concatenate"} & {eqn.primitive.name for eqn in equations}


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_that_are_read_or_added_up_are_not_put_together(axis):
    values = np.random.default_rng(2).normal(size=(6, 4096)).astype("float32")
    values[2, :50], values[3, 50:60] = np.nan, np.inf
    values = values if axis == 0 else values.T

    def ranks(x, place, number):
        ordered = jnp.sort(x, axis)
        rank = jnp.expand_dims(jnp.arange(6), 1 - axis)
        row = lax.dynamic_index_in_dim(ordered, place, axis, keepdims=False)
        trimmed = jnp.where((rank >= 1) & (rank < number - 1), 2 * ordered, 0).sum(axis)
        return row + jnp.float32(number), trimmed, lax.index_in_dim(ordered, 5, axis)

    for place in (-1, 2, 9):
        expected, found, equations = both(ranks, values, np.int32(place), np.int32(5))
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)  # a sum along the last axis has another order
        assert made_of_rows(equations)


def test_sorted_rows_that_are_needed_as_an_array_are_made():
    values = np.random.default_rng(3).normal(size=(5, 4096)).astype("float32")
    weights = np.arange(5, dtype="float32")
    for function in (
        lambda x, w: (jnp.sort(x, 0)[2], jnp.sort(x, 0)),
        lambda x, w: (w @ jnp.sort(x, 0),),
        lambda x, w: (jnp.cumsum(jnp.sort(x, 0), 0)[3],),
    ):
        expected, found, equations = both(function, values, weights)
        assert_same(expected, found)
        assert not made_of_rows(equations)

    def again(x, w):  # which row is read depends on another one
        ordered = jnp.sort(x, 0)
        first = ordered[1].sum()
        return (lax.dynamic_index_in_dim(ordered, (first > 0).astype(jnp.int32) + 2, 0), first)

    expected, found, equations = both(again, values, weights)
    np.testing.assert_array_equal(expected[0], found[0])
    assert not made_of_rows(equations)


@pytest.mark.parametrize("shape", [(33, 5000), (5, 100), (1, 5000)])
def test_other_sorts_stay(shape):
    _, _, equations = both(lambda x: (jnp.sort(x, 0),), np.ones(shape, "float32"))
    assert "sort" in {eqn.primitive.name for eqn in equations}
