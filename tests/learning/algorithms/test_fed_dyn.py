"""FedDyn beside NumPy with 64 bits: the model, the server's h, and what each client keeps."""

from __future__ import annotations

import numpy as np
import pytest

import hansa
from hansa.learning import build_fed_dyn
from tests.learning.algorithms import by_hand, plain
from tests.learning.algorithms.plain import combine

ALPHA, POPULATION = 0.4, len(plain.SIZES)


def test_rounds_are_those_of_the_paper() -> None:
    theta, h = plain.initial(), plain.zeros()
    own = {client: plain.zeros() for client in range(POPULATION)}
    for cohort in plain.COHORTS:
        models = []
        for k in by_hand.counted(cohort):
            follow = lambda g, w, k=k, sent=theta: combine(  # noqa: E731
                lambda g, mine, w, sent: g - mine + ALPHA * (w - sent), g, own[k], w, sent
            )
            model = by_hand.sgd(theta, k, follow)
            own[k] = combine(lambda mine, w, sent: mine - ALPHA * (w - sent), own[k], model, theta)
            models.append(model)
        total = combine(lambda sent, *each: sum(w - sent for w in each), theta, *models)
        h = combine(lambda h, total: h - ALPHA / POPULATION * total, h, total)
        theta = combine(lambda mean, h: mean - h / ALPHA, by_hand.mean(models, [1.0] * len(models)), h)
    state = by_hand.rounds(build_fed_dyn(plain.model(), alpha=ALPHA, population=POPULATION))
    plain.assert_close(state.model.trainable, theta)
    plain.assert_close(state.finalizer.h, h)
    for client, name in enumerate(plain.IDS):
        plain.assert_close(state.clients[name].work.gradient, own[client])
    assert np.abs(own[3][1]).max() > 0.01 and not np.any(own[4][1])


@pytest.mark.slow
def test_it_comes_to_the_minimum_of_the_mean_loss_where_averaging_does_not() -> None:
    """Each client's minimum is its own: quadratic losses (w - c)^2 / 2 s, of which averaging finds another mean."""
    model = hansa.learning.functional_model(
        {"w": np.float32(0)},
        lambda w, batch, training, rng: hansa.learning.BatchOutput(((w["w"] - batch.c) ** 2 / 2 * batch.s).mean()),
        input_spec="<c=float32[?],s=float32[?]>",
    )
    pairs = [(1.0, 0.2), (-2.0, 2.0)]
    clients = [[{"c": np.float32([c]), "s": np.float32([s])}] * 40 for c, s in pairs]
    best = sum(c * s for c, s in pairs) / sum(s for _, s in pairs)
    dyn = build_fed_dyn(model, alpha=1.0, population=2, client_optimizer="sgd", client_learning_rate=0.2)
    average = hansa.learning.build_federated_averaging_process(model, client_optimizer="sgd", client_learning_rate=0.2)
    ends = []
    for process in (dyn, average):
        state = process.initialize()
        for _ in range(30):
            state, _ = process.next(state, clients)
        ends.append(float(state.model.trainable.w))
    assert abs(ends[0] - best) < 1e-3 < 0.5 < abs(ends[1] - best)


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be a number above 0, found 0"):
        build_fed_dyn(plain.model(), alpha=0, population=3)
    with pytest.raises(ValueError, match="population must be a number at least 1, found 0"):
        build_fed_dyn(plain.model(), alpha=1, population=0)
