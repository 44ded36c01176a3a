"""HetLoRA, and the algorithms that know nothing of adapters, on a model with adapters: beside loops in float64."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

import hansa
from tests.learning.algorithms.test_lora import (
    ADAPTERS,
    BASE,
    BATCH,
    FIRST,
    RANK,
    RATE,
    SCALE,
    SIZES,
    X,
    Y,
    batches,
    gradient,
    mean,
    model,
    trained,
)

RANKS = [1, 2]


def of_rank(weights: dict[str, Any], rank: int) -> dict[str, Any]:
    return {**weights, "a": weights["a"][:, :rank], "b": weights["b"][:rank]}


@pytest.mark.parametrize("by_id", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_het_lora_beside_loops_of_smaller_adapters(by_id):
    """Each client trains factors of its own rank; they are filled up, and weighed by the norm of the product."""
    given: Any = {"ann": 1, "cleo": 1} if by_id else RANKS
    ranks = [1, 2, 1]
    process = hansa.learning.build_het_lora(model(), ranks=given, scale=SCALE, adapters=ADAPTERS)
    if by_id:
        rows = [{"x": np.concatenate(X), "y": np.concatenate(Y)}, np.repeat(["ann", "bo", "cleo"], SIZES)]
        clients = hansa.simulation.ClientData.from_arrays(*rows).batch(BATCH)
        data: Any = clients.cohort([0, 1, 2])
    else:
        data = [batches(x, y) for x, y in zip(X, Y, strict=True)]
    state = process.initialize()
    for _ in range(3):
        state, _ = process.next(state, data)
    weights = {name: np.float64(value) for name, value in FIRST.items()}
    for _ in range(3):
        each = [trained(of_rank(weights, rank), np.float64(BASE), client) for client, rank in enumerate(ranks)]
        norms = [np.linalg.norm(w["a"] @ w["b"]) for w in each]
        for w in each:
            more = RANK - w["a"].shape[1]
            w["a"], w["b"] = np.pad(w["a"], ((0, 0), (0, more))), np.pad(w["b"], ((0, more), (0, 0)))
        weights = {name: np.average([w[name] for w in each], axis=0, weights=norms) for name in weights}
    assert np.abs(weights["a"][:, 1] - FIRST["a"][:, 1]).max() > 0.1, "the second column is shrunk by who has none"
    for name, value in weights.items():
        np.testing.assert_allclose(state.model.trainable[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    ("ranks", "message"), [([0], "from 1 to 2"), ({"ann": 3}, "from 1 to 2"), ([], "has none"), ([True], "found True")]
)
def test_ranks_that_cannot_be_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        hansa.learning.build_het_lora(model(), ranks=ranks, adapters=ADAPTERS)


class TestOtherAlgorithms:
    """FedProx, SCAFFOLD and FedAdam train adapters as they train anything: beside loops in float64."""

    data: ClassVar = [batches(x, y) for x, y in zip(X, Y, strict=True)]

    def found(self, process: Any, rounds: int = 2) -> Any:
        state = process.initialize()
        for _ in range(rounds):
            state, _ = process.next(state, self.data)
        np.testing.assert_array_equal(state.model.non_trainable["kernel"], BASE)
        return state.model.trainable

    def same(self, found: Any, expected: dict[str, Any]) -> None:
        assert np.abs(expected["b"]).max() > 0.05
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6, err_msg=name)

    @staticmethod
    def steps(weights: Any, client: int, direction: Any) -> Any:
        """SGD that follows what `direction(gradient, weights)` gives."""
        w = dict(weights)
        for batch in batches(X[client], Y[client]):
            g = gradient(w, np.float64(BASE), batch)
            w = {name: w[name] - RATE * direction(g, w)[name] for name in w}
        return w

    def test_fed_prox(self):
        mu = 0.3
        weights = {name: np.float64(value) for name, value in FIRST.items()}
        for _ in range(2):
            start = weights
            pull = lambda g, w, start=start: {name: g[name] + mu * (w[name] - start[name]) for name in g}  # noqa: E731
            each = [self.steps(start, client, pull) for client in range(3)]
            weights = {name: mean([w[name] for w in each]) for name in weights}
        self.same(self.found(hansa.learning.build_fed_prox(model(), proximal_strength=mu)), weights)

    @pytest.mark.slow
    def test_scaffold(self):
        zero = {name: np.zeros(value.shape) for name, value in FIRST.items()}
        weights, server, own = {name: np.float64(value) for name, value in FIRST.items()}, zero, [zero] * 3
        for _ in range(2):
            each, controls = [], []
            for client in range(3):
                mine = own[client]
                correct = lambda g, w, mine=mine, server=server: {n: g[n] - mine[n] + server[n] for n in g}  # noqa: E731
                each.append(self.steps(weights, client, correct))
                steps = len(self.data[client])
                moved = {n: (weights[n] - each[-1][n]) / (steps * RATE) for n in weights}
                controls.append({n: mine[n] - server[n] + moved[n] for n in weights})
            server = {
                n: server[n] + np.mean([c[n] - o[n] for c, o in zip(controls, own, strict=True)], 0) for n in server
            }
            own = controls
            weights = {name: np.mean([w[name] for w in each], 0) for name in weights}
        process = hansa.learning.build_scaffold(model(), client_learning_rate=RATE, population=3)
        self.same(self.found(process), weights)

    def test_fed_adam(self):
        rate, first, second, tau = 0.1, 0.9, 0.99, 1e-3
        weights = {name: np.float64(value) for name, value in FIRST.items()}
        m = {name: np.zeros(value.shape) for name, value in FIRST.items()}
        v = {name: np.full(value.shape, tau**2) for name, value in FIRST.items()}
        for _ in range(2):
            each = [self.steps(weights, client, lambda g, w: g) for client in range(3)]
            change = {name: mean([w[name] for w in each]) - weights[name] for name in weights}
            m = {name: first * m[name] + (1 - first) * change[name] for name in m}
            v = {name: second * v[name] + (1 - second) * change[name] ** 2 for name in v}
            weights = {name: weights[name] + rate * m[name] / (np.sqrt(v[name]) + tau) for name in weights}
        self.same(self.found(hansa.learning.build_fed_adam(model(), server_learning_rate=rate)), weights)
