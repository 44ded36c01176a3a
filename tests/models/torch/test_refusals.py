"""What a PyTorch module cannot be is said when the model is made, with the line and what to write."""

from __future__ import annotations

import jax
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


def _packed(x):
    packed = nn.utils.rnn.pack_padded_sequence(x[:, :, None], (x > 0).sum(1).clamp(min=1), batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(nn.GRU(1, 3)(packed)[0], batch_first=True)[0].sum(1)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.fixture(scope="module")
def linear():
    """A model of a linear layer."""
    return made(nn.Linear(6, 3), optimizer="sgd", learning_rate=0.1)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            _branches,
            r"asks Python for the value of a tensor at test_refusals.py:\d+, `if x.sum\(\) > 0:`: .*torch.where",
        ),
        (lambda x: x * float(x.mean()), r"asks Python for the value of a tensor at test_refusals.py:\d+"),
        pytest.param(_mask, r"value of a tensor|size that depends on values", marks=pytest.mark.slow),
        (_packed, r"packs sequences at test_refusals.py:\d+, .*give the layer the padded sequences"),
        pytest.param(
            Straight.apply,
            r"torch.autograd.Function Straight, whose backward pass is no part of a graph",
            marks=pytest.mark.slow,
        ),
        (
            lambda x: torch.special.bessel_j0(x) + torch.special.bessel_y1(x),
            r"2 operations .*special_bessel_j0 \(in forward, at test_refusals.py:\d+\); special_bessel_y1 \(",
        ),
    ],
    ids=["if", "float", "mask", "packed", "function", "operations"],
)
def test_what_no_graph_can_be_made_of(function, told):
    with pytest.raises(NotCompilable, match=told):
        made(Function(function))


class Buffered(nn.Module):
    """A buffer that is not in the `state_dict`, with a new value in each batch."""

    def __init__(self, read):
        super().__init__()
        self.linear, self.read = nn.Linear(6, 3), read
        self.register_buffer("last", torch.zeros(6), persistent=False)

    def forward(self, x):
        before = self.last if self.read else 0
        if self.training:
            self.last = x.mean(0)
        return self.linear(x * self.last + before)


def test_a_buffer_that_no_state_keeps_is_not_carried_between_batches():
    with pytest.raises(NotCompilable, match=r"buffer 'last' and reads what an earlier batch .* persistent=True"):
        made(Buffered(read=True))
    # What is assigned before it is read says nothing of an earlier batch.
    model = made(Buffered(read=False))
    assert sorted(model.initial_weights.trainable._fields) == ["linear.bias", "linear.weight"]


def test_what_a_name_outside_refers_to_is_not_what_is_trained():
    module = nn.Linear(6, 3)
    told = r"uses 'weight' and 1 more of the module itself, .*first argument of forward="
    with pytest.raises(NotCompilable, match=told):
        from_torch(module, BATCH, forward=lambda _, batch: (F.cross_entropy(module(batch["x"]), batch["y"]), None))
    # So do penalties of the loss.
    with pytest.raises(NotCompilable, match=r"uses 'weight' of the module itself"):
        made(module, lambda scores, y: F.cross_entropy(scores, y) + module.weight.square().sum())


@pytest.mark.slow
def test_another_network_such_as_a_teacher_is_constant():
    module, teacher = nn.Linear(6, 3), nn.Linear(6, 3)
    model = from_torch(
        module, BATCH, forward=lambda m, batch: (F.mse_loss(m(batch["x"]), teacher(batch["x"]).detach()), None)
    )
    weights = [weight.detach().numpy().astype("float64") for weight in (module.bias, teacher.bias)]
    batch = hansa.Struct([("x", BATCH["x"]), ("y", BATCH["y"])])
    loss = model.forward(model.initial_weights, model.initial_local, batch, True, jax.random.key(0)).output.loss
    assert float(loss) == pytest.approx(float(((weights[0] - weights[1]) ** 2).mean()), abs=1e-6)


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


def test_another_module_does_not_take_the_weights(linear):
    state = hansa.learning.build_federated_averaging_process(linear).initialize()
    with pytest.raises(ValueError, match=r"Linear has the shape \(4, 6\), the one given \(3, 6\)"):
        state.model.assign_weights_to(nn.Linear(6, 4))
    with pytest.raises(ValueError, match=r"it lacks bias of the weights given"):
        state.model.assign_weights_to(nn.Linear(6, 3, bias=False))
    other = nn.Linear(6, 3)
    found = hansa.learning.with_weights(state, other).model
    np.testing.assert_array_equal(found.trainable["weight"], other.weight.detach().numpy())
