"""Weights of examples, tokens and classes: as `fit` of Keras has them, and as the weight of a client."""

import itertools
from collections import OrderedDict

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

import hansa
from hansa.language.context import current_runtime
from hansa.learning import BatchOutput, build_federated_averaging_process, from_compiled_keras_model, from_keras_model
from hansa.models.keras.batches import ClassWeights
from hansa.models.keras.weights import initial_weights
from hansa.types import to_type

layers = keras.layers
N, BATCH, TOKENS = 21, 4, 5
rng = np.random.default_rng(3)
FEATURES = rng.normal(size=(N, 6)).astype("float32")
WORDS = rng.integers(0, 9, (N, TOKENS)).astype("int32")
NEXT = rng.integers(0, 9, (N, TOKENS)).astype("int32")
LABELS = rng.integers(0, 4, (N, 1)).astype("int32")
ONE_HOT = np.eye(4, dtype="float32")[LABELS[:, 0]]
NUMBERS = rng.normal(size=(N, 1)).astype("float32")
WEIGHTS = rng.exponential(size=N).astype("float32")
TRUE = (np.arange(TOKENS) < rng.integers(1, TOKENS + 1, (N, 1))).astype("float32")
BY_CLASS = {0: 3.0, 2: 0.25, 7: 9.0}
MEAN_OF_WEIGHTS = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def classifier():
    return keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="softmax")])


def language_model():
    return keras.Sequential([keras.Input((TOKENS,), dtype="int32"), layers.Embedding(9, 3), layers.Dense(9)])


def two_headed():
    features = keras.Input((6,))
    outputs = {"class": layers.Dense(4, activation="softmax", name="class")(features)}
    return keras.Model(features, {**outputs, "value": layers.Dense(1, name="value")(features)})


def two_inputs():
    left, right = keras.Input((6,), name="left"), keras.Input((TOKENS,), name="right", dtype="int32")
    words = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(right))
    return keras.Model({"left": left, "right": right}, layers.Dense(4, activation="softmax")(words + left[:, :4]))


