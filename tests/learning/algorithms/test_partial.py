"""Weights that are each client's own, beside NumPy with 64 bits: FedPer, LG-FedAvg, FedBN and FedRep."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain
from tests.program.digits import assert_same_bits

BIAS, KERNEL = 0, 1
HEAD_PASSES = 2


def expected(own: int, passes: int) -> tuple[plain.Weights, dict[int, Any]]:
    """The model after all rounds, and each client's own part."""
    w = plain.initial()
    kept = dict.fromkeys(range(len(plain.SIZES)), w[own])
    together = lambda mine, w: tuple(mine if part == own else w[part] for part in (BIAS, KERNEL))  # noqa: E731
    for cohort in plain.COHORTS:
        clients, after = by_hand.counted(cohort), []
        for client in clients:
            mine = together(kept[client], w)
            for _ in range(passes):
                mine = by_hand.sgd(mine, client, lambda g, _: together(g[own], plain.zeros()))
            only = (lambda g, _: g) if not passes else (lambda g, _: together(0 * g[own], g))
            mine = by_hand.sgd(mine, client, only)
            kept[client] = mine[own]
            after.append(together(w[own], mine))
        w = by_hand.mean(after, [plain.SIZES[client] for client in clients])
    return w, kept


BUILT = {
    "FedPer": (hansa.learning.build_fed_per, "bias", BIAS, {}),
    "LG-FedAvg": (hansa.learning.build_lg_fed_avg, lambda name: name == "kernel", KERNEL, {}),
    "FedRep": (hansa.learning.build_fed_rep, ["bia*"], BIAS, {"head_passes": HEAD_PASSES}),
}


@pytest.mark.parametrize("name", BUILT)
def test_rounds_are_those_of_the_paper(name: str) -> None:
    build, personal, own, more = BUILT[name]
    process = build(plain.model(), personal=personal, **more)
    state = by_hand.rounds(process)
    w, kept = expected(own, more.get("head_passes", 0))
    plain.assert_close(state.model.trainable, w)
    field = ("bias", "kernel")[own]
    for client, known in enumerate(plain.IDS):
        work = state.clients[known].work
        np.testing.assert_allclose(work.weights.trainable[field], kept[client], rtol=1e-5, atol=1e-5)
        assert work.seen == (not plain.left_out(client))
    assert process.client_work.run.type_signature.result["update"]["trainable"].names == (("kernel", "bias")[own],)
    assert np.abs(kept[0] - kept[3]).max() > 1e-2


def test_each_client_is_evaluated_with_its_own_and_the_servers_if_it_was_never_seen() -> None:
    process = hansa.learning.build_fed_per(plain.model(), personal="bias")
    begun = process.initialize()
    before = hansa.learning.with_weights(
        begun, begun.model._replace(trainable=begun.model.trainable._replace(bias=np.float32([1, 2, 3])))
    )
    state, _ = process.next(before, plain.population().select([0]))
    evaluation = hansa.learning.build_per_client_evaluation(process)
    found = [each.metrics.loss for each in evaluation(state, plain.population().select([0, 1]))]
    kernel = np.float64(state.model.trainable.kernel)
    for client, bias in ((0, state.clients["ann"].work.weights.trainable.bias), (1, [1, 2, 3])):
        loss = plain.loss((np.float64(bias), kernel), plain.all_of(client))
        assert found[client] == pytest.approx(loss, rel=1e-5)
    assert np.abs(np.float64(state.clients["ann"].work.weights.trainable.bias) - [1, 2, 3]).max() < 1


def test_what_a_head_is_not_trained_on_is_not_moved_by_any_optimizer() -> None:
    """Momentum and weight decay of one part's training leave the other part as it is."""
    decaying = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(plain.RATE, momentum=0.9))
    process = hansa.learning.build_fed_rep(plain.model(), personal="bias", client_optimizer=decaying)
    state, _ = process.next(process.initialize(), plain.population().select([0]))
    w, v = plain.initial(), plain.zeros()
    for part in (BIAS, KERNEL):
        v = plain.zeros()
        for batch in plain.batches(0):
            g = plain.combine(lambda g, w: g + 0.1 * w, plain.gradient(w, batch), w)
            v = plain.combine(lambda v, g: 0.9 * v + g, v, g)
            w = tuple(w[i] - plain.RATE * v[i] if i == part else w[i] for i in (BIAS, KERNEL))
    np.testing.assert_allclose(state.clients["ann"].work.weights.trainable.bias, w[BIAS], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.model.trainable.kernel, w[KERNEL], rtol=1e-5, atol=1e-5)


