"""Sequences of true lengths: a bucketed model, and batches of similar lengths."""

import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.language.context import current_runtime
from hansa.learning import BatchOutput, bucketed, build_federated_averaging_process, functional_model
from hansa.models.keras.weights import initial_weights
from hansa.simulation import ClientData, DataPlan

layers = keras.layers
LENGTH, VOCABULARY, BATCH = 12, 11, 4
LENGTHS = [3, 6, LENGTH]
rng = np.random.default_rng(4)
SPEC = f"<x=int32[?,{LENGTH}],y=int32[?,{LENGTH}],sample_weight=float32[?,{LENGTH}]>"


def sequences(sizes, seed=0):
    """Sequences of these lengths, with what is after them made up: it must not be looked at."""
    own = np.random.default_rng(seed)
    true = (np.arange(LENGTH) < np.array(sizes)[:, None]).astype("float32")
    x, y = (own.integers(1, VOCABULARY, (len(sizes), LENGTH)).astype("int32") for _ in range(2))
    return {"x": x, "y": y, "sample_weight": true}


def batches_of(arrays):
    return [{k: v[i : i + BATCH] for k, v in arrays.items()} for i in range(0, len(arrays["x"]), BATCH)]


ANN = sequences([2, 3, 1, 3, 7, 5, 12, 2, 4, 6, 5, 3, 1, 2])  # batches of 3, 12, 6 and, a short one, of 2 tokens
BO = sequences([6, 1, 6], seed=1)


def initial():
    own = np.random.default_rng(0)
    return {"table": own.normal(size=(VOCABULARY, 5)), "mix": own.normal(size=(5, 5)), "out": own.normal(size=(5, 11))}


def forward(weights, batch, training, rng):
    """A causal model: what is before a token, and it itself, are mixed."""
    words = weights["table"][batch.x]
    past = jnp.cumsum(words, 1) / jnp.arange(1, words.shape[1] + 1)[:, None]
    logits = jnp.tanh(past @ weights["mix"] + words) @ weights["out"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
    return BatchOutput((losses * batch.sample_weight).sum() / batch.sample_weight.sum(), logits)


def right(labels, predictions, weight):
    return predictions.argmax(-1) == labels, weight


def model_of(lengths=None):
    model = functional_model(initial(), forward, input_spec=SPEC, optimizer=optax.sgd(0.5), metrics={"right": right})
    return model if lengths is None else bucketed(model, lengths)


def plain_loop(arrays):
    """Steps on batches that are cut to their true lengths."""
    weights = jax.tree.map(jnp.float32, initial())
    for batch in batches_of(arrays):
        longest = int(batch["sample_weight"].sum(1).max())
        own = hansa.Struct.of(**{name: value[:, :longest] for name, value in batch.items()})
        gradient = jax.grad(lambda w, own=own: forward(w, own, True, None).loss)(weights)
        weights = jax.tree.map(lambda w, g: w - 0.5 * g, weights, gradient)
    return weights


@pytest.mark.slow
def test_training_is_that_of_true_lengths_in_one_program():
    process = build_federated_averaging_process(model_of(LENGTHS), client_weighting="sample_weight")
    state, _ = process.next(process.initialize(), [batches_of(ANN), batches_of(BO)])
    runtime = current_runtime()
    assert runtime._compile(process.next).sizes is None, "short batches were compiled size by size"

    tokens = [client["sample_weight"].sum() for client in (ANN, BO)]
    each = [plain_loop(client) for client in (ANN, BO)]
    for name, value in state.model.trainable._items():
        expected = np.average([weights[name] for weights in each], axis=0, weights=tokens)
        assert np.abs(expected - initial()[name]).max() > 0.05
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)

    # Other lengths and another order of them compile nothing anew.
    before = runtime.compilations
    process.next(state, [batches_of(sequences([9, 9, 3, 2, 1], seed=5)), batches_of(ANN)])
    assert runtime.compilations == before
    evaluated = hansa.learning.build_federated_evaluation(model_of(LENGTHS))(process.initialize().model, [[ANN]])
    logits = forward(initial(), hansa.Struct.of(**ANN), False, None).predictions
    hits = (np.asarray(logits).argmax(-1) == ANN["y"])[ANN["sample_weight"] > 0]
    np.testing.assert_allclose(evaluated.right, hits.mean(), rtol=1e-6)


def test_each_batch_is_computed_with_in_the_least_length_that_has_room():
    seen = []

    def counting(weights, batch, training, rng):
        length = batch.x.shape[1]
        jax.debug.callback(lambda: seen.append(length))
        return BatchOutput((weights["w"] * batch.sample_weight).sum())

    model = bucketed(functional_model({"w": np.ones(())}, counting, input_spec=SPEC), LENGTHS)
    for sizes, expected in (([2, 3], 3), ([4], 6), ([6, 1], 6), ([7], 12), ([0], 3), ([12], 12)):
        seen.clear()
        batch = hansa.Struct.of(**sequences(sizes))
        jax.block_until_ready(
            model.forward(model.initial_weights, model.initial_local, batch, False, jax.random.key(0))
        )
        jax.effects_barrier()
        assert seen == [expected], sizes


def test_predictions_are_as_long_as_the_data():
    model = model_of(LENGTHS)
    batch = hansa.Struct.of(**sequences([2, 5]))
    args = model.initial_weights, model.initial_local, batch, False, jax.random.key(0)
    found, whole = (each.forward(*args).output.predictions for each in (model, model_of()))
    assert found.shape == whole.shape == (2, LENGTH, VOCABULARY)
    np.testing.assert_allclose(found[:, :6], whole[:, :6], rtol=1e-5, atol=1e-6)
    assert not np.asarray(found[:, 6:]).any()


