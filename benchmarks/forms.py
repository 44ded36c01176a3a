"""One model in plain JAX, in TensorFlow and in Keras: rounds of each, in turn.

python -m benchmarks.forms [--repeat 31]

The tutorial's custom model, a logistic regression that counts its examples, loss and accuracy; 10 clients with 1,000
images of a digit each, in batches of 100, given as `hansa.ClientBatches`. Needs TensorFlow.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import optax
import tensorflow as tf

import hansa
from benchmarks.run import seconds
from benchmarks.workloads import clients, mlp
from hansa.learning import BatchOutput, MetricSums
from hansa.simulation import load_mnist

RATE = 0.1
SPEC = {"x": tf.TensorSpec([None, 784], tf.float32), "y": tf.TensorSpec([None, 1], tf.int32)}


@hansa.federated_computation
def aggregate(outputs: Any) -> Any:
    """The tutorial's metrics."""
    count = outputs.num_examples
    return {
        "accuracy": hansa.federated_average(outputs.accuracy, count),
        "loss": hansa.federated_average(outputs.loss, count),
        "num_examples": hansa.federated_sum(count),
    }


def in_jax() -> hansa.learning.FunctionalModel:
    """The model in plain JAX."""

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        logits = batch.x @ weights["weights"] + weights["bias"]
        return BatchOutput(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y[:, 0]).mean(), logits)

    def sums(batch: Any, output: BatchOutput) -> dict[str, Any]:
        correct = (output.predictions.argmax(1) == batch.y[:, 0]).sum()
        count = batch.y.shape[0]
        return {"num_examples": count * 1.0, "loss": output.loss * count, "accuracy": correct.astype("float32")}

    def report(sums: Any) -> dict[str, Any]:
        count = sums.num_examples
        return {"num_examples": count, "loss": sums.loss / count, "accuracy": sums.accuracy / count}

    return hansa.learning.functional_model(
        {"weights": np.zeros((784, 10)), "bias": np.zeros(10)},
        forward,
        input_spec=SPEC,
        optimizer=optax.sgd(RATE),
        metrics=MetricSums(sums, local_outputs=report, aggregation=aggregate),
    )


class InTensorFlow(hansa.learning.TrainableModel):
    """The model with TensorFlow variables."""

    input_spec = SPEC
    non_trainable_variables = ()
    federated_output_computation = aggregate

    def __init__(self) -> None:
        self.weights = tf.Variable(tf.zeros((784, 10)), name="weights")
        self.bias = tf.Variable(tf.zeros(10), name="bias")
        self.sums = [tf.Variable(0.0, name=name, trainable=False) for name in ("num_examples", "loss", "accuracy")]

    @property
    def trainable_variables(self) -> list[Any]:
        """The weights."""
        return [self.weights, self.bias]

    @property
    def local_variables(self) -> list[Any]:
        """The sums for metrics."""
        return self.sums

    def forward_pass(self, batch: Any, training: bool = True) -> BatchOutput:
        """The mean cross-entropy, and the logits."""
        logits, labels = batch["x"] @ self.weights + self.bias, batch["y"][:, 0]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        count = tf.cast(tf.size(labels), tf.float32)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32))
        for variable, value in zip(self.sums, (count, loss * count, correct), strict=True):
            variable.assign_add(value)
        return BatchOutput(loss, logits)

    def train_on_batch(self, batch: Any) -> BatchOutput:
        """A step of gradient descent."""
        output = self.forward_pass(batch)
        tf.compat.v1.train.GradientDescentOptimizer(RATE).minimize(output.loss, var_list=self.trainable_variables)
        return output

    def report_local_outputs(self) -> dict[str, Any]:
        """What a client reports."""
        count, loss, accuracy = self.sums
        return {"num_examples": count, "loss": loss / count, "accuracy": accuracy / count}


def in_keras() -> hansa.learning.FunctionalModel:
    """The model in Keras, whose metrics are the loss and the accuracy."""
    model = mlp([784, 10])()
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return hansa.learning.from_compiled_keras_model(model, {"x": np.zeros((1, 784), "f4"), "y": np.zeros((1, 1), "i4")})


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=31, help="rounds of each form; the median counts")
    repeat = parser.parse_args().repeat
    mnist = load_mnist()
    x, y = (mnist.train_images.reshape(-1, 784) / 255.0).astype("float32"), mnist.train_labels.reshape(-1, 1)
    own = np.concatenate([np.flatnonzero(y == digit)[:1000] for digit in range(10)])
    data = clients(x[own], y[own], [1000] * 10, 100)
    forms: dict[str, Callable[[], Any]] = {"JAX": in_jax, "TensorFlow": InTensorFlow, "Keras": in_keras}
    rounds: dict[str, Callable[[], Any]] = {}
    for name, form in forms.items():
        process = hansa.learning.build_federated_averaging_process(form)
        state = process.initialize()
        rounds[name] = lambda process=process, state=state: process.next(state, data)  # type: ignore[misc]
        print(f"{name:12} first round {seconds(rounds[name]):6.2f} s   {rounds[name]().metrics}")
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeat):
        for name, call in rounds.items():
            times[name].append(seconds(call))
    for name in forms:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["JAX"], strict=True))
        print(f"{name:12} {statistics.median(times[name]):8.4f} s a round, {ratio:.2f} x JAX")


if __name__ == "__main__":
    main()
