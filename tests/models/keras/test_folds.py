"""Keras metrics, its own and the user's, against `evaluate`; and those that cannot be put together of batches."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import hansa
from hansa.learning import Metric, build_federated_evaluation, from_compiled_keras_model
from tests.models.metric_models import jax_model

CLASSES, BATCH = 3, 4


class Own(keras.metrics.Metric):
    """A metric that keeps one number by a rule."""

    def __init__(self, name=None, shape=()):
        super().__init__(name=name or type(self).__name__.lower())
        self.kept = self.add_variable(shape, "zeros", name="kept")

    def update_state(self, y_true, y_pred, sample_weight=None):
        errors = ops.abs(ops.cast(y_true, "float32") - y_pred)
        self.kept.assign(self.rule(ops.convert_to_tensor(self.kept), errors))

    def result(self):
        return ops.convert_to_tensor(self.kept)


class Greatest(Own):
    def rule(self, kept, errors):
        return ops.maximum(kept, ops.max(errors))


class Least(Own):  # of differences that are not positive
    def rule(self, kept, errors):
        return ops.minimum(kept, ops.min(-errors))


class Total(Own):
    def rule(self, kept, errors):
        return kept + ops.sum(errors)


class OfEachClass(Own):
    def __init__(self, name=None):
        super().__init__(name, (CLASSES,))

    def rule(self, kept, errors):
        return kept + ops.sum(errors, axis=0)


class Several(Own):
    """A sum, a count and a greatest value in one."""

    def __init__(self):
        super().__init__()
        self.count = self.add_variable((), "zeros", dtype="int32", name="count")
        self.inner = keras.metrics.Mean(name="inner")

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)
        self.count.assign(self.count + ops.shape(y_pred)[0])
        self.inner.update_state(y_pred)

    def rule(self, kept, errors):
        return ops.maximum(kept, ops.max(errors))

    def result(self):
        return self.kept + ops.cast(self.count, "float32") + self.inner.result()


class Last(Own):
    def rule(self, kept, errors):
        return ops.mean(errors)


class First(Own):
    def rule(self, kept, errors):
        return ops.where(kept == 0, ops.mean(errors), kept)


class MovingAverage(Own):
    def rule(self, kept, errors):
        return 0.9 * kept + 0.1 * ops.mean(errors)


class FromInfinity(Own):
    def reset_state(self):
        self.kept.assign(np.float32(np.inf))

    def rule(self, kept, errors):
        return ops.minimum(kept, ops.min(errors))


class Product(Own):
    def rule(self, kept, errors):
        return (1 + kept) * (1 + ops.mean(errors)) - 1


class AfterSome(Own):
    """It leaves out the first batches."""

    def __init__(self):
        super().__init__()
        self.batches = self.add_variable((), "zeros", name="batches")

    def rule(self, kept, errors):
        self.batches.assign(self.batches + 1)
        return kept + ops.where(ops.convert_to_tensor(self.batches) > 5, ops.mean(errors), 0.0)


class GreatestAndLast(Greatest):
    def __init__(self):
        super().__init__()
        self.last = self.add_variable((2,), "zeros", name="last")

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)
        self.last.assign(ops.stack([ops.max(y_pred), ops.min(y_pred)]))


GOOD = [Greatest, Least, Total, OfEachClass, Several]
BAD = [Last, First, MovingAverage, FromInfinity, Product, AfterSome, GreatestAndLast]


def keras_model(outputs, metrics, loss="mse", activation="sigmoid"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(outputs, activation=activation)])
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics)
    return model


def clients_of(labels, sizes=(4, 8, 12)):
    """Clients of whole batches, so that Keras sees the same ones."""
    rng = np.random.default_rng(3)
    return [{"x": rng.normal(size=(size, 5)).astype("float32"), "y": labels(rng, size)} for size in sizes]


def binary(rng, size):
    return rng.integers(0, 2, (size, 1)).astype("float32")


def one_hot(rng, size):
    return np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, size)]


def number(rng, size):
    return rng.integers(0, CLASSES, (size, 1)).astype("int32")


def assert_as_evaluated(model, clients):
    expected = model.evaluate(
        *(np.concatenate([client[name] for client in clients]) for name in "xy"),
        batch_size=BATCH,
        verbose=0,
        return_dict=True,
    )
    wrapped = from_compiled_keras_model(model, clients[0])
    found = build_federated_evaluation(wrapped)(
        wrapped.initial_weights, [hansa.Batches(client, BATCH) for client in clients]
    )
    assert len(expected) > 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


ARGUMENTS = {
    "MeanIoU": {"num_classes": CLASSES, "sparse_y_true": False, "sparse_y_pred": False},
    "IoU": {"num_classes": CLASSES, "target_class_ids": [0, 2], "sparse_y_true": False, "sparse_y_pred": False},
    "OneHotIoU": {"num_classes": CLASSES, "target_class_ids": [1]},
    "OneHotMeanIoU": {"num_classes": CLASSES},
    "BinaryIoU": {"target_class_ids": [0, 1]},
    "SensitivityAtSpecificity": {"specificity": 0.4},
    "SpecificityAtSensitivity": {"sensitivity": 0.4},
    "PrecisionAtRecall": {"recall": 0.4},
    "RecallAtPrecision": {"precision": 0.4},
    "TopKCategoricalAccuracy": {"k": 2},
    "SparseTopKCategoricalAccuracy": {"k": 2},
    "F1Score": {"average": "weighted"},
    "FBetaScore": {"average": "micro"},
}
NO_LABELS = ("Mean", "Sum", "Metric", "MeanMetricWrapper", "ConcordanceCorrelation", "PearsonCorrelation")
SPARSE = ("SparseCategoricalAccuracy", "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy")
BUILT_IN = {
    name: kind
    for name, kind in vars(keras.metrics).items()
    if inspect.isclass(kind) and issubclass(kind, keras.metrics.Metric) and name not in NO_LABELS
}
"""Keras's metrics of labels and predictions, without correlations, whose value depends on the batches."""


