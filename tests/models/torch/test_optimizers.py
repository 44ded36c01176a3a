"""The optimizers of `torch.optim` by their rules, against PyTorch's own, step by step."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from hansa.models.torch.optimizers import from_torch_optimizer
from hansa.types import Struct

STEPS = 12
OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda ps: torch.optim.Adam(ps, lr=0.01, amsgrad=True, maximize=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "nadam": lambda ps: torch.optim.NAdam(ps, lr=0.01, weight_decay=0.1),
    "nadam_decoupled": lambda ps: torch.optim.NAdam(ps, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda ps: torch.optim.RAdam(ps, lr=0.01),
    "radam_decoupled": lambda ps: torch.optim.RAdam(ps, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "adamax": lambda ps: torch.optim.Adamax(ps, lr=0.01, weight_decay=0.1),
    "adadelta": lambda ps: torch.optim.Adadelta(ps, lr=0.5, weight_decay=0.1),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "rmsprop_plain": lambda ps: torch.optim.RMSprop(ps, lr=0.01),
}


def parameters(module):
    return {id(p): name for name, p in module.named_parameters()}


def weights_of(module):
    return Struct([(name, p.detach().numpy().copy()) for name, p in sorted(module.named_parameters())])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_pytorch(name):
    torch.manual_seed(1)
    module = nn.Linear(3, 2)
    theirs = OPTIMIZERS[name](module.parameters())
    ours = from_torch_optimizer(theirs, parameters(module), set())
    weights = weights_of(module)
    state = ours.initial(weights)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        given = {key: rng.normal(size=p.shape).astype("float32") for key, p in module.named_parameters()}
        for key, p in module.named_parameters():
            p.grad = torch.tensor(given[key])
        theirs.step()
        state, weights = ours.apply(state, Struct([(key, given[key]) for key in weights._fields]), weights)
    for key, p in module.named_parameters():
        np.testing.assert_allclose(weights[key], p.detach().numpy(), rtol=3e-6, atol=3e-6)


def test_a_long_run_of_radam_has_the_length_that_pytorch_computes_in_float64():
    from hansa.models.torch.rules import _sma_length

    for beta in (0.9, 0.99, 0.999):
        for step in (1, 2, 5, 6, 100, 1000, 20000):
            most = 2 / (1 - beta) - 1
            exact = most - 2 * step * beta**step / (1 - beta**step)
            assert float(_sma_length(beta, jnp.float32(step))) == pytest.approx(exact, rel=1e-5)


def test_groups_have_options_of_their_own_and_what_is_in_none_stays():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": module[0].parameters(), "lr": 1.0}, {"params": module[1].parameters()}]
    ours = from_torch_optimizer(torch.optim.SGD(groups, lr=0.5), parameters(module), set())
    before = weights_of(module)
    ones = Struct([(key, jnp.ones_like(w)) for key, w in before._items()])
    _, after = ours.apply(ours.initial(before), ones, before)
    for key, w in after._items():
        moved = {"0": 1.0, "1": 0.5, "2": 0.0}[key[0]]
        np.testing.assert_allclose(before[key] - w, moved, atol=1e-6)
    assert ours.name == "SGD, learning rate by its groups"


def test_what_the_loss_does_not_use_is_left_as_it_is():
    module = nn.Linear(2, 2)
    theirs = torch.optim.AdamW(module.parameters(), lr=0.5, weight_decay=0.5)
    ours = from_torch_optimizer(theirs, parameters(module), {"bias"})
    before = weights_of(module)
    zeros = jax.tree.map(jnp.zeros_like, before)
    _, after = ours.apply(ours.initial(before), zeros, before)
    assert np.array_equal(after["bias"], before["bias"]) and not np.array_equal(after["weight"], before["weight"])


def test_others_are_refused_with_the_nearest():
    module = nn.Linear(2, 2)
    with pytest.raises(
        TypeError, match=r"the optimizer LBFGS is none .*: the nearest is torch.optim.SGD with momentum"
    ):
        from_torch_optimizer(torch.optim.LBFGS(module.parameters()), parameters(module), set())

    class Mine(torch.optim.SGD):
        pass

    with pytest.raises(TypeError, match=r"the optimizer Mine is none .* and all of Optax"):
        from_torch_optimizer(Mine(module.parameters(), lr=0.1), parameters(module), set())
    with pytest.raises(ValueError, match=r"has a parameter of the shape \[2, 2\] that the module does not have"):
        from_torch_optimizer(torch.optim.SGD(copy.deepcopy(module).parameters(), lr=0.1), parameters(module), set())
