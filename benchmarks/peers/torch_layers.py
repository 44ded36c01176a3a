"""A task's model in PyTorch, its weights to and from Keras's layouts, and its training on a sequence of batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers.protocol import Task, batches


class Recurrent(nn.LSTM):
    """An LSTM that gives its outputs, with one bias, as in Keras: PyTorch's second one stays zero."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, batch_first=True)
        self.bias_hh_l0.requires_grad_(False).zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, time, inputs] to [batch, time, units]."""
        return super().forward(x)[0]


def build(task: Task) -> nn.Sequential:
    """The model of a task, with its initial weights."""
    made: list[nn.Module] = []
    features = task.x.shape[-1]
    for layer in task.layers:
        kind = layer["kind"]
        if kind == "dense":
            made.append(nn.Linear(features, layer["units"]))
            features = layer["units"]
        elif kind == "conv":
            made.append(nn.Conv2d(features, layer["filters"], layer["size"], padding="same"))
            features = layer["filters"]
        elif kind == "pool":
            made.append(nn.MaxPool2d(layer["size"]))
        elif kind == "flatten":
            made.append(nn.Flatten())
            features = int(np.prod(layer["shape"]))
        elif kind == "embedding":
            made.append(nn.Embedding(layer["entries"], layer["units"]))
            features = layer["units"]
        elif kind == "lstm":
            made.append(Recurrent(features, layer["units"]))
            features = layer["units"]
        if layer.get("activation") == "relu":
            made.append(nn.ReLU())
    model = nn.Sequential(*made)
    set_weights(model, task.layers, task.weights)
    return model


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes, in Keras's order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def set_weights(model: nn.Module, layers: list[dict[str, Any]], weights: Sequence[np.ndarray]) -> None:
    """Gives the model these weights, which have Keras's layouts."""
    with torch.no_grad():
        for parameter, weight, shape in zip(trained(model), weights, before(layers, weights), strict=True):
            parameter.copy_(torch.from_numpy(from_keras(weight, shape)))


def get_weights(model: nn.Module, task: Task) -> list[np.ndarray]:
    """The weights of the model, in Keras's layouts."""
    arrays = [parameter.detach().numpy() for parameter in trained(model)]
    return [to_keras(array, shape) for array, shape in zip(arrays, before(task.layers, task.weights), strict=True)]


def before(layers: list[dict[str, Any]], weights: Sequence[np.ndarray]) -> list[tuple[int, ...] | None]:
    """For each weight the shape that its layer's input had before it was flattened; None for embeddings and biases."""
    counts = {"dense": 2, "conv": 2, "embedding": 1, "lstm": 3}
    shapes: list[tuple[int, ...] | None] = []
    for previous, layer in pairwise([{"kind": "input"}, *layers]):
        kind = layer["kind"]
        if kind in counts:
            flat = tuple(previous["shape"]) if previous["kind"] == "flatten" else ()
            kernels = {"embedding": 0, "lstm": 2}.get(kind, 1)
            shapes += [flat] * kernels + [None] * (counts[kind] - kernels)
    assert len(shapes) == len(weights)
    return shapes


def from_keras(weight: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """A kernel with its outputs first; PyTorch flattens images channel by channel."""
    if shape is None:
        return weight
    if shape:
        height, width, channels = shape
        weight = weight.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T)


def to_keras(weight: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """The inverse of `from_keras`."""
    if shape is None:
        return weight.copy()
    weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    if shape:
        height, width, channels = shape
        weight = weight.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(weight.shape)
    return np.ascontiguousarray(weight)


def tensors(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples as tensors, images with their channels first."""
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
    return torch.from_numpy(x), torch.from_numpy(y).long()


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of all labels of a batch."""
    logits = model(x)
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, task: Task) -> float:
    """One epoch of SGD; the mean loss of the examples, each as its batch met it."""
    model.train()
    optimizer = torch.optim.SGD(trained(model), task.learning_rate)
    total = torch.zeros(())
    for some, labels in batches(x, y, task.batch_size):
        optimizer.zero_grad()
        loss = loss_of(model, some, labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(some)
    return float(total) / len(x)


def evaluate(model: nn.Module, task: Task) -> float:
    """The mean loss on the test set."""
    model.eval()
    x, y = tensors(task.test_x, task.test_y)
    with torch.inference_mode():
        return sum(float(loss_of(model, *part)) * len(part[0]) for part in batches(x, y, 1000)) / len(x)
