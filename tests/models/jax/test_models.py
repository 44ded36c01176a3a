"""Models in plain JAX against plain loops: clients of all sizes, pytrees, batches, keys, steps of one's own."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hansa
from hansa.language.context import current_runtime
from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model
from tests.models.functional import (
    CLASSES,
    SPEC,
    STATISTICS,
    assert_trees_close,
    cross_entropy,
    make_client,
    mlp,
    momentum_step,
    normalised,
    one_round,
    true_batches,
    weights,
    zero_model,
)

SIZES = [*range(1, 70, 4), 96, 128, 191, 256, 257]


def numpy_epoch(w, client, rate):
    """The MLP above trained by hand in float64: weights, and the sum of the losses before each step by example."""
    w = jax.tree.map(lambda leaf: leaf.astype("float64"), w)
    total = 0.0
    for batch in true_batches(client):
        x, y, n = batch["x"].astype("float64"), batch["y"], len(batch["y"])
        hidden = np.tanh(x @ w["hidden"]["kernel"] + w["hidden"]["bias"])
        logits = hidden @ w["out"]["kernel"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        total -= np.log(p[np.arange(n), y]).sum()
        error = (p - np.eye(CLASSES)[y]) / n
        inner = (error @ w["out"]["kernel"].T) * (1 - hidden**2)
        w = {
            "hidden": {
                "kernel": w["hidden"]["kernel"] - rate * x.T @ inner,
                "bias": w["hidden"]["bias"] - rate * inner.sum(0),
            },
            "out": {"kernel": w["out"]["kernel"] - rate * hidden.T @ error},
        }
    return w, total


def test_clients_of_all_sizes_equal_numpy_loops_over_the_true_batches():
    process = build_federated_averaging_process(mlp())
    initial = process.initialize()
    for size in SIZES:
        state, metrics = process.next(initial, [hansa.Batches(make_client(size), 32)])
        expected, loss = numpy_epoch(weights(), make_client(size), 0.2)
        assert_trees_close(state.model.to_pytree(weights()), expected)
        assert metrics.loss == pytest.approx(loss / size, rel=1e-5)
        assert metrics.num_examples == size
    assert current_runtime()._compile(process.next).sizes is None, "short batches were compiled size by size"

    clients = [make_client(size) for size in SIZES]
    state, metrics = process.next(initial, [hansa.Batches(client, 32) for client in clients])
    trained = [numpy_epoch(weights(), client, 0.2) for client in clients]
    mean = jax.tree.map(lambda *leaves: np.average(leaves, axis=0, weights=SIZES), *(w for w, _ in trained))
    assert_trees_close(state.model.to_pytree(weights()), mean)
    assert metrics.loss == pytest.approx(sum(loss for _, loss in trained) / sum(SIZES), rel=1e-5)


@jax.jit
def plain_normalised_step(w, statistics, x, y, rate):
    def loss(w):
        output, after = normalised((w, statistics), namedtuple("Batch", ["x", "y"])(x, y), True, jax.random.key(0))
        return output.loss, after

    gradients, after = jax.grad(loss, has_aux=True)(w)
    return jax.tree.map(lambda w, g: w - rate * g, w, gradients), after


def plain_normalised_epoch(client, rate):
    pair = weights(), STATISTICS
    for batch in true_batches(client):
        pair = plain_normalised_step(*pair, batch["x"], batch["y"], rate)
    return pair


@pytest.mark.parametrize("non_trainable", ["mean", "server"])
def test_batch_statistics_equal_plain_loops_over_the_true_batches(non_trainable):
    model = functional_model(weights(), normalised, input_spec=SPEC, optimizer=optax.sgd(0.2), non_trainable=STATISTICS)
    process = build_federated_averaging_process(model, non_trainable=non_trainable)
    initial = process.initialize()
    assert "non_trainable=<mean=float32[8],var=float32[8]>" in process.initialize.type_signature.compact()
    trained = {}
    for size in (1, 2, 31, 32, 33, 100, 257):
        trained[size] = plain_normalised_epoch(make_client(size), 0.2)
        state, _ = process.next(initial, [hansa.Batches(make_client(size), 32)])
        w, statistics = state.model.to_pytree(weights(), STATISTICS)
        assert_trees_close(w, trained[size][0])
        assert_trees_close(statistics, trained[size][1] if non_trainable == "mean" else STATISTICS)
    assert current_runtime()._compile(process.next).sizes is None, "short batches were compiled size by size"

    state, _ = process.next(initial, [hansa.Batches(make_client(size), 32) for size in trained])
    mean = jax.tree.map(lambda *leaves: np.average(leaves, axis=0, weights=list(trained)), *trained.values())
    found = state.model.to_pytree(weights(), STATISTICS)
    assert_trees_close(found[0], mean[0])
    assert_trees_close(found[1], mean[1] if non_trainable == "mean" else STATISTICS)


# How weights are named.


@jax.tree_util.register_dataclass
@dataclass
class Layer:
    kernel: object
    bias: object


Named = namedtuple("Named", ["first", "second"])


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"b": {"w": 1.0, "a": 2.0}, "a": 3.0}, ["a", "b/a", "b/w"]),
        ([1.0, {"x": 2.0}], ["0", "1/x"]),
        ((1.0, (2.0, 3.0)), ["0", "1/0", "1/1"]),
        (Named(1.0, [2.0]), ["first", "second/0"]),
        ({"layers": [Layer(1.0, 2.0), Layer(3.0, None)]}, ["layers/0/bias", "layers/0/kernel", "layers/1/kernel"]),
        ({"a/b": 1.0, "a": [2.0]}, ["a/0", "a/b"]),
        (1.0, ["weights"]),
        ({f"{i}": float(i) for i in range(11)}, sorted(map(str, range(11)))),
    ],
)
def test_weights_are_named_by_their_paths_and_keep_their_pytree(tree, names):
    tree = jax.tree.map(np.float32, tree)
    seen = []

    def total(w, batch, training, rng):
        seen.append(jax.tree.structure(w))
        return BatchOutput(sum(i * leaf for i, leaf in enumerate(jax.tree.leaves(w), 1)) + 0 * batch.x.sum())

    model = functional_model(tree, total, input_spec=SPEC, optimizer=optax.sgd(1.0))
    assert list(model.initial_weights.trainable._fields) == names
    state, _ = one_round(model, [[make_client(3)]])
    assert set(seen) == {jax.tree.structure(tree)}
    expected = jax.tree.unflatten(
        jax.tree.structure(tree), [leaf - i for i, leaf in enumerate(jax.tree.leaves(tree), 1)]
    )
    assert_trees_close(state.model.to_pytree(tree), expected)


def test_weights_of_64_bits_are_taken_as_jax_takes_them():
    model = functional_model({"w": np.zeros((5, 3))}, linear, input_spec=SPEC, optimizer=optax.sgd(0.1))
    assert model.initial_weights.trainable.w.dtype == np.float32


def linear(w, batch, training, rng):
    logits = batch.x @ w["w"]
    return BatchOutput(cross_entropy(logits, batch.y), logits)


def test_weights_are_given_back_only_to_a_pytree_of_the_same_leaves():
    state, _ = one_round(mlp(), [[make_client(3)]])
    with pytest.raises(ValueError, match="a pytree like the model's initial weights"):
        state.model.to_pytree({"hidden": 0.0})
    model = functional_model(weights(), normalised, input_spec=SPEC, optimizer=optax.sgd(1.0), non_trainable=STATISTICS)
    state, _ = one_round(model, [[make_client(3)]])
    with pytest.raises(ValueError, match="pass non_trainable"):
        state.model.to_pytree(weights())


# Batches.


def test_a_batch_is_the_struct_that_was_declared():
    def forward(w, batch, training, rng):
        assert isinstance(batch, hansa.Struct)
        assert batch.pixels is batch[0] is batch["pixels"]
        image, label = batch
        assert label is batch.label
        return BatchOutput(((image.sum(1) * w["w"] - label) ** 2).mean())

    sample = OrderedDict(pixels=np.zeros((7, 2), "float32"), label=np.zeros(7, "float32"))
    model = functional_model({"w": np.float32(0)}, forward, sample_batch=sample, optimizer=optax.sgd(0.5))
    assert str(model.batch_type) == "<pixels=float32[?,2],label=float32[?]>"
    state, _ = one_round(model, [[OrderedDict(pixels=np.ones((1, 2), "float32"), label=np.ones(1, "float32"))]])
    assert state.model.trainable.w == 2.0  # the gradient is 2 * (0 - 1) * 2


def test_a_random_key_is_for_one_client_and_batch():
    def forward(w, batch, training, rng):
        assert jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
        return BatchOutput(-w["w"] @ jax.random.bits(rng, (4,), "uint8").astype(jnp.float32) + 0 * batch.x.sum())

    model = functional_model({"w": np.zeros(4)}, forward, input_spec="<x=float32[?]>", optimizer=optax.sgd(1.0))
    process = build_federated_averaging_process(model, seed=3)
    batch = {"x": np.zeros(1, "float32")}

    def drawn(clients):
        return np.asarray(process.next(process.initialize(), clients).state.model.trainable.w)

    first, both = drawn([[batch]]), drawn([[batch], [batch]])
    second = 2 * both - first  # the mean of the two clients
    assert not np.array_equal(first, second)
    assert ((second >= 0) & (second < 256)).all()
    later = drawn([[batch, batch]]) - first
    assert ((later >= 0) & (later < 256)).all()
    assert not np.array_equal(first, later)
    np.testing.assert_array_equal(first, drawn([[batch]]))


def test_num_examples_of_a_batch_may_be_the_models_own():
    def forward(w, batch, training, rng):
        mask = batch.y >= 0
        loss = jnp.where(mask, (batch.x[:, 0] - w["w"]) ** 2, 0).sum() / jnp.maximum(mask.sum(), 1)
        return BatchOutput(loss, num_examples=mask.sum())

    model = functional_model({"w": np.float32(0)}, forward, input_spec=SPEC, optimizer=optax.sgd(0.5))
    x = np.zeros((4, 5), "float32")
    x[:, 0] = [1, 3, 100, 5]
    padded = {"x": x, "y": np.array([0, 0, -1, 0], "int32")}
    lone = {"x": np.full((1, 5), 9, "float32"), "y": np.zeros(1, "int32")}
    state, metrics = one_round(model, [[padded], [lone]])
    assert state.model.trainable.w == pytest.approx((3 * 3 + 9) / 4)
    assert metrics.num_examples == 4
    assert metrics.loss == pytest.approx((1 + 9 + 25 + 81) / 4)


# A step of the model's own.


def test_a_step_of_ones_own_keeps_its_state_from_batch_to_batch_and_starts_anew_for_each_client():
    own = zero_model(train_on_batch=momentum_step, initial_optimizer_state=lambda w: jax.tree.map(jnp.zeros_like, w))
    optax_model = zero_model(optimizer=optax.sgd(0.1, momentum=0.9))
    clients = [true_batches(make_client(size)) for size in (100, 7, 64)]
    for model in (own, optax_model):
        process = build_federated_averaging_process(model)
        state = process.initialize()
        for _ in range(2):
            state, metrics = process.next(state, clients)
        if model is own:
            expected, loss = state.model.to_pytree(weights()), metrics.loss
    assert_trees_close(state.model.to_pytree(weights()), expected, rtol=1e-6, atol=1e-6)
    assert metrics.loss == pytest.approx(loss, rel=1e-6)


def test_a_step_of_ones_own_without_a_state_and_with_non_trainable_weights():
    def step(pair, batch, rng):
        w, rest = pair
        return ({"w": w["w"] + batch.x[:, :3].sum(0)}, {"steps": rest["steps"] + 1.0}), BatchOutput(w["w"].sum())

    def forward(pair, batch, training, rng):
        return BatchOutput(pair[0]["w"].sum() + 0 * batch.x.sum()), pair[1]

    model = functional_model(
        {"w": np.zeros(3)}, forward, input_spec=SPEC, train_on_batch=step, non_trainable={"steps": np.float32(0)}
    )
    client = make_client(70)
    state, _ = one_round(model, [true_batches(client)])
    np.testing.assert_allclose(state.model.trainable.w, client["x"][:, :3].sum(0), rtol=1e-5)
    assert state.model.non_trainable.steps == 3
    replaced, _ = one_round(model, [true_batches(client)], client_optimizer=optax.sgd(1.0))
    np.testing.assert_allclose(replaced.model.trainable.w, [-3, -3, -3])  # one for each batch
