"""TensorFlow functions as local computations."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import stablehlo
from hansa.language.tensorflow import TensorFlowFunction

tf: Any = pytest.importorskip("tensorflow")

BATCH = "float32[?,2]"


def rows(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, (size, 2)).astype(np.float32) for size in sizes]


def line_of(function: Any, offset: int) -> str:
    """The file and the line of the user's, so many after that of `def`."""
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def test_a_function_of_declared_types() -> None:
    @hansa.tf_computation("float32[2]", "int32")
    def scale(x, n):
        return x * tf.cast(n, tf.float32)

    assert scale.type_signature.compact() == "(<x=float32[2],n=int32> -> float32[2])"
    np.testing.assert_array_equal(scale(np.float32([1, 2]), 3), [3, 6])
    np.testing.assert_array_equal(scale(n=2, x=[1.5, 2]), [3, 4])


def test_functions_without_types_and_without_parameters() -> None:
    double = hansa.tf_computation(lambda x: x * 2)
    assert int(double(3)) == 6
    assert float(double(1.5)) == 3.0

    @hansa.tf_computation
    def seven():
        return tf.constant(7, tf.int64)

    assert seven.type_signature.compact() == "( -> int64)"
    assert int(seven()) == 7


def test_structs_arrive_with_access_by_name_and_attribute() -> None:
    @hansa.tf_computation("<a=int32,b=<int32,int32>>")
    def use(value):
        first, second = value["b"]
        return {"sum": value.a + 10 * first + 100 * second, "parts": [value.b[0], (value["a"], second)]}

    assert use.type_signature.result.compact() == "<sum=int32,parts=<int32,<int32,int32>>>"
    found = use(OrderedDict(a=1, b=[2, 3]))
    assert int(found.sum) == 321
    assert int(found.parts[1][0]) == 1


def test_an_attribute_that_a_struct_lacks() -> None:
    with pytest.raises(Exception, match=r"there is no 'c', but a, b"):
        hansa.tf_computation(lambda value: value.c, "<a=int32,b=int32>")


def test_dicts_keep_their_class() -> None:
    seen = []

    @hansa.tf_computation(hansa.to_type(OrderedDict(x=np.float32, y=np.float32)))
    def both(batch):
        seen.append(type(batch))
        return batch["x"] + batch["y"]

    assert float(both(OrderedDict(x=1, y=2))) == 3.0
    assert issubclass(seen[0], OrderedDict)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"]
)
def test_results_keep_their_dtypes(dtype: str) -> None:
    same = hansa.tf_computation(lambda x: tf.identity(x), f"{dtype}[3]")
    x = np.array([0, 1, 1]).astype(dtype)
    found = np.asarray(same(x))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)


def test_64_bits_are_computed_with() -> None:
    add = hansa.tf_computation(lambda a, b: (a + 1, b + 1e-12), np.int64, np.float64)
    large, small = add(2**40, 1.0)
    assert int(large) == 2**40 + 1
    assert float(small) - 1 == pytest.approx(1e-12, rel=1e-3)


@hansa.tf_computation(BATCH)
def describe(x):
    return tf.shape(x)[0], tf.reduce_mean(x, 0), x - tf.reduce_mean(x)


def test_a_batch_of_any_size() -> None:
    assert describe.type_signature.compact() == "(float32[?,2] -> <int32,float32[2],float32[?,2]>)"
    for (x,) in map(rows, (1, 2, 5, 40)):
        count, mean, centred = describe(x)
        assert int(count) == len(x)
        np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(centred, x - x.mean(), rtol=1e-5, atol=1e-6)


def test_clients_map_it() -> None:
    mapped = hansa.federated_computation(lambda x: hansa.federated_map(describe, x), f"{{{BATCH}}}@CLIENTS")
    data = rows(3, 3, 3)
    for x, (count, mean, _) in zip(data, mapped(data), strict=True):
        assert int(count) == len(x)
        np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5, atol=1e-6)


STATE = "<count=int32,sum=float32[2],means=float32>"


@hansa.tf_computation(STATE, BATCH)
def accumulate(state, x):
    return OrderedDict(
        count=state.count + tf.shape(x)[0],
        sum=state["sum"] + tf.reduce_sum(x, 0),
        means=state.means * 0.5 + tf.reduce_mean(x),
    )


