"""Metrics of one's own against NumPy, for functional and for Keras models, and how exactly their sums are kept."""

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, Metric, build_federated_averaging_process, functional_model
from hansa.models.model import FunctionalModel
from tests.models.metric_models import (
    CLIENTS,
    batches,
    compiled_keras_model,
    jax_model,
    keras_model,
    linear_model,
    make_client,
    predicted,
    run,
)

ALL = {"x": np.concatenate([c["x"] for c in CLIENTS]), "y": np.concatenate([c["y"] for c in CLIENTS])}
ERRORS = np.abs(predicted(ALL) - ALL["y"])[:, 0]


def absolute(y, p, weight):
    return jnp.abs(p - y)


def confusion(y, p, weight):
    return {"hits": (p > 0.5) & (y == 1), "misses": (p <= 0.5) & (y == 1)}


def recall(total):
    return total.hits / jnp.maximum(total.hits + total.misses, 1)


@hansa.federated_computation
def worst_client(total):
    return hansa.federated_max(total)


@hansa.federated_computation("{float32}@CLIENTS")
def sum_of_clients(total):
    return hansa.federated_sum(total)


POSITIVE = ALL["y"][:, 0] == 1
CASES = {
    "mean": (Metric(absolute), ERRORS.mean()),
    "mean of one number per batch": (Metric(lambda y, p, w: jnp.abs(p - y).mean()), ERRORS.mean()),
    "mean of bools": (Metric(lambda y, p, w: p > 0.5), (predicted(ALL) > 0.5).mean()),
    "mean of several numbers for each example": (
        Metric(lambda y, p, w: jnp.concatenate([p - y, y - p, 3 * jnp.abs(p - y)], axis=1)),
        ERRORS.mean(),
    ),
    "mean with weights": (Metric(lambda y, p, w: (jnp.abs(p - y), y)), ERRORS[POSITIVE].mean()),
    "mean, then finalised": (
        Metric(lambda y, p, w: (p - y) ** 2, finalize=jnp.sqrt),
        np.sqrt((ERRORS**2).mean()),
    ),
    "sum": (Metric(absolute, "sum"), ERRORS.sum()),
    "sum of bools": (Metric(lambda y, p, w: y == 1, "sum"), POSITIVE.sum()),
    "sums, then finalised": (
        Metric(confusion, "sum", finalize=recall),
        (POSITIVE & (predicted(ALL)[:, 0] > 0.5)).sum() / POSITIVE.sum(),
    ),
    "min": (Metric(absolute, "min"), ERRORS.min()),
    "max": (Metric(absolute, "max"), ERRORS.max()),
    "max, then finalised": (Metric(absolute, "max", finalize=lambda x: -x), -ERRORS.max()),
    "own computation": (
        Metric(absolute, worst_client),
        max(np.abs(predicted(client) - client["y"]).sum() for client in CLIENTS),
    ),
    "own computation with types": (Metric(absolute, sum_of_clients), ERRORS.sum()),
    "a Keras metric, added up": (Metric(keras.metrics.BinaryAccuracy()), ((predicted(ALL) > 0.5) == ALL["y"]).mean()),
    "a Keras metric, finalised": (
        Metric(keras.metrics.MeanAbsoluteError(), finalize=lambda x: 1 - x),
        1 - ERRORS.mean(),
    ),
    "a Keras metric, mean of clients": (Metric(keras.metrics.MeanAbsoluteError(), "mean"), ERRORS.mean()),
    "a Keras metric, max of clients": (
        Metric(keras.metrics.MeanAbsoluteError(), "max"),
        max(np.abs(predicted(client) - client["y"]).mean() for client in CLIENTS),
    ),
    "a Keras metric, min of clients": (
        Metric(keras.metrics.MeanAbsoluteError(), "min"),
        min(np.abs(predicted(client) - client["y"]).mean() for client in CLIENTS),
    ),
    "a Keras metric, sum of clients": (
        Metric(keras.metrics.MeanAbsoluteError(), "sum"),
        sum(np.abs(predicted(client) - client["y"]).mean() for client in CLIENTS),
    ),
    "a Keras metric, own computation": (
        Metric(keras.metrics.MeanAbsoluteError(), worst_client),
        max(np.abs(predicted(client) - client["y"]).mean() for client in CLIENTS),
    ),
}


def renamed(metric, name):
    return Metric(metric.function, metric.aggregation, metric.finalize, name)


@pytest.mark.parametrize("case", CASES)
def test_a_metric_is_that_of_all_examples(case):
    metric, expected = CASES[case]
    found = run(jax_model([renamed(metric, "own")]))
    assert found.own == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [keras_model, compiled_keras_model])