SPARSE, ACCURACY = "sparse_categorical_crossentropy", {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
TWO = {"loss": {"class": SPARSE, "value": "mse"}, "weighted_metrics": {"class": ["accuracy"], "value": ["mae"]}}
OF_TWO = {"class": WEIGHTS, "value": np.ones(N, "float32")}
# fmt: off
# ruff: noqa: E501
CASES = {
    "examples": (classifier, {"x": FEATURES, "y": LABELS, "sample_weight": WEIGHTS}, {"loss": SPARSE, **ACCURACY}, None),
    "examples, a column": (classifier, {"x": FEATURES, "y": LABELS, "sample_weight": WEIGHTS[:, None]}, {"loss": SPARSE}, None),
    "tokens": (language_model, {"x": WORDS, "y": NEXT, "sample_weight": TRUE}, {"loss": MEAN_OF_WEIGHTS, "weighted_metrics": ["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True)]}, None),
    "classes": (classifier, {"x": FEATURES, "y": LABELS}, {"loss": SPARSE, **ACCURACY}, BY_CLASS),
    "classes, one-hot": (classifier, {"x": FEATURES, "y": ONE_HOT}, {"loss": "categorical_crossentropy", **ACCURACY}, BY_CLASS),
    "two outputs": (two_headed, {"x": FEATURES, "y": {"class": LABELS, "value": NUMBERS}, "sample_weight": OF_TWO}, TWO, None),
    "inputs by name": (two_inputs, {"left": FEATURES, "y": LABELS, "sample_weight": WEIGHTS, "right": WORDS}, {"loss": SPARSE}, None),
}
# fmt: on
SLOW = set(CASES) - {"examples"}


def cut(arrays, start, stop=None):
    return jax.tree.map(lambda a: a[start : start + BATCH if stop is None else stop], arrays)


def fit_arguments(arrays):
    named = {name: value for name, value in arrays.items() if name not in ("y", "sample_weight")}
    rest = {name: value for name, value in arrays.items() if name in ("y", "sample_weight")}
    return {"x": named.get("x", named), **rest}


def compiled(build, arguments, rate=0.5):
    keras.utils.set_random_seed(1)
    model = build()
    model.compile(optimizer=keras.optimizers.SGD(rate), **arguments)
    return model


def trained(model):
    return [np.array(value) for value in initial_weights(model)[0]]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_one_client_equals_fit(case):
    build, arrays, arguments, by_class = CASES[case]
    model = compiled(build, arguments)
    before = trained(model)
    batches = [cut(arrays, start) for start in range(0, N, BATCH)]
    # The sample's fields are in another order than the batches'.
    sample = OrderedDict(reversed(batches[0].items()))
    made = from_compiled_keras_model(model, sample, class_weight=by_class)
    process = build_federated_averaging_process(made)
    state, found = process.next(process.initialize(), [batches])
    assert current_runtime()._compile(process.next).sizes is None, "short batches were compiled size by size"

    given = fit_arguments(arrays)
    history = model.fit(**given, batch_size=BATCH, shuffle=False, verbose=0, class_weight=by_class).history
    for found_value, value, old in zip(state.model.trainable, trained(model), before, strict=True):
        assert np.abs(value - old).max() > 1e-3
        np.testing.assert_allclose(found_value, value, rtol=1e-5, atol=1e-6)
    assert set(history) <= set(found._fields)
    for name, (value,) in history.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_an_evaluation_has_the_weights_of_examples_and_none_of_classes():
    arguments = {"loss": SPARSE, **ACCURACY}
    model = compiled(classifier, arguments)
    arrays = {"x": FEATURES, "y": LABELS, "sample_weight": WEIGHTS}
    for given, by_class in ((arrays, None), ({"x": FEATURES, "y": LABELS}, BY_CLASS)):
        made = from_compiled_keras_model(model, given, class_weight=by_class)
        halves = [cut(given, 0, 9), cut(given, 9, N)]
        found = hansa.learning.build_federated_evaluation(made)(made.initial_weights, [[half] for half in halves])
        expected = model.evaluate(**given, verbose=0, return_dict=True, batch_size=N)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["num_examples", "sample_weight"])
@pytest.mark.parametrize("case", ["tokens", "classes"])
def test_several_clients_are_the_average_of_fits(case, weighting):
    build, arrays, arguments, by_class = CASES[case]
    bounds = [0, 3, 14, N]
    clients = [cut(arrays, start, stop) for start, stop in itertools.pairwise(bounds)]
    made = from_compiled_keras_model(compiled(build, arguments), clients[0], class_weight=by_class)
    process = build_federated_averaging_process(made, client_weighting=weighting)
    batches = [[cut(client, at) for at in range(0, len(client["y"]), BATCH)] for client in clients]
    state, _ = process.next(process.initialize(), batches)

    models, counts, totals = [], [], []
    for client in clients:
        model = compiled(build, arguments)
        model.fit(**client, batch_size=BATCH, shuffle=False, verbose=0, class_weight=by_class)
        models.append(trained(model))
        counts.append(len(client["y"]))
        by_label = [BY_CLASS.get(int(label), 1.0) for label in client["y"][:, 0]]
        totals.append(client["sample_weight"].sum() if by_class is None else sum(by_label))
    weights = counts if weighting == "num_examples" else totals
    for found, *values in zip(state.model.trainable, *models, strict=True):
        np.testing.assert_allclose(found, np.average(values, axis=0, weights=weights), rtol=1e-5, atol=1e-6)


def test_weights_of_classes_are_those_of_keras():
    kinds = {"int32[?]": LABELS[:, 0], "int32[?,1]": LABELS, "float32[?,4]": ONE_HOT, "float32[?]": LABELS[:, 0] + 0.1}
    for kind, labels in kinds.items():
        for by_class in (BY_CLASS, {-1: 2.0, 3: 0.5}):
            weights = ClassWeights(by_class, to_type(f"<x=float32[?,6],y={kind}>"), "m")
            found = weights.of(jnp.asarray(labels))
            np.testing.assert_array_equal(found, class_weight_to_sample_weights(labels, by_class))


def token_mean(weights, batch, training, rng):
    losses = optax.softmax_cross_entropy_with_integer_labels(weights["table"][batch.x], batch.y)
    tokens = (batch.y > 0).sum()
    return BatchOutput((losses * (batch.y > 0)).sum() / tokens, weight=tokens)


def test_clients_of_a_functional_model_count_by_their_tokens():
    table = rng.normal(size=(9, 9)).astype("float32")
    model = hansa.learning.functional_model(
        {"table": table}, token_mean, sample_batch={"x": WORDS, "y": NEXT}, optimizer=optax.sgd(1.0)
    )
    process = build_federated_averaging_process(model, client_weighting="sample_weight")
    clients = [{"x": WORDS[:2], "y": NEXT[:2] * (np.arange(TOKENS) < 1)}, {"x": WORDS[2:9], "y": NEXT[2:9]}]
    clients[0]["y"][0, 0] = 3
    state, _ = process.next(process.initialize(), [[client] for client in clients])

    # One step each, with means by tokens: the average by tokens is the step on the tokens of both together.
    x, y = (np.concatenate([client[name] for client in clients]) for name in ("x", "y"))
    gradient = np.zeros_like(table)
    for word, label in zip(x[y > 0], y[y > 0], strict=True):
        chances = np.exp(table[word]) / np.exp(table[word]).sum()
        gradient[word] += chances - np.eye(9)[label]
    expected = table - gradient / (y > 0).sum()
    np.testing.assert_allclose(state.model.trainable["table"], expected, rtol=1e-5, atol=1e-6)


def refused(arguments, message, error=ValueError, arrays=None, build=classifier, **compile_arguments):
    given = {"x": FEATURES, "y": LABELS} if arrays is None else arrays
    model = build()
    model.compile("sgd", **({"loss": SPARSE} | compile_arguments))
    with pytest.raises(error, match=message):
        build_federated_averaging_process(
            from_compiled_keras_model(model, given, **arguments.pop("model", {})), **arguments
        )


def test_what_cannot_be_is_refused():
    weighted = {"x": FEATURES, "y": LABELS, "sample_weight": WEIGHTS}
    refused({"client_weighting": "sample_weight"}, "have no sample_weight: add the field")
    refused(
        {"model": {"class_weight": {0: 2.0}}}, "have a sample_weight, and class_weight makes another", arrays=weighted
    )
    refused({"model": {"class_weight": {"a": 2.0}}}, "integers; found 'a'", TypeError)
    refused(
        {"model": {"class_weight": {1: -2.0}}}, r"class_weight\[1\] must be a finite number of at least 0; found -2"
    )
    refused({"model": {"class_weight": [1.0, 2.0]}}, "mapping from class indices to weights", TypeError)
    both = {"x": FEATURES, "y": {"class": LABELS, "value": NUMBERS}}
    refused({"model": {"class_weight": {0: 2.0}}}, "one output", arrays=both, build=two_headed, loss=TWO["loss"])
    refused({}, "the third of a triple", TypeError, arrays={"x": FEATURES, "z": LABELS})
    with pytest.raises(ValueError, match="'num_examples', 'sample_weight', 'uniform'"):
        build_federated_averaging_process(lambda: 1 / 0, client_weighting="tokens")


@pytest.mark.slow
def test_weighted_metrics_of_a_model_that_is_compiled_here():
    keras.utils.set_random_seed(1)
    triple = (FEATURES[:8], LABELS[:8], WEIGHTS[:8])
    model = from_keras_model(classifier(), triple, SPARSE, optimizer="sgd", weighted_metrics=["accuracy"])
    evaluated = hansa.learning.build_federated_evaluation(model)(model.initial_weights, [[triple]])
    _, kernel = model.initial_weights.trainable
    right = (FEATURES[:8] @ kernel).argmax(1) == LABELS[:8, 0]
    np.testing.assert_allclose(evaluated.accuracy, np.average(right, weights=WEIGHTS[:8]), rtol=1e-6)
