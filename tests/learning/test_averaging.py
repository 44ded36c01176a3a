"""Federated averaging against an independent NumPy version, and what a round does with clients it cannot use."""

from collections import OrderedDict
from functools import partial

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa

layers = keras.layers
FEATURES, CLASSES = 6, 3


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numpy_client(w, b, batches, rate):
    """SGD on a softmax regression in float64; the mean loss before each step, by example."""
    w, b, seen, loss = w.copy(), b.copy(), 0, 0.0
    for batch in batches:
        x, y = batch["x"].astype("float64"), batch["y"][:, 0]
        n = len(y)
        p = softmax(x @ w + b)
        loss += -np.log(p[np.arange(n), y]).sum()
        error = (p - np.eye(CLASSES)[y]) / n
        w, b, seen = w - rate * x.T @ error, b - rate * error.sum(0), seen + n
    return w, b, seen, loss


def numpy_round(w, b, clients, rate):
    trained = [numpy_client(w, b, batches, rate) for batches in clients]
    total = sum(n for _, _, n, _ in trained)
    if not total:
        return w, b, 0.0
    mean = [sum(t[i] * t[2] for t in trained) / total for i in (0, 1)]
    return *mean, sum(t[3] for t in trained) / total


def make_clients(sizes, batch=5, seed=0):
    rng = np.random.default_rng(seed)
    clients = []
    for size in sizes:
        x = rng.normal(size=(size, FEATURES)).astype("float32")
        y = rng.integers(0, CLASSES, (size, 1)).astype("int32")
        clients.append([OrderedDict(x=x[i : i + batch], y=y[i : i + batch]) for i in range(0, size, batch)])
    return clients


def logistic(rate=0.3):
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(rate), loss=loss, metrics=["accuracy"])
    return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])


@pytest.fixture(scope="module")
def process():
    return hansa.learning.build_federated_averaging_process(logistic)


def weights_of(state):
    return np.asarray(state.model.trainable["dense/kernel"], "float64"), np.asarray(
        state.model.trainable["dense/bias"], "float64"
    )


