"""The reference runtime: it agrees with the compiled one, and shows the user's functions at work."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings

import hansa
from hansa.language.tracing import narrow_computation, wide_computation
from hansa.learning import build_federated_averaging_process
from hansa.types import CLIENTS, FederatedType, SequenceType, Struct, StructType, Type, tensor_leaves, to_value
from tests.models.functional import make_client, mlp, true_batches
from tests.runtimes.random_computations import Case, cases

WHOLE = hansa.InProcessRuntime()
CHUNKED = hansa.InProcessRuntime(clients_per_chunk=2)
ALONE = hansa.InProcessRuntime(devices=jax.devices()[:1])


def assert_same(found: Any, expected: Any, kind: Type, where: str = "the result") -> None:
    """Two results of a type have the same structure, dtypes, shapes and integers, and floats that are close."""
    if isinstance(kind, FederatedType):
        if kind.placement is CLIENTS and not kind.all_equal:
            assert all(isinstance(each, list | hansa.ClientValues) for each in (found, expected)), where
            assert len(found) == len(expected), where
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                assert_same(a, b, kind.member, f"{where} at client {i}")
        else:
            assert_same(found, expected, kind.member, where)
    elif isinstance(kind, SequenceType):
        read = elements(found, kind.element)
        assert len(read) == len(expected), where
        for i, (a, b) in enumerate(zip(read, expected, strict=True)):
            assert_same(a, b, kind.element, f"{where}[{i}]")
    elif isinstance(kind, StructType):
        assert type(found) is type(expected) is (kind.container or Struct), where
        assert found._fields == expected._fields == kind.names, where
        for name, a, b, member in zip(kind.names, found, expected, kind, strict=True):
            assert_same(a, b, member, f"{where}.{name}")
    else:
        assert_close(found, expected, kind, where)


def assert_close(found: Any, expected: Any, kind: Any, where: str) -> None:
    if kind.dtype.kind == "U":
        assert found == expected, where
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype == kind.dtype, where
    assert found.shape == expected.shape and kind.takes_shape(found.shape), where
    if kind.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=where)
        return
    tolerance = 0.05 if kind.dtype.itemsize == 2 else 1e-4
    wide = np.complex128 if kind.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(
        found.astype(wide), expected.astype(wide), rtol=tolerance, atol=tolerance, equal_nan=True, err_msg=where
    )


def elements(sequence: Any, kind: Type) -> list[Any]:
    """A sequence that was passed on as it was; batches without examples are none."""

    def is_empty(element: Any) -> bool:
        leaves = zip(jax.tree.leaves(element), tensor_leaves(kind), strict=True)
        rows = [len(leaf) for leaf, declared in leaves if declared.shape[:1] == (None,)]
        return bool(rows) and not any(rows)

    return [element for element in (to_value(element, kind) for element in sequence) if not is_empty(element)]


def check(case: Case) -> None:
    kind = case.computation.type_signature.result
    with hansa.runtime(hansa.ReferenceRuntime(case.num_clients)):
        expected = case()
    for runtime in (WHOLE, CHUNKED, ALONE):
        runtime.default_num_clients = case.num_clients
        with hansa.runtime(runtime):
            assert_same(case(), expected, kind)


# An example that fails is shown as it is: to shrink it means to compile hundreds of others.
@pytest.mark.slow
@settings(max_examples=20, derandomize=True, phases=[Phase.generate])
@given(cases())
def test_random_computations_have_the_same_result_in_both_runtimes(case: Case) -> None:
    check(case)


def outcomes(computation: Any, argument: Any) -> list[tuple[Any, str]]:
    """What each runtime raises."""
    found = []
    for runtime in (hansa.ReferenceRuntime(), WHOLE):
        with hansa.runtime(runtime), pytest.raises((TypeError, ValueError)) as caught:
            computation(argument())
        found.append((caught.type, str(caught.value)))
    return found


REFUSED = {
    "a dtype": ("{float32[2]}@CLIENTS", lambda: [np.ones(2)]),
    "a shape": ("{<a=float32[2],b=int32>}@CLIENTS", lambda: [{"a": np.ones(3, np.float32), "b": 1}]),
    "no list": ("{float32}@CLIENTS", lambda: 1.0),
    "a dict in place of a list": ("{<a=float32>}@CLIENTS", lambda: {"a": 1.0}),
    "numbers of clients": ("<a={int32}@CLIENTS,b={int32*}@CLIENTS>", lambda: [[1, 2], [[1]]]),
    "a missing field": ("<a=int32@SERVER,b={int32}@CLIENTS>", lambda: {"a": 1}),
    "a number that does not fit": ("int8@SERVER", lambda: 300),
    "shapes that differ": ("{float32[?]}@CLIENTS", lambda: [np.ones(2, np.float32), np.ones(3, np.float32)]),
    "an element": ("{int32*}@CLIENTS", lambda: [[1, 2], [3, 0.5]]),
    "a batch of several sizes": (
        "{<x=float32[?],y=int32[?]>*}@CLIENTS",
        lambda: [[{"x": np.ones(2, np.float32), "y": np.ones(3, np.int32)}]],
    ),
    "one batch for a sequence": ("{<x=float32[?]>*}@CLIENTS", lambda: [{"x": np.ones(2, np.float32)}]),
    "an iterator for the clients": ("{int32*}@CLIENTS", lambda: iter([[1]])),
    "columns of another type": ("{int32[?]*}@CLIENTS", lambda: hansa.ClientBatches(np.ones(4), [0, 2, 4], 2)),
    "no struct": ("<int32,int32>", lambda: 3),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_one_runtime_refuses_the_other_refuses_with_the_same_words(what: str) -> None:
    kind, argument = REFUSED[what]
    computation = hansa.federated_computation(lambda x: x, kind)
    mine, other = outcomes(computation, argument)
    assert mine == other
    assert "'<lambda>'" in mine[1] or "columns" in what


@pytest.fixture
def reference() -> Iterator[hansa.ReferenceRuntime]:
    with hansa.runtime(hansa.ReferenceRuntime()) as runtime:
        yield runtime


def test_a_local_function_sees_numbers_one_client_and_batch_after_another(reference: Any) -> None:
    seen: list[Any] = []

    @hansa.jax_computation("float32", "float32[?]")
    def add(total, batch):
        if not isinstance(batch, jax.core.Tracer):
            seen.append((float(total), batch.tolist()))
        return total + batch.sum()

    @hansa.federated_computation("{float32[?]*}@CLIENTS")
    def totals(data):
        return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, add))

    batches = [[np.float32([1, 2]), np.float32([3])], [], [np.float32([0.5])]]
    assert totals(batches) == 6.5
    assert seen == [(0.0, [1.0, 2.0]), (3.0, [3.0]), (0.0, [0.5])]


def test_a_debugger_stops_in_the_users_function(reference: Any) -> None:
    @hansa.jax_computation("float32")
    def halve(x):
        half = x / 2
        return half

    call = hansa.federated_computation(lambda x: hansa.federated_map(halve, x), "{float32}@CLIENTS")
    found: list[float] = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is halve.function.function.__code__ and event == "return":
            found.append(float(frame.f_locals["half"]))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call([1.0, 5.0])
    finally:
        sys.settrace(before)
    assert found == [0.5, 2.5]


def test_an_exception_says_where_it_comes_from(reference: Any) -> None:
    @hansa.jax_computation("float32")
    def fragile(x):
        if not isinstance(x, jax.core.Tracer) and x > 1:
            raise ArithmeticError("too large")
        return x

    call = hansa.federated_computation(
        lambda x: hansa.federated_mean(hansa.federated_map(fragile, x)), "{float32}@CLIENTS"
    )
    with pytest.raises(ArithmeticError, match="too large") as caught:
        call([1.0, 2.0])
    innermost = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (innermost.name, innermost.line) == ("fragile", 'raise ArithmeticError("too large")')
    function, client, node = caught.value.__notes__
    assert (function, client) == ("in 'fragile'", "at client 1")
    assert re.fullmatch(r"in federated_map of 'fragile': {float32}@CLIENTS, made at .*test_reference\.py:\d+", node)


def test_every_node_can_be_watched() -> None:
    watched: list[tuple[str, Any]] = []
    double = hansa.jax_computation(lambda x: 2 * x, "int32")
    inner = hansa.federated_computation(lambda x: hansa.federated_map(double, x), "{int32}@CLIENTS")
    call = hansa.federated_computation(lambda x: {"total": hansa.federated_sum(inner(x))}, "{int32}@CLIENTS")
    with hansa.runtime(hansa.ReferenceRuntime(on_node=lambda node, value: watched.append((repr(node), value)))):
        call([1, 2])
    assert watched == [
        ("the parameter: {int32}@CLIENTS", [1, 2]),
        ("the parameter: {int32}@CLIENTS", [1, 2]),
        ("federated_map of '<lambda>': {int32}@CLIENTS", [2, 4]),
        ("the call of '<lambda>': {int32}@CLIENTS", [2, 4]),
        ("federated_sum: int32@SERVER", 6),
        ("a struct: <total=int32@SERVER>", Struct.of(total=np.int32(6))),
    ]


def test_numbers_are_those_of_the_definitions(reference: Any) -> None:
    @hansa.federated_computation("{int64}@CLIENTS", "{bfloat16}@CLIENTS", "{int32}@CLIENTS")
    def statistics(n, x, w):
        return [hansa.federated_sum(n), hansa.federated_sum(x), hansa.federated_mean(x, w), hansa.federated_min(w)]

    big, one = 2**53 + 1, np.asarray(1, jnp.bfloat16)
    total, ones, mean, least = statistics([big] * 600, [one] * 600, [3] * 599 + [-1])
    assert (int(total), float(ones), float(mean), int(least)) == (600 * big, 600, 1, -1)
    assert [x.dtype for x in (total, ones, mean, least)] == ["int64", jnp.bfloat16, jnp.bfloat16, "int32"]
    assert [float(x) for x in statistics([], [], [])] == [0, 0, 0, 2**31 - 1]
    assert float(statistics([1, 1], [one, one], [2, -2])[2]) == 0


def test_clients_are_aggregated_in_their_order(reference: Any) -> None:
    digits = hansa.jax_computation(lambda state, x: 10 * state + x, "int32", "int32")
    double = hansa.jax_computation(lambda state: 2 * state, "int32")
    call = hansa.federated_computation(
        lambda x: hansa.federated_aggregate(x, 0, digits, digits, double), "{int32}@CLIENTS"
    )
    assert (call([1, 2, 3]), call([])) == (246, 0)


def test_functions_see_the_bits_that_they_see_elsewhere() -> None:
    seen: list[Any] = []

    def dtypes(x: Any) -> Any:
        seen.append((x.dtype.name, jnp.arange(3).dtype.name))
        return jnp.arange(3), 0.5 * x

    for decorate in (hansa.jax_computation, narrow_computation, wide_computation):
        for kind in ("int32", "int64"):
            results = []
            for runtime in (WHOLE, hansa.ReferenceRuntime()):
                with hansa.runtime(runtime):
                    results.append([x.dtype for x in decorate(kind)(dtypes)(3)])
                    traced = seen[-1]
            assert results[0] == results[1]
            assert seen.pop() == seen.pop() == traced


def test_a_function_with_a_64_bit_field_may_have_literals_of_32_bits() -> None:
    """As docs/language.md says: within `jax.enable_x64(False)`, literals and what is made of them are of 32 bits."""

    def step(state: Any) -> Any:
        with jax.enable_x64(False):
            zeros, steps, factor = jnp.zeros(2), jnp.arange(2), jnp.asarray([0.5, 1.5])
        return {"rounds": state.rounds + 1, "zeros": zeros, "steps": steps, "scaled": state.scale * factor}

    computation = hansa.jax_computation("<rounds=int64,scale=float32>")(step)
    expected = "<rounds=int64,zeros=float32[2],steps=int32[2],scaled=float32[2]>"
    assert computation.type_signature.result.compact() == expected
    for runtime in (WHOLE, hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            found = computation({"rounds": 2**40, "scale": 2.0})
        assert int(found.rounds) == 2**40 + 1 and found.scaled.tolist() == [1.0, 3.0]


def test_tensorflow_functions_run_as_they_were_lowered(reference: Any) -> None:
    tf = pytest.importorskip("tensorflow")
    mean = hansa.tf_computation(lambda x: {"mean": tf.reduce_mean(x), "n": tf.shape(x)[0]}, "float32[?]")
    result = mean(np.float32([1, 2, 6]))
    assert (float(result["mean"]), int(result.n)) == (3, 3)


def assert_same_training(process: Any, data: list[Any]) -> None:
    with hansa.runtime(hansa.ReferenceRuntime()):
        expected = process.next(process.initialize(), data)
    found = process.next(process.initialize(), data)
    for a, b, kind in zip(found, expected, process.next.type_signature.result, strict=True):
        assert_same(a, b, kind)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_averaging_a_model_in_plain_jax_gives_the_same() -> None:
    clients = [true_batches(make_client(size), 4) for size in (8, 0, 4)]
    assert_same_training(build_federated_averaging_process(mlp()), clients)


def test_averaging_a_keras_model_gives_the_same() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    clients = [true_batches(make_client(size), 4) for size in (8, 4)]
    wrapped = hansa.learning.from_compiled_keras_model(model, clients[0][0])
    assert_same_training(build_federated_averaging_process(wrapped), clients)


def test_a_loaded_computation_is_for_the_other_runtime(tmp_path: Path) -> None:
    hansa.save(hansa.federated_computation(hansa.federated_sum, "{int32}@CLIENTS"), tmp_path / "sum.hansa")
    loaded = hansa.load(tmp_path / "sum.hansa")
    assert loaded([1, 2]) == 3
    with hansa.runtime(hansa.ReferenceRuntime()), pytest.raises(TypeError, match=r"loaded.*InProcessRuntime\(\)"):
        loaded([1, 2])


def test_of_two_zeros_the_negative_one_is_less_in_any_order_in_both_runtimes():
    extremes = hansa.federated_computation(
        lambda x: [hansa.federated_min(x), hansa.federated_max(x)], "{float32[2]}@CLIENTS"
    )
    values = [np.float32([0.0, -0.0]), np.float32([-0.0, 0.0]), np.float32([1.0, -1.0])]
    for runtime in (WHOLE, hansa.ReferenceRuntime()):
        for order in ([0, 1, 2], [1, 2, 0]):
            with hansa.runtime(runtime):
                low, high = extremes([values[i] for i in order])
            assert np.signbit(low).tolist() == [True, True] and (low[0], high[1]) == (0, 0)
            assert not np.signbit(high).any()
