"""Models of Flax, Equinox and Haiku, against plain loops with these libraries alone over the true batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hansa.language.context import current_runtime
from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model

FEATURES, HIDDEN, CLASSES, RATE = 6, 16, 3, 0.1
SIZES = (1, 32, 33, 70)
X = np.zeros((2, FEATURES), "float32")
SAMPLE = {"x": X, "y": np.zeros(2, "int32")}


def make_client(size):
    rng = np.random.default_rng(size)
    return {
        "x": rng.normal(size=(size, FEATURES)).astype("float32"),
        "y": rng.integers(0, CLASSES, size).astype("int32"),
    }


def true_batches(client):
    return [{k: v[i : i + 32] for k, v in client.items()} for i in range(0, len(client["y"]), 32)]


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def client_keys(steps, rounds=0, client=0, seed=0):
    """The keys of a client's batches: of the seed, the number of the round, the client and the batch."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), rounds), client)
    return [jax.random.fold_in(key, step) for step in range(steps)]


def assert_close(found, expected):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def check(model, plain_loop, *like):
    """Clients one by one, and a round of all of them, equal a plain loop over each client's true batches.

    Args:
        model: the functional model, trained by SGD.
        plain_loop: from (batches, their keys) to the pytrees of weights after them.
        like: the pytrees of the initial weights, and of the non-trainable ones.
    """
    process = build_federated_averaging_process(model)
    state, trained = process.initialize(), {}
    for size in SIZES:
        batches = true_batches(make_client(size))
        trained[size] = plain_loop(batches, client_keys(len(batches)))
        after, metrics = process.next(state, [batches])
        assert_close(after.model.to_pytree(*like), trained[size])
        assert metrics.num_examples == size
    assert current_runtime()._compile(process.next).sizes is None, "short batches were compiled size by size"

    clients = [true_batches(make_client(size)) for size in SIZES]
    alone = [plain_loop(batches, client_keys(len(batches), client=i)) for i, batches in enumerate(clients)]
    mean = jax.tree.map(lambda *leaves: np.average(leaves, axis=0, weights=SIZES), *alone)
    after, _ = process.next(state, clients)
    assert_close(after.model.to_pytree(*like), mean)


