"""IFCA and HypCluster beside NumPy with 64 bits; where their models begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa.learning import ModelWeights
from tests.learning.algorithms import by_hand, plain

GROUPS, SERVER_RATE = 3, 0.7
BUILDERS = {"ifca": hansa.learning.build_ifca, "hyp_cluster": hansa.learning.build_hyp_cluster}


def starts() -> list[Any]:
    """Models that clients choose differently: of two of them, and one that nobody chooses."""
    models = []
    for client in (3, 0):
        w = plain.initial()
        for _ in range(3):
            w = by_hand.sgd(w, client)
        models.append(w)
    far = plain.combine(lambda w: 30 * np.random.default_rng(1).normal(size=w.shape), plain.initial())
    return [_weights(w) for w in (*models, far)]


def _weights(w: plain.Weights) -> Any:
    pairs = zip(("bias", "kernel"), w, strict=True)
    return ModelWeights.create(hansa.Struct([(name, leaf.astype(np.float32)) for name, leaf in pairs]), hansa.Struct())


def rounds_by_hand(by_examples: bool) -> tuple[list[plain.Weights], dict[int, int], Any]:
    """The models after all rounds, the group of each client, and the shares of the last round."""
    models, groups = [plain.as_numpy(start.trainable) for start in starts()], dict.fromkeys(range(len(plain.SIZES)), -1)
    for cohort in plain.COHORTS:
        total = np.zeros(GROUPS)
        sums = [plain.zeros() for _ in models]
        for client in by_hand.counted(cohort):
            group = int(np.argmin([by_hand.full_loss(model, client) for model in models]))
            weight = plain.SIZES[client] if by_examples else 1
            after = by_hand.sgd(models[group], client)
            sums[group] = plain.combine(lambda s, a, b, w=weight: s + w * (a - b), sums[group], after, models[group])
            total[group] += weight
            groups[client] = group
        for group in range(GROUPS):
            if total[group]:
                models[group] = plain.combine(
                    lambda m, s, n=total[group]: m + SERVER_RATE * s / n, models[group], sums[group]
                )
    return models, groups, total / total.sum()


def build(name: str, **more: Any) -> Any:
    return BUILDERS[name](
        plain.model(), groups=GROUPS, initial_models=starts(), server_learning_rate=SERVER_RATE, **more
    )


@pytest.fixture(scope="module")
def ifca() -> Any:
    return build("ifca")


@pytest.mark.parametrize("name", ["ifca", pytest.param("hyp_cluster", marks=pytest.mark.slow)])
def test_rounds_are_those_of_the_paper(name: str, ifca: Any) -> None:
    check(by_hand.rounds(ifca if name == "ifca" else build(name)), name)


def check(state: Any, name: str) -> None:
    models, groups, share = rounds_by_hand(name == "hyp_cluster")
    assert len(set(groups.values()) - {-1}) == 2, groups
    for group, expected in enumerate(models):
        plain.assert_close(
            hansa.Struct([(k, v[group]) for k, v in state.finalizer.models.trainable._items()]), expected
        )
    np.testing.assert_allclose(state.finalizer.share, share, rtol=1e-6)
    plain.assert_close(state.model.trainable, models[int(np.argmax(share))])
    assert [int(state.clients[client].work.group) for client in plain.IDS] == list(groups.values())


@pytest.mark.slow
def test_clients_are_evaluated_with_the_model_of_their_group(ifca: Any) -> None:
    state = by_hand.rounds(ifca)
    models, groups, _ = rounds_by_hand(by_examples=False)
    results = list(hansa.learning.build_per_client_evaluation(ifca)(state, plain.population()))
    for client in (0, 1, 3):
        expected = by_hand.full_loss(models[groups[client]], client)
        np.testing.assert_allclose(results[client].metrics.loss, expected, rtol=1e-5)
    first = hansa.learning.build_per_client_evaluation(ifca)(ifca.initialize(), plain.population().select([0]))
    np.testing.assert_allclose(
        first[0].metrics.loss, by_hand.full_loss(plain.as_numpy(starts()[0].trainable), 0), rtol=1e-5
    )


def test_spread_models_are_of_clients_that_others_fit_least() -> None:
    averaging = hansa.learning.build_federated_averaging_process(plain.model())
    found = hansa.learning.spread_models(averaging, plain.population(), 3, seed=1)
    first = int(np.random.default_rng(1).integers(5))
    expected = [plain.initial() if plain.left_out(first) else by_hand.sgd(plain.initial(), first)]
    for _ in range(2):
        least = {i: min(by_hand.full_loss(w, i) for w in expected) for i in (0, 1, 3)}
        expected.append(by_hand.sgd(plain.initial(), max(least, key=least.__getitem__)))
    for a, b in zip(found, expected, strict=True):
        plain.assert_close(a.trainable, b)
    with pytest.raises(ValueError, match="groups must be from 1 to the number of clients, 5; found 6"):
        hansa.learning.spread_models(averaging, plain.population(), 6)


def test_starts_by_the_seed_have_the_numbers_of_the_model_in_another_order() -> None:
    models = [
        hansa.learning.build_ifca(plain.model(), groups=2, seed=seed).initialize().finalizer.models.trainable.kernel
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(models[0], models[1])
    assert not np.array_equal(models[0][1], models[2][1]) and not np.array_equal(models[0][0], models[0][1])
    np.testing.assert_array_equal(np.sort(models[0][1], None), np.sort(models[0][0], None))


def test_groups_that_cannot_differ_are_refused() -> None:
    model = plain.model()
    for wrong, kind, message in (
        ({"groups": 2, "initial_models": [starts()[0]] * 2}, ValueError, "all groups would begin with the same model"),
        ({"groups": 2, "initial_models": starts()}, ValueError, "as many as groups, 2; found 3"),
        ({"groups": 0}, ValueError, "groups must be at least 1, found 0"),
        ({"groups": 1.5}, TypeError, "groups must be an integer"),
        (
            {"groups": 1, "initial_models": [{"w": 1.0}]},
            TypeError,
            "each of initial_models must be weights of the model",
        ),
        ({"groups": 2, "server_learning_rate": 0}, ValueError, "server_learning_rate must be a number above 0"),
    ):
        with pytest.raises(kind, match=message):
            hansa.learning.build_ifca(model, **wrong)