def test_reductions_and_maps_over_batches_of_different_sizes() -> None:
    centre = hansa.tf_computation(lambda x: x - tf.reduce_max(x), BATCH)

    @hansa.federated_computation(f"{BATCH}*")
    def work(batches):
        zero = hansa.tf_computation(lambda: OrderedDict(count=0, sum=tf.zeros(2), means=tf.constant(0.0)))()
        return hansa.sequence_reduce(hansa.sequence_map(centre, batches), zero, accumulate)

    data = rows(3, 5, 5, 1, 2)
    found = work(data)
    centred = [x - x.max() for x in data]
    means = 0.0
    for x in centred:
        means = 0.5 * means + x.mean()
    assert int(found["count"]) == 16
    np.testing.assert_allclose(found["sum"], np.concatenate(centred).sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.means, means, rtol=1e-5)


def test_it_composes_with_jax() -> None:
    square = hansa.jax_computation(lambda x: jnp.square(x), BATCH)
    total = hansa.tf_computation(lambda x: tf.reduce_sum(x), BATCH)

    @hansa.jax_computation(BATCH)
    def norm(x):
        return jnp.sqrt(total(square(x)))

    @hansa.jax_computation(np.float32, BATCH)
    def add(state, x):
        return state + norm(x)

    @hansa.federated_computation(f"{{{BATCH}*}}@CLIENTS")
    def mean_norm(batches):
        return hansa.federated_mean(hansa.sequence_reduce(batches, 0.0, add))

    clients = [rows(3, 1), rows(2, seed=1)]
    expected = np.mean([sum(np.linalg.norm(x) for x in client) for client in clients])
    assert float(mean_norm(clients)) == pytest.approx(float(expected), rel=1e-5)


def test_control_flow_that_depends_on_values() -> None:
    @hansa.tf_computation(np.int32)
    def collatz(n):
        steps = tf.constant(0)
        while n != 1:
            if n % 2 == 0:
                n = n // 2
                steps += 0
            else:
                n = 3 * n + 1
            steps += 1
        return steps

    assert [int(collatz(n)) for n in (1, 2, 3, 27)] == [0, 1, 7, 111]


def test_control_flow_over_batches() -> None:
    @hansa.tf_computation(np.float32, BATCH)
    def step(state, x):
        if tf.reduce_mean(x) > 0:
            state += tf.reduce_mean(x)
        for _ in tf.range(2):
            state = state * 0.5
        return state

    fold = hansa.federated_computation(lambda s: hansa.sequence_reduce(s, 0.0, step), f"{BATCH}*")
    data = rows(3, 2, 5, 4)
    expected = 0.0
    for x in data:
        expected = (expected + max(x.mean(), 0)) / 4
    assert float(fold(data)) == pytest.approx(float(expected), rel=1e-5)


def test_random_numbers_in_a_loop_differ() -> None:
    @hansa.tf_computation
    def draws():
        drawn = tf.zeros([8])
        for i in tf.range(8):
            drawn = tf.tensor_scatter_nd_update(drawn, [[i]], tf.random.uniform([1]))
        return drawn

    assert len(set(np.asarray(draws()).tolist())) == 8


NUMERIC = {
    "sort": lambda x: tf.sort(x, direction="DESCENDING"),
    "top_k": lambda x: tuple(tf.math.top_k(x, 2)),
    "sort of integers": lambda x: tf.argsort(tf.cast(10 * x, tf.int32), stable=True),
    "inverse": lambda x: tf.linalg.inv(x + 3 * tf.eye(4)),
    "solve": lambda x: tf.linalg.solve(x + 3 * tf.eye(4), x),
    "qr": lambda x: tuple(tf.linalg.qr(x)),
    "complex": lambda x: tf.signal.fft(tf.cast(x, tf.complex64) * tf.constant([1 + 2j, 2, 3j, 4], tf.complex64)),
    "bfloat16": lambda x: tf.cast(tf.cast(x, tf.bfloat16) * tf.constant([1, 2, 0.5, -4], tf.bfloat16), tf.float32),
    "segments": lambda x: tf.math.unsorted_segment_max(x, [0, 2, 0, 1], 3),
    "gather": lambda x: tf.gather_nd(x, [[0, 1], [3, 3]]),
    "scan": lambda x: tf.scan(lambda a, b: a * 0.5 + b, x),
    "einsum": lambda x: tf.einsum("ij,kj->ik", x, x),
}


