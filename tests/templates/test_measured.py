"""Measured processes and aggregations: their type rules, and a round with an aggregation of one's own."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER
from hansa.templates import AggregationProcess, MeasuredOutput, MeasuredProcess


def nothing() -> Any:
    return hansa.federated_value([], SERVER)


def returning(make: Any, *types: str) -> Any:
    return hansa.federated_computation(make, *types)


@hansa.federated_computation
def no_state() -> Any:
    return nothing()


@hansa.federated_computation
def zero() -> Any:
    return hansa.federated_value(0.0, SERVER)


@hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
def sum_next(state: Any, value: Any) -> Any:
    return MeasuredOutput(state, hansa.federated_sum(value), nothing())


@hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS", "{int32}@CLIENTS")
def mean_next(state: Any, value: Any, weight: Any) -> Any:
    return MeasuredOutput(state, hansa.federated_mean(value, weight), nothing())


def test_a_process_without_state_and_measurements() -> None:
    process = AggregationProcess(no_state, sum_next)
    state, result, measurements = process.next(process.initialize(), [1.0, 2.5])
    assert (state, result, measurements) == (hansa.Struct(), 3.5, hansa.Struct())
    assert not process.is_weighted
    assert str(process.value_type) == "float32"
    assert process.next(state, []).result == 0


def test_a_weight_is_the_third_parameter() -> None:
    process = AggregationProcess(no_state, mean_next)
    assert process.is_weighted
    output = process.next(process.initialize(), [1.0, 4.0], [2, 1])
    assert output.result == 2
    assert isinstance(process, MeasuredProcess)
    assert isinstance(process, hansa.templates.IterativeProcess)


def test_computations_without_declared_types_inside() -> None:
    scale = hansa.jax_computation(lambda value, state: value * state)
    report = hansa.federated_computation(lambda state, x: MeasuredOutput(state, hansa.federated_max(x), state))

    @hansa.federated_computation("float32@SERVER", "{float32[2]}@CLIENTS")
    def next(state: Any, value: Any) -> Any:
        return report(state, hansa.federated_map(scale, [value, hansa.federated_broadcast(state)]))

    output = AggregationProcess(zero, next).next(2.0, [np.float32([1, -2]), np.float32([-3, 4])])
    np.testing.assert_array_equal(output.result, [2, 8])
    assert output.measurements == 2


def test_a_measured_process_may_map_at_the_clients() -> None:
    @hansa.federated_computation("float32@SERVER", "{float32}@CLIENTS")
    def next(state: Any, value: Any) -> Any:
        add = hansa.jax_computation(lambda a, b: a + b)
        total = hansa.federated_map(add, [state, hansa.federated_sum(value)])
        return {"state": total, "result": value, "measurements": total}

    process = MeasuredProcess(zero, next)
    assert process.next(1.0, [2.0, 3.0])._asdict() == {"state": 6.0, "result": [2.0, 3.0], "measurements": 6.0}
    with pytest.raises(
        TypeError,
        match=r"the result that `next` of an AggregationProcess returns must be one value at the server, "
        r"float32@SERVER, found \{float32\}@CLIENTS; aggregate it",
    ):
        AggregationProcess(zero, next)


AT_CLIENTS = "{float32}@CLIENTS"


@pytest.mark.parametrize(
    ("make", "initialize", "next_", "message"),
    [
        (
            MeasuredProcess,
            hansa.federated_computation(lambda: hansa.federated_value(0.0, CLIENTS)),
            returning(lambda s: MeasuredOutput(s, s, nothing()), "float32@CLIENTS"),
            "the state that `initialize` returns must be one value at the server, float32@SERVER, found "
            "float32@CLIENTS; aggregate it",
        ),
        (
            MeasuredProcess,
            hansa.jax_computation(lambda: 0.0),
            hansa.jax_computation(lambda s: MeasuredOutput(s, s, s), "float32"),
            r"the state that `initialize` returns must be one value at the server, T@SERVER, found float32; place it "
            r"with hansa.federated_value\(value, hansa.SERVER\)",
        ),
        (
            MeasuredProcess,
            zero,
            returning(lambda s: [s, s, s], "float32@SERVER"),
            "MeasuredProcess: next must return the fields state, result and measurements, found "
            "<float32@SERVER,float32@SERVER,float32@SERVER>; write `return hansa.templates.MeasuredOutput",
        ),
        (
            MeasuredProcess,
            zero,
            returning(lambda s: MeasuredOutput(s, s, {"n": s}), "float32@SERVER"),
            "the measurements that `next` returns must be one value at the server, T@SERVER, found <n=float32@SERVER>; "
            "make one value of the struct with hansa.federated_zip",
        ),
        (
            MeasuredProcess,
            zero,
            returning(lambda s: MeasuredOutput(s, s, []), "float32@SERVER"),
            "the measurements that `next` returns .*, found <>; place it with hansa.federated_value",
        ),
        (
            MeasuredProcess,
            zero,
            returning(lambda s: MeasuredOutput(hansa.federated_value(1, SERVER), s, s), "float32@SERVER"),
            "the state that `next` returns, first, and takes: expected float32, found int32",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s: MeasuredOutput(s, s, s), "float32@SERVER"),
            "next of an AggregationProcess must take the state, a value of each client .*: "
            r"<float32@SERVER,\{T\}@CLIENTS> or .*; found float32@SERVER",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v: MeasuredOutput(s, v, s), "float32@SERVER", "float32@SERVER"),
            r"the value that `next` takes, its second parameter, must be a value of each client, found float32@SERVER; "
            r"declare it as '\{float32\}@CLIENTS'",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v: MeasuredOutput(s, s, s), "float32@SERVER", "float32@CLIENTS"),
            r"found float32@CLIENTS, which is the same at all clients; declare it as '\{float32\}@CLIENTS'",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v, w: MeasuredOutput(s, s, s), "float32@SERVER", AT_CLIENTS, "{float32[2]}@CLIENTS"),
            r"the weight that `next` takes, its third parameter, must be an integer or float scalar of each client, "
            r"found \{float32\[2\]\}@CLIENTS; declare it as '\{float32\}@CLIENTS'",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v, w: MeasuredOutput(s, s, s), "float32@SERVER", AT_CLIENTS, "{bool}@CLIENTS"),
            r"must be an integer or float scalar of each client, found \{bool\}@CLIENTS",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v, w: MeasuredOutput(s, s, s), "float32@SERVER", AT_CLIENTS, "float32@SERVER"),
            "the weight that `next` takes, its third parameter, must be a value of each client, found float32@SERVER",
        ),
        (
            AggregationProcess,
            zero,
            returning(lambda s, v: MeasuredOutput(s, {"sum": hansa.federated_sum(v)}, s), "float32@SERVER", AT_CLIENTS),
            "the result that .* must be one value at the server, T@SERVER, found <sum=float32@SERVER>; make one value",
        ),
    ],
)
def test_types_that_make_no_process_are_refused(make: Any, initialize: Any, next_: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(initialize, next_)


def clipped_mean(initial_norm: float, target: float, rate: float) -> AggregationProcess:
    """The weighted mean of vectors clipped to a norm that follows a quantile of theirs, geometrically."""

    @hansa.federated_computation
    def initialize() -> Any:
        return hansa.federated_value(initial_norm, SERVER)

    @hansa.jax_computation("float32[3]", "float32")
    def clip(vector: Any, norm: Any) -> Any:
        length = jnp.linalg.norm(vector)
        return {"vector": vector * jnp.minimum(1, norm / length), "below": jnp.float32(length <= norm)}

    @hansa.jax_computation("float32", "float32")
    def adapt(norm: Any, below: Any) -> Any:
        return norm * jnp.exp(-rate * (below - target))

    @hansa.federated_computation("float32@SERVER", "{float32[3]}@CLIENTS", "{float32}@CLIENTS")
    def next(norm: Any, value: Any, weight: Any) -> Any:
        clipped = hansa.federated_map(clip, [value, hansa.federated_broadcast(norm)])
        below = hansa.federated_mean(clipped.below)
        return MeasuredOutput(
            state=hansa.federated_map(adapt, [norm, below]),
            result=hansa.federated_mean(clipped.vector, weight),
            measurements=hansa.federated_zip({"norm": norm, "below": below}),
        )

    return AggregationProcess(initialize, next)


def test_averaging_with_an_aggregation_of_ones_own_against_numpy() -> None:
    """Clients move towards the mean of their points; the server adds the aggregate of their moves."""
    aggregation = clipped_mean(initial_norm=1.0, target=0.5, rate=0.3)
    model = "float32[3]"
    subtract = hansa.jax_computation(lambda a, b: a - b)
    add = hansa.jax_computation(lambda a, b: a + b)

    @hansa.jax_computation("<weight=float32[3],moved=float32>", "float32[?,3]")
    def train_on_batch(carry: Any, batch: Any) -> Any:
        return {
            "weight": carry.weight + 0.5 * (jnp.mean(batch, 0) - carry.weight),
            "moved": carry.moved + batch.shape[0],
        }

    @hansa.federated_computation(model, "float32[?,3]*")
    def train(weight: Any, data: Any) -> Any:
        trained = hansa.sequence_reduce(data, {"weight": weight, "moved": 0.0}, train_on_batch)
        return subtract(trained.weight, weight), trained.moved

    @hansa.federated_computation
    def initialize() -> Any:
        start = hansa.federated_value(np.zeros(3, np.float32), SERVER)
        return hansa.federated_zip({"model": start, "aggregation": aggregation.initialize()})

    @hansa.federated_computation(initialize.type_signature.result, "{float32[?,3]*}@CLIENTS")
    def next(state: Any, data: Any) -> Any:
        update, weight = hansa.federated_map(train, [hansa.federated_broadcast(state.model), data])
        aggregated = aggregation.next(state.aggregation, update, weight)
        after = hansa.federated_map(add, [state.model, aggregated.result])
        return hansa.federated_zip({"model": after, "aggregation": aggregated.state}), aggregated.measurements

    process = hansa.templates.IterativeProcess(initialize, next)
    rng = np.random.default_rng(0)
    sizes = [[4, 2], [3], [5, 5, 1], [2]]
    data = [[rng.normal(3, 2, (n, 3)).astype(np.float32) for n in client] for client in sizes]

    state, expected, norm = process.initialize(), np.zeros(3), 1.0
    for _ in range(4):
        updates, weights = [], []
        for client in data:
            weight = expected.copy()
            for batch in client:
                weight += 0.5 * (batch.mean(0) - weight)
            updates.append(weight - expected)
            weights.append(sum(map(len, client)))
        lengths = [np.linalg.norm(u) for u in updates]
        clipped = [u * min(1, norm / n) for u, n in zip(updates, lengths, strict=True)]
        below = np.mean([n <= norm for n in lengths])
        expected = expected + np.average(clipped, axis=0, weights=weights)
        state, measurements = process.next(state, data)
        np.testing.assert_allclose(state.model, expected, rtol=1e-5)
        np.testing.assert_allclose([measurements.norm, measurements.below], [norm, below], rtol=1e-5)
        norm *= np.exp(-0.3 * (below - 0.5))
    np.testing.assert_allclose(state.aggregation, norm, rtol=1e-5)


def test_named_fields_of_the_parameter_go_to_the_parameters_of_their_names() -> None:
    def step(weight: Any, value: Any, state: Any) -> Any:
        return MeasuredOutput(state, hansa.federated_mean(value, weight), nothing())

    kind = "<state=float32@SERVER,value={float32}@CLIENTS,weight={float32}@CLIENTS>"
    process = AggregationProcess(zero, hansa.federated_computation(step, kind))
    assert process.next(0.0, [1.0, 2.0, 3.0], [6.0, 3.0, 1.0]).result == 1.5
    assert process.next({"weight": [6.0, 3.0, 1.0], "state": 0.0, "value": [1.0, 2.0, 3.0]}).result == 1.5
    chain = hansa.templates.chain_measured_processes(only=process)
    assert chain.next({"only": 0.0}, [1.0, 2.0, 3.0], weight=[6.0, 3.0, 1.0]).result == 1.5


def test_names_that_say_another_place_are_refused() -> None:
    def weighted(state: Any, weight: Any, value: Any) -> Any:
        return MeasuredOutput(state, hansa.federated_mean(value, weight), nothing())

    kinds = ["float32@SERVER", "{float32}@CLIENTS", "{float32}@CLIENTS"]
    step = hansa.federated_computation(weighted, *kinds)
    with pytest.raises(TypeError, match=r"state, value, weight in this order.*'weight' is at the place 1 instead"):
        AggregationProcess(zero, step)
    with pytest.raises(TypeError, match=r"state, value in this order, but.*'value' is at the place 2 instead of 1"):
        hansa.templates.chain_measured_processes(only=MeasuredProcess(zero, step))
    swapped = hansa.jax_computation(lambda x, state: (x, state), "float32", "float32")
    start = hansa.jax_computation(lambda: 1.0)
    with pytest.raises(TypeError, match=r"next takes the state first.*'state' is at the place 1 instead of 0"):
        hansa.templates.IterativeProcess(start, swapped)
    swapped = hansa.jax_computation(lambda x, y: {"metric": y, "state": x}, "float32", "float32")
    with pytest.raises(TypeError, match=r"next returns the state first.*'state' is at the place 1 instead of 0"):
        hansa.templates.IterativeProcess(start, swapped)
