"""A round of a PyTorch module against plain loops of PyTorch, with clients whose last batches are short."""

from __future__ import annotations

import copy

import jax
import numpy as np
import torch

import hansa
from hansa.learning import build_federated_averaging_process, build_prediction, from_torch, state_dict
from tests.models.torch.loops import SIZES, averaged, batches_of, tensors, train

TOLERANCE = 1e-5


def check(animal, tmp_path, thorough):
    """A round gives what a plain loop gives; if thorough, so do inference and the process from a file."""
    sgd = lambda m: torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=animal.rate)  # noqa: E731
    torch.manual_seed(0)
    module = animal.make()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    clients = [batches_of(animal.batch), batches_of(animal.batch, (*SIZES[:1], 5))]
    model = from_torch(
        module, clients[0][0], loss=animal.loss, forward=animal.forward, optimizer=sgd(module), name="it"
    )
    process = build_federated_averaging_process(model)
    state, metrics = process.next(process.initialize(), clients)
    results = [train(module, batches, animal.loss, animal.forward, sgd) for batches in clients]
    counts = [sum(SIZES), SIZES[0] + 5]
    expected = averaged(results, counts)
    found = state_dict(state.model, module)
    assert list(found) == list(module.state_dict())
    for key, value in found.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_allclose(value.numpy(), expected[key], atol=TOLERANCE, rtol=TOLERANCE, err_msg=key)
    assert int(metrics.num_examples) == sum(counts)
    # The module is as it was, and takes the weights.
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    after = copy.deepcopy(module)
    state.model.assign_weights_to(after)
    if not thorough:
        return
    # In inference it says the same, of any number of examples.
    batch = animal.batch(3)
    said = build_prediction(model, state.model)(batch["x"])
    with torch.no_grad():
        given = tensors(batch)
        whole = (animal.predict or _called)(after.eval(), given["x"])
    for mine, theirs in zip(jax.tree.leaves(said), jax.tree.leaves(_plain(whole)), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=TOLERANCE, rtol=TOLERANCE)
    hansa.save(process, tmp_path / "process.hansa")  # which only what is for batches of every size can be
    again, _ = hansa.load(tmp_path / "process.hansa").next(process.initialize(), clients)
    for mine, theirs in zip(jax.tree.leaves(again.model), jax.tree.leaves(state.model), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def _called(module, x):
    return module(**x) if isinstance(x, dict) else module(x)


def _plain(value):
    return dict(value) if isinstance(value, dict) else value