def test_other_losses_are_differentiated():
    model, weights = model_of(LENGTHS), model_of().initial_weights
    batch = hansa.Struct.of(**sequences([2, 5]))

    def squares(weights, output, batch):
        return (output.predictions**2 * batch.sample_weight[..., None]).sum()

    args = weights, model.initial_local, batch, jax.random.key(0)
    (_, found), (_, expected) = (each.gradients_of(*args, loss=squares) for each in (model, model_of()))
    for name, value in expected._items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def attention(frozen=False):
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="bool", name="padding_mask")
    words = layers.Embedding(VOCABULARY, 8, "random_normal", trainable=not frozen, name="words")(tokens)
    words = 20 * words
    mixed = layers.MultiHeadAttention(2, 4, use_bias=False, name="attention")(
        words, words, attention_mask=keras.ops.expand_dims(mask, 1)
    )
    hidden = layers.LayerNormalization(name="norm")(words + mixed)
    return keras.Model({"token_ids": tokens, "padding_mask": mask}, layers.Dense(VOCABULARY, name="out")(hidden))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_keras_model_with_attention_equals_train_on_batches_of_true_lengths(frozen):
    def compiled():
        keras.utils.set_random_seed(2)
        model = attention(frozen)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        model.compile(keras.optimizers.SGD(0.5), loss)
        return model

    def named(batch):
        return {
            "token_ids": batch["x"],
            "padding_mask": batch["sample_weight"] > 0,
            "y": batch["y"],
            "sample_weight": batch["sample_weight"],
        }

    data = [named(batch) for batch in batches_of(ANN)]
    metrics = [hansa.learning.Metric(right)]
    whole = hansa.learning.from_compiled_keras_model(compiled(), data[0], metrics=metrics)
    made = bucketed(whole, LENGTHS, mask="padding_mask")
    process = build_federated_averaging_process(made)
    state = process.initialize()
    after, metrics = process.next(state, [data])

    model = compiled()
    before, hits, tokens = initial_weights(model), 0.0, 0.0
    for batch in data:
        longest = int(batch["sample_weight"].sum(1).max())
        cut = {name: value[:, :longest] for name, value in batch.items()}
        x = {name: cut[name] for name in ("token_ids", "padding_mask")}
        hits += ((model.predict_on_batch(x).argmax(-1) == cut["y"]) * cut["sample_weight"]).sum()
        tokens += cut["sample_weight"].sum()
        model.train_on_batch(x, cut["y"], cut["sample_weight"])
    for value, expected, old in zip(after.model.trainable, initial_weights(model)[0], before[0], strict=True):
        assert np.abs(expected - old).max() > 1e-4
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(metrics.right, hits / tokens, rtol=1e-5)
    if frozen:  # what no step changes is neither reported nor copied
        assert after.model.non_trainable["words/embeddings"] is state.model.non_trainable["words/embeddings"]


def test_batches_are_of_similar_lengths_in_another_order_in_each_round():
    sizes = rng.integers(1, LENGTH + 1, 30)
    arrays = {**sequences(sizes), "id": np.arange(30)}
    data = ClientData.from_clients({"ann": arrays}).group_by_length("sample_weight", batch_size=BATCH, seed=3)
    plan = DataPlan.from_json(data.batch(BATCH).plan().to_json())
    rounds = []
    for number in range(2):
        batches = list(data.batch(BATCH).cohort([0], round_number=number)[0])
        again = list(plan.batches(arrays, "ann", round_number=number))
        ids = [batch.id.tolist() for batch in batches]
        assert ids == [batch.id.tolist() for batch in again]
        assert sorted(itertools.chain(*ids)) == list(range(30)) and len(ids[-1]) == 2
        whole = [sorted(sizes[each]) for each in map(np.array, ids[:-1])]
        bounds = sorted((each[0], each[-1]) for each in whole)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(bounds)), "they overlap"
        assert bounds != [(each[0], each[-1]) for each in whole], "short ones come first"
        rounds.append(ids)
    assert rounds[0] != rounds[1]


def grouped(clients):
    return ClientData.from_clients(clients).group_by_length("z", batch_size=2, seed=0).client("a")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bucketed(model_of(), [6, 3, 12]), ValueError, "ascending"),
        (lambda: bucketed(model_of(), [3, 6]), ValueError, r"must be \[examples, 6\]"),
        (lambda: bucketed(model_of(), [3, 12], mask="x/mask"), ValueError, "names no field"),
        (lambda: bucketed(3, [3, 12]), TypeError, "takes a model"),
        (lambda: grouped({"a": ANN}), ValueError, "does not have"),
        (lambda: grouped({"a": {"z": [1, 2]}}), TypeError, "0 after a sequence's end"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_model_for_one_length_says_which_lengths_it_was_given():
    def fixed(weights, batch, training, rng):
        return BatchOutput((weights["w"] * batch.sample_weight).sum())

    model = bucketed(
        functional_model({"w": np.ones(LENGTH)}, fixed, input_spec=SPEC, optimizer=optax.sgd(0.1)), LENGTHS
    )
    with pytest.raises(ValueError, match="Incompatible shapes") as caught:
        build_federated_averaging_process(model)
    assert any("on sequences of 3, one of the lengths of bucketed" in note for note in caught.value.__notes__)