def built_in(names):
    return [BUILT_IN[name](**ARGUMENTS.get(name, {})) for name in names]


ALL = [name for name in BUILT_IN if name not in (*SPARSE, "BinaryIoU")]
SOME = ["AUC", "CategoricalAccuracy", "F1Score", "MeanIoU", "R2Score", "RootMeanSquaredError"]


@pytest.mark.parametrize("names", [SOME, pytest.param(ALL, marks=pytest.mark.whole)], ids=["some", "all"])
def test_keras_own_metrics_of_one_hot_labels_are_as_evaluated(names):
    assert len(ALL) > 30
    model = keras_model(CLASSES, built_in(names), "categorical_crossentropy", "softmax")
    assert_as_evaluated(model, clients_of(one_hot))


def test_keras_own_metrics_of_numbers_of_classes_are_as_evaluated():
    model = keras_model(CLASSES, built_in(SPARSE), "sparse_categorical_crossentropy", "softmax")
    assert_as_evaluated(model, clients_of(number))


def test_sums_and_extremes_of_ones_own_are_as_evaluated():
    model = keras_model(CLASSES, [kind() for kind in GOOD])
    assert_as_evaluated(model, clients_of(one_hot))


def test_a_metric_object_beside_a_model_is_put_together_in_the_same_way():
    model = keras_model(1, [Greatest(), Several()])
    clients = clients_of(binary)
    wrapped = from_compiled_keras_model(model, clients[0], metrics=[Greatest("again"), Metric(Several(), name="both")])
    found = build_federated_evaluation(wrapped)(
        wrapped.initial_weights, [hansa.Batches(client, BATCH) for client in clients]
    )
    assert (found.again, found.both) == (found.greatest, found.several)
    nobody = build_federated_evaluation(wrapped)(wrapped.initial_weights, [])
    assert nobody.again == nobody.greatest == 0


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_put_together_is_refused_with_what_to_write(kind):
    metric = kind()
    model = keras_model(1, ["mae", metric])
    asked = rf"{metric.name!r}, {kind.__name__}, .* Leave it out of compile.*hansa.learning.Metric\("
    with pytest.raises(ValueError, match=asked):
        from_compiled_keras_model(model, clients_of(binary)[0])


@pytest.mark.parametrize("kind", BAD[:3])
def test_a_metric_object_that_cannot_be_put_together_is_refused_too(kind):
    with pytest.raises(ValueError, match=rf"Metric\({kind.__name__}\(…\), 'max'\)"):
        jax_model([Metric(kind(), name="own")])


def test_what_the_refusal_advises_works():
    model = keras_model(1, ["mae"])
    clients = clients_of(binary)
    wrapped = from_compiled_keras_model(model, clients[0], metrics=[Metric(Last(), "max")])
    found = build_federated_evaluation(wrapped)(
        wrapped.initial_weights, [hansa.Batches(client, BATCH) for client in clients]
    )
    each = [np.abs(model.predict(c["x"][-BATCH:], verbose=0) - c["y"][-BATCH:]).mean() for c in clients]
    assert found.last == pytest.approx(max(each), rel=1e-5)


@pytest.mark.whole
def test_it_is_so_on_the_tensorflow_backend():
    pytest.importorskip("tensorflow")
    run = [sys.executable, "-m", "pytest", __file__, "-q", "-W", "ignore::DeprecationWarning"]
    run += ["-k", "are_as_evaluated or with_what_to_write"]
    done = subprocess.run(
        run, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, cwd=Path(__file__).parents[3], capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()


def test_a_metric_that_was_tried_is_as_it_was_before():
    metric = Total()
    model = keras_model(1, [metric])
    client = clients_of(binary)[0]
    model.evaluate(client["x"], client["y"], verbose=0)
    kept = float(metric.kept)
    assert kept > 0
    from_compiled_keras_model(model, client)
    assert float(metric.kept) == kept
