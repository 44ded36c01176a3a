"""Private processes: nothing of the clients is in their results but noised sums; what would undo that is refused."""

from __future__ import annotations

import numpy as np
import optax
import pytest

import hansa
from hansa.learning import build_federated_averaging_process, functional_model
from hansa.privacy import Adaptive, capped, gaussian

TINY = 1e-9


def linear_model():
    def forward(weights, batch, training, rng):
        losses = optax.softmax_cross_entropy_with_integer_labels(batch.x @ weights["w"], batch.y)
        return hansa.learning.BatchOutput(loss=losses.mean())

    spec = hansa.to_type("<x=float32[?,4],y=int32[?]>")
    return functional_model({"w": np.zeros((4, 3), np.float32)}, forward, input_spec=spec)


MODEL = linear_model()


def clients(number, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [{"x": rng.standard_normal((size, 4)).astype(np.float32), "y": rng.integers(0, 3, size).astype(np.int32)}]
        for size in rng.integers(1, 9, number)
    ]


def averaging(**given):
    return build_federated_averaging_process(MODEL, client_optimizer=optax.sgd(0.5), **given)


@pytest.fixture(scope="module")
def private():
    return averaging(aggregator=gaussian(0.1, TINY, 8))


def updates(data):
    """What each client changes of the weights, in NumPy."""
    found = []
    for ((batch,),) in zip(data, strict=True):
        probabilities = np.full((len(batch["x"]), 3), 1 / 3)
        probabilities[np.arange(len(batch["y"])), batch["y"]] -= 1
        found.append(-0.5 * batch["x"].T.astype(np.float64) @ probabilities / len(batch["x"]))
    return found


def test_a_round_is_the_sum_of_clipped_updates_over_the_cohort_that_is_expected(private):
    data = clients(6)
    state, metrics = private.next(private.initialize(), data)
    expected = sum(u * min(1, 0.1 / np.linalg.norm(u)) for u in updates(data)) / 8
    np.testing.assert_allclose(state.model.trainable["w"], expected, atol=1e-6)
    assert metrics._fields == ("model_unchanged", "aggregator")
    assert float(metrics.aggregator.clipping_norm) == np.float32(0.1)


@pytest.mark.slow
def test_a_round_counts_whoever_comes_and_the_state_says_nothing_of_how_many(private):
    state, metrics = private.next(private.initialize(), [])
    assert int(state.optimizer_state[0]) == 1 and not metrics.model_unchanged


def test_the_process_is_private_and_protected_and_releases_one_sum(private):
    hansa.privacy.require_private(private)
    hansa.privacy.require_protected(private)
    (release,) = hansa.privacy.releases(private)
    assert release.mechanism == hansa.privacy.Gaussian(TINY)
    assert "state.model.trainable.w" in release.paths


def test_plain_averaging_is_not_private_as_its_model_depends_on_the_number_of_clients():
    with pytest.raises(ValueError, match=r"is not private: .*state.model.trainable.w.* made of federated_mean"):
        hansa.privacy.require_private(averaging())


@pytest.mark.slow
def test_open_metrics_are_told_and_said_to_be_open():
    process = averaging(aggregator=gaussian(Adaptive(count_stddev=1.0), TINY, 8, metrics="open"))
    hansa.privacy.require_private(process, open=("metrics",))
    with pytest.raises(ValueError, match=r"metrics.loss.* federated_sum"):
        hansa.privacy.require_private(process)
    state, metrics = process.next(process.initialize(), clients(4))
    assert int(metrics.num_examples) == sum(len(client[0]["x"]) for client in clients(4))
    assert float(state.aggregator.clipping_norm) != np.float32(0.1)


@pytest.mark.slow
def test_weights_are_capped_before_updates_are_clipped():
    process = averaging(aggregator=gaussian(0.1, TINY, 8), client_weighting=capped(4))
    data = clients(6, seed=1)
    state, _ = process.next(process.initialize(), data)
    factors = [min(len(client[0]["x"]), 4) / 4 for client in data]
    given = [u * factor for u, factor in zip(updates(data), factors, strict=True)]
    expected = sum(u * min(1, 0.1 / np.linalg.norm(u)) for u in given) / 8
    np.testing.assert_allclose(state.model.trainable["w"], expected, atol=1e-6)


@pytest.mark.parametrize("weighting", ["num_examples", lambda outputs: 1.0])
def test_weights_of_any_size_are_refused_where_the_process_is_built(weighting):
    with pytest.raises(ValueError, match=r'say client_weighting="uniform", or client_weighting=hansa.privacy.capped'):
        averaging(aggregator=gaussian(0.1, 1.0, 8), client_weighting=weighting)


