"""Inputs of 64 bits: a model that computes in 32 bits is given no other numbers in place of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, functional_model

Data = dict[str, Any]


def plain(dtype: str) -> Any:
    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        values = (batch.x % 7 if dtype == "int64" else batch.x - 1).astype(jnp.float32)
        return BatchOutput(jnp.mean(weights * values), values)

    kind = {"x": (np.dtype(dtype), [None, 1]), "y": (np.float32, [None])}
    return functional_model(np.float32(1), forward, input_spec=kind, optimizer=optax.sgd(0.0))


def compiled(dtype: str) -> Any:
    change = (lambda v: v % 7) if dtype == "int64" else (lambda v: v - 1)
    model = keras.Sequential(
        [keras.Input((1,), dtype=dtype), keras.layers.Lambda(lambda v: keras.ops.cast(change(v), "float32"))]
    )
    model.compile(keras.optimizers.SGD(0.0), keras.losses.Huber())
    return hansa.learning.from_compiled_keras_model(model, {"x": np.zeros((1, 1), dtype), "y": np.zeros(1, "float32")})


def columns(dtype: str, *values: float) -> Data:
    return {"x": np.array(values, dtype)[:, None], "y": np.zeros(len(values), np.float32)}


def whole(clients: list[Data]) -> Data:
    return {name: np.concatenate([client[name] for client in clients]) for name in clients[0]}


def offsets(clients: list[Data]) -> list[int]:
    return np.cumsum([0, *(len(client["y"]) for client in clients)]).tolist()


def lists(clients: list[Data], _: Path) -> Any:
    return [[{name: array[i : i + 2] for name, array in c.items()} for i in range(0, len(c["y"]), 2)] for c in clients]


def generators(clients: list[Data], _: Path) -> Any:
    def batches(client: Any) -> Iterator[Any]:
        yield from client

    return [batches(client) for client in lists(clients, _)]


def sequences(clients: list[Data], _: Path) -> Any:
    return [hansa.Batches(client, 2) for client in clients]


def population(clients: list[Data], _: Path) -> Any:
    return hansa.ClientBatches(whole(clients), offsets(clients), 2)


def on_disk(clients: list[Data], folder: Path) -> Any:
    arrays = {}
    for name, array in whole(clients).items():
        arrays[name] = np.memmap(folder / name, array.dtype, "w+", shape=array.shape)
        arrays[name][:] = array
    return hansa.ClientBatches(arrays, offsets(clients), 2)


def cohort(clients: list[Data], _: Path) -> Any:
    return hansa.simulation.ClientData.from_clients(dict(enumerate(clients))).batch(2).shuffle(0).cohort(range(2))


WAYS = [lists, generators, sequences, population, on_disk, cohort]
UNFIT = {"int64": 2.0**40, "float64": 1.6e9 + 10}
SAID = {
    "int64": r"x holds 1099511627776, but the model computes in 32 bits, and int32 holds .*; number these values anew",
    "float64": r"x holds 1600000010\.0, but the model computes in 32 bits, in which that is 1600000000\.0; subtract",
}


@pytest.fixture(
    scope="module", params=[("int64", plain), ("float64", plain), ("int64", compiled), ("float64", compiled)]
)
def process(request: pytest.FixtureRequest) -> tuple[str, Any, Any, Any]:
    dtype, make = request.param
    model = make(dtype)
    averaging = hansa.learning.build_federated_averaging_process(model)
    return dtype, averaging, averaging.initialize(), hansa.learning.build_federated_evaluation(model)


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_does_not_fit_is_refused_with_its_client(way: Callable[..., Any], process: Any, tmp_path: Path):
    dtype, averaging, state, evaluation = process
    clients = [columns(dtype, 1, 2), columns(dtype, 3, 4, UNFIT[dtype])]
    whose = r"\[1\]\[1\]\." if way in (lists, generators, sequences) else r": client 1, example \d: "
    for call in (
        lambda: averaging.next(state, way(clients, tmp_path)),
        lambda: evaluation(state.model, way(clients, tmp_path)),
    ):
        with pytest.raises(ValueError, match=whose + SAID[dtype]):
            call()
    good = [columns(dtype, 1, 2), columns(dtype, 3, 4, 2.0**24 if dtype == "float64" else 2**31 - 1)]
    assert evaluation(state.model, way(good, tmp_path)).num_non_finite_clients == 0


def test_only_the_clients_of_a_call_have_to_fit(process: Any):
    dtype, averaging, state, _ = process
    everyone = population([columns(dtype, 1, 2), columns(dtype, 3, UNFIT[dtype]), columns(dtype, 5)], Path())
    assert averaging.next(state, everyone.select([0, 2])).metrics.num_non_finite_clients == 0
    with pytest.raises(ValueError, match="client 1, example 1: x holds"):
        averaging.next(state, everyone.select([2, 1]))


def test_so_do_inputs_to_predict_from_and_those_of_other_runtimes(process: Any):
    dtype, _, state, evaluation = process
    predict = hansa.learning.build_prediction(compiled(dtype))
    with pytest.raises(ValueError, match=r"argument of 'predict'\.x " + SAID[dtype].removeprefix("x ")):
        predict(compiled(dtype).initial_weights, np.array([[1], [UNFIT[dtype]]], dtype))
    assert predict(compiled(dtype).initial_weights, np.array([[1]], dtype)).shape == (1, 1)
    with hansa.runtime(hansa.ReferenceRuntime()), pytest.raises(ValueError, match=SAID[dtype].removeprefix("x ")):
        evaluation(state.model, [[columns(dtype, UNFIT[dtype])]])


def test_chunks_of_clients_are_looked_at_too(process: Any, tmp_path: Path):
    dtype, averaging, state, _ = process
    clients = [columns(dtype, 1), columns(dtype, 2), columns(dtype, UNFIT[dtype])]
    with hansa.runtime(hansa.InProcessRuntime(clients_per_chunk=1)), pytest.raises(ValueError, match=SAID[dtype]):
        averaging.next(state, population(clients, tmp_path))


def test_saved_processes_and_predictions_refuse_the_same(process: Any, tmp_path: Path):
    dtype, averaging, state, _ = process
    hansa.save(averaging, tmp_path / "averaging.hansa")
    loaded = hansa.load(tmp_path / "averaging.hansa")
    clients = [columns(dtype, 1, 2), columns(dtype, 3, UNFIT[dtype])]
    for way in (lists, population):
        with pytest.raises(ValueError, match=SAID[dtype]):
            loaded.next(loaded.initialize(), way(clients, tmp_path))
        assert loaded.next(loaded.initialize(), way(clients[:1], tmp_path)).metrics.num_non_finite_clients == 0
    stage = hansa.load_client_stage(tmp_path / "averaging.hansa", computation="next")
    broadcasts = [state.model if "model" in port.name else np.zeros(2, np.uint32) for port in stage.broadcasts]
    given = [lists(clients, tmp_path)[1] if "Sequence" in type(port.type).__name__ else 1 for port in stage.inputs]
    with pytest.raises(ValueError, match=SAID[dtype]):
        stage.work(broadcasts, given)
    model = compiled(dtype)
    hansa.save(hansa.learning.build_prediction(model, model.initial_weights), tmp_path / "predict.hansa")
    predict = hansa.load(tmp_path / "predict.hansa")
    with pytest.raises(ValueError, match="argument of 'predict' " + SAID[dtype].removeprefix("x ")):
        predict(np.array([[UNFIT[dtype]]], dtype))
    assert predict(np.array([[1]], dtype)).shape == (1, 1)


def test_a_function_that_sees_64_bits_gets_all_of_them():
    @hansa.jax_computation(np.int64, hansa.types.TensorType(np.int64, [None]))
    def add(total: Any, batch: Any) -> Any:
        return total + batch.sum()

    @hansa.federated_computation(hansa.types.SequenceType(hansa.types.TensorType(np.int64, [None])))
    def total(batches: Any) -> Any:
        return hansa.sequence_reduce(batches, np.int64(0), add)

    assert total([np.array([2**40, 1])]) == 2**40 + 1


def test_models_of_tensorflow_compute_in_64_bits():
    tf = pytest.importorskip("tensorflow")

    class Remainder(hansa.learning.Model):
        def __init__(self) -> None:
            self.scale, self.seen = tf.Variable(1.0), tf.Variable(1.0, trainable=False)

        trainable_variables = property(lambda self: [self.scale])
        non_trainable_variables = property(lambda self: [])
        local_variables = property(lambda self: [self.seen])
        input_spec = property(
            lambda self: {"x": tf.TensorSpec([None], tf.int64), "time": tf.TensorSpec([None], tf.float64)}
        )

        def forward_pass(self, batch: Any, training: bool = True) -> BatchOutput:
            rest = tf.cast(batch["x"] % 7, tf.float32) + tf.cast(batch["time"] - 1.6e9, tf.float32)
            return BatchOutput(tf.reduce_mean(rest) * self.scale, rest)

        def report_local_outputs(self) -> Any:
            return {"seen": self.seen}

        @property
        def federated_output_computation(self) -> Any:
            return hansa.federated_computation(lambda outputs: {"seen": hansa.federated_sum(outputs.seen)})

    ids, times = np.array([2**40 + 3, 5, 2**33 + 1]), np.array([1.6e9 + 10, 1.6e9, 1.6e9 + 0.5])
    expected = (ids % 7 + times - 1.6e9).mean()
    for optimizer in (optax.sgd(optax.constant_schedule(0.1)), keras.optimizers.SGD(0.1)):
        averaging = hansa.learning.build_federated_averaging_process(Remainder, client_optimizer=optimizer)
        state = averaging.next(averaging.initialize(), [[{"x": ids, "time": times}]]).state
        np.testing.assert_allclose(1 - next(iter(state.model.trainable)), 0.1 * expected, rtol=1e-5)
    adam = hansa.learning.build_federated_averaging_process(Remainder, client_optimizer=optax.adam(0.1))
    assert adam.next(adam.initialize(), [[{"x": ids, "time": times}]]).metrics.num_non_finite_clients == 0
