"""A plain training loop of PyTorch over true batches: what rounds are compared with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

SIZES = (8, 8, 3)


def tensors(value: Any) -> Any:
    """A batch of arrays as tensors, in PyTorch's own integers."""
    if isinstance(value, dict):
        return {name: tensors(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(tensors(part) for part in value)
    found = torch.tensor(np.asarray(value))
    return found.long() if found.dtype == torch.int32 else found


def batches_of(batch: Any, sizes: Any = SIZES) -> list[Any]:
    """A client's batches, of which the last is short; each is drawn by itself."""
    return [_first(batch(size + 100 * (i + 1)), size) for i, size in enumerate(sizes)]


def _first(value: Any, count: int) -> Any:
    if isinstance(value, dict):
        return {name: _first(part, count) for name, part in value.items()}
    return value[:count]


def loss_of(module: Any, batch: Any, loss: Any, forward: Any) -> Any:
    if forward is not None:
        return forward(module, batch)[0]
    x = batch["x"]
    return loss(module(**x) if isinstance(x, dict) else module(x), batch["y"])


def train(module: Any, batches: Any, loss: Any, forward: Any, optimizer: Any) -> dict[str, np.ndarray]:
    """The `state_dict` of a copy of a module after an epoch."""
    own = copy.deepcopy(module)
    steps = optimizer(own)
    for batch in batches:
        steps.zero_grad()
        loss_of(own, tensors(batch), loss, forward).backward()
        steps.step()
    return {name: value.detach().numpy().copy() for name, value in own.state_dict().items()}


def averaged(results: list[dict[str, np.ndarray]], counts: list[int]) -> dict[str, np.ndarray]:
    """The mean of `state_dict`s, weighted by examples."""
    weights = np.array(counts, "float64") / np.sum(counts)
    return {
        name: sum(w * one[name].astype("float64") for w, one in zip(weights, results, strict=True))
        for name in results[0]
    }
