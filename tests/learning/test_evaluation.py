"""Evaluation of a model on clients, together and each by itself, against Keras and NumPy."""

import os
import subprocess
import sys
from pathlib import Path

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
    ModelWeights,
    build_federated_averaging_process,
    build_federated_evaluation,
    build_per_client_evaluation,
    from_compiled_keras_model,
    functional_model,
)
from tests.models.functional import STATISTICS as INITIAL_STATISTICS
from tests.models.functional import cross_entropy, make_client, mlp, normalised, true_batches, weights

layers = keras.layers
SIZES = (7, 20, 0, 13, 1)


def keras_client(size, seed=0):
    rng = np.random.default_rng(100 * seed + size)
    x = rng.normal(size=(size, 5)).astype("float32")
    return {"x": x, "y": rng.integers(0, 2, (size, 1)).astype("float32")}


def regularised(metrics=("accuracy", "AUC")):
    """A model that computes other things in training than in inference."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "relu", kernel_regularizer="l2", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Dense(1, "sigmoid", name="out"),
        ]
    )
    moving = model.layers[1]
    moving.moving_mean.assign(np.linspace(-1, 1, 8))
    moving.moving_variance.assign(np.linspace(0.5, 2, 8))
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=list(metrics))
    return model


def together(clients):
    return {key: np.concatenate([client[key] for client in clients]) for key in "xy"}


def by_keras(model, data):
    return model.evaluate(data["x"], data["y"], batch_size=64, verbose=0, return_dict=True)


@pytest.fixture(scope="module")
def keras_model():
    return regularised()


@pytest.fixture(scope="module")
def model(keras_model):
    return from_compiled_keras_model(keras_model, keras_client(2))


@pytest.fixture(scope="module")
def evaluate(model):
    return build_federated_evaluation(model)


@pytest.mark.parametrize("sizes", [(7,), SIZES])
def test_all_clients_together_are_as_keras_evaluates_their_examples(keras_model, model, evaluate, sizes):
    clients = [keras_client(size) for size in sizes]
    found = evaluate(model.initial_weights, [hansa.Batches(client, batch_size=4) for client in clients])
    for name, value in by_keras(keras_model, together(clients)).items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-5)
    assert found.num_empty_clients == sizes.count(0)
    assert found.num_non_finite_clients == 0
    assert "num_non_finite_clients" not in str(found)
    assert "model_unchanged" not in found._fields


def test_each_client_is_as_keras_evaluates_it(keras_model, model):
    clients = [keras_client(size) for size in SIZES]
    each = build_per_client_evaluation(model)
    results = each(model.initial_weights, [hansa.Batches(client, batch_size=4) for client in clients])
    assert [int(result.num_examples) for result in results] == list(SIZES)
    assert [int(result.client_id) for result in results] == [0, 1, 2, 3, 4]
    for result, client in zip(results, clients, strict=True):
        if len(client["y"]):
            for name, value in by_keras(keras_model, client).items():
                assert result.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_the_type_is_of_weights_at_the_server_and_data_at_the_clients(model, evaluate):
    state = build_federated_averaging_process(model).initialize()
    kind = hansa.infer_type(state.model)
    assert evaluate.type_signature.parameter.compact() == (
        f"<weights={kind}@SERVER,data={{<x=float32[?,5],y=float32[?,1]>*}}@CLIENTS>"
    )
    assert isinstance(state.model, ModelWeights)
    assert len(hansa.explain(evaluate).stages) == 3
    assert "client_evaluation" in str(hansa.explain(evaluate))


def test_what_was_trained_is_evaluated(model, keras_model, evaluate):
    process = build_federated_averaging_process(model)
    clients = [keras_client(size) for size in (9, 14)]
    data = [hansa.Batches(client, batch_size=4) for client in clients]
    state, _ = process.next(process.initialize(), data)
    other = regularised()
    state.model.assign_weights_to(other)
    expected = by_keras(other, together(clients))
    found = evaluate(state.model, data)
    assert found.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert pytest.approx(expected["AUC"], rel=1e-5) == found.AUC


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_client_that_is_not_finite_is_left_out_and_counted(model, evaluate, poison):
    good, bad = [true_batches(keras_client(size), 4) for size in (7, 12)], true_batches(keras_client(9), 4)
    bad[1]["x"][1, 2] = poison
    found = evaluate(model.initial_weights, [good[0], bad, good[1]])
    clean = evaluate(model.initial_weights, good)
    assert found.num_non_finite_clients == 1
    for name in ("loss", "accuracy", "AUC"):
        assert found[name] == pytest.approx(clean[name], rel=1e-6)
    each = build_per_client_evaluation(model)(model.initial_weights, [good[0], bad])
    assert np.isnan(each[1].metrics.loss) or np.isinf(each[1].metrics.loss)
    assert np.isfinite(each[0].metrics.loss)


def test_without_clients_that_count_nothing_is_counted(model, evaluate):
    nothing = evaluate(model.initial_weights, [])
    broken = model.initial_weights._replace(
        trainable=model.initial_weights.trainable._replace(**{"hidden/bias": np.full(8, np.nan, "float32")})
    )
    found = evaluate(broken, [true_batches(keras_client(9), 4)] * 2)
    assert found.num_non_finite_clients == 2
    assert found.loss == nothing.loss == 0


@pytest.mark.slow
def test_a_saved_evaluation_gives_the_same(model, evaluate, tmp_path):
    data = [hansa.Batches(keras_client(size), batch_size=4) for size in SIZES]
    for number, computation in enumerate((evaluate, build_per_client_evaluation(model))):
        hansa.save(computation, tmp_path / f"{number}.hansa")
        loaded = hansa.load(tmp_path / f"{number}.hansa")
        assert loaded.type_signature == computation.type_signature
        assert str(loaded(model.initial_weights, data)) == str(computation(model.initial_weights, data))
        assert type(loaded(model.initial_weights, data)) is type(computation(model.initial_weights, data))


def probabilities(client, w):
    hidden = np.tanh(client["x"].astype("float64") @ w["hidden"]["kernel"] + w["hidden"]["bias"])
    scores = np.exp(hidden @ w["out"]["kernel"])
    return scores / scores.sum(1, keepdims=True)


def numpy_metrics(client, w):
    p, y = probabilities(client, w), client["y"]
    own = p[np.arange(len(y)), y]
    return {
        "loss": -np.log(own).mean(),
        "accuracy": (p.argmax(1) == y).mean(),
        "rmse": np.sqrt(((1 - own) ** 2).mean()),
        "least": own.min(),
        "most": own.max(),
        "squares": (own**2).sum(),
        "num_examples": len(y),
    }


def own_probability(y, logits):
    return jnp.take_along_axis(jnp.exp(logits) / jnp.exp(logits).sum(1, keepdims=True), y[:, None], 1)[:, 0]


@hansa.federated_computation
def squares(value):
    def accumulate(state, x):
        return state + x.astype(jnp.float32)

    add = hansa.jax_computation(accumulate)
    return hansa.federated_aggregate(value, 0.0, add, add, hansa.jax_computation(lambda state: state * 1.0))


METRICS = {
    "accuracy": lambda y, logits, w: logits.argmax(1) == y,
    "rmse": Metric(lambda y, logits, w: (1 - own_probability(y, logits)) ** 2, finalize=jnp.sqrt),
    "least": Metric(lambda y, logits, w: own_probability(y, logits), "min"),
    "most": Metric(lambda y, logits, w: own_probability(y, logits), "max"),
    "squares": Metric(lambda y, logits, w: own_probability(y, logits) ** 2, squares),
}


def test_all_aggregations_of_a_jax_model_are_as_in_numpy():
    model = mlp(metrics=METRICS)
    clients = [make_client(size) for size in SIZES]
    data = [true_batches(client, 6) for client in clients]
    found = build_federated_evaluation(model)(model.initial_weights, data)
    for name, value in numpy_metrics(together(clients), weights()).items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    for result, client in zip(build_per_client_evaluation(model)(model.initial_weights, data), clients, strict=True):
        if len(client["y"]):
            for name, value in numpy_metrics(client, weights()).items():
                assert result.metrics[name] == pytest.approx(value, rel=1e-5), name


def test_metric_sums_with_an_aggregation_of_reports():
    @hansa.federated_computation
    def of_reports(reports):
        weighted = hansa.federated_mean(reports.mean, reports.num_examples)
        at_server = hansa.federated_zip({"mean": weighted, "most": hansa.federated_max(reports.num_examples)})
        return hansa.federated_map(
            hansa.jax_computation(lambda both: {"mean": both.mean, "most": both.most}), at_server
        )

    metrics = MetricSums(
        lambda batch, output: {"x": batch.x.sum(), "num_examples": batch.x.shape[0]},
        local_outputs=lambda sums: {"mean": sums.x / sums.num_examples, "num_examples": sums.num_examples},
        aggregation=of_reports,
    )
    model = mlp(metrics=metrics)
    clients = [make_client(size) for size in (4, 9)]
    data = [true_batches(client, 6) for client in clients]
    found = build_federated_evaluation(model)(model.initial_weights, data)
    sums = [client["x"].astype("float64").sum() for client in clients]
    assert found.mean == pytest.approx(sum(sums) / 13, rel=1e-5)
    assert found.most == 9
    each = build_per_client_evaluation(model)(model.initial_weights, data)
    assert [float(one.metrics.mean) for one in each] == pytest.approx([sums[0] / 4, sums[1] / 9], rel=1e-5)
    assert [int(one.metrics.most) for one in each] == [4, 9]


def test_statistics_are_used_and_not_changed():
    model = functional_model(
        weights(), normalised, input_spec="<x=float32[?,5],y=int32[?]>", non_trainable=INITIAL_STATISTICS
    )
    client = make_client(11)
    found = build_federated_evaluation(model)(model.initial_weights, [true_batches(client, 4)])
    x = client["x"] @ weights()["hidden"]["kernel"]
    hidden = np.maximum(x / np.sqrt(1 + 1e-3) + weights()["hidden"]["bias"], 0)
    assert found.loss == pytest.approx(float(cross_entropy(hidden @ weights()["out"]["kernel"], client["y"])), rel=1e-5)


def test_a_model_with_tensorflow_variables():
    tf = pytest.importorskip("tensorflow")

    class Scaled(hansa.learning.Model):
        def __init__(self):
            self.scale = tf.Variable(2.0, name="scale")
            self.total = tf.Variable(0.0, name="total", trainable=False)
            self.seen = tf.Variable(0.0, name="seen", trainable=False)

        trainable_variables = property(lambda self: [self.scale])
        non_trainable_variables = property(lambda self: [])
        local_variables = property(lambda self: [self.total, self.seen])
        input_spec = property(lambda self: {"x": tf.TensorSpec([None], tf.float32), "y": tf.TensorSpec([None])})

        def forward_pass(self, batch, training=True):
            error = (batch["x"] * self.scale - batch["y"]) * (10.0 if training else 1.0)
            self.total.assign_add(tf.reduce_sum(error**2))
            self.seen.assign_add(tf.cast(tf.size(error), tf.float32))
            return BatchOutput(tf.reduce_mean(error**2), batch["x"] * self.scale)

        def report_local_outputs(self):
            return {"error": self.total / self.seen, "weight": self.seen}

        @property
        def federated_output_computation(self):
            return hansa.federated_computation(
                lambda outputs: {"error": hansa.federated_mean(outputs.error, outputs.weight)}
            )

    rng = np.random.default_rng(0)
    clients = [{"x": rng.normal(size=n).astype("float32"), "y": rng.normal(size=n).astype("float32")} for n in (5, 8)]
    data = [hansa.Batches(client, batch_size=3) for client in clients]
    errors = [(2 * client["x"] - client["y"]) ** 2 for client in clients]
    evaluate = build_federated_evaluation(Scaled)
    initial = build_federated_averaging_process(Scaled, client_optimizer=optax.sgd(0.1)).initialize().model
    assert evaluate(initial, data).error == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)
    each = build_per_client_evaluation(Scaled)(initial, data)
    assert [one.metrics.error for one in each] == pytest.approx([error.mean() for error in errors], rel=1e-5)
    assert [one.num_examples for one in each] == [5, 8]


def test_a_thousand_clients_by_their_ids():
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 9, 1000)
    offsets = np.concatenate([[0], sizes.cumsum()])
    x, y = rng.normal(size=(offsets[-1], 5)).astype("float32"), rng.integers(0, 3, offsets[-1]).astype("int32")
    population = hansa.ClientBatches({"x": x, "y": y}, offsets, batch_size=4)
    model = mlp(metrics={"accuracy": METRICS["accuracy"]})
    cohort = rng.permutation(1000)
    results = build_per_client_evaluation(model)(model.initial_weights, population.select(cohort))
    assert [int(result.client_id) for result in results] == cohort.tolist()
    p = probabilities({"x": x}, weights())
    correct = p.argmax(1) == y
    for position, result in zip(cohort, results, strict=True):
        own = correct[offsets[position] : offsets[position + 1]]
        assert result.num_examples == len(own)
        if len(own):
            assert result.metrics.accuracy == pytest.approx(own.mean(), rel=1e-6)


def test_random_draws_in_inference_are_a_clients_own():
    def forward(w, batch, training, rng):
        return BatchOutput(jax.random.uniform(rng) * w["w"])

    model = functional_model({"w": np.float32(1)}, forward, input_spec="float32[?]")
    data = [[np.zeros(2, "float32")], [np.zeros(2, "float32")]]
    first, second = build_per_client_evaluation(model)(model.initial_weights, data)
    assert first.metrics.loss != second.metrics.loss
    again = build_per_client_evaluation(model)(model.initial_weights, data)
    assert (again[0].metrics.loss, again[1].metrics.loss) == (first.metrics.loss, second.metrics.loss)
    other = build_per_client_evaluation(model, seed=1)(model.initial_weights, data)
    assert other[0].metrics.loss != first.metrics.loss


def test_errors_name_what_is_wrong(model, evaluate):
    other = mlp().initial_weights
    with pytest.raises(
        TypeError, match=r"'evaluate'\.weights\.trainable: expected the fields .* 'norm/beta' is missing"
    ):
        evaluate(other, [])
    state = build_federated_averaging_process(model).initialize()
    with pytest.raises(TypeError, match=r"its part \.model is one: pass that"):
        evaluate(state, [])
    wrong = {"x": np.zeros((2, 5)), "y": np.zeros((2, 1), "float32")}
    with pytest.raises(TypeError, match=r"data\[0\]\[0\]\.x: expected float32\[\?,5\], found float64\[2,5\]"):
        evaluate(model.initial_weights, [[wrong]])
    with pytest.raises(TypeError, match=r"model_fn is the Keras model"):
        build_federated_evaluation(regularised())


def test_a_metric_that_one_client_alone_does_not_have_is_refused():
    @hansa.federated_computation
    def listed(value):
        smoothed = hansa.jax_computation(lambda state, x: 0.5 * state + x.astype(jnp.float32))
        reduce = hansa.federated_computation(lambda values: hansa.sequence_reduce(values, 0.0, smoothed))
        return hansa.federated_map(reduce, hansa.federated_collect(value))

    model = mlp(metrics={"order": Metric(lambda y, logits, w: logits.argmax(1) == y, listed)})
    build_federated_evaluation(model)
    with pytest.raises(TypeError, match=r"each client by itself.*federated_collect \(at .*; aggregate with"):
        build_per_client_evaluation(model)


def test_a_name_of_a_counter_is_refused():
    model = mlp(metrics={"num_empty_clients": METRICS["accuracy"]})
    with pytest.raises(ValueError, match="'num_empty_clients' has the name of a counter"):
        build_federated_evaluation(model)


_ON_TENSORFLOW = """
import hansa, keras, numpy as np
from hansa.learning import (
    build_federated_evaluation, build_per_client_evaluation, build_prediction, from_compiled_keras_model,
)

