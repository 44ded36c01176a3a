"""Federated averaging of a CNN on MNIST, whose clients have two digits each: in PyTorch it goes as it does in Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from torch import nn

import hansa
from hansa.learning import (
    build_federated_averaging_process,
    build_federated_evaluation,
    from_compiled_keras_model,
    from_torch,
)

ROUNDS, RATE = 9, 0.05


def in_keras():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    made = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(8, 5, activation="relu", padding="same"),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu", padding="same"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ]
    model = keras.Sequential(made)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss, metrics=["accuracy"])
    return model


def in_torch(weights):
    """The same network with the same weights, whose images have their channels first."""
    module = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), torch_order(weights), strict=True):
            parameter.copy_(torch.tensor(array))
    return module


def torch_order(weights):
    """Keras's weights in PyTorch's order of axes, and of the numbers of a flattened image."""
    flat = weights[4].reshape(7, 7, 16, 64).transpose(2, 0, 1, 3).reshape(784, 64)
    weights = [*weights[:4], flat, *weights[5:]]
    orders = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return [np.ascontiguousarray(w.transpose(orders[w.ndim])) for w in weights]


@pytest.mark.slow
def test_rounds_of_clients_with_two_digits_go_as_in_keras(mnist):
    x, y = (mnist.train_images[:12000] / 255).astype("float32"), mnist.train_labels[:12000].astype("int32")
    test_x, test_y = (mnist.test_images[:2000] / 255).astype("float32"), mnist.test_labels[:2000].astype("int32")
    client_of = hansa.simulation.partition_shards(y, 100, seed=0)
    network = in_keras()
    module = in_torch(network.get_weights())
    accuracy = {"accuracy": lambda labels, scores, sample_weight: scores.argmax(-1) == labels}
    models = {
        "keras": (from_compiled_keras_model(network, {"x": x[:2, :, :, None], "y": y[:2]}), (-1, 28, 28, 1)),
        "torch": (
            from_torch(
                module,
                {"x": x[:2, None], "y": y[:2]},
                loss=nn.CrossEntropyLoss(),
                metrics=accuracy,
                optimizer=torch.optim.SGD(module.parameters(), lr=RATE),
            ),
            (-1, 1, 28, 28),
        ),
    }
    reached = {}
    for name, (model, shape) in models.items():
        data = hansa.simulation.ClientData.from_arrays({"x": x.reshape(shape), "y": y}, client_of).batch(10)
        test = hansa.simulation.ClientData.from_arrays({"x": test_x.reshape(shape), "y": test_y}, np.arange(2000) % 2)
        result = hansa.program.train(
            build_federated_averaging_process(model), data, ROUNDS, cohort_size=10, seed=1,
            evaluate=(build_federated_evaluation(model), test.batch(500)), evaluate_every=3, progress=False,
        )  # fmt: skip
        reached[name] = [value for value in result.history["evaluation/accuracy"] if value is not None]
    # The same sums in another order: what is a last bit at first is a prediction here and there later.
    np.testing.assert_allclose(reached["torch"], reached["keras"], atol=0.03)
    assert reached["torch"][-1] > reached["torch"][0] + 0.2
