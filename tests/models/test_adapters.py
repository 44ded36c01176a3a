"""Adapters put into their base and a base put under adapters, beside Keras's own merging and NumPy."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import ModelWeights, load_adapters, merge_adapters, save_adapters, with_weights
from hansa.models.adapters import base_names

random = np.random.default_rng(0)
X, Y = random.integers(0, 9, (8, 5)).astype("int32"), random.integers(0, 4, 8).astype("int32")


def network(dtype: str | None = None) -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, name="words", dtype=dtype),
            layers.EinsumDense("btd,dhk->bthk", output_shape=(None, 2, 3), name="heads", dtype=dtype),
            layers.Reshape((5, 6), name="flat"),
            layers.GlobalAveragePooling1D(name="mean"),
            layers.Dense(4, name="out", dtype=dtype),
        ]
    )


def adapted(dtype: str | None = None) -> Any:
    """A network with adapters of several scales, none of whose factors is zero."""
    made = network(dtype)
    for name, alpha in (("words", 1), ("heads", 3), ("out", None)):
        made.get_layer(name).enable_lora(2, lora_alpha=alpha)
    draws = np.random.default_rng(4)
    for variable in made.trainable_variables:
        if "lora" in variable.path:
            variable.assign(draws.normal(size=variable.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.5), loss)
    return made


@pytest.fixture(scope="module")
def made() -> Any:
    source = adapted()
    return source, hansa.learning.from_compiled_keras_model(source, {"x": X, "y": Y})


def test_the_merged_network_predicts_as_the_one_with_adapters(made, tmp_path):
    source, model = made
    plain = network()
    before = plain.predict_on_batch(X)
    merged = merge_adapters(model.initial_weights, model)
    merged.save_keras(plain, tmp_path / "merged.keras")
    expected = source.predict_on_batch(X)
    assert np.abs(expected - before).max() > 0.5
    np.testing.assert_allclose(plain.predict_on_batch(X), expected, rtol=1e-5, atol=1e-5)
    loaded = keras.models.load_model(tmp_path / "merged.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(X), plain.predict_on_batch(X))
    assert not any("lora" in weight.path for weight in loaded.weights)
    # Keras merges, too, where it writes a layer.
    store: dict[str, Any] = {}
    source.get_layer("heads").save_own_variables(store)
    np.testing.assert_allclose(merged.non_trainable["heads/kernel"], store["0"], rtol=1e-6, atol=1e-6)


def test_a_network_may_say_the_scales_and_a_base_of_16_bits_is_rounded_once():
    source = adapted("bfloat16")
    model = hansa.learning.from_compiled_keras_model(source, {"x": X, "y": Y})
    merged = merge_adapters(model.initial_weights, source)
    leaf = merged.non_trainable["out/kernel"]
    factors = (np.float32(model.initial_weights.trainable[f"out/lora_kernel_{of}"]) for of in "ab")
    a, b = factors
    exact = np.float32(model.initial_weights.non_trainable["out/kernel"]) + a @ b
    assert leaf.dtype.name == "bfloat16"
    np.testing.assert_array_equal(leaf, exact.astype(leaf.dtype))


def test_a_base_goes_under_adapters_by_name(made):
    _, model = made
    state = hansa.learning.build_federated_averaging_process(model).initialize()
    other = network()
    other.set_weights([value + 1 for value in other.get_weights()])
    values = {path: np.array(v.value) for v in other.weights for path in [v.path.removeprefix(f"{other.name}/")]}
    plain = ModelWeights.create(hansa.Struct(sorted(values.items())), hansa.Struct())
    for base in (other, plain):
        found = with_weights(state, base).model
        for part in found:
            for name, leaf in part._items():
                before = {**dict(state.model.trainable._items()), **dict(state.model.non_trainable._items())}[name]
                np.testing.assert_array_equal(leaf, before if "lora" in name else values[name], err_msg=name)
    # What is merged goes into a state of the plain network, where all is trained.
    other.compile("sgd", "sparse_categorical_crossentropy")
    whole = hansa.learning.from_compiled_keras_model(other, {"x": X, "y": Y})
    fresh = hansa.learning.build_federated_averaging_process(whole).initialize()
    merged = merge_adapters(model.initial_weights, model)
    after = with_weights(fresh, merged).model
    assert len(after.non_trainable) == 0
    np.testing.assert_array_equal(after.trainable["out/kernel"], merged.non_trainable["out/kernel"])


def test_a_base_that_is_another_is_refused_by_name(made):
    _, model = made
    state = hansa.learning.build_federated_averaging_process(model).initialize()
    plain = merge_adapters(model.initial_weights, model)
    kept = [(name, leaf) for name, leaf in plain.non_trainable._items() if name != "heads/kernel"]
    lacking = ModelWeights.create(plain.trainable, hansa.Struct(kept))
    with pytest.raises(ValueError, match="lack heads/kernel of the state"):
        with_weights(state, lacking)
    more = ModelWeights.create(plain.trainable, hansa.Struct([*plain.non_trainable._items(), ("z", np.zeros(1))]))
    with pytest.raises(ValueError, match="they have z, which the state has not"):
        with_weights(state, more)
    with pytest.raises(ValueError, match="is another model"):
        with_weights(state, keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]))
    wide = [(name, np.zeros((9, 7), "float32") if name == "words/embeddings" else x) for name, x in kept]
    shapes = ModelWeights.create(
        plain.trainable, hansa.Struct([*wide, ("heads/kernel", plain.non_trainable["heads/kernel"])])
    )
    with pytest.raises(TypeError, match=r"float32\[9,7\]"):
        with_weights(state, shapes)


SCALE = 1.5
FACTORS = {"a": random.normal(size=(6, 2)).astype("float32"), "b": random.normal(size=(2, 4)).astype("float32")}
BASE = {"layer": {"kernel": random.normal(size=(6, 4)).astype("float32")}}
OWN = {"layer/kernel": ("a", "b")}


def of_pytrees() -> Any:
    def forward(pair: Any, batch: Any, training: bool, rng: Any) -> Any:
        weights, frozen = pair
        logits = batch.x @ (frozen["layer"]["kernel"] + SCALE * weights["a"] @ weights["b"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean()
        return hansa.learning.BatchOutput(loss, logits), frozen

    spec = "<x=float32[?,6],y=int32[?]>"
    return hansa.learning.functional_model(
        FACTORS, forward, input_spec=spec, optimizer=optax.sgd(0.1), non_trainable=BASE
    )


def test_pytrees_merge_and_take_another_base(tmp_path):
    model = of_pytrees()
    merged = merge_adapters(model.initial_weights, model, adapters=OWN, scale=SCALE)
    expected = BASE["layer"]["kernel"] + np.float32(SCALE) * FACTORS["a"] @ FACTORS["b"]
    tree = merged.to_pytree({}, {"layer": {"kernel": 0}})[1]
    np.testing.assert_allclose(tree["layer"]["kernel"], expected, rtol=1e-5, atol=1e-6)
    state = hansa.learning.build_federated_averaging_process(model).initialize()
    other = {"layer": {"kernel": np.ones((6, 4), "float32")}}
    found = with_weights(state, ({}, other), adapters=OWN).model
    np.testing.assert_array_equal(found.non_trainable["layer/kernel"], 1)
    np.testing.assert_array_equal(found.trainable["a"], FACTORS["a"])

    save_adapters(model.initial_weights, tmp_path, adapters=OWN, scale=SCALE, base_model="tiny")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 3.0, ["layer"])
    read = load_adapters(tmp_path, found, adapters=OWN, scale=SCALE)
    np.testing.assert_array_equal(read.trainable["b"], FACTORS["b"])
    with pytest.raises(ValueError, match=r"by 1\.5, and the model by 2"):
        load_adapters(tmp_path, found, adapters=OWN, scale=2.0)


def test_what_is_not_known_is_asked_for(made, tmp_path):
    _, model = made
    weights = model.initial_weights
    for call in (lambda: merge_adapters(weights), lambda: merge_adapters(weights, of_pytrees(), adapters=OWN)):
        with pytest.raises(ValueError, match="does not know what the products of adapters are multiplied by"):
            call()
    with pytest.raises(ValueError, match=r"scale=2.0 is another"):
        merge_adapters(weights, model, scale=2.0)
    with pytest.raises(ValueError, match="has no adapters by the names of"):
        merge_adapters(merge_adapters(weights, model), scale=1.0)
    with pytest.raises(ValueError, match="out/bias are trained beside"):
        save_adapters(weights, tmp_path, model)
    with pytest.raises(TypeError, match="takes the weights of a model"):
        merge_adapters({}, model)


def test_copies_of_whole_modules_have_the_name_of_the_module():
    names = ["base_model.model.c.modules_to_save.default.weight", "base_model.model.c.original_module.weight"]
    assert set(base_names(names, []).values()) == {"c.weight"}


def test_a_square_base_that_may_lie_transposed_needs_the_module():
    def of(name: str, shape: tuple[int, int]) -> dict[str, Any]:
        return {
            f"{name}.base_layer.weight": np.zeros(shape, "float32"),
            f"{name}.lora_A.default.weight": np.ones((2, shape[0]), "float32"),
            f"{name}.lora_B.default.weight": np.ones((shape[1], 2), "float32"),
        }

    def weights(leaves: dict[str, Any]) -> ModelWeights:
        trained = {name: leaf for name, leaf in leaves.items() if "lora" in name}
        rest = {name: leaf for name, leaf in leaves.items() if "lora" not in name}
        return ModelWeights.create(*(hansa.Struct(sorted(part.items())) for part in (trained, rest)))

    merged = merge_adapters(weights(of("q", (3, 5))), scale=1.0)
    assert merged.non_trainable["q.weight"].shape == (3, 5)
    with pytest.raises(ValueError, match=r"'p\.base_layer\.weight' is square"):
        merge_adapters(weights({**of("q", (3, 5)), **of("p", (4, 4))}), scale=1.0)