def test_flax_linen_with_batch_norm_and_dropout():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, training):
            x = nn.Dense(HIDDEN)(x)
            x = nn.BatchNorm(use_running_average=not training, momentum=0.9)(x)
            x = nn.Dropout(0.3, deterministic=not training)(nn.relu(x))
            return nn.Dense(CLASSES)(x)

    net = Net()
    variables = net.init(jax.random.key(0), X, training=False)
    params, statistics = variables["params"], variables["batch_stats"]

    def forward(weights, batch, training, rng):
        params, statistics = weights
        logits, after = net.apply(
            {"params": params, "batch_stats": statistics},
            batch.x,
            training=training,
            rngs={"dropout": rng},
            mutable=["batch_stats"],
        )
        return BatchOutput(cross_entropy(logits, batch.y), logits), after["batch_stats"]

    model = functional_model(params, forward, sample_batch=SAMPLE, optimizer=optax.sgd(RATE), non_trainable=statistics)
    assert model.initial_weights.trainable._fields[:2] == ("BatchNorm_0/bias", "BatchNorm_0/scale")
    assert model.initial_weights.non_trainable._fields == ("BatchNorm_0/mean", "BatchNorm_0/var")

    def loss(params, kept, batch, key):
        logits, after = net.apply(
            {"params": params, "batch_stats": kept},
            batch["x"],
            training=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return cross_entropy(logits, batch["y"]), after["batch_stats"]

    step = jax.jit(jax.grad(loss, has_aux=True))

    def plain_loop(batches, keys):
        trained, kept = params, statistics
        for batch, key in zip(batches, keys, strict=True):
            gradients, kept = step(trained, kept, batch, key)
            trained = jax.tree.map(lambda w, g: w - RATE * g, trained, gradients)
        return trained, kept

    check(model, plain_loop, params, statistics)


@pytest.mark.slow
def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(FEATURES, HIDDEN, rngs=rngs)
            self.norm = nnx.BatchNorm(HIDDEN, momentum=0.9, rngs=rngs)
            self.out = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.norm(self.hidden(x))))

    graph, params, statistics = nnx.split(Net(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)

    def forward(weights, batch, training, rng):
        net = nnx.merge(graph, *weights)
        net.train() if training else net.eval()
        logits = net(batch.x)
        after = nnx.state(net, nnx.BatchStat)
        return BatchOutput(cross_entropy(logits, batch.y), logits), after

    model = functional_model(params, forward, sample_batch=SAMPLE, optimizer=optax.sgd(RATE), non_trainable=statistics)
    assert "hidden/kernel/value" in model.initial_weights.trainable._fields

    @nnx.jit
    def step(net, optimizer, batch):
        optimizer.update(net, nnx.grad(lambda net: cross_entropy(net(batch["x"]), batch["y"]))(net))

    def plain_loop(batches, keys):
        net = nnx.merge(graph, *jax.tree.map(jnp.array, (params, statistics)))
        net.train()
        optimizer = nnx.Optimizer(net, optax.sgd(RATE), wrt=nnx.Param)
        for batch in batches:
            step(net, optimizer, batch)
        return nnx.state(net, nnx.Param), nnx.state(net, nnx.BatchStat)

    check(model, plain_loop, params, statistics)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    net = eqx.nn.MLP(FEATURES, CLASSES, HIDDEN, depth=1, activation=jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(net, eqx.is_inexact_array)

    def forward(params, batch, training, rng):
        logits = jax.vmap(eqx.combine(params, static))(batch.x)
        return BatchOutput(cross_entropy(logits, batch.y), logits)

    model = functional_model(params, forward, sample_batch=SAMPLE, optimizer=optax.sgd(RATE))
    assert model.initial_weights.trainable._fields == (
        "layers/0/bias",
        "layers/0/weight",
        "layers/1/bias",
        "layers/1/weight",
    )

    @eqx.filter_jit
    @eqx.filter_grad
    def gradients_of(net, batch):
        return cross_entropy(jax.vmap(net)(batch["x"]), batch["y"])

    def plain_loop(batches, keys):
        trained = net
        for batch in batches:
            updates = jax.tree.map(lambda g: -RATE * g, gradients_of(trained, batch))
            trained = eqx.apply_updates(trained, updates)
        return eqx.filter(trained, eqx.is_inexact_array)

    check(model, plain_loop, params)


def test_haiku():
    hk = pytest.importorskip("haiku")

    def network(x, training):
        x = hk.Linear(HIDDEN)(x)
        x = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, training)
        return hk.Linear(CLASSES)(jax.nn.relu(x))

    net = hk.transform_with_state(network)
    params, statistics = net.init(jax.random.key(0), X, True)

    def forward(weights, batch, training, rng):
        logits, after = net.apply(*weights, rng, batch.x, training)
        return BatchOutput(cross_entropy(logits, batch.y), logits), after

    model = functional_model(params, forward, sample_batch=SAMPLE, optimizer=optax.sgd(RATE), non_trainable=statistics)
    assert {"batch_norm/offset", "linear/w", "linear_1/b"} < set(model.initial_weights.trainable._fields)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def step(trained, kept, batch):
        logits, after = net.apply(trained, kept, None, batch["x"], True)
        return cross_entropy(logits, batch["y"]), after

    def plain_loop(batches, keys):
        trained, kept = params, statistics
        for batch in batches:
            gradients, kept = step(trained, kept, batch)
            trained = jax.tree.map(lambda w, g: w - RATE * g, trained, gradients)
        return trained, kept

    process = build_federated_averaging_process(model)
    state, _ = process.next(process.initialize(), [true_batches(make_client(70))])
    found, kept = state.model.to_pytree(params, statistics)
    expected, expected_kept = plain_loop(true_batches(make_client(70)), None)
    assert_close(found, expected)
    for path, part in expected_kept.items():
        for name in ("average", "hidden"):
            assert_close(kept[path][name], part[name])
    counters = [name for name in model.initial_weights.non_trainable._fields if name.endswith("counter")]
    assert counters, "Haiku counts the updates of a moving average in an integer, which is the server's"
    assert all(state.model.non_trainable[name] == 0 for name in counters)
