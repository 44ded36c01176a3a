"""What a PyTorch module cannot be is said when the model is made, with the line and what to write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hansa
from hansa.language.local import NotCompilable
from hansa.learning import from_torch

BATCH = {"x": np.zeros((4, 6), "float32"), "y": np.zeros(4, "int32")}


def made(module, loss=F.cross_entropy, **options):
    return from_torch(module, BATCH, loss=loss, **options)


class Function(nn.Module):
    """A linear layer, and a function behind it."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(6, 3), function

    def forward(self, x):
        return self.function(self.linear(x))


def _branches(x):
    if x.sum() > 0:
        return x * 2
    return x


def _mask(x):
    return x[x > 0].sum() + x


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            _branches,
            r"asks Python for the value of a tensor at test_refusals.py:\d+, `if x.sum\(\) > 0:`: .*torch.where",
        ),
        (lambda x: x * float(x.mean()), r"asks Python for the value of a tensor at test_refusals.py:\d+"),
        (_mask, r"value of a tensor|size that depends on values"),
        (Straight.apply, r"torch.autograd.Function Straight, whose backward pass is no part of a graph"),
        (
            lambda x: torch.special.bessel_j0(x) + torch.special.bessel_y1(x),
            r"2 operations .*special_bessel_j0 \(in forward, at test_refusals.py:\d+\); special_bessel_y1 \(",
        ),
    ],
    ids=["if", "float", "mask", "function", "operations"],
)
def test_what_no_graph_can_be_made_of(function, told):
    with pytest.raises(NotCompilable, match=told):
        made(Function(function))


def test_losses_are_scalars_of_floats():
    with pytest.raises(NotCompilable, match="a loss with 1 axes; take the mean"):
        made(Function(F.relu), nn.CrossEntropyLoss(reduction="none"))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: from_torch(nn.Linear, BATCH, loss=F.cross_entropy), r"found the class Linear; make one"),
        (lambda: from_torch(lambda x: x, BATCH, loss=F.cross_entropy), r"from_torch takes a PyTorch module, found"),
        (lambda: from_torch(nn.Linear(6, 3), BATCH), r"needs one of loss, such as .* and forward"),
        (lambda: made(nn.Linear(6, 3), nn.CrossEntropyLoss), r"the class CrossEntropyLoss; make one"),
        (lambda: from_torch(nn.Linear(6, 3), {"a": BATCH["x"]}, loss=F.cross_entropy), r"give forward=, a function"),
        (lambda: made(nn.LazyLinear(3)), r"has no shape yet: call the module on a batch first"),
    ],
)
def test_arguments_that_are_something_else(call, told):
    with pytest.raises((TypeError, ValueError), match=told):
        call()


def test_another_module_does_not_take_the_weights():
    model = made(nn.Linear(6, 3), optimizer="sgd", learning_rate=0.1)
    state = hansa.learning.build_federated_averaging_process(model).initialize()
    with pytest.raises(ValueError, match=r"Linear has the shape \(4, 6\), the one given \(3, 6\)"):
        state.model.assign_weights_to(nn.Linear(6, 4))
    with pytest.raises(ValueError, match=r"it lacks bias of the weights given"):
        state.model.assign_weights_to(nn.Linear(6, 3, bias=False))
    other = nn.Linear(6, 3)
    found = hansa.learning.with_weights(state, other).model
    np.testing.assert_array_equal(found.trainable["weight"], other.weight.detach().numpy())