def same(a, b):
    import jax

    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_rounds_equal_a_numpy_version(process):
    state = process.initialize()
    w, b = weights_of(state)
    for seed, sizes in enumerate([[5, 17, 3], [1], [40, 0, 12, 8, 9], [2, 2]]):
        clients = make_clients(sizes, seed=seed)
        state, metrics = process.next(state, clients)
        w, b, loss = numpy_round(w, b, clients, 0.3)
        np.testing.assert_allclose(weights_of(state)[0], w, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(weights_of(state)[1], b, rtol=1e-6, atol=1e-6)
        assert metrics.loss == pytest.approx(loss, rel=1e-6)
        assert metrics.num_empty_clients == sizes.count(0)
    assert state.optimizer_state[0] == 4


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_client_that_is_not_finite_is_left_out_and_counted(process, poison):
    good = make_clients([7, 12])
    bad = make_clients([9], seed=5)
    bad[0][1]["x"][2, 3] = poison
    state = process.initialize()
    expected, clean = process.next(state, good)
    found, metrics = process.next(state, [good[0], bad[0], good[1]])
    for a, b in zip(weights_of(found), weights_of(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert (metrics.loss, metrics.accuracy) == (pytest.approx(clean.loss), pytest.approx(clean.accuracy))
    assert metrics.num_non_finite_clients == 1
    assert "num_non_finite_clients=1" in str(metrics)
    assert "num_non_finite_clients" not in str(clean)


def test_without_a_usable_client_the_state_stays(process):
    state, _ = process.next(process.initialize(), make_clients([6]))
    bad = make_clients([9])
    bad[0][0]["x"][:] = np.nan
    for clients in (bad, [[]], [], [*bad, []]):
        after, metrics = process.next(state, clients)
        assert same(after, state)
        assert metrics.model_unchanged
        assert "model_unchanged=True" in str(metrics)
        assert np.isfinite(metrics.loss)
    assert (metrics.num_non_finite_clients, metrics.num_empty_clients) == (1, 1)


def test_order_of_clients_does_not_matter_but_their_number_of_examples_does(process):
    state, clients = process.initialize(), make_clients([3, 30, 11])
    a, _ = process.next(state, clients)
    b, _ = process.next(state, clients[::-1])
    for x, y in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", ["uniform", lambda outputs: outputs.num_examples**2])
def test_client_weighting(weighting):
    process = hansa.learning.build_federated_averaging_process(logistic, client_weighting=weighting)
    state, clients = process.initialize(), make_clients([4, 21])
    after, _ = process.next(state, clients)
    w, b = weights_of(state)
    trained = [numpy_client(w, b, batches, 0.3) for batches in clients]
    ns = [1.0, 1.0] if weighting == "uniform" else [n**2 for _, _, n, _ in trained]
    expected = sum(t[0] * n for t, n in zip(trained, ns, strict=True)) / sum(ns)
    np.testing.assert_allclose(weights_of(after)[0], expected, rtol=1e-5, atol=1e-6)


def test_server_optimizer_takes_minus_the_average_update_as_gradient():
    momentum = hansa.learning.build_federated_averaging_process(logistic, server_optimizer=optax.sgd(0.5, momentum=0.9))
    velocities = "optimizer_state=<int64,trace=<dense/bias=float32[3],dense/kernel=float32[6,3]>>"
    assert velocities in momentum.initialize.type_signature.compact()
    state, velocity, velocity_b = momentum.initialize(), 0.0, 0.0
    w, b = weights_of(state)
    for seed in range(3):
        clients = make_clients([4, 9], seed=seed)
        state, _ = momentum.next(state, clients)
        average = numpy_round(w, b, clients, 0.3)
        velocity = 0.9 * velocity + (w - average[0])
        velocity_b = 0.9 * velocity_b + (b - average[1])
        w, b = w - 0.5 * velocity, b - 0.5 * velocity_b
        np.testing.assert_allclose(weights_of(state)[0], w, rtol=1e-5, atol=1e-6)


def test_keras_and_optax_server_optimizers_agree():
    results = []
    for optimizer in (keras.optimizers.Adam(0.1, epsilon=1e-8), optax.adam(0.1)):
        keras.utils.set_random_seed(3)
        process = hansa.learning.build_federated_averaging_process(logistic, server_optimizer=optimizer)
        state = process.initialize()
        for seed in range(3):
            state, _ = process.next(state, make_clients([4, 9], seed=seed))
        results.append(weights_of(state)[0])
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


def test_client_optimizer_replaces_the_models_and_starts_anew():
    process = hansa.learning.build_federated_averaging_process(logistic, client_optimizer=optax.sgd(0.1))
    state, clients = process.initialize(), make_clients([4, 21])
    w, b = weights_of(state)
    state, _ = process.next(state, clients)
    np.testing.assert_allclose(weights_of(state)[0], numpy_round(w, b, clients, 0.1)[0], rtol=1e-5, atol=1e-6)


def dropout_model(seed=None):
    def model_fn():
        model = keras.Sequential(
            [
                keras.Input((200,)),
                layers.Dropout(0.5, seed=seed),
                layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
            ]
        )
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
        return hansa.learning.from_compiled_keras_model(
            model, OrderedDict(x=np.ones((1, 200), "float32"), y=np.ones((1, 1), "float32"))
        )

    return model_fn


def test_dropout_masks_differ_by_client_step_and_round_but_not_by_position():
    batch = OrderedDict(x=np.ones((1, 200), "float32"), y=np.ones((1, 1), "float32"))
    process = hansa.learning.build_federated_averaging_process(dropout_model())
    population = hansa.ClientBatches(
        OrderedDict(x=np.ones((6, 200), "float32"), y=np.ones((6, 1), "float32")), np.arange(7), 1
    )

    def dropped(state, clients):
        after, _ = process.next(state, clients)
        return np.asarray(after.model.trainable["dense/kernel"])[:, 0] == 0

    state = process.initialize()
    masks = [dropped(state, population.select([i])) for i in range(6)]
    assert all(0.3 < mask.mean() < 0.7 for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == 6
    np.testing.assert_array_equal(dropped(state, population.select([4])), masks[4])
    both = dropped(state, population.select([4, 1]))
    np.testing.assert_array_equal(both, masks[4] & masks[1])
    later, _ = process.next(state, [[batch]])
    assert later.optimizer_state[0] == 1
    assert not np.array_equal(dropped(state, [[batch]]), dropped(state, [[batch, batch]]))


def test_seed_decides_all_random_draws():
    batch = OrderedDict(x=np.ones((1, 200), "float32"), y=np.ones((1, 1), "float32"))
    results = []
    for seed in (1, 1, 2):
        process = hansa.learning.build_federated_averaging_process(dropout_model(), seed=seed)
        state, _ = process.next(process.initialize(), [[batch]])
        results.append(np.asarray(state.model.trainable["dense/kernel"]))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_statistics_of_batch_normalisation_are_averaged_or_kept():
    def model_fn():
        model = keras.Sequential(
            [keras.Input((FEATURES,)), layers.BatchNormalization(momentum=0.5), layers.Dense(CLASSES)]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])

    clients = make_clients([5, 3])
    means = [np.mean(batches[0]["x"], axis=0) for batches in clients]
    for choice, expected in (("mean", 0.5 * (5 * means[0] + 3 * means[1]) / 8), ("server", np.zeros(FEATURES))):
        process = hansa.learning.build_federated_averaging_process(model_fn, non_trainable=choice)
        state, _ = process.next(process.initialize(), clients)
        np.testing.assert_allclose(
            state.model.non_trainable["batch_normalization/moving_mean"], expected, rtol=1e-5, atol=1e-6
        )


def test_labels_of_64_bits_do_not_change_a_float32_model():
    def model_fn():
        model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])
        model.compile(
            optimizer=keras.optimizers.Adam(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return hansa.learning.from_compiled_keras_model(
            model, OrderedDict(x=np.ones((1, FEATURES)), y=np.ones((1, 1), "int64"))
        )

    process = hansa.learning.build_federated_averaging_process(model_fn)
    assert "x=float64[?,6],y=int64[?,1]" in process.next.type_signature.compact()
    clients = [
        [OrderedDict(x=b["x"].astype("float64"), y=b["y"].astype("int64")) for b in c] for c in make_clients([9, 4])
    ]
    state, metrics = process.next(process.initialize(), clients)
    assert state.model.trainable["dense/kernel"].dtype == np.float32
    assert metrics.loss.dtype == np.float32
    assert np.isfinite(metrics.loss)


def test_averaging_compiles_to_one_client_stage(process):
    from hansa.compiler.partition import compile_computation

    program = compile_computation(process.next)
    assert len(program.clients) == 1
    assert program.clients[0].kept == ()
    text = hansa.explain(process.next)
    assert "1 client stage, one XLA program" in text
    assert "-> mean at the server" in text


def test_a_hundred_rounds_of_changing_ragged_cohorts_compile_once(process):
    rng = np.random.default_rng(0)
    sizes = np.maximum(1, rng.lognormal(2, 1, 60).astype(int))
    examples = OrderedDict(
        x=rng.normal(size=(sizes.sum(), FEATURES)).astype("float32"),
        y=rng.integers(0, CLASSES, (sizes.sum(), 1)).astype("int32"),
    )
    population = hansa.ClientBatches(examples, np.concatenate([[0], np.cumsum(sizes)]), 10)
    runtime = hansa.InProcessRuntime()
    hansa.set_runtime(runtime)
    try:
        state = process.initialize()
        before = runtime.compilations
        for _ in range(100):
            cohort = rng.choice(60, rng.integers(5, 11), replace=False)
            state, metrics = process.next(state, population.select(cohort))
        assert runtime.compilations - before == 1
        for _ in range(100):
            cohort = rng.choice(60, rng.integers(5, 11), replace=False)
            state, metrics = process.next(state, [list(population[int(i)]) for i in cohort])
        assert runtime.compilations - before <= 2
    finally:
        hansa.set_runtime(None)
    assert metrics.loss < 1.2


def test_devices_and_chunks_do_not_change_the_result(process):
    import jax

    state, clients = process.initialize(), make_clients([5, 17, 3, 0, 26, 1, 9])
    results = {}
    try:
        for devices in (1, len(jax.devices())):
            for chunk in (None, 1, 3):
                hansa.set_runtime(hansa.InProcessRuntime(jax.devices()[:devices], clients_per_chunk=chunk))
                results[devices, chunk] = process.next(state, clients)
    finally:
        hansa.set_runtime(None)
    for (devices, _), result in results.items():
        assert same(result, results[devices, None]), "chunks changed a bit"
        for a, b in zip(weights_of(result.state), weights_of(results[1, None].state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [None, 4])
def test_several_clients_at_once_give_the_same_result(process, chunk):
    state, clients = process.initialize(), make_clients([5, 17, 3, 0, 26, 1, 9])
    clients[1][0]["x"][0, 0] = np.nan
    expected = process.next(state, clients)
    with hansa.runtime(hansa.InProcessRuntime(clients_at_once=3, clients_per_chunk=chunk)):
        found = process.next(state, clients)
    assert found.metrics.num_non_finite_clients == found.metrics.num_empty_clients == 1
    assert found.metrics.loss == pytest.approx(expected.metrics.loss, rel=1e-5)
    for a, b in zip(weights_of(found.state), weights_of(expected.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def bad(change):
    clients = make_clients([5, 5])
    change(clients)
    return clients


def rename(batch):
    batch["label"] = batch.pop("y")


BAD = {
    "dtype": (
        lambda c: c[1][0].update(x=c[1][0]["x"].astype("float64")),
        ["data[1][0].x", "float64", "float32", "astype"],
    ),
    "shape": (lambda c: c[1][0].update(x=c[1][0]["x"][:, :4]), ["data[1][0].x", "float32[5,4]", "float32[?,6]"]),
    "missing key": (lambda c: c[0][0].pop("y"), ["data[0][0]", "y"]),
    "other key": (lambda c: rename(c[0][0]), ["data[0][0]", "label"]),
    "extra key": (lambda c: c[0][0].update(z=c[0][0]["x"]), ["data[0][0]", "z"]),
    "rows": (lambda c: c[0][0].update(y=c[0][0]["y"][:3]), ["data[0][0]", "different numbers of examples"]),
    "a batch for a list": (lambda c: c.__setitem__(0, c[0][0]), ["data[0]", "put the one batch in a list"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_batches_are_refused_before_anything_runs(process, case):
    change, words = BAD[case]
    with pytest.raises((TypeError, ValueError)) as raised:
        process.next(process.initialize(), bad(change))
    for word in words:
        assert word in str(raised.value), str(raised.value)


def test_data_that_is_no_list_of_clients_is_refused(process):
    state = process.initialize()
    for data, hint in (
        (make_clients([5])[0][0], "wrap one client's value in a list"),
        (iter(make_clients([5])), "an iterator is one client's"),
        (3, "one entry per client"),
    ):
        with pytest.raises(TypeError, match=hint):
            process.next(state, data)
    with pytest.raises(TypeError, match=r"data\[0\] must be a sequence"):
        process.next(state, make_clients([5])[0])  # one client's batches instead of a list of clients


def test_the_state_of_another_model_is_refused(process):
    def model_fn():
        model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(4), layers.Dense(CLASSES)])
        model.compile(optimizer="sgd", loss="mse")
        return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])

    other = hansa.learning.build_federated_averaging_process(model_fn)
    with pytest.raises(TypeError, match="state"):
        process.next(other.initialize(), make_clients([5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client_weighting": "examples"}, "'num_examples', 'sample_weight', 'uniform'"),
        ({"non_trainable": "sum"}, "'mean' or 'server'"),
        ({"server_optimizer": 3}, "server_optimizer must be the name of an optimizer"),
        (
            {"client_optimizer": "adam"},
            "client_optimizer='adam' needs a learning rate: write client_learning_rate=0.01",
        ),
        ({"client_learning_rate": 0.1}, "write client_optimizer='sgd', for example"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        hansa.learning.build_federated_averaging_process(logistic, **arguments)


def test_what_is_no_model_is_refused():
    keras_model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    for value in (keras_model, lambda: keras_model, lambda: None, 3):
        with pytest.raises(TypeError, match="from_compiled_keras_model"):
            hansa.learning.build_federated_averaging_process(value)


@pytest.mark.parametrize("weight", [np.ones(2, "float32"), np.complex64(1), "1", None, [1.0]])
def test_a_weight_that_is_not_one_number_is_refused(weight):
    with pytest.raises(TypeError, match="client_weighting must return one number, found"):
        hansa.learning.build_federated_averaging_process(logistic, client_weighting=lambda outputs: weight)


def test_a_negative_weight_leaves_a_client_out_and_counts_it():
    def weigh(outputs):
        return jnp.where(outputs.num_examples > 7, 1.0, -0.9)

    process = hansa.learning.build_federated_averaging_process(logistic, client_weighting=weigh)
    state, clients = process.initialize(), make_clients([10, 5])
    both, metrics = process.next(state, clients)
    one, _ = process.next(state, clients[:1])
    assert same(both, one)
    assert metrics.num_non_finite_clients == 1


def test_frozen_weights_do_not_drift():
    def model_fn():
        frozen = layers.Dense(16, trainable=False)
        model = keras.Sequential([keras.Input((FEATURES,)), frozen, layers.Dense(CLASSES)])
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(True))
        return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])

    process = hansa.learning.build_federated_averaging_process(model_fn)
    first = state = process.initialize()
    for seed in range(3):
        state, _ = process.next(state, make_clients([5, 10, 15], seed=seed))
    assert same(state.model.non_trainable, first.model.non_trainable)


def test_half_precision_with_an_optimizer_of_ones_own():
    updates = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            keras.utils.set_random_seed(0)
            process = hansa.learning.build_federated_averaging_process(logistic, client_optimizer=optax.sgd(0.1))
            state = process.initialize()
            after, _ = process.next(state, make_clients([10, 5]))
        finally:
            keras.config.set_dtype_policy("float32")
        updates.append(weights_of(after)[0] - weights_of(state)[0])
    np.testing.assert_allclose(*updates, atol=2e-3)


def test_a_metric_with_the_name_of_a_counter_is_refused():
    def model_fn():
        model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])
        model.compile(optimizer="sgd", loss="mse", metrics=[keras.metrics.MeanSquaredError(name="num_empty_clients")])
        return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])

    with pytest.raises(ValueError, match="rename it"):
        hansa.learning.build_federated_averaging_process(model_fn)


def test_constraints_hold_with_an_optimizer_of_ones_own():
    def model_fn():
        constrained = layers.Dense(CLASSES, kernel_constraint=keras.constraints.UnitNorm(), kernel_initializer="ones")
        model = keras.Sequential([keras.Input((FEATURES,)), constrained])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
        return hansa.learning.from_compiled_keras_model(model, make_clients([5])[0][0])

    kernels = []
    for optimizer in (None, optax.sgd(0.1)):
        process = hansa.learning.build_federated_averaging_process(model_fn, client_optimizer=optimizer)
        state, _ = process.next(process.initialize(), make_clients([12]))
        kernels.append(weights_of(state)[0])
    np.testing.assert_allclose(np.linalg.norm(kernels[0], axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-6)


def test_a_schedule_of_the_clients_steps_equals_numpy_with_other_rates():
    clients, schedule = make_clients([12, 5, 20]), optax.exponential_decay(1.0, 1, 0.5)
    process = hansa.learning.build_federated_averaging_process(logistic, client_schedule=schedule)
    state = process.initialize()
    w, b = (np.asarray(state.model.trainable[name], "float64") for name in ("dense/kernel", "dense/bias"))
    for number in range(3):
        state, metrics = process.next(state, clients)
        w, b, loss = numpy_round(w, b, clients, 0.3 * 0.5**number)
        np.testing.assert_allclose(metrics.loss, loss, rtol=1e-6)
    np.testing.assert_allclose(state.model.trainable["dense/kernel"], w, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(state.model.trainable["dense/bias"], b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [partial(optax.sgd, momentum=0.9), optax.adam], ids=["momentum", "adam"])
def test_a_schedule_is_a_factor_of_the_learning_rate(optimizer):
    clients, build = make_clients([12, 5, 20]), hansa.learning.build_federated_averaging_process
    halved = build(
        logistic, client_optimizer=optimizer(0.2), client_schedule=lambda number: jnp.where(number < 9, 0.5, 0)
    )
    plain = build(logistic, client_optimizer=optimizer(0.1))
    start = plain.initialize()
    (found, _), (expected, _) = halved.next(start, clients), plain.next(start, clients)
    for x, y in zip(found.model.trainable, expected.model.trainable, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_schedule_that_is_none_is_refused():
    build = hansa.learning.build_federated_averaging_process
    with pytest.raises(TypeError, match=r"client_schedule must be a function from the number of a round .* found 0\.5"):
        build(logistic, client_schedule=0.5)
    with pytest.raises(TypeError, match=r"client_schedule must return a number, and returns an array of shape \[2\]"):
        build(logistic, client_schedule=lambda number: jnp.ones(2))
