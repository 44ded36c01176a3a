"""A metric that is not finite at a client is left out by itself: the client's update and its other metrics count."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import (
    BatchOutput,
    Metric,
    MetricSums,
    build_federated_averaging_process,
    build_federated_evaluation,
    build_per_client_evaluation,
    functional_model,
)

FEATURES = 3
BAD = 7.0  # the label for which metrics are NaN


def make_client(size, bad=False):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(size, FEATURES)).astype("float32")
    y = rng.integers(0, 2, (size, 1)).astype("float32")
    y[-1] = BAD if bad else y[-1]
    return {"x": x, "y": y}


def batches(clients):
    return [hansa.Batches(client, 4) for client in clients]


GOOD, LAST = [make_client(size) for size in (5, 9)], make_client(6, bad=True)
EVERYONE = [GOOD[0], LAST, GOOD[1]]


def spoiled(value, labels):
    return jnp.where((labels == BAD).any(), jnp.nan, value)


def error(labels, predictions, weight=None):
    return jnp.abs(predictions - labels)


def spoiled_error(labels, predictions, weight=None):
    return spoiled(jnp.abs(predictions - labels), labels)


def keras_error(labels, predictions):
    return keras.ops.where(keras.ops.any(labels == BAD), float("nan"), keras.ops.mean(keras.ops.abs(predictions), -1))


@hansa.federated_computation
def most(sums):
    return hansa.federated_max(sums)


METRICS = {
    "mean": Metric(spoiled_error),
    "sum": Metric(spoiled_error, "sum"),
    "least": Metric(spoiled_error, "min"),
    "most": Metric(spoiled_error, "max"),
    "own": Metric(spoiled_error, most),
    "finalised": Metric(spoiled_error, finalize=jnp.sqrt),
    "keras": Metric(keras.metrics.MeanMetricWrapper(keras_error, "keras")),
    "mean_of_clients": Metric(keras.metrics.MeanMetricWrapper(keras_error, "of_clients"), "mean"),
    "good": Metric(error),
}
SPOILED = [name for name in METRICS if name != "good"]


def start():
    return np.full((FEATURES, 1), 0.25, "float32")


def jax_model(metrics=METRICS):
    def forward(w, batch, training, rng):
        predictions = batch.x @ w["kernel"]
        return BatchOutput(((predictions - batch.y) ** 2).mean(), predictions)

    return functional_model({"kernel": start()}, forward, sample_batch=LAST, metrics=metrics, optimizer=optax.sgd(0.1))


def keras_model():
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1, use_bias=False, name="d")])
    model.set_weights([start()])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=[keras_error, "mae", keras.metrics.RootMeanSquaredError()])
    own = [Metric(metric.function, metric.aggregation, metric.finalize, name) for name, metric in METRICS.items()]
    return hansa.learning.from_compiled_keras_model(model, LAST, metrics=own)


@pytest.fixture(scope="module", params=[jax_model, keras_model])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def process(model):
    return build_federated_averaging_process(model)


def spoiled_of(model):
    return [*SPOILED, *(["keras_error"] if "keras_error" in names(model) else [])]


def names(model):
    return model.metrics.type_signature.result.member.names


def examples(clients):
    return {name: np.concatenate([client[name] for client in clients]) for name in ("x", "y")}


def test_the_update_stays_and_each_metric_is_of_those_for_whom_it_is_finite(model, process):
    state, found = process.next(process.initialize(), batches(EVERYONE))
    _, others = process.next(process.initialize(), batches(GOOD))
    for name in spoiled_of(model):
        assert found[name] == others[name], name
    assert found.num_non_finite_metrics == len(spoiled_of(model))
    assert found.num_non_finite_clients == 0
    assert others.num_non_finite_metrics == 0
    assert f"num_non_finite_metrics={len(spoiled_of(model))}" in str(found)
    assert "num_non_finite_metrics" not in str(others)

    kernels, weights = [], []
    for client in EVERYONE:
        kernel = start().astype("float64")
        for i in range(0, len(client["y"]), 4):
            x, y = client["x"][i : i + 4], client["y"][i : i + 4]
            kernel -= 0.1 * 2 * x.T @ (x @ kernel - y) / len(y)
        kernels.append(kernel)
        weights.append(len(client["y"]))
    trained = next(iter(state.model.trainable))
    np.testing.assert_allclose(trained, np.average(kernels, axis=0, weights=weights), rtol=1e-5)


def test_an_evaluation_leaves_out_the_metric_alone():
    model = keras_model()
    everyone, weights = examples(EVERYONE), model.initial_weights
    found = build_federated_evaluation(model)(weights, batches(EVERYONE))
    others = build_federated_evaluation(model)(weights, batches(GOOD))
    for name in spoiled_of(model):
        assert found[name] == others[name], name
    errors = everyone["x"] @ start() - everyone["y"]
    assert found.good == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert found.loss == pytest.approx((errors**2).mean(), rel=1e-5)
    assert (found.num_non_finite_metrics, found.num_non_finite_clients) == (len(spoiled_of(model)), 0)

    each = build_per_client_evaluation(model)(weights, batches(EVERYONE))
    for name in names(model):
        assert np.isfinite(each[0].metrics[name])
        assert np.isnan(each[1].metrics[name]) == (name in spoiled_of(model)), name


def test_a_metric_that_nobody_has_is_nan_and_clients_without_a_part_do_not_make_it_so(model, process):
    _, found = process.next(process.initialize(), batches([LAST]))
    for name in spoiled_of(model):
        assert np.isnan(found[name]), name
    assert np.isfinite(found.good)
    broken = make_client(4)
    broken["x"][0] = np.nan
    _, nobody = process.next(process.initialize(), batches([broken]))
    assert nobody.num_non_finite_clients == 1
    assert nobody.num_non_finite_metrics == 0
    assert nobody["mean"] == nobody.loss == 0


def test_a_loss_is_a_metric_too_where_the_update_is_finite():
    def forward(w, batch, training, rng):
        loss = (w["kernel"].sum() * batch.x).mean()
        return BatchOutput(jnp.where((batch.y == BAD).any(), jax.lax.stop_gradient(loss * jnp.inf), loss), None)

    model = functional_model({"kernel": start()}, forward, sample_batch=LAST, optimizer=optax.sgd(0.1))
    process = build_federated_averaging_process(model)
    state, found = process.next(process.initialize(), batches(EVERYONE))
    _, others = process.next(process.initialize(), batches(GOOD))
    assert (found.loss, found.num_examples) == (others.loss, 20)
    assert (found.num_non_finite_metrics, found.num_non_finite_clients) == (1, 0)
    assert np.isfinite(state.model.trainable.kernel).all()


def test_of_sums_that_share_a_count_only_what_is_made_of_a_bad_one_is_left_out():
    def sums(batch, output):
        errors = jnp.abs(output.predictions - batch.y)
        return {"good": errors.sum(), "bad": spoiled(errors.sum(), batch.y), "count": batch.y.shape[0]}

    def finalize(total):
        count = jnp.maximum(total.count, 1)
        return {"good": total.good / count, "bad": total.bad / count, "count": total.count}

    @hansa.federated_computation
    def aggregate(reports):
        return {
            "good": hansa.federated_mean(reports.good, reports.count),
            "bad": hansa.federated_mean(reports.bad, reports.count),
            "count": hansa.federated_sum(reports.count),
        }

    for given in (MetricSums(sums, finalize), MetricSums(sums, aggregation=aggregate)):
        process = build_federated_averaging_process(jax_model(given))
        _, found = process.next(process.initialize(), batches(EVERYONE))
        _, others = process.next(process.initialize(), batches(GOOD))
        assert found.bad == others.bad
        assert found["count"] == 20
        assert found.good != others.good
        assert np.isfinite(found.good)
        assert found.num_non_finite_metrics == 1


@pytest.mark.slow
def test_what_is_left_out_is_the_same_in_chunks_and_as_a_reference(process):
    results = []
    for runtime in (hansa.InProcessRuntime(clients_per_chunk=2), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            results.append(process.next(process.initialize(), batches(EVERYONE)).metrics)
    for name in results[0]._fields:
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-5), name
