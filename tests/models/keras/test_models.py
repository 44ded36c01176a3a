"""Keras models as functions: what is accepted, how weights are named and assigned, which errors a user sees."""

from collections import OrderedDict

import keras
import numpy as np
import pytest

import hansa
from hansa.models.keras.weights import initial_weights
from hansa.models.weights import ModelWeights

layers = keras.layers
BATCH = OrderedDict(x=np.zeros((4, 3), "float32"), y=np.zeros((4, 1), "int32"))


def sequential(units=2, **compiled):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, activation="softmax")])
    if compiled:
        model.compile(**compiled)
    return model


COMPILED = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"}


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([layers.Dense(4), layers.BatchNormalization()])
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.body(x))


def test_weights_are_named_as_keras_names_them_without_the_models_name():
    net = Net()
    net.compile(**COMPILED)
    model = hansa.learning.from_compiled_keras_model(net, BATCH)
    trainable, rest = model.initial_weights
    assert all(not name.startswith(f"{net.name}/") for name in trainable._fields)
    assert sorted(trainable._fields) == list(trainable._fields)
    assert {"head/bias", "head/kernel"} < set(trainable._fields)
    assert [name.rsplit("/", 1)[1] for name in rest._fields] == ["moving_mean", "moving_variance"]


def test_names_start_anew_in_model_fn_whatever_was_built_before():
    sequential()

    def model_fn():
        return hansa.learning.from_compiled_keras_model(sequential(**COMPILED), BATCH)

    process = hansa.learning.build_federated_averaging_process(model_fn)
    assert "<dense/bias=float32[2],dense/kernel=float32[3,2]>" in process.initialize.type_signature.compact()
    before = int(sequential().layers[-1].name.removeprefix("dense").strip("_") or 0)
    hansa.learning.build_federated_averaging_process(model_fn)
    assert int(sequential().layers[-1].name.removeprefix("dense").strip("_")) == before + 1


def test_assigned_weights_are_copies_in_a_model_of_the_same_architecture():
    source = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(2)])
    target = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(2)])
    weights = ModelWeights.create(*initial_weights(source))
    weights.assign_weights_to(target)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_array_equal(source.predict(x, verbose=0), target.predict(x, verbose=0))
    target.compile(loss="mse", optimizer="sgd")
    target.fit(x, np.zeros((5, 2)), verbose=0)
    weights.assign_weights_to(target)  # what Keras trains with and donates is no memory of ours
    np.testing.assert_array_equal(source.predict(x, verbose=0), target.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(2)]), "is another model"),
        (lambda: sequential(5), r"has the shape \(3, 5\), the one to assign \(3, 2\)"),
        (lambda: keras.Sequential([layers.Dense(2)]), "has no weights yet"),
        (lambda: 3, "a Keras model or a PyTorch module, found the int 3"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(target, message):
    model = target()
    before = [np.array(w) for w in getattr(model, "get_weights", list)()]
    with pytest.raises((TypeError, ValueError), match=message):
        ModelWeights.create(*initial_weights(sequential())).assign_weights_to(model)
    for a, b in zip(getattr(model, "get_weights", list)(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def own_train_step():
    class Own(keras.Model):
        def train_step(self, state, data):
            return state, {}

    inputs = keras.Input((3,))
    model = Own(inputs, layers.Dense(2)(inputs))
    model.compile(**COMPILED)
    return model


def stateful():
    model = keras.Sequential([keras.Input(batch_shape=(4, 3, 1)), layers.LSTM(2, stateful=True)])
    model.compile(loss="mse", optimizer="sgd")
    return model


def wrap(model, sample=BATCH):
    return hansa.learning.from_compiled_keras_model(model, sample)


def wrap_uncompiled(model, *args, **kwargs):
    return hansa.learning.from_keras_model(model, *args, **kwargs)


def wrap_sample(sample):
    return wrap(sequential(**COMPILED), sample)


WIDE = {"x": np.zeros((2, 5), "float32"), "y": BATCH["y"][:2]}
SERIES = {"x": np.zeros((4, 3, 1), "float32"), "y": np.zeros((4, 2), "float32")}
REFUSED = {
    "uncompiled": (lambda: wrap(sequential()), "is not compiled"),
    "compiled twice": (lambda: wrap_uncompiled(sequential(**COMPILED), BATCH, loss="mse"), "compiled already"),
    "no loss": (lambda: wrap_uncompiled(sequential(), BATCH), "needs a loss"),
    "no spec": (lambda: wrap_uncompiled(sequential(), loss="mse"), "one of sample_batch and input_spec"),
    "no model": (lambda: wrap(3), "takes a Keras model, found the int 3"),
    "own train_step": (lambda: wrap(own_train_step()), "train_step of its own"),
    "other keys": (lambda: wrap_sample({"a": BATCH["x"], "b": BATCH["y"]}), "the keys x and y"),
    "no sample": (lambda: wrap_sample(None), "sample_batch is None"),
    "scalar": (lambda: wrap_sample({"x": BATCH["x"], "y": np.int32(3)}), r"arrays \[examples"),
    "wrong width": (lambda: wrap_sample(WIDE), "incompatible"),
    "stateful": (lambda: wrap(stateful(), SERIES), "stateful=False"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_is_refused_with_the_reason(case):
    build, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        build()


@pytest.mark.parametrize(
    "sample",
    [
        BATCH,
        (BATCH["x"], BATCH["y"]),
        hansa.Batches(BATCH, 2),
    ],
    ids=["mapping", "pair", "batches"],
)
def test_sample_batches(sample):
    model = hansa.learning.from_compiled_keras_model(sequential(**COMPILED), sample)
    assert str(model.batch_type).replace("x=", "").replace("y=", "").startswith("<float")


def test_input_spec_with_a_keras_optimizer_given_to_the_algorithm():
    model = hansa.learning.from_keras_model(
        sequential(), loss="sparse_categorical_crossentropy", input_spec="<x=float32[?,3],y=int32[?,1]>"
    )
    with pytest.raises(ValueError, match="has no optimizer"):
        hansa.learning.build_federated_averaging_process(model)
    process = hansa.learning.build_federated_averaging_process(model, client_optimizer=keras.optimizers.Adam(0.1))
    state, metrics = process.next(process.initialize(), [[BATCH]])
    assert np.isfinite(metrics.loss)
    assert not np.array_equal(state.model.trainable[0], np.zeros(2))


def test_the_model_itself_is_not_changed_by_learning():
    keras_model = sequential(**COMPILED)
    before = [np.array(w) for w in keras_model.get_weights()]
    process = hansa.learning.build_federated_averaging_process(
        hansa.learning.from_compiled_keras_model(keras_model, BATCH)
    )
    process.next(process.initialize(), [[BATCH]])
    for a, b in zip(keras_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
