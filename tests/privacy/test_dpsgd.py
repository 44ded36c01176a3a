"""DP-SGD on the clients: clipped sums of true examples, who is drawn, noise, each site's epsilon, what is refused."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import hansa
from hansa.learning import build_federated_averaging_process, functional_model
from hansa.learning.private_steps import STEPS_OF_CLIP, _clipped, _drawn, _with_noise
from hansa.privacy import dpsgd, site_guarantee

SECRET = bytes(range(32))
CLIP = 0.5


def linear_model():
    def forward(weights, batch, training, rng):
        losses = optax.softmax_cross_entropy_with_integer_labels(batch.x @ weights["w"] + weights["b"], batch.y)
        return hansa.learning.BatchOutput(loss=losses.mean())

    spec = hansa.to_type("<x=float32[?,4],y=int32[?]>")
    first = {"w": np.full((4, 3), 0.1, np.float32), "b": np.float32([0.0, 0.1, -0.1])}
    return functional_model(first, forward, input_spec=spec)


MODEL = linear_model()


def rows_of(size, seed):
    rng = np.random.default_rng([size, seed])
    x = rng.standard_normal((size, 4)) * rng.choice([0.1, 3.0], (size, 1))  # some gradients are shorter than the clip
    return x.astype(np.float32), rng.integers(0, 3, size).astype(np.int32)


def clients(sizes, batch=4, seed=0):
    """Clients with so many examples, in batches of which the last one may be smaller."""
    found = []
    for size in sizes:
        x, y = rows_of(size, seed)
        found.append([{"x": x[i : i + batch], "y": y[i : i + batch]} for i in range(0, size, batch)])
    return found


def private(model=MODEL, noise=0.0, learning_rate=1.0, process=build_federated_averaging_process, **given):
    if "batch_size" not in given:
        given = {"sampling_rate": 1.0, **given}
    rule = dpsgd("sgd", CLIP, noise, **{"steps": 1, "max_examples": 16, **given})
    return process(model, client_optimizer=rule, client_learning_rate=learning_rate)


def clipped_sum(weights, x, y):
    """The sum of the clipped gradients of examples, one after another, in NumPy and float64: [5, 3], the bias last."""
    w, b, total = *(np.asarray(weights[name], np.float64) for name in ("w", "b")), np.zeros((5, 3))
    for row, label in zip(x.astype(np.float64), y, strict=True):
        scores = np.exp(row @ w + b)
        errors = scores / scores.sum() - np.eye(3)[label]
        gradient = np.concatenate([np.outer(row, errors), errors[None]])
        total += gradient * min(1, CLIP / np.linalg.norm(gradient))
    return total


def joined(trainable):
    return np.concatenate([np.asarray(trainable["w"]), np.asarray(trainable["b"])[None]])


@pytest.mark.parametrize("together", [1, 3])
def test_a_step_is_the_sum_of_the_clipped_gradients_of_true_examples(together):
    process = private(physical_batch_size=together)
    first = process.initialize()
    sizes = [5, 1, 9]
    state, metrics = process.next(first, clients(sizes))
    sums = [clipped_sum(MODEL.initial_weights.trainable, *rows_of(size, 0)) for size in sizes]
    # The mean by examples of each site's mean of clipped gradients.
    np.testing.assert_allclose(joined(state.model.trainable), joined(first.model.trainable) - sum(sums) / 15, atol=1e-6)
    assert metrics._fields == ("model_unchanged",)


@pytest.mark.slow
def test_steps_go_on_from_another_and_examples_beyond_the_room_are_not_used():
    process = private(steps=3, max_examples=8, batch_size=100, learning_rate=0.5)
    state, _ = process.next(process.initialize(), clients([11]))
    x, y = rows_of(11, 0)
    weights = {name: np.asarray(w, np.float64) for name, w in MODEL.initial_weights.trainable._items()}
    for _ in range(3):
        step = clipped_sum(weights, x[:8], y[:8]) / 8
        weights = {"w": weights["w"] - 0.5 * step[:4], "b": weights["b"] - 0.5 * step[4]}
    np.testing.assert_allclose(joined(state.model.trainable), joined(weights), atol=1e-6)


@pytest.mark.slow
def test_a_client_without_examples_has_no_part_and_neither_has_an_example_that_is_not_finite():
    process = private()
    first, data = process.initialize(), clients([4])
    data[0][0]["x"][1] = np.nan
    state, _ = process.next(first, [[], *data])
    x, y = rows_of(4, 0)
    kept = [0, 2, 3]
    expected = joined(first.model.trainable) - clipped_sum(MODEL.initial_weights.trainable, x[kept], y[kept]) / 4
    np.testing.assert_allclose(joined(state.model.trainable), expected, atol=1e-6)


def test_no_clipped_gradient_is_longer_than_the_clip_and_none_is_shortened_that_is_not():
    rng = np.random.default_rng(3)
    clip = jax.jit(lambda leaves: _clipped(leaves, jnp.bool_(True), 0.7))
    for scale in (1e-30, 1e-3, 0.2, 1.0, 1e4, 1e30):
        leaves = [(scale * rng.standard_normal(shape)).astype(np.float32) for shape in ((300, 7), (11,))]
        found = [np.asarray(leaf) for leaf in clip(leaves)]
        whole = [[int(number) for number in leaf.ravel()] for leaf in found]
        assert all(float(number) == exact for leaf, e in zip(found, whole, strict=True)
                   for number, exact in zip(leaf.ravel(), e, strict=True))  # fmt: skip
        assert sum(number**2 for leaf in whole for number in leaf) <= int(STEPS_OF_CLIP) ** 2
        norm = np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in leaves))
        for leaf, given in zip(found, leaves, strict=True):
            expected = given.astype(np.float64) / max(norm, 0.7)
            np.testing.assert_allclose(leaf / STEPS_OF_CLIP, expected, atol=3e-9)
    assert not any(np.any(leaf) for leaf in clip([np.float32([1.0, np.inf]), np.float32([2.0])]))


def draws(rate, count, steps, most=200):
    rule = dpsgd("sgd", 1.0, 1.0, steps=steps, max_examples=most, sampling_rate=rate)
    key = np.frombuffer(SECRET, np.uint32)
    with jax.enable_x64(True):
        rows, numbers = jax.vmap(lambda step: _drawn(key, step, jnp.float64(rate), jnp.int32(count), rule))(
            jnp.arange(steps, dtype=jnp.int32)
        )
    return np.asarray(rows), np.asarray(numbers)


def test_each_example_is_drawn_by_itself_with_the_same_probability():
    rate, count, steps = 0.15, 150, 500
    rows, numbers = draws(rate, count, steps)
    for row, number in zip(rows, numbers, strict=True):
        assert (np.diff(row[:number]) > 0).all() and (row[:number] < count).all() and (row[number:] == 200).all()
    times = np.bincount(rows[rows < 200], minlength=count)
    assert len(times) == count
    # Numbers of a batch are binomial, and so are the times of each example.
    for found, size in ((numbers, count), (times, steps)):
        spread = size * rate * (1 - rate)
        assert abs(found.mean() - size * rate) < 4 * math.sqrt(spread / len(found))
        assert stats.chi2.ppf(1e-4, len(found)) < ((found - size * rate) ** 2 / spread).sum()
        assert ((found - size * rate) ** 2 / spread).sum() < stats.chi2.ppf(1 - 1e-4, len(found))
    assert len({tuple(row) for row in rows}) == steps


@pytest.mark.slow
def test_all_examples_are_drawn_with_the_probability_one():
    _, numbers = draws(1.0, 37, 3)
    assert numbers.tolist() == [37, 37, 37]


def test_noise_is_a_gaussian_that_is_rounded_to_integers():
    number, noise = 100_000, 1.3
    zero = {"a": np.zeros((number // 2, 1)), "b": np.zeros(number // 2)}
    with jax.enable_x64(True):
        made = [_with_noise(zero, np.arange(8, dtype=np.uint32) + i, noise) for i in range(2)]
    one, other = (np.concatenate([np.asarray(part["a"])[:, 0], np.asarray(part["b"])]) for part in made)
    assert (one == np.rint(one)).all()
    scaled = one / (noise * STEPS_OF_CLIP)
    assert abs(scaled.mean()) < 4 / math.sqrt(number)
    assert abs(scaled.std() - 1) < 4 / math.sqrt(2 * number)
    seen = np.histogram(stats.norm.cdf(scaled), 100, (0, 1))[0]
    assert stats.chisquare(seen).pvalue > 1e-4
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(number)


def unmoved():
    """A model of many weights whose gradient is zero for an example of zero."""

    def forward(weights, batch, training, rng):
        return hansa.learning.BatchOutput(loss=batch.x.mean() * weights["w"].sum())

    return functional_model({"w": np.zeros(20_000, np.float32)}, forward, input_spec="<x=float32[?]>")


def test_the_noise_of_a_round_is_what_is_said_and_of_a_secret_that_is_not_the_seed():
    process = private(unmoved(), noise=2.0, steps=2, batch_size=8)
    first, data = process.initialize(), [[{"x": np.zeros(10, np.float32)}], [{"x": np.zeros(16, np.float32)}]]

    def after(**secret):
        with hansa.privacy.noise_of(SECRET, **secret):
            return np.asarray(process.next(first, data)[0].model.trainable["w"])

    one, again, other = after(round_number=1), after(round_number=1), after(round_number=2)
    np.testing.assert_array_equal(one, again)
    # A mean of two sites by examples, each the sum of two steps with noise 2 * CLIP over 8 that are expected.
    stddev = math.hypot(10, 16) / 26 * math.sqrt(2) * 2 * CLIP / 8
    for found in (one, other, np.asarray(process.next(first, data)[0].model.trainable["w"])):
        assert abs(found.mean()) < 4 * stddev / math.sqrt(20_000)
        assert abs(found.std() / stddev - 1) < 4 / math.sqrt(40_000)
        assert stats.kstest(found / stddev, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(20_000)


SITES = [pytest.param(1000, 1.1, marks=pytest.mark.slow), pytest.param(200, 0.8, marks=pytest.mark.slow), (20, 4.0)]


@pytest.mark.parametrize(("number", "noise"), SITES)
def test_each_site_has_the_epsilon_of_its_own_rate_and_steps(number, noise):
    dp = pytest.importorskip("dp_accounting")
    from dp_accounting import pld

    rule = dpsgd("sgd", 1.0, noise, steps=4, max_examples=5000, batch_size=50)
    accountant = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    event = dp.PoissonSampledDpEvent(min(1, 50 / number), dp.GaussianDpEvent(noise))
    accountant.compose(event, 4 * 6)
    found = site_guarantee(rule, num_examples=number, rounds=6, delta=1e-5)
    assert found.epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)
    assert (found.unit, found.against, found.rounds) == ("example", "the server", 6)


def test_without_noise_or_rounds_the_epsilon_is_infinite_or_zero():
    rule = dpsgd("sgd", 1.0, 0.0, steps=4, max_examples=50, sampling_rate=0.5)
    assert site_guarantee(rule, num_examples=10, rounds=1, delta=1e-5).epsilon == math.inf
    assert site_guarantee(rule, num_examples=10, rounds=0, delta=1e-5).epsilon == 0


def test_more_examples_than_there_is_room_for_do_not_lower_the_rate():
    rule = dpsgd("sgd", 1.0, 1.0, steps=1, max_examples=100, batch_size=20)
    assert rule.rate_of(100) == rule.rate_of(10_000) == 0.2


def test_the_process_is_private_and_says_of_whom_and_against_whom():
    process = private(noise=1.0)
    hansa.privacy.require_private(process)
    (release,) = hansa.privacy.releases(process)
    assert release.mechanism.unit == "example" and release.mechanism.noise_multiplier == 1.0
    assert "state.model.trainable.w" in release.paths
    assert "for each example at each client, against the server" in str(hansa.explain(process))
    given = {"num_examples": 10, "rounds": 3, "delta": 1e-5}
    assert site_guarantee(process, **given) == site_guarantee(release.mechanism, **given)


def test_open_metrics_are_said_to_be_open_and_without_noise_nothing_is_said_to_be_private():
    with pytest.raises(ValueError, match=r"metrics.loss.* federated_sum"):
        hansa.privacy.require_private(private(noise=1.0, metrics="open"))
    with pytest.raises(ValueError, match="is not private"):
        hansa.privacy.require_private(private(noise=0.0))


@pytest.mark.slow
def test_open_metrics_are_those_of_the_model_that_was_sent_on_all_examples():
    process = private(noise=1.0, metrics="open", sampling_rate=0.1)
    _, metrics = process.next(process.initialize(), clients([5, 9]))
    losses = []
    for size in (5, 9):
        x, y = rows_of(size, 0)
        scores = x @ MODEL.initial_weights.trainable["w"] + MODEL.initial_weights.trainable["b"]
        losses.extend(np.log(np.exp(scores).sum(1)) - scores[np.arange(size), y])
    assert float(metrics.loss) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.slow
def test_how_examples_are_batched_and_where_it_is_computed_does_not_matter():
    process = private(noise=1.0, steps=2, sampling_rate=0.6)
    first, found = process.initialize(), []
    for batch in (3, 16):
        with hansa.privacy.noise_of(SECRET):
            found.append(process.next(first, clients([7, 11], batch))[0])
    np.testing.assert_array_equal(*(joined(state.model.trainable) for state in found))
    with hansa.runtime(hansa.ReferenceRuntime()), hansa.privacy.noise_of(SECRET):
        same = process.next(first, clients([7, 11]))[0]
    np.testing.assert_allclose(joined(same.model.trainable), joined(found[0].model.trainable), atol=1e-6)


@pytest.mark.slow
def test_a_saved_round_has_the_same_bits_and_says_the_same(tmp_path):
    process = private(noise=1.0, steps=3, sampling_rate=0.6)
    hansa.save(process.next, tmp_path / "next.hansa")
    loaded, found = hansa.load(tmp_path / "next.hansa"), []
    (release,), (said,) = (hansa.privacy.releases(computation) for computation in (process, loaded))
    assert release.mechanism == said.mechanism
    given = {"num_examples": 10, "rounds": 3, "delta": 1e-5}
    assert site_guarantee(loaded, **given) == site_guarantee(process, **given)
    for computation in (process.next, loaded):
        with hansa.privacy.noise_of(SECRET):
            found.append(computation(process.initialize(), clients([7, 11]))[0])
    np.testing.assert_array_equal(*(joined(state.model.trainable) for state in found))


@pytest.mark.slow
def test_an_example_moves_a_step_by_the_clip_at_most_whatever_is_in_it():
    process, found = private(), []
    first = process.initialize()
    for value in (np.nan, np.inf, 3e38, 1e19, -1e10, 1.0, 0.0, 1e-38):  # one that is not finite counts as left out
        data = clients([4])
        data[0][0]["x"][2] = value
        found.append(joined(process.next(first, data)[0].model.trainable).astype(np.float64))
    moved = [4 * np.linalg.norm(each - found[0]) for each in found]
    assert moved[1] == 0 and max(moved) <= CLIP * (1 + 1e-6)
    assert moved[2:5] == pytest.approx([CLIP] * 3, rel=1e-5)


def test_weights_of_examples_are_no_weights_of_clients_and_room_is_for_what_adds_up_exactly():
    rule = dpsgd("sgd", 1.0, 1.0, steps=1, max_examples=4, sampling_rate=0.5)
    with pytest.raises(ValueError, match='client_weighting is "sample_weight"'):
        build_federated_averaging_process(
            MODEL, client_optimizer=rule, client_learning_rate=0.1, client_weighting="sample_weight"
        )
    with pytest.raises(ValueError, match="sums of at most 4,194,304 gradients are exact"):
        dpsgd("sgd", 1.0, 1.0, steps=1, max_examples=2**22 + 1, sampling_rate=0.5)


REFUSED = [
    ({"batch_size": 4, "sampling_rate": 0.1}, "give one"),
    ({"batch_size": None, "sampling_rate": None}, "give one"),
    ({"sampling_rate": 1.5}, "sampling_rate of dpsgd must be above 0, up to 1"),
    ({"noise_multiplier": -1.0}, "noise_multiplier of dpsgd"),
    ({"clip": 0.0}, "clip of dpsgd"),
    ({"steps": 0}, "steps of dpsgd"),
    ({"metrics": "all"}, "metrics of dpsgd"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED)
def test_numbers_out_of_their_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        dpsgd(
            "sgd", **{"clip": 1.0, "noise_multiplier": 1.0, "steps": 1, "max_examples": 4, "sampling_rate": 0.5} | given
        )


def test_what_looks_at_examples_without_noise_is_refused_where_the_process_is_built():
    rule = dpsgd("sgd", 1.0, 1.0, steps=1, max_examples=4, sampling_rate=0.5)
    given = {"client_optimizer": rule, "client_learning_rate": 0.1}
    learning = hansa.learning
    with pytest.raises(ValueError, match="`first_pass` cannot be used"):
        learning.local_training(first_pass=learning.mean_gradient(), **given)
    with pytest.raises(ValueError, match="`gradient` cannot be used"):
        learning.build_fed_sam(MODEL, rho=0.1, **given)
    with pytest.raises(ValueError, match="client_weighting is the function"):
        build_federated_averaging_process(MODEL, client_weighting=lambda outputs: 1.0, **given)
    with pytest.raises(ValueError, match="one run has one unit"):
        build_federated_averaging_process(MODEL, aggregator=hansa.privacy.gaussian(1.0, 1.0, 8), **given)
    with pytest.raises(ValueError, match="for the training of a round"):
        build_federated_averaging_process(
            MODEL, client_optimizer=dpsgd(rule, 1.0, 1.0, steps=1, max_examples=4, sampling_rate=0.5)
        )


def test_a_budget_asks_whose_examples_they_are():
    with pytest.raises(ValueError, match=r"does not say whose it gives; pass a hansa.simulation.ClientData"):
        hansa.program.train(
            private(noise=1.0),
            lambda round_number: clients([4, 4]),
            rounds=1,
            privacy=hansa.privacy.Budget(epsilon=8.0, delta=1e-5),
        )


def test_site_guarantee_asks_for_a_process_with_dpsgd():
    process = build_federated_averaging_process(MODEL, client_optimizer="sgd", client_learning_rate=0.1)
    with pytest.raises(ValueError, match=r"do not train by hansa.privacy.dpsgd"):
        site_guarantee(process, num_examples=10, rounds=1, delta=1e-5)
