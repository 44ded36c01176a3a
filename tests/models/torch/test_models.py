"""What becomes of a PyTorch module: gradients that stop, weights of every kind, sizes that Python asks for, files."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hansa
from hansa.learning import build_federated_averaging_process, from_torch, state_dict
from tests.models.torch.loops import train

SIZES = (8, 3)


class Module(nn.Module):
    """Weights of every kind in a few small layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.frozen, self.norm, self.fc = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.frozen.requires_grad_(False)
        self.quiet = nn.BatchNorm1d(6).eval()
        self.quiet.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("part", torch.tensor(0.5), persistent=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.norm(self.second(torch.tanh(self.first(x))))
        with torch.no_grad():
            stopped = h * 2
        if self.training:
            self.seen = self.seen + 1
        return self.fc(self.quiet(self.frozen(h)) * self.part + stopped + (h * h).detach())


def clients():
    rng = np.random.default_rng(0)
    return [
        [{"x": rng.normal(size=(n, 6)).astype("float32"), "y": rng.integers(0, 3, n).astype("int32")} for n in SIZES]
    ]


def adamw(module):
    return torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=0.1)


def test_weights_of_every_kind_are_those_of_a_plain_loop(tmp_path):
    torch.manual_seed(0)
    module = Module()
    model = from_torch(module, clients()[0][0], loss=F.cross_entropy, optimizer=adamw(module))
    assert sorted(model.initial_weights.trainable._fields) == [
        "fc.bias", "fc.weight", "first.weight", "norm.bias", "norm.weight", "unused.bias", "unused.weight",
    ]  # fmt: skip
    process = build_federated_averaging_process(model)
    state, _ = process.next(process.initialize(), clients())
    expected = train(module, clients()[0], F.cross_entropy, None, adamw)
    found = state_dict(state.model, module)
    assert list(found) == list(expected)
    for name, value in found.items():
        if "num_batches" not in name:
            np.testing.assert_allclose(value.numpy(), expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
    assert torch.equal(found["frozen.weight"], module.frozen.weight)
    assert torch.equal(found["first.weight"], found["second.weight"])
    # A file that PyTorch's users write and read has the names of the `state_dict`.
    safetensors = pytest.importorskip("safetensors.torch")
    own = {name: value for name, value in found.items() if name != "second.weight"}
    safetensors.save_file(own, tmp_path / "it.safetensors")
    again = hansa.learning.load_weights(tmp_path / "it.safetensors", like=state.model)
    assert all(torch.equal(value, found[name]) for name, value in state_dict(again, module).items())


class Sized(nn.Module):
    """Python asks for the number of examples."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x) if x.shape[0] == 3 else self.fc(x * 2)


@pytest.mark.slow
def test_a_module_that_asks_for_the_size_has_a_graph_for_each(tmp_path):
    torch.manual_seed(0)
    module = Sized()
    sgd = lambda m: torch.optim.SGD(m.parameters(), lr=0.5)  # noqa: E731
    process = build_federated_averaging_process(
        from_torch(module, clients()[0][0], loss=F.cross_entropy, optimizer=sgd(module))
    )
    state, _ = process.next(process.initialize(), clients())
    expected = train(module, clients()[0], F.cross_entropy, None, sgd)
    for name, value in state_dict(state.model, module).items():
        np.testing.assert_allclose(value.numpy(), expected[name], atol=1e-5)
    with pytest.raises(Exception, match=r"size"):
        hansa.save(process, tmp_path / "sized.hansa")


def test_dropout_draws_by_the_clients_key_and_not_in_inference():
    module = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 3))
    batch = clients()[0][0]
    model = from_torch(copy.deepcopy(module), batch, loss=F.cross_entropy)
    import jax

    given = hansa.Struct([("x", batch["x"]), ("y", batch["y"])])

    def loss(training, seed):
        key = jax.random.key(seed)
        return float(model.forward(model.initial_weights, model.initial_local, given, training, key).output.loss)

    assert loss(True, 0) == loss(True, 0) != loss(True, 1)
    assert loss(False, 0) == loss(False, 1)
    with torch.no_grad():
        theirs = F.cross_entropy(module.eval()(torch.tensor(batch["x"])), torch.tensor(batch["y"]).long())
    assert loss(False, 0) == pytest.approx(float(theirs), abs=1e-5)
