"""The right-hand sides of the table of TFF's tutorial run in their order, and train what the tutorial trains."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming_from_tff.md"


def statements() -> list[str]:
    """The code in the right column of the page's first table, row by row."""
    table = PAGE.read_text("utf-8").split("| in the tutorial | in Hansa |\n|---|---|\n")[1].split("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line)[2] for line in table.splitlines()]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def models_of(names: dict[str, Any]) -> tuple[Any, Any]:
    """The tutorial's two models, written with what the page has defined so far."""
    hansa, keras = names["hansa"], names["keras"]
    import tensorflow as tf

    def model_fn() -> Any:
        layers = [keras.Input((784,)), keras.layers.Dense(512, activation="relu")]
        keras_model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
        loss = keras.losses.SparseCategoricalCrossentropy()
        accuracy = keras.metrics.SparseCategoricalAccuracy()
        keras_model.compile(keras.optimizers.SGD(0.1), loss=loss, metrics=[accuracy])
        names["keras_model"] = keras_model
        return hansa.learning.from_compiled_keras_model(keras_model, names["sample_batch"])

    images = tf.TensorSpec([None, 784], tf.float32)

    class MnistTrainableModel(hansa.learning.TrainableModel):
        def __init__(self) -> None:
            self.weights = tf.Variable(tf.zeros((784, 10)), name="weights")
            self.loss_sum = tf.Variable(0.0, name="loss_sum", trainable=False)
            self.num_examples = tf.Variable(0.0, name="num_examples", trainable=False)

        trainable_variables = property(lambda self: [self.weights])
        non_trainable_variables = property(lambda self: [])
        local_variables = property(lambda self: [self.loss_sum, self.num_examples])
        input_spec = property(lambda self: OrderedDict(x=images, y=tf.TensorSpec([None], tf.int32)))

        def forward_pass(self, batch: Any, training: bool = True) -> Any:
            y = tf.nn.softmax(batch["x"] @ self.weights)
            loss = -tf.reduce_mean(tf.reduce_sum(tf.one_hot(batch["y"], 10) * tf.math.log(y), axis=1))
            n = tf.cast(tf.size(batch["y"]), tf.float32)
            self.loss_sum.assign_add(loss * n)
            self.num_examples.assign_add(n)
            return hansa.learning.BatchOutput(loss, y)

        def train_on_batch(self, batch: Any) -> Any:
            output = self.forward_pass(batch)
            tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(output.loss, var_list=self.trainable_variables)
            return output

        def report_local_outputs(self) -> Any:
            return {"num_examples": self.num_examples, "loss": self.loss_sum / self.num_examples}

        @property
        def federated_output_computation(self) -> Any:
            return hansa.federated_computation(lambda local: {"loss": hansa.federated_average(*local[::-1])})

    return model_fn, MnistTrainableModel


@pytest.mark.slow
def test_the_right_hand_sides_train_the_tutorials_models(mnist: Any) -> None:
    names: dict[str, Any] = {"np": np}
    values: dict[str, Any] = {}
    rounds = 0
    for code in statements():
        if code.startswith("federated_train_data ="):
            images, labels = names["mnist_train"]

            def get_training_data_for_digit(digit: int, images: Any = images, labels: Any = labels) -> Any:
                own = np.flatnonzero(labels == digit)[:1000].reshape(-1, 100)
                x, y = images.reshape(-1, 784), labels
                return [{"x": (x[i] / 255).astype(np.float32), "y": y[i].astype(np.int32)} for i in own]

            names["get_training_data_for_digit"] = get_training_data_for_digit
        elif code == "keras.Input((784,))":
            names["model_fn"], names["MnistTrainableModel"] = models_of(names)
            names["model_fn"]()
        elif code.startswith("weights = tf."):
            import tensorflow as tf

            names.update(tf=tf, y=tf.ones(3), n=tf.size([1, 2]), x=tf.ones((2, 3)), loss=tf.constant(1.0))
        try:
            values[code] = eval(code, names)
        except SyntaxError:
            exec(code, names)
        if code.startswith("state, metrics"):
            rounds += 1
    assert rounds == 1
    assert values['hansa.federated_computation(lambda: "Hello, World!")()'] == "Hello, World!"
    assert str(values["hansa.infer_type(sample_batch)"]) == "<x=float32[100,784],y=int32[100]>"
    assert values["process.initialize.type_signature.compact()"] == (
        "( -> <model=<trainable=<dense/bias=float32[512],dense/kernel=float32[784,512],dense_1/bias=float32[10],"
        "dense_1/kernel=float32[512,10]>,non_trainable=<>>,optimizer_state=<int64>>@SERVER)"
    )
    # The tutorial's first rounds: 0.9138 and 0.271792, then 0.9259 and 0.244756.
    metrics, history = names["metrics"], names["result"].history
    assert metrics.sparse_categorical_accuracy == pytest.approx(0.9138, abs=0.02)
    assert metrics.loss == pytest.approx(0.2718, rel=0.1)
    assert history["loss"][4] == pytest.approx(0.1905, rel=0.1)
    own = values["hansa.learning.build_federated_averaging_process(MnistTrainableModel)"]
    assert own.next(own.initialize(), names["federated_train_data"]).metrics.loss < 0.4
