"""FFA-LoRA and FedEx-LoRA beside NumPy, and beside `fit` of Keras."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, build_fed_ex_lora, build_federated_averaging_process, build_ffa_lora
from hansa.models.adapters import adapters_of
from hansa.models.keras.weights import initial_weights

FEATURES, CLASSES, RANK, SCALE, RATE = 6, 4, 2, 1.5, 0.5
SIZES = [5, 9, 3]
BATCH = 4
random = np.random.default_rng(2)
X = [random.normal(size=(size, FEATURES)).astype("float32") for size in SIZES]
Y = [random.integers(0, CLASSES, size).astype("int32") for size in SIZES]
BASE = random.normal(size=(FEATURES, CLASSES)).astype("float32")
FIRST = {
    "a": random.normal(size=(FEATURES, RANK)).astype("float32"),
    "b": np.zeros((RANK, CLASSES), "float32"),
    "bias": np.zeros(CLASSES, "float32"),
}
ADAPTERS = {"kernel": ("a", "b")}


def forward(pair: Any, batch: Any, training: bool, rng: Any) -> Any:
    weights, frozen = pair
    logits = batch.x @ (frozen["kernel"] + SCALE * weights["a"] @ weights["b"]) + weights["bias"]
    return BatchOutput(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), logits), frozen


def model(base: Any = BASE) -> Any:
    return hansa.learning.functional_model(
        FIRST,
        forward,
        input_spec=f"<x=float32[?,{FEATURES}],y=int32[?]>",
        optimizer=optax.sgd(RATE),
        non_trainable={"kernel": base},
    )


def batches(x: Any, y: Any) -> list[Any]:
    return [{"x": x[at : at + BATCH], "y": y[at : at + BATCH]} for at in range(0, len(y), BATCH)]


def gradient(w: dict[str, Any], kernel: Any, batch: Any) -> dict[str, Any]:
    """The gradient of the mean loss of a batch by hand, in float64."""
    logits = batch["x"] @ (kernel + SCALE * w["a"] @ w["b"]) + w["bias"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[np.arange(len(p)), batch["y"]] -= 1
    of_kernel = batch["x"].T @ p / len(p)
    return {"a": SCALE * of_kernel @ w["b"].T, "b": SCALE * w["a"].T @ of_kernel, "bias": p.mean(0)}


def trained(weights: dict[str, Any], kernel: Any, client: int, fixed: str | None = None) -> dict[str, Any]:
    """Steps of SGD by hand."""
    w = {name: np.float64(value) for name, value in weights.items()}
    for batch in batches(X[client], Y[client]):
        found = gradient(w, kernel, batch)
        w = {name: value - RATE * found[name] * (name != fixed) for name, value in w.items()}
    return w


def mean(values: list[Any]) -> Any:
    return np.average(values, axis=0, weights=SIZES)


def rounds(process: Any, number: int) -> Any:
    state = process.initialize()
    for _ in range(number):
        state, _ = process.next(state, [batches(x, y) for x, y in zip(X, Y, strict=True)])
    return state


def test_fed_ex_lora_has_the_mean_of_the_clients_models():
    state = rounds(build_fed_ex_lora(model(), scale=SCALE, adapters=ADAPTERS), 3)
    weights, kernel, biased = dict(FIRST), np.float64(BASE), 0.0
    for _ in range(3):
        each = [trained(weights, kernel, client) for client in range(3)]
        merged = mean([kernel + SCALE * w["a"] @ w["b"] for w in each])
        weights = {name: mean([w[name] for w in each]) for name in weights}
        biased = max(biased, np.abs(merged - kernel - SCALE * weights["a"] @ weights["b"]).max())
        kernel = merged - SCALE * weights["a"] @ weights["b"]
    found = state.model
    for name, value in weights.items():
        np.testing.assert_allclose(found.trainable[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
    at = found.non_trainable["kernel"] + SCALE * found.trainable["a"] @ found.trainable["b"]
    np.testing.assert_allclose(at, merged, rtol=1e-5, atol=2e-6)
    assert biased > 0.01, "the mean of A and of B would have done"


@pytest.mark.slow
def test_a_model_may_train_nothing_but_its_adapters():
    def forward_of_factors(pair: Any, batch: Any, training: bool, rng: Any) -> Any:
        weights, frozen = pair
        return forward(({**weights, "bias": 0.0}, frozen), batch, training, rng)

    factors = {"a": FIRST["a"], "b": FIRST["b"] + 1}
    made = hansa.learning.functional_model(
        factors,
        forward_of_factors,
        input_spec=f"<x=float32[?,{FEATURES}],y=int32[?]>",
        optimizer=optax.sgd(RATE),
        non_trainable={"kernel": BASE},
    )
    data = [[{"x": x, "y": y}] for x, y in zip(X, Y, strict=True)]
    process = build_fed_ex_lora(made, scale=SCALE, adapters=ADAPTERS)
    state, _ = process.next(process.initialize(), data)
    alone = build_federated_averaging_process(made)
    each = [alone.next(alone.initialize(), [client])[0].model for client in data]
    expected = mean([one.non_trainable["kernel"] + SCALE * one.trainable["a"] @ one.trainable["b"] for one in each])
    found = state.model.non_trainable["kernel"] + SCALE * state.model.trainable["a"] @ state.model.trainable["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_ffa_lora_trains_b_alone():
    process = build_ffa_lora(model(), adapters=ADAPTERS)
    state = rounds(process, 2)
    weights = dict(FIRST)
    for _ in range(2):
        each = [trained(weights, np.float64(BASE), client, fixed="a") for client in range(3)]
        weights = {name: mean([w[name] for w in each]) for name in weights}
    assert np.abs(weights["b"]).max() > 0.1
    for name in ("b", "bias"):
        np.testing.assert_allclose(state.model.trainable[name], weights[name], rtol=1e-5, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(state.model.trainable["a"], FIRST["a"])
    both = build_federated_averaging_process(model())
    sent = [hansa.explain(each).bytes_up for each in (both, process)]
    assert sent[0] - sent[1] == 4 * FEATURES * RANK


def adapted() -> Any:
    """Layers of all kinds that Keras has adapters of, with a B that is not zero."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, name="words"),
            layers.EinsumDense("btd,dhk->bthk", output_shape=(None, 2, 3), name="heads"),
            layers.Reshape((5, 6)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(CLASSES, name="out"),
        ]
    )
    draws = np.random.default_rng(0)
    for name in ("words", "heads", "out"):
        network.get_layer(name).enable_lora(2)
    for variable in network.trainable_variables:
        if "lora" in variable.path:
            variable.assign(draws.normal(size=variable.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.2), loss)
    return network