assert keras.backend.backend() == "tensorflow"
layers, rng = keras.layers, np.random.default_rng(0)
clients = [
    {"x": rng.normal(size=(n, 5)).astype("float32"), "y": rng.integers(0, 2, (n, 1)).astype("float32")}
    for n in (7, 20, 0)
]
keras_model = keras.Sequential([
    keras.Input((5,)), layers.Dense(8, "relu", kernel_regularizer="l2"), layers.BatchNormalization(),
    layers.Dropout(0.5), layers.Dense(1, "sigmoid"),
])
keras_model.layers[1].moving_mean.assign(np.linspace(-1, 1, 8))
keras_model.compile("sgd", "binary_crossentropy", metrics=["accuracy", "AUC"])
model = from_compiled_keras_model(keras_model, clients[0])
data = [hansa.Batches(client, batch_size=4) for client in clients]


def check(found, client):
    expected = keras_model.evaluate(client["x"], client["y"], batch_size=64, verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)


weights = model.initial_weights
check(
    build_federated_evaluation(model)(weights, data), {k: np.concatenate([c[k] for c in clients]) for k in ("x", "y")}
)
for result, client in zip(build_per_client_evaluation(model)(weights, data)[:2], clients):
    check(result.metrics, client)
x = clients[1]["x"]
np.testing.assert_allclose(
    build_prediction(model, weights)(x), keras_model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
)
print("checked")
"""


@pytest.mark.whole
def test_keras_models_on_tensorflow_are_evaluated_as_keras_does():
    pytest.importorskip("tensorflow")
    environment = {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(Path(hansa.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", _ON_TENSORFLOW],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "checked\n", done.stderr