@pytest.mark.parametrize(
    "around", [hansa.aggregators.zeroing, lambda rule: hansa.aggregators.clipping(rule, quantile=0.5)]
)
def test_a_rule_around_the_private_one_that_looks_at_the_clients_is_refused(around):
    with pytest.raises(ValueError, match=r"not private: .*state.*give the rule of hansa.privacy itself"):
        averaging(aggregator=around(gaussian(0.1, 1.0, 8)))


def test_client_work_that_asks_all_clients_first_without_noise_is_refused():
    with pytest.raises(ValueError, match="not private"):
        hansa.learning.algorithms.build_mime(
            MODEL, base_optimizer="sgd", base_learning_rate=0.1, aggregator=gaussian(0.1, 1.0, 8)
        )


def test_a_bound_that_is_made_of_the_clients_is_no_private_one():
    @hansa.federated_computation("{float32[2]}@CLIENTS", "{float32}@CLIENTS")
    def total(values, norms):
        bound = hansa.federated_max(norms)
        return hansa.federated_private_sum(values, bound, hansa.privacy.Gaussian(1.0))

    with pytest.raises(ValueError, match="made of federated_max"):
        hansa.privacy.require_private(total)


# Metrics with noise.


def noised(**given):
    metrics = hansa.privacy.noised_metrics(1e-6, loss=(1.0, 1.1))
    return averaging(aggregator=gaussian(0.5, TINY, 4, metrics=metrics), **given)


def test_noised_metrics_are_means_over_clients_within_their_ranges():
    process, data = noised(), clients(5, seed=4)
    state, _ = process.next(process.initialize(), data)
    broken = [{"x": np.full((2, 4), np.nan, np.float32), "y": np.zeros(2, np.int32)}]
    _, metrics = process.next(state, [*data, broken])
    losses = []
    for ((batch,),) in zip(data, strict=True):
        logits = batch["x"].astype(np.float64) @ np.asarray(state.model.trainable["w"], np.float64)
        logits -= np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) + logits.max(
            1, keepdims=True
        )
        losses.append(-logits[np.arange(len(logits)), batch["y"]].mean())
    assert min(losses) < 1 and max(losses) > 1.1
    assert float(metrics.loss) == pytest.approx(np.clip(losses, 1.0, 1.1).mean(), abs=1e-4)
    assert float(metrics.noised_clients) == pytest.approx(5, abs=1e-4)
    assert metrics._fields == ("loss", "noised_clients", "model_unchanged", "aggregator")


def test_noised_metrics_are_private_and_charged_beside_the_model():
    metrics = hansa.privacy.noised_metrics(4.0, loss=(0, 2))
    assert metrics.left_of(2.0) == pytest.approx((1 / 4 - 1 / 16) ** -0.5)
    process = averaging(aggregator=gaussian(0.5, metrics.left_of(2.0), 4, metrics=metrics))
    hansa.privacy.require_private(process)
    hansa.privacy.require_protected(process)
    mechanisms = [release.mechanism for release in hansa.privacy.releases(process)]
    assert hansa.privacy.Charge(hansa.privacy.Poisson(0.1), mechanisms).noise_multiplier == pytest.approx(2.0)
    assert "metrics.loss" in hansa.explain(process).private
    correlated = hansa.privacy.matrix(0.5, 1.0, 4, rounds=8, separation=4, terms=2, power=0.5, metrics=metrics)
    both = [release.mechanism for release in hansa.privacy.releases(averaging(aggregator=correlated))]
    charge = hansa.privacy.Charge(hansa.privacy.Separated(4), both)
    assert charge.family == "correlated" and charge.noise_multiplier == pytest.approx(1 / np.sqrt(1 + 1 / 16))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: hansa.privacy.noised_metrics(1.0), "needs the range of a metric"),
        (lambda: hansa.privacy.noised_metrics(1.0, loss=(1, 1)), "the range of 'loss' .* above 1, found 1"),
        (lambda: hansa.privacy.noised_metrics(1.0, loss=3), r"must be its least and greatest value, such as \(0, 1\)"),
        (lambda: hansa.privacy.noised_metrics(0.0, loss=(0, 1)), "noise_multiplier of noised_metrics"),
        (lambda: hansa.privacy.noised_metrics(2.0, loss=(0, 1)).left_of(2.0), "cannot have the noise multiplier 2"),
        (
            lambda: averaging(aggregator=gaussian(1.0, 1.0, 4, metrics=hansa.privacy.noised_metrics(9.0, los=(0, 1)))),
            "the model has no metric 'los' for noised_metrics.*loss",
        ),
        (lambda: gaussian(1.0, 1.0, 4, metrics="all"), r"or hansa.privacy.noised_metrics\(…\), found 'all'"),
    ],
)
def test_noised_metrics_that_cannot_be_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()