def test_metrics_of_a_keras_model_are_those_of_all_examples(make):
    found = run(make([renamed(metric, case) for case, (metric, _) in CASES.items()]))
    for case, (_, expected) in CASES.items():
        assert found[case] == pytest.approx(expected, rel=1e-5), case


@pytest.mark.parametrize("make", [jax_model, keras_model])
def test_clients_that_are_left_out_count_for_nothing(make):
    named = [renamed(metric, case) for case, (metric, _) in CASES.items()]
    process = build_federated_averaging_process(make(named))
    bad = make_client(12)
    bad["x"][5] = np.nan
    _, found = process.next(process.initialize(), [[], *map(batches, [*CLIENTS, bad])])
    assert (found.num_empty_clients, found.num_non_finite_clients) == (1, 1)
    for name, (_, expected) in CASES.items():
        assert found[name] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("make", [jax_model, keras_model])
def test_without_examples_means_and_sums_are_zero_and_extremes_those_of_their_dtype(make):
    metrics = [
        Metric(absolute, "mean", name="mean"),
        Metric(absolute, "sum", name="sum"),
        Metric(absolute, "min", name="min"),
        Metric(absolute, "max", name="max"),
        Metric(lambda y, p, w: y.astype(jnp.int32), "max", name="integer"),
        Metric(keras.metrics.MeanAbsoluteError(), "mean", name="keras_mean"),
        Metric(keras.metrics.MeanAbsoluteError(), "max", name="keras_max"),
        Metric(keras.metrics.MeanAbsoluteError(), name="keras"),
    ]
    process = build_federated_averaging_process(make(metrics))
    for clients in ([], [[]]):
        found = process.next(process.initialize(), clients).metrics
        assert [found[metric.name] for metric in metrics] == [0, 0, np.inf, -np.inf, -(2**31), 0, -np.inf, 0]
        assert found.loss == 0


def test_metrics_of_one_model_beside_keras_metrics_and_names():
    found = run(
        keras_model(["mae", Metric(absolute), keras.metrics.AUC(name="auc"), Metric(absolute, "max", name="most")])
    )
    assert found._fields[:5] == ("mae", "auc", "absolute", "most", "loss")
    assert found.mae == pytest.approx(ERRORS.mean(), rel=1e-5)
    assert found.absolute == pytest.approx(ERRORS.mean(), rel=1e-5)
    assert found.most == pytest.approx(ERRORS.max(), rel=1e-5)


def test_sample_weights_are_the_third_of_what_a_metric_gets():
    seen = []

    def weighted(y, p, weight):
        seen.append(weight is not None)
        return (jnp.abs(p - y), weight) if weight is not None else jnp.abs(p - y)

    def forward(w, batch, training, rng):
        return BatchOutput((batch[0] * w).mean(), batch[0])

    weights, x, y = np.array([1, 0, 3], "float32"), np.array([1, 7, 5], "float32"), np.zeros(3, "float32")
    found = []
    for sample in ({"x": x, "y": y, "sample_weight": weights}, (x, y, weights), (x, y)):
        metrics = {"own": weighted}
        model = functional_model(1.0, forward, sample_batch=sample, optimizer=optax.sgd(0.0), metrics=metrics)
        process = build_federated_averaging_process(model)
        found.append(float(process.next(process.initialize(), [[sample]]).metrics.own))
    np.testing.assert_allclose(found, [(1 + 15) / 4, (1 + 15) / 4, 13 / 3], rtol=1e-6)
    assert set(seen) == {True, False}


def test_a_keras_metric_is_weighted_as_keras_does():
    def forward(w, batch, training, rng):
        return BatchOutput((batch.x * w).mean(), batch.x)

    rng = np.random.default_rng(0)
    sample = {name: rng.random((6, 1)).astype("float32") for name in ("x", "y")} | {
        "sample_weight": rng.random(6).astype("float32")
    }
    model = functional_model(
        1.0, forward, sample_batch=sample, optimizer=optax.sgd(0.0),
        metrics={"own": Metric(keras.metrics.MeanAbsoluteError())},
    )  # fmt: skip
    process = build_federated_averaging_process(model)
    found = process.next(process.initialize(), [[sample]]).metrics.own
    direct = keras.metrics.MeanAbsoluteError()
    direct.update_state(sample["y"], sample["x"], sample_weight=sample["sample_weight"])
    assert found == pytest.approx(float(direct.result()), rel=1e-6)