@pytest.mark.parametrize("name", NUMERIC)
def test_operations_give_what_tensorflow_gives(name: str) -> None:
    function = NUMERIC[name]
    x = np.random.default_rng(0).uniform(-1, 1, (4, 4)).astype(np.float32)
    found = hansa.tf_computation(tf.autograph.experimental.do_not_convert(lambda x: function(x)), "float32[4,4]")(x)
    for value, expected in zip(jax.tree.leaves(found), tf.nest.flatten(function(tf.constant(x))), strict=True):
        np.testing.assert_allclose(value, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_gradients() -> None:
    @hansa.tf_computation("float32[2]", BATCH)
    def gradient(w, x):
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = tf.reduce_mean(tf.square(tf.linalg.matvec(x, w) - 1))
        return tape.gradient(loss, w)

    w = np.float32([0.5, -1])
    for (x,) in map(rows, (1, 7)):
        np.testing.assert_allclose(gradient(w, x), 2 * x.T @ (x @ w - 1) / len(x), rtol=1e-4, atol=1e-6)


def test_a_tf_function_of_the_users() -> None:
    compiled = tf.function(lambda x: tf.reduce_max(x))
    largest = hansa.tf_computation(compiled, BATCH)
    (x,) = rows(4)
    assert float(largest(x)) == x.max()


def test_a_variable_that_is_read_is_a_constant() -> None:
    variable = tf.Variable([1.0, 2.0])
    add = hansa.tf_computation(lambda x: x + variable, "float32[2]")
    np.testing.assert_array_equal(add(np.float32([1, 1])), [2, 3])
    variable.assign([5.0, 5.0])
    np.testing.assert_array_equal(add(np.float32([1, 1])), [2, 3])


def test_a_variable_that_is_assigned_is_an_error() -> None:
    variable = tf.Variable(1.0, name="counter")
    with pytest.raises(TypeError, match=r"'count' assigns the variable 'counter:0'.*return the new value"):

        @hansa.tf_computation(np.float32)
        def count(x):
            variable.assign_add(x)
            return variable + 0.0

    assert float(variable) == 1.0


def test_random_numbers() -> None:
    draw = hansa.tf_computation(lambda: (tf.random.normal([5000]), tf.random.uniform([5000], 2, 4)))
    normal, uniform = map(np.asarray, draw())
    assert abs(normal.mean()) < 0.08 and abs(normal.std() - 1) < 0.05
    assert 2 <= uniform.min() < 2.01 and 3.99 < uniform.max() < 4

    np.testing.assert_array_equal(draw()[0], normal)

    @hansa.tf_computation("int32[2]")
    def seeded(seed):
        return tf.random.stateless_normal([1000], seed)

    first, again, other = (np.asarray(seeded(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("most", [4, 15])
def test_functions_that_differ_by_size(most: int) -> None:
    @hansa.tf_computation(BATCH)
    def odd(x):
        if x.shape[0] > most:  # known while it is traced
            return tf.reduce_sum(x)
        return tf.reduce_max(x)

    fold = hansa.federated_computation(
        lambda s: hansa.sequence_reduce(hansa.sequence_map(odd, s), 0.0, hansa.jax_computation(
            lambda a, b: a + b, np.float32, np.float32)), f"{BATCH}*"
    )  # fmt: skip
    data = rows(5, 2, 20, 1)
    expected = [x.sum() if len(x) > most else x.max() for x in data]
    np.testing.assert_allclose([odd(x) for x in data], expected, rtol=1e-5)
    assert float(fold(data)) == pytest.approx(float(sum(expected)), rel=1e-5)


def test_a_function_of_fixed_sizes_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = []
    read = stablehlo.read

    def reading(text: str) -> Any:
        lowered.append(text)
        return read(text)

    monkeypatch.setattr(stablehlo, "read", reading)
    monkeypatch.setattr(stablehlo.sizes, "read", reading)
    function = TensorFlowFunction(lambda x: tf.sin(x), [hansa.TensorType(np.float32, [3])], "sine")
    assert function.assigned == []
    results, updates = function([np.zeros(3, np.float32)], {}, jax.random.key(0))
    np.testing.assert_array_equal(results, [0, 0, 0])
    assert updates == []
    assert len(lowered) == 1


def test_two_batches_of_different_sizes() -> None:
    outer = hansa.tf_computation(lambda x, y: tf.matmul(x, y, transpose_b=True), BATCH, BATCH)
    assert outer.type_signature.result.compact() == "float32[?,?]"
    x, y = rows(3, 5)
    np.testing.assert_allclose(outer(x, y), x @ y.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outer(x, x), x @ x.T, rtol=1e-5, atol=1e-6)


def through_python(x):
    y = x * 2
    return tf.numpy_function(np.sin, [y], tf.float32)


def through_eager_python(x):
    return tf.reduce_sum(
        tf.py_function(lambda x: x, [x], tf.float32),
    )


def through_strings(x):
    n = tf.cast(x[0], tf.int32)
    text = tf.strings.as_string(n)
    return tf.strings.to_number(text)


def through_a_table(x):
    keys = tf.constant([1, 2], tf.int64)
    table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 0.0, 0, -1)
    table.insert(keys, tf.constant([1.0, 2.0]))
    return table.lookup(tf.cast(x, tf.int64))


ERRORS = [
    (through_python, "PyFunc", 2), (through_eager_python, "EagerPyFunc", 2), (through_strings, "AsString", 2),
]  # fmt: skip


@pytest.mark.parametrize("function, operation, offset", ERRORS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_compiled_is_named_with_its_line(function: Any, operation: str, offset: int) -> None:
    with pytest.raises(TypeError) as error:
        hansa.tf_computation(function, "float32[3]")
    assert f"{line_of(function, offset)} uses the operation {operation} (" in str(error.value)
    assert f"the TensorFlow function {function.__name__!r} cannot be compiled" in str(error.value)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_lookup_tables_are_named_with_their_line(where: str) -> None:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1, 2], [10.0, 20.0]), 0.0)

    def look(x):
        y = x + 1
        return table.lookup(y)

    function, line = (look, line_of(look, 2)) if where == "outside" else (through_a_table, line_of(through_a_table, 2))
    with pytest.raises(TypeError) as error:
        hansa.tf_computation(function, "int32[3]")
    assert "cannot be compiled" in str(error.value)
    assert line in str(error.value)
    assert "Table" in str(error.value)


def test_an_operation_in_a_helper_and_in_a_branch_is_found() -> None:
    def helper(x):
        return tf.py_function(lambda x: x, [x], tf.float32)

    def branch(x):
        return tf.cond(x[0] > 0, lambda: helper(x), lambda: x)

    with pytest.raises(TypeError) as error:
        hansa.tf_computation(branch, "float32[3]")
    assert line_of(helper, 1) in str(error.value)


def test_strings_are_no_argument() -> None:
    with pytest.raises(TypeError, match=r"'length' takes str.*strings cannot be compiled"):

        @hansa.tf_computation("str")
        def length(x):
            return tf.strings.length(x)


def test_a_shape_that_depends_on_values() -> None:
    with pytest.raises(TypeError, match=r"'positive' cannot be compiled: a shape that depends on values.*boolean_mask"):

        @hansa.tf_computation("float32[5]")
        def positive(x):
            return tf.boolean_mask(x, x > 0)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"'describe' takes one argument"):
        describe(rows(1), rows(2))
    with pytest.raises(TypeError, match=r"float32\[\?,2\]"):
        describe(np.ones((3, 5), np.float32))
    with pytest.raises(TypeError, match="'f' has 2 parameters"):

        @hansa.tf_computation(np.float32)
        def f(x, y):
            return x

    with pytest.raises(TypeError, match="'nothing' returned None"):

        @hansa.tf_computation(np.float32)
        def nothing(x):
            x + 1


