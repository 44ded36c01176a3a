"""DP-SGD of models of Keras and PyTorch, beside plain loops of their own over the examples."""

from __future__ import annotations

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.privacy import dpsgd

pytestmark = pytest.mark.slow

CLIP, SIZES = 0.8, (3, 6)
RNG = np.random.default_rng(5)
X = RNG.standard_normal((9, 8, 8, 1)).astype(np.float32)
Y = RNG.integers(0, 3, 9).astype(np.int64)


def after_a_step(model, x, optimizer=None):
    """The weights after a step of two sites with all their examples, and before it."""
    rule = dpsgd(optimizer, CLIP, 0.0, steps=1, max_examples=8, sampling_rate=1.0)
    process = hansa.learning.build_federated_averaging_process(model, client_optimizer=rule)
    label = model.batch_type["y"].dtype
    clients = [
        [{"x": x[i : min(i + 4, end)], "y": Y[i : min(i + 4, end)].astype(label)} for i in range(start, end, 4)]
        for start, end in ((0, SIZES[0]), (SIZES[0], sum(SIZES)))
    ]
    first = process.initialize()
    return process.next(first, clients)[0].model.trainable, first.model.trainable


def mean_of_clipped(gradients):
    """The mean over examples of lists of arrays, each shortened."""
    total = [0.0] * len(gradients[0])
    for gradient in gradients:
        wide = [part.astype(np.float64) for part in gradient]
        factor = min(1, CLIP / np.sqrt(sum(np.sum(part**2) for part in wide)))
        total = [sum + part * factor for sum, part in zip(total, wide, strict=True)]
    return [part / len(gradients) for part in total]


def test_a_keras_model_follows_the_clipped_gradients_of_its_examples():
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.GroupNormalization(2),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(1.0), loss)
    model = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": X, "y": Y.astype(np.int32)})
    found, first = after_a_step(model, X)

    def of(trainable, x, y):
        scores, _ = network.stateless_call(trainable, [], x[None], training=True)
        return loss(y[None], scores)

    variables = [variable.value for variable in network.trainable_variables]
    gradients = [[np.asarray(g) for g in jax.grad(of)(variables, x, y)] for x, y in zip(X, Y, strict=True)]
    for variable, step in zip(network.trainable_variables, mean_of_clipped(gradients), strict=True):
        name = next(name for name in first._fields if name.endswith(variable.path.split("/", 1)[-1]))
        np.testing.assert_allclose(found[name], np.asarray(first[name]) - step, atol=1e-6)


def test_a_pytorch_module_follows_the_clipped_gradients_of_its_examples():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, 2), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4, 3)
    )
    x, loss = np.moveaxis(X, -1, 1).copy(), torch.nn.functional.cross_entropy
    model = hansa.learning.from_torch(module, loss=loss, sample_batch={"x": x[:4], "y": Y[:4]})
    found, first = after_a_step(model, x, optax.sgd(1.0))
    gradients = []
    for i in range(len(x)):
        module.zero_grad()
        loss(module(torch.from_numpy(x[i : i + 1])), torch.from_numpy(Y[i : i + 1])).backward()
        gradients.append([parameter.grad.numpy().copy() for _, parameter in module.named_parameters()])
    for (name, _), step in zip(module.named_parameters(), mean_of_clipped(gradients), strict=True):
        np.testing.assert_allclose(found[name], np.asarray(first[name]) - step, atol=1e-6)


def test_batch_normalisation_is_refused_by_name():
    torch = pytest.importorskip("torch")
    layers = [keras.Input((4,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(3)]
    network = keras.Sequential(layers)
    network.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.zeros((4, 4), np.float32), np.zeros(4, np.int64)
    batch = {"x": x, "y": y.astype(np.int32)}
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    models = [
        (hansa.learning.from_compiled_keras_model(network, sample_batch=batch), "norm/moving_mean"),
        (
            hansa.learning.from_torch(module, loss=torch.nn.functional.cross_entropy, sample_batch={"x": x, "y": y}),
            "0.running_mean",
        ),
    ]
    for model, name in models:
        rule = dpsgd(optax.sgd(1.0), 1.0, 1.0, steps=1, max_examples=4, sampling_rate=0.5)
        with pytest.raises(ValueError, match=f"changes .*{name}.* of whole batches.*GroupNormalization"):
            hansa.learning.build_federated_averaging_process(model, client_optimizer=rule)