def normalizing() -> Any:
    """A model with a batch normalization before its layer, which keeps a statistic."""

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        trained, moving = weights
        mean = batch.x.mean(0) if training else moving["norm/moving_mean"]
        scores = (batch.x - mean) * trained["norm/gamma"] @ trained["dense/kernel"]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y)
        kept = {"norm/moving_mean": 0.5 * moving["norm/moving_mean"] + 0.5 * batch.x.mean(0)}
        return hansa.learning.BatchOutput(losses.mean(), scores), kept

    trained = {
        "norm/gamma": np.ones(6, np.float32),
        "dense/kernel": np.float32(np.linspace(-0.3, 0.3, 18).reshape(6, 3)),
    }
    moving = {"norm/moving_mean": np.zeros(6, np.float32)}
    spec = f"<x=float32[?,{plain.FEATURES}],y=int32[?]>"
    return hansa.learning.functional_model(
        trained, forward, input_spec=spec, non_trainable=moving, optimizer="sgd", learning_rate=0.1
    )


def test_layers_of_batch_normalization_are_found_with_their_statistics() -> None:
    process = hansa.learning.build_fed_bn(normalizing())
    state = by_hand.rounds(process, [[0, 1]])
    work = state.clients["ann"].work.weights
    assert work.trainable._fields == ("norm/gamma",) and work.non_trainable._fields == ("norm/moving_mean",)
    moving = np.zeros(plain.FEATURES)
    for x, _ in plain.batches(0):
        moving = 0.5 * moving + 0.5 * x.mean(0)
    np.testing.assert_allclose(work.non_trainable["norm/moving_mean"], moving, rtol=1e-5, atol=1e-6)
    assert not np.any(state.model.non_trainable["norm/moving_mean"])
    assert np.ptp(state.model.trainable["dense/kernel"]) > 0
    per_client = by_hand.rounds(hansa.learning.build_fed_rep(normalizing(), personal="norm"), [[0]])
    assert np.any(per_client.clients["ann"].work.weights.trainable["norm/gamma"] != 1)


def test_nobody_who_counts_changes_nothing() -> None:
    process = hansa.learning.build_fed_per(plain.model(), personal="bias")
    before = by_hand.rounds(process, plain.COHORTS[:1])
    after, metrics = process.next(before, plain.population().select([2, 4]))
    assert metrics.model_unchanged and after.server == before.server
    for name in plain.IDS:
        assert_same_bits(after.clients[name], before.clients[name])


def test_weights_that_are_not_there_or_all_of_them_are_refused() -> None:
    build = hansa.learning.build_fed_per
    with pytest.raises(ValueError, match="personal: there is no weight 'biass'; did you mean 'bias'"):
        build(plain.model(), personal="biass")
    with pytest.raises(ValueError, match="all trainable weights of the model 'forward' are personal"):
        build(plain.model(), personal="*")
    with pytest.raises(TypeError, match=r"personal must be names of weights or patterns, .* found 3"):
        build(plain.model(), personal=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no layer with moving statistics"):
        hansa.learning.build_fed_bn(plain.model())
    with pytest.raises(ValueError, match="head_passes must be at least 1"):
        hansa.learning.build_fed_rep(plain.model(), personal="bias", head_passes=0)
    own = hansa.learning.functional_model(
        {"a": np.zeros(2), "b": np.zeros(2)},
        lambda w, batch, training, rng: hansa.learning.BatchOutput(jnp.float32(0)),
        input_spec=f"<x=float32[?,{plain.FEATURES}],y=int32[?]>",
        train_on_batch=lambda w, batch, rng: (w, hansa.learning.BatchOutput(jnp.float32(0))),
    )
    with pytest.raises(ValueError, match="has no optimizer: pass one by name, client_optimizer='sgd'"):
        hansa.learning.build_fed_rep(own, personal="a")