def merged(weights: Any) -> dict[str, Any]:
    """The weights of the layers, with their adapters in them."""
    trained, frozen = ({k: np.float64(v) for k, v in part._items()} for part in weights)
    names = {"words": "embeddings", "heads": "kernel", "out": "kernel"}
    found = {}
    for layer, of in names.items():
        a, b = (trained[f"{layer}/lora_{of}_{factor}"] for factor in "ab")
        found[layer] = frozen[f"{layer}/{of}"] + np.tensordot(a, b, 1)
    return {**found, "bias": trained["out/bias"]}


@pytest.mark.slow
def test_of_keras_the_merged_model_is_the_mean_of_those_of_fit():
    words = [np.random.default_rng(i).integers(0, 9, (size, 5)).astype("int32") for i, size in enumerate(SIZES)]
    data = [batches(x, y) for x, y in zip(words, Y, strict=True)]
    made = hansa.learning.from_compiled_keras_model(adapted(), data[0][0])
    process = build_fed_ex_lora(made)
    state, _ = process.next(process.initialize(), data)
    each = []
    for x, y in zip(words, Y, strict=True):
        network = adapted()
        network.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        each.append(merged(initial_weights(network)))
    before = merged(initial_weights(adapted()))
    averaging = build_federated_averaging_process(made)
    biased = merged(averaging.next(averaging.initialize(), data)[0].model)
    for name, found in merged(state.model).items():
        expected = mean([client[name] for client in each])
        assert np.abs(expected - before[name]).max() > 1e-2
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name)
        if name != "bias":
            assert np.abs(biased[name] - expected).max() > 1e-3

    held = build_ffa_lora(made)
    after = held.next(held.initialize(), data)[0].model.trainable
    unchanged = [name for name, value in after._items() if np.array_equal(value, made.initial_weights.trainable[name])]
    assert unchanged == ["heads/lora_kernel_a", "out/lora_kernel_a", "words/lora_embeddings_a"]


def test_names_of_peft_are_found():
    weights = hansa.learning.ModelWeights.create(
        hansa.Struct([("q.lora_A.default.weight", np.ones((2, 5))), ("q.lora_B.default.weight", np.zeros((3, 2)))]),
        hansa.Struct([("q.base_layer.weight", np.zeros((3, 5)))]),
    )
    (found,) = adapters_of(weights, None, "m")
    assert found[:4] == (
        "q.base_layer.weight",
        "q.lora_B.default.weight",
        "q.lora_A.default.weight",
        "q.lora_A.default.weight",
    )


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (None, "has no adapters by the names of"),
        ({"kernel": ("a", "c")}, "has no weight 'c', a factor of"),
        ({"other": ("a", "b")}, "has no weight 'other', to which the product"),
        ({"bias": ("a", "b")}, "cannot be added to 'bias'"),
        ({"kernel": ("b", "a")}, "cannot be added to 'kernel'"),
    ],
)
def test_what_cannot_be_is_refused(adapters, message):
    for build in (build_ffa_lora, build_fed_ex_lora):
        with pytest.raises(ValueError, match=message):
            build(model(), adapters=adapters)
    with pytest.raises(ValueError, match="scale must be a finite number"):
        build_fed_ex_lora(model(), scale=float("nan"), adapters=ADAPTERS)
    with pytest.raises(TypeError, match="a mapping from weights of the base"):
        build_ffa_lora(model(), adapters=["kernel"])


def test_a_base_of_integers_is_refused():
    whole = jax.tree.map(lambda leaf: leaf.astype("int8"), BASE)
    with pytest.raises(ValueError, match=r"cannot be added to 'kernel', int8\[6, 4\]"):
        build_fed_ex_lora(model(whole), adapters=ADAPTERS)
