"""Metrics made of sums, by a finaliser or a federated computation, against NumPy and the tutorial's figures."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, Metric, MetricSums, build_federated_averaging_process, functional_model
from tests.models.functional import assert_trees_close, make_client, mlp, one_round, true_batches, weights


def sums(batch, output):
    count = batch.y.shape[0]
    correct = (output.predictions.argmax(1) == batch.y).sum()
    return {"num_examples": count, "correct": correct, "loss": output.loss * count}


def expected_metrics(clients):
    """Of weights that are not trained."""
    x, y = (np.concatenate([client[field] for client in clients]) for field in ("x", "y"))
    w = weights()
    logits = np.tanh(x @ w["hidden"]["kernel"] + w["hidden"]["bias"]) @ w["out"]["kernel"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return (logits.argmax(1) == y).mean(), losses.mean(), len(y)


@hansa.federated_computation
def aggregate(outputs):
    return OrderedDict(
        accuracy=hansa.federated_average(outputs.accuracy, outputs.num_examples),
        loss=hansa.federated_average(outputs.loss, outputs.num_examples),
        num_examples=hansa.federated_sum(outputs.num_examples),
    )


@hansa.federated_computation("{<accuracy=float32,loss=float32,num_examples=float32>}@CLIENTS")
def aggregate_typed(outputs):
    return aggregate(outputs)


def means(sums):
    return {
        "num_examples": sums.num_examples.astype(jnp.float32),
        "loss": sums.loss / sums.num_examples,
        "accuracy": sums.correct / sums.num_examples,
    }


def finalize(sums):
    count = jnp.maximum(sums.num_examples, 1)
    return {"accuracy": sums.correct / count, "loss": sums.loss / count, "num_examples": sums.num_examples}


@pytest.mark.parametrize(
    "metrics",
    [
        MetricSums(sums, finalize),
        MetricSums(sums, local_outputs=means, aggregation=aggregate),
        MetricSums(sums, local_outputs=means, aggregation=aggregate_typed),
    ],
    ids=["finalizer", "federated computation", "typed federated computation"],
)
def test_metrics_of_sums(metrics):
    process = build_federated_averaging_process(mlp(metrics=metrics, optimizer=optax.sgd(0.0)))
    clients = [make_client(size) for size in (1, 33, 70, 5)]
    _, found = process.next(process.initialize(), [*map(true_batches, clients), []])
    accuracy, loss, count = expected_metrics(clients)
    assert found._fields[:3] == ("accuracy", "loss", "num_examples")
    assert found.accuracy == pytest.approx(accuracy, rel=1e-6)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.num_examples == count
    _, none = process.next(process.initialize(), [])
    assert (none.accuracy, none.loss, none.num_examples) == (0, 0, 0)


def test_sums_alone_are_the_metrics_and_keep_64_bits():
    _, found = one_round(mlp(metrics=MetricSums(sums)), [true_batches(make_client(70))])
    assert (found.num_examples, found.num_examples.dtype, found.loss.dtype) == (70, np.int64, np.float64)


def test_local_outputs_are_what_weighs_clients():
    model = mlp(metrics=MetricSums(sums, local_outputs=means, aggregation=aggregate))
    weighted, _ = one_round(
        model, [true_batches(make_client(size)) for size in (9, 40)], client_weighting=lambda o: o.num_examples
    )
    default, _ = one_round(model, [true_batches(make_client(size)) for size in (9, 40)])
    assert_trees_close(weighted.model.to_pytree(weights()), default.model.to_pytree(weights()), rtol=1e-6, atol=1e-6)


def without(name):
    return lambda sums: {key: value for key, value in means(sums).items() if key != name}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            lambda: MetricSums(sums, local_outputs=without("accuracy"), aggregation=aggregate_typed),
            "the aggregation of MetricSums takes .* with 'accuracy' missing; return it from the local_outputs",
        ),
        (lambda: MetricSums(sums, local_outputs=without("loss"), aggregation=aggregate), "no field 'loss'"),
        (lambda: MetricSums(sums, aggregation=aggregate), "no field 'accuracy'"),
        (lambda: MetricSums(sums, lambda sums: {"auc": sums.auc}), "no field 'auc'"),
        (lambda: MetricSums(lambda b, o: o.loss), "sums of MetricSums must return a dict or struct"),
        (lambda: MetricSums(lambda b, o: {"y": b.y}), "of a size that differs from batch to batch"),
        (lambda: MetricSums(sums, local_outputs=means), "needs an aggregation"),
        (lambda: MetricSums(sums, finalize, aggregation=aggregate), "not both"),
        (lambda: MetricSums(sums, aggregation=lambda outputs: outputs), "decorate the function"),
        (lambda: MetricSums(sums, aggregation=hansa.federated_computation(lambda o: o)), "at the server"),
        (lambda: MetricSums(sums, aggregation=hansa.jax_computation(lambda o: o)), "while tracing the aggregation"),
        (lambda: {"loss": Metric(lambda y, p, w: y)}, "two metrics have the name 'loss'"),
        (lambda: {"num_empty_clients": Metric(lambda y, p, w: y)}, "rename it"),
    ],
)
def test_errors_in_metrics_of_sums(metrics, message):
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        build_federated_averaging_process(mlp(metrics=metrics()))


def test_the_tutorials_custom_model_has_the_tutorials_figures(mnist):
    images = (mnist.train_images.reshape(-1, 784) / 255.0).astype("float32")

    def client(digit):
        own = np.flatnonzero(mnist.train_labels == digit)[:1000]
        return hansa.Batches(OrderedDict(x=images[own], y=mnist.train_labels[own].astype("int32")), 100)

    def forward(model, batch, training, rng):
        predictions = jax.nn.softmax(batch.x @ model["weights"] + model["bias"])
        loss = -jnp.mean(jnp.sum(jax.nn.one_hot(batch.y, 10) * jnp.log(predictions), axis=1))
        return BatchOutput(loss, predictions)

    process = build_federated_averaging_process(
        functional_model(
            {"weights": np.zeros((784, 10)), "bias": np.zeros(10)},
            forward,
            input_spec=OrderedDict(x="float32[?,784]", y="int32[?]"),
            metrics=MetricSums(sums, local_outputs=means, aggregation=aggregate),
            optimizer=optax.sgd(0.1),
        )
    )
    state = process.initialize()
    published = [
        (0.91, 0.293638),
        (0.976, 0.277596),
        (0.9786, 0.263369),
        (0.9796, 0.25075),
        (0.98, 0.239585),
        (0.9799, 0.229727),
    ]
    clients = [client(digit) for digit in range(10)]
    for number, (accuracy, loss) in enumerate(published):
        state, metrics = process.next(state, clients)
        if not number:
            assert str(metrics) == "<accuracy=0.91,loss=0.293638,num_examples=10000.0>"
        assert metrics.accuracy == pytest.approx(accuracy, abs=1e-6)
        assert metrics.loss == pytest.approx(loss, abs=2e-6)
        assert metrics.num_examples == 10000
