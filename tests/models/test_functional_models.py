"""Models in plain JAX against plain loops, and which errors their authors see."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hansa
from hansa.language.context import current_runtime
from hansa.learning import BatchOutput, Metric, MetricSums, build_federated_averaging_process, functional_model

FEATURES, CLASSES = 5, 3
SPEC = "<x=float32[?,5],y=int32[?]>"
SIZES = [*range(1, 70, 4), 96, 128, 191, 256, 257]


def make_client(size, seed=0):
    rng = np.random.default_rng(1000 * seed + size)
    x = rng.normal(size=(size, FEATURES)).astype("float32")
    return {"x": x, "y": rng.integers(0, CLASSES, size).astype("int32")}


def true_batches(client, size=32):
    return [{k: v[i : i + size] for k, v in client.items()} for i in range(0, len(client["y"]), size)]


def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "hidden": {"kernel": rng.normal(size=(FEATURES, 8)).astype("float32"), "bias": np.zeros(8, "float32")},
        "out": {"kernel": rng.normal(size=(8, CLASSES)).astype("float32")},
    }


def forward(w, batch, training, rng):
    hidden = jnp.tanh(batch.x @ w["hidden"]["kernel"] + w["hidden"]["bias"])
    logits = hidden @ w["out"]["kernel"]
    return BatchOutput(cross_entropy(logits, batch.y), logits)


def mlp(**arguments):
    return functional_model(weights(), forward, **{"input_spec": SPEC, "optimizer": optax.sgd(0.2), **arguments})


def zero_model(forward=forward, w=None, **arguments):
    return functional_model(weights() if w is None else w, forward, **{"input_spec": SPEC, **arguments})


def one_round(model, clients, **arguments):
    process = build_federated_averaging_process(model, **arguments)
    return process.next(process.initialize(), clients)


def assert_trees_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


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


STATISTICS = {"mean": np.zeros(8, "float32"), "var": np.ones(8, "float32")}


def normalised(pair, batch, training, rng):
    w, statistics = pair
    x = batch.x @ w["hidden"]["kernel"]
    mean, var = (x.mean(0), x.var(0)) if training else (statistics["mean"], statistics["var"])
    after = {"mean": 0.9 * statistics["mean"] + 0.1 * mean, "var": 0.9 * statistics["var"] + 0.1 * var}
    logits = jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-3) + w["hidden"]["bias"]) @ w["out"]["kernel"]
    return BatchOutput(cross_entropy(logits, batch.y), logits), after if training else statistics


def plain_normalised_epoch(client, rate):
    pair, key = (weights(), STATISTICS), jax.random.key(0)
    for batch in true_batches(client):
        batch = namedtuple("Batch", ["x", "y"])(**batch)

        def loss(w, statistics=pair[1], batch=batch):
            output, after = normalised((w, statistics), batch, True, key)
            return output.loss, after

        gradients, after = jax.grad(loss, has_aux=True)(pair[0])
        pair = jax.tree.map(lambda w, g: w - rate * g, pair[0], gradients), after
    return pair


@pytest.mark.parametrize("non_trainable", ["mean", "server"])
def test_batch_statistics_equal_plain_loops_over_the_true_batches(non_trainable):
    model = functional_model(weights(), normalised, input_spec=SPEC, optimizer=optax.sgd(0.2), non_trainable=STATISTICS)
    process = build_federated_averaging_process(model, non_trainable=non_trainable)
    initial = process.initialize()
    assert "non_trainable=<mean=float32[8],var=float32[8]>" in str(process.initialize.type_signature)
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


def momentum_step(w, velocity, batch, rng):
    loss, gradients = jax.value_and_grad(lambda w: forward(w, batch, True, rng).loss)(w)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    return jax.tree.map(lambda w, v: w - 0.1 * v, w, velocity), velocity, BatchOutput(loss)


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


# Errors.


def returns(value):
    def forward(w, batch, training, rng):
        return value(w, batch)

    return forward


def loss_of(w, batch):
    return (batch.x @ w["hidden"]["kernel"]).mean()


def with_statistics(returned):
    def build():
        return zero_model(
            lambda pair, batch, training, rng: returned(BatchOutput(loss_of(pair[0], batch)), pair[1]),
            non_trainable=STATISTICS,
        )

    return build


def steps_to(change, **arguments):
    def build():
        step = lambda w, batch, rng: (change(w), BatchOutput(loss_of(w, batch)))  # noqa: E731
        build_federated_averaging_process(zero_model(train_on_batch=step, name="net", **arguments))

    return build


def half(w):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float16), w)


def with_state(step, state):
    def build():
        build_federated_averaging_process(
            zero_model(train_on_batch=step, initial_optimizer_state=lambda w: state, name="net")
        )

    return build


ERRORS = {
    "forward returns a dict": (
        lambda: zero_model(returns(lambda w, b: {"loss": loss_of(w, b)}), name="net"),
        "forward of 'net' returned a dict; it must be hansa.learning.BatchOutput",
    ),
    "forward returns nothing": (lambda: zero_model(returns(lambda w, b: None)), "returned None; it must be"),
    "forward returns the loss": (lambda: zero_model(returns(loss_of)), r"an array of the type float32\[\]"),
    "a loss for each example": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(b.x.sum(1)))),
        r"a loss of the shape \[.*jnp.mean\(loss\)",
    ),
    "a loss of integers": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(b.y.sum()))),
        "a loss of the dtype int32",
    ),
    "no loss": (lambda: zero_model(returns(lambda w, b: BatchOutput(None))), "None as the loss"),
    "num_examples for each example": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(loss_of(w, b), None, b.y))),
        "num_examples of the shape",
    ),
    "statistics are not returned": (with_statistics(lambda output, rest: output), "returns a pair"),
    "a pair the other way round": (with_statistics(lambda output, rest: (rest, output)), "in a pair a dict"),
    "a missing statistic": (
        with_statistics(lambda output, rest: (output, {"mean": rest["mean"]})),
        "without var; return all of them",
    ),
    "statistics of another shape": (
        with_statistics(lambda output, rest: (output, {**rest, "var": rest["var"][:3]})),
        r"returned 'var' as float32\[3\], and it was float32\[8\]",
    ),
    "weights of another dtype": (
        steps_to(half),
        r"train_on_batch of 'net' returned 'hidden/bias' as float16\[8\], and it was float32\[8\]: weights keep their "
        r"shapes and dtypes; convert it with .astype\('float32'\)",
    ),
    "weights of another shape": (
        steps_to(lambda w: {**w, "out": {"kernel": w["out"]["kernel"].T}}),
        r"'out/kernel' as float32\[3,8\], and it was float32\[8,3\].*reshape it",
    ),
    "weights that are missing": (steps_to(lambda w: {"hidden": w["hidden"]}), "without out/kernel"),
    "weights too many": (steps_to(lambda w: {**w, "more": jnp.zeros(2)}), "with more besides"),
    "a step without output": (
        with_state(lambda w, s, batch, rng: (w, s), jnp.zeros(2)),
        r"returned a tuple of 2; it must return \(weights, optimizer state, BatchOutput\)",
    ),
    "another optimizer state": (
        with_state(lambda w, s, batch, rng: (w, s[:1], BatchOutput(loss_of(w, batch))), np.zeros(2, "float32")),
        r"an optimizer state with float32\[1\] where there was float32\[2\]",
    ),
    "an optimizer state of another structure": (
        with_state(lambda w, s, batch, rng: (w, (s, s), BatchOutput(loss_of(w, batch))), np.zeros(2, "float32")),
        "an optimizer state of another structure",
    ),
    "no spec": (lambda: zero_model(input_spec=None), "one of sample_batch and input_spec"),
    "a spec and a sample": (lambda: zero_model(sample_batch=make_client(3)), "one of sample_batch and input_spec"),
    "a sample of scalars": (
        lambda: zero_model(input_spec=None, sample_batch={"x": np.float32(3)}),
        r"holds arrays \[examples, ...\]",
    ),
    "a spec that forward does not take": (lambda: zero_model(input_spec="<x=float32[?,7],y=int32[?]>"), "dot_general"),
    "a field that is not in the spec": (lambda: zero_model(input_spec="<x=float32[?,5]>"), "no field 'y'"),
    "a sample with numbers for keys": (
        lambda: zero_model(input_spec=None, sample_batch={3: np.zeros(2)}),
        "sample_batch.*has the key 3",
    ),
    "weights of integers": (
        lambda: zero_model(w={"steps": np.int32(3)}),
        "the weight 'steps' has the dtype int32.*non_trainable",
    ),
    "a leaf that is no array": (
        lambda: zero_model(w={"w": np.zeros(2), "activation": jnp.tanh}),
        "the leaf 'activation' of initial_weights is .*equinox.partition",
    ),
    "two leaves of one name": (lambda: zero_model(w={"a/b": 1.0, "a": {"b": 2.0}}), "have the name 'a/b'"),
    "an optimizer and a step": (
        lambda: zero_model(optimizer=optax.sgd(1.0), train_on_batch=momentum_step),
        "an optimizer, or a train_on_batch",
    ),
    "a state without a step": (lambda: zero_model(initial_optimizer_state=lambda w: w), "train_on_batch .* is missing"),
    "no function": (lambda: zero_model(forward=3), "forward is a function"),
    "no optimizer": (lambda: zero_model(optimizer=0.1), "optimizer must be an Optax optimizer"),
    "a list of metrics": (lambda: zero_model(metrics=[len]), "are a mapping such as"),
    "no optimizer at all": (lambda: build_federated_averaging_process(zero_model()), "has no optimizer"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_write_instead(case):
    build, message = ERRORS[case]
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        build()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.zeros((4, 6), "float32"), "y": np.zeros(4, "int32")}, r"float32\[\?,5\], found float32\[4,6\]"),
        ({"x": np.zeros((4, 5)), "y": np.zeros(4, "int32")}, "found float64"),
        ({"x": np.zeros((4, 5), "float32")}, "y"),
    ],
)
def test_data_of_another_type_than_the_spec_is_refused(batch, message):
    process = build_federated_averaging_process(mlp())
    with pytest.raises((TypeError, ValueError), match=message):
        process.next(process.initialize(), [[batch]])


# Metrics of sums.


def sums(batch, output):
    count = batch.y.shape[0]
    correct = (output.predictions.argmax(1) == batch.y).sum()
    return {"num_examples": count, "correct": correct, "loss": output.loss * count}


def expected_metrics(clients):
    """Of weights that are not trained."""
    x, y = (np.concatenate([client[field] for client in clients]) for field in ("x", "y"))
    w = weights()
    logits = np.tanh(x @ w["hidden"]["kernel"] + w["hidden"]["bias"]) @ w["out"]["kernel"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return (logits.argmax(1) == y).mean(), losses.mean(), len(y)


@hansa.federated_computation
def aggregate(outputs):
    return OrderedDict(
        accuracy=hansa.federated_average(outputs.accuracy, outputs.num_examples),
        loss=hansa.federated_average(outputs.loss, outputs.num_examples),
        num_examples=hansa.federated_sum(outputs.num_examples),
    )


@hansa.federated_computation("{<accuracy=float32,loss=float32,num_examples=float32>}@CLIENTS")
def aggregate_typed(outputs):
    return aggregate(outputs)


def means(sums):
    return {
        "num_examples": sums.num_examples.astype(jnp.float32),
        "loss": sums.loss / sums.num_examples,
        "accuracy": sums.correct / sums.num_examples,
    }


def finalize(sums):
    count = jnp.maximum(sums.num_examples, 1)
    return {"accuracy": sums.correct / count, "loss": sums.loss / count, "num_examples": sums.num_examples}


@pytest.mark.parametrize(
    "metrics",
    [
        MetricSums(sums, finalize),
        MetricSums(sums, local_outputs=means, aggregation=aggregate),
        MetricSums(sums, local_outputs=means, aggregation=aggregate_typed),
    ],
    ids=["finalizer", "federated computation", "typed federated computation"],
)
def test_metrics_of_sums(metrics):
    process = build_federated_averaging_process(mlp(metrics=metrics, optimizer=optax.sgd(0.0)))
    clients = [make_client(size) for size in (1, 33, 70, 5)]
    _, found = process.next(process.initialize(), [*map(true_batches, clients), []])
    accuracy, loss, count = expected_metrics(clients)
    assert found._fields[:3] == ("accuracy", "loss", "num_examples")
    assert found.accuracy == pytest.approx(accuracy, rel=1e-6)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.num_examples == count
    _, none = process.next(process.initialize(), [])
    assert (none.accuracy, none.loss, none.num_examples) == (0, 0, 0)


def test_sums_alone_are_the_metrics_and_keep_64_bits():
    _, found = one_round(mlp(metrics=MetricSums(sums)), [true_batches(make_client(70))])
    assert (found.num_examples, found.num_examples.dtype, found.loss.dtype) == (70, np.int64, np.float64)


def test_local_outputs_are_what_weighs_clients():
    model = mlp(metrics=MetricSums(sums, local_outputs=means, aggregation=aggregate))
    weighted, _ = one_round(
        model, [true_batches(make_client(size)) for size in (9, 40)], client_weighting=lambda o: o.num_examples
    )
    default, _ = one_round(model, [true_batches(make_client(size)) for size in (9, 40)])
    assert_trees_close(weighted.model.to_pytree(weights()), default.model.to_pytree(weights()), rtol=1e-6, atol=1e-6)


def without(name):
    return lambda sums: {key: value for key, value in means(sums).items() if key != name}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            lambda: MetricSums(sums, local_outputs=without("accuracy"), aggregation=aggregate_typed),
            "the aggregation of MetricSums takes .* with 'accuracy' missing; return it from the local_outputs",
        ),
        (lambda: MetricSums(sums, local_outputs=without("loss"), aggregation=aggregate), "no field 'loss'"),
        (lambda: MetricSums(sums, aggregation=aggregate), "no field 'accuracy'"),
        (lambda: MetricSums(sums, lambda sums: {"auc": sums.auc}), "no field 'auc'"),
        (lambda: MetricSums(lambda b, o: o.loss), "sums of MetricSums must return a dict or struct"),
        (lambda: MetricSums(lambda b, o: {"y": b.y}), "of a size that differs from batch to batch"),
        (lambda: MetricSums(sums, local_outputs=means), "needs an aggregation"),
        (lambda: MetricSums(sums, finalize, aggregation=aggregate), "not both"),
        (lambda: MetricSums(sums, aggregation=lambda outputs: outputs), "decorate the function"),
        (lambda: MetricSums(sums, aggregation=hansa.federated_computation(lambda o: o)), "at the server"),
        (lambda: MetricSums(sums, aggregation=hansa.jax_computation(lambda o: o)), "while tracing the aggregation"),
        (lambda: {"loss": Metric(lambda y, p, w: y)}, "two metrics have the name 'loss'"),
        (lambda: {"num_empty_clients": Metric(lambda y, p, w: y)}, "rename it"),
    ],
)
def test_errors_in_metrics_of_sums(metrics, message):
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        build_federated_averaging_process(mlp(metrics=metrics()))


# The tutorial's custom model.


def test_the_tutorials_custom_model_has_the_tutorials_figures(mnist):
    images = (mnist.train_images.reshape(-1, 784) / 255.0).astype("float32")

    def client(digit):
        own = np.flatnonzero(mnist.train_labels == digit)[:1000]
        return hansa.Batches(OrderedDict(x=images[own], y=mnist.train_labels[own].astype("int32")), 100)

    def forward(model, batch, training, rng):
        predictions = jax.nn.softmax(batch.x @ model["weights"] + model["bias"])
        loss = -jnp.mean(jnp.sum(jax.nn.one_hot(batch.y, 10) * jnp.log(predictions), axis=1))
        return BatchOutput(loss, predictions)

    process = build_federated_averaging_process(
        functional_model(
            {"weights": np.zeros((784, 10)), "bias": np.zeros(10)},
            forward,
            input_spec=OrderedDict(x="float32[?,784]", y="int32[?]"),
            metrics=MetricSums(sums, local_outputs=means, aggregation=aggregate),
            optimizer=optax.sgd(0.1),
        )
    )
    state = process.initialize()
    published = [
        (0.91, 0.293638),
        (0.976, 0.277596),
        (0.9786, 0.263369),
        (0.9796, 0.25075),
        (0.98, 0.239585),
        (0.9799, 0.229727),
    ]
    clients = [client(digit) for digit in range(10)]
    for number, (accuracy, loss) in enumerate(published):
        state, metrics = process.next(state, clients)
        if not number:
            assert str(metrics) == "<accuracy=0.91,loss=0.293638,num_examples=10000.0>"
        assert metrics.accuracy == pytest.approx(accuracy, abs=1e-6)
        assert metrics.loss == pytest.approx(loss, abs=2e-6)
        assert metrics.num_examples == 10000