def test_an_error_of_the_users_passes_through() -> None:
    with pytest.raises(Exception, match="my own message"):

        @hansa.tf_computation(np.float32)
        def fails(x):
            raise ValueError("my own message")


def test_no_tensorflow_runs_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    @hansa.tf_computation(BATCH)
    def mean(x):
        traced.append(x.shape)
        return tf.reduce_mean(x)

    fold = hansa.federated_computation(
        lambda s: hansa.sequence_reduce(s, 0.0, hansa.jax_computation(lambda a, x: a + mean(x), np.float32, BATCH)),
        f"{BATCH}*",
    )
    fold(rows(3, 2))
    before = len(traced)
    assert before > 0

    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("TensorFlow ran")

    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import context

    monkeypatch.setattr(pywrap_tfe, "TFE_Py_FastPathExecute", run)
    monkeypatch.setattr(pywrap_tfe, "TFE_Py_Execute", run)
    monkeypatch.setattr(context.Context, "call_function", run)
    for eager in (lambda: tf.add(1, 2), lambda: tf.function(lambda: tf.constant(1))()):
        with pytest.raises(AssertionError, match="TensorFlow ran"):
            eager()
    for data in (rows(3, 2), rows(5, 1), rows(7, 7, 3)):
        assert float(fold(data)) == pytest.approx(float(sum(x.mean() for x in data)), rel=1e-4, abs=1e-6)
        assert float(mean(data[0])) == pytest.approx(float(data[0].mean()), rel=1e-4)
    assert len(traced) == before


def test_without_tensorflow_it_names_the_command_that_installs_it() -> None:
    code = """
        import sys
        sys.modules["tensorflow"] = None
        import hansa, numpy as np

        try:
            hansa.tf_computation(lambda x: x, np.float32)
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ, check=True
    )
    assert "pip install 'hansa[tensorflow]'" in done.stdout