class Largest(keras.metrics.Metric):
    """A Keras metric whose variable is no sum, and which makes it when it sees data."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.variables:
            self.largest = self.add_variable((), initializer="zeros", name="largest")
        self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(y_pred)))

    def result(self):
        return self.largest.value


@pytest.mark.parametrize("make", [jax_model, keras_model])
def test_a_keras_metric_that_is_no_sum_is_kept_by_each_client_as_keras_keeps_it(make):
    found = run(make([Metric(Largest(), "max", name="own")]))
    assert found.own == pytest.approx(predicted(ALL).max(), rel=1e-6)


# Keras's own ways to have metrics, against fit and evaluate.


class MeanOfErrors(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(keras.ops.abs(y_pred - y_true), sample_weight)


class WithMeans(keras.Model):
    """Updates plain `keras.metrics.Mean`s of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False)
        self.size = keras.metrics.Mean(name="size")

    def call(self, x):
        return self.dense(x)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.size.update_state(keras.ops.abs(y_pred))
        return super().compute_metrics(x, y, y_pred, sample_weight)


@pytest.mark.parametrize("build", [linear_model, WithMeans])
def test_means_of_keras_are_those_of_fit_and_evaluate(build):
    client = make_client(43)
    keras.utils.set_random_seed(1)
    model = build()
    model.compile(keras.optimizers.SGD(0.1), loss="mse", metrics=[MeanOfErrors(name="errors"), "mae"])
    wrapped = hansa.learning.from_compiled_keras_model(model, client)
    process = build_federated_averaging_process(wrapped)
    assert isinstance(wrapped, FunctionalModel)
    trained, found = process.next(process.initialize(), [batches(client)])
    history = model.fit(client["x"], client["y"], batch_size=8, shuffle=False, verbose=0).history
    for name, (value,) in history.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name

    still = build_federated_averaging_process(wrapped, client_optimizer=optax.sgd(0.0))
    found = still.next(trained, [batches(client)]).metrics
    evaluated = model.evaluate(client["x"], client["y"], batch_size=8, verbose=0, return_dict=True)
    for name, value in evaluated.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_a_plain_mean_in_compile_is_refused_by_keras_and_in_a_metric_with_a_hint():
    with pytest.raises(TypeError, match="multiple values for argument 'sample_weight'"):
        keras_model([keras.metrics.Mean()])
    with pytest.raises(TypeError, match="of a function that makes these values"):
        keras_model([Metric(keras.metrics.Mean())])


# Errors.


def no_labels():
    def forward(w, batch, training, rng):
        return BatchOutput((batch.image * w).mean(), batch.image)

    return functional_model(1.0, forward, input_spec="<image=float32[?]>", metrics={"own": Metric(absolute)})


def no_predictions(metric):
    def forward(w, batch, training, rng):
        return BatchOutput((batch.x * w).mean())

    return functional_model(1.0, forward, input_spec="<x=float32[?],y=float32[?]>", metrics={"own": metric})


REFUSED = {
    "an aggregation of another name": (lambda: Metric(absolute, "median"), "'min', 'max' or a federated"),
    "no function": (lambda: Metric(3), "takes \\(labels, predictions, sample_weight\\)"),
    "a class": (lambda: Metric(keras.metrics.AUC), "found <class"),
    "a finaliser of a computation": (lambda: Metric(absolute, worst_client, jnp.sqrt), "do it in the computation"),
    "a finaliser that is none": (lambda: Metric(absolute, finalize=3), "finalize of a Metric is a function"),
    "no name": (lambda: keras_model([Metric(lambda y, p, w: p)]), "name='…'"),
    "one name twice": (lambda: keras_model(["mae", Metric(absolute, name="mae")]), "two metrics have the name 'mae'"),
    "the name of the loss": (lambda: keras_model([Metric(absolute, name="loss")]), "two metrics have the name 'loss'"),
    "a name for a compiled model": (lambda: compiled_keras_model(["accuracy"]), "give names and functions to compile"),
    "a metric of one output": (lambda: keras_model({"a": [Metric(absolute)]}), "not for one output"),
    "a mean of a struct": (lambda: jax_model([Metric(confusion, name="own")]), "is of one array"),
    "a sum that is reduced nowhere": (lambda: no_predictions(Metric(lambda y, p, w: None, "sum")), "returned None"),
    "no labels": (no_labels, "there are none in the batches of the model: with the fields image"),
    "no predictions": (lambda: no_predictions(Metric(keras.metrics.MeanAbsoluteError())), "takes predictions"),
    "complex numbers": (lambda: jax_model([Metric(lambda y, p, w: 1j * p, name="own")]), "real numbers"),
    "an aggregation of another type": (
        lambda: jax_model([Metric(confusion, sum_of_clients, name="own")]),
        "the aggregation of the metric 'own'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_metric_is_refused_with_the_reason(case):
    build, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        build()
