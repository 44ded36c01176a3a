"""Trained models that leave: as Keras and safetensors files, as StableHLO; and training that goes on from others."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import (
    BatchOutput,
    ModelWeights,
    build_federated_averaging_process,
    build_federated_evaluation,
    build_prediction,
    from_compiled_keras_model,
    functional_model,
    load_weights,
    save_weights,
    with_weights,
)
from hansa.types import Struct
from tests.models.functional import STATISTICS as INITIAL_STATISTICS
from tests.models.functional import cross_entropy, make_client, mlp, normalised, true_batches, weights

layers = keras.layers


def network(seed, frozen=()):
    """A Keras model with weights of its own for each seed."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "relu", name="base"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.4),
            layers.Dense(3, "softmax", name="head"),
        ]
    )
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def of(keras_model):
    return from_compiled_keras_model(keras_model, make_client(2))


def trained(model, rounds=1):
    process = build_federated_averaging_process(model)
    state = process.initialize()
    for number in range(rounds):
        state, _ = process.next(state, [true_batches(make_client(size, number), 8) for size in (20, 9)])
    return state


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def state():
    return trained(of(network(0)))


def test_a_keras_file_is_the_trained_model(state, tmp_path):
    state.model.save_keras(network(1), tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = make_client(6)["x"]
    found = build_prediction(of(network(2)), state.model)(x)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), found, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"ends in \.keras, found '.*model\.h5'"):
        state.model.save_keras(network(1), tmp_path / "model.h5")


def test_weights_come_back_from_a_file_as_they_were(state, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    save_weights(state.model, path, {"rounds": "1"})
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode, "who may read other files may read this one"
    (tmp_path / "other").unlink()
    for like in (None, state.model, hansa.infer_type(state.model)):
        loaded = load_weights(path, like)
        assert isinstance(loaded, ModelWeights)
        assert_same(loaded, state.model)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"rounds": "1", "hansa.type": str(hansa.infer_type(state.model))}
        assert set(file.keys()) >= {"trainable/head/kernel", "non_trainable/norm/moving_mean"}
        np.testing.assert_array_equal(file.get_tensor("trainable/base/bias"), state.model.trainable["base/bias"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_weights_of_all_dtypes_and_orders(tmp_path):
    pytest.importorskip("safetensors")
    parts = {
        "half": jax.numpy.arange(3, dtype="bfloat16"),
        "wide": np.arange(4, dtype="int64"),
        "transposed": np.arange(6, dtype="float32").reshape(2, 3).T,
        "scalar": np.float32(3),
    }
    given = ModelWeights.create(Struct([]), Struct(sorted(parts.items())))
    save_weights(given, tmp_path / "w")
    found = load_weights(tmp_path / "w", given)
    for name, value in given.non_trainable._items():
        assert found.non_trainable[name].dtype == value.dtype
        np.testing.assert_array_equal(found.non_trainable[name], value)


def test_files_of_other_weights_are_refused(state, tmp_path, monkeypatch):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "w.safetensors"
    tensors = {
        f"{part}/{name}": np.array(leaf)
        for part in ("trainable", "non_trainable")
        for name, leaf in state.model[part]._items()
    }

    def refused(error, match, **changes):
        numpy.save_file({name: leaf for name, leaf in (tensors | changes).items() if leaf is not None}, path)
        with pytest.raises(error, match=match):
            load_weights(path, state.model)

    more = {"trainable/head/kernal": np.zeros(2, "float32")}
    refused(
        ValueError, r"'trainable/head/kernal', which the model has not; did you mean 'trainable/head/kernel'", **more
    )
    refused(ValueError, "lacks the weight 'trainable/base/bias'", **{"trainable/base/bias": None})
    other = {"trainable/base/bias": np.zeros(9, "float32")}
    refused(TypeError, r"is float32\[9\], and that of the model is float32\[8\]", **other)
    refused(TypeError, r"is float64\[8\], and that", **{"trainable/base/bias": np.zeros(8)})
    numpy.save_file({"kernel": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="'kernel'; those of a model are called trainable/"):
        load_weights(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no safetensors file, or is damaged"):
        load_weights(path)
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "none")
    with pytest.raises(TypeError, match="the field `model` of an averaging process's state"):
        save_weights(state, path)
    with pytest.raises(TypeError, match="metadata are strings by name, found 'rounds': 3; write 'rounds': '3'"):
        save_weights(state.model, path, {"rounds": 3})
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: save_weights(state.model, path), lambda: load_weights(path)):
        with pytest.raises(ImportError, match=r"pip install 'hansa\[safetensors\]'"):
            call()


_PREDICTS = """
import sys


class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras", "tensorflow", "optax", "tests"):
            raise ImportError(f"{name} is not to be imported here")


sys.meta_path.insert(0, Without())
import numpy as np
import hansa

baked, bare, data, result = sys.argv[1:]
arrays = np.load(data)
predict, predict_with = hansa.load(baked), hansa.load(bare)
found = {str(n): predict(arrays["x"][:n]) for n in (1, 5, 20)}
names = predict_with.type_signature.parameter.fields[0][1]
weights = {
    part: {name: arrays[f"{part}:{name}"] for name in names[part].names} for part in ("trainable", "non_trainable")
}
assert not {"keras", "tensorflow", "optax"} & set(sys.modules)
np.savez(result, bare=predict_with(weights, arrays["x"][:5]), **found)
"""


def test_a_process_without_the_model_predicts_the_same_bits(state, tmp_path):
    model = of(network(2))
    baked, bare = build_prediction(model, state.model), build_prediction(model)
    assert baked.type_signature.compact() == "(float32[?,5] -> float32[?,3])"
    assert (
        bare.type_signature.compact() == f"(<weights={hansa.infer_type(state.model)},x=float32[?,5]> -> float32[?,3])"
    )
    hansa.save(baked, tmp_path / "baked.hansa")
    hansa.save(bare, tmp_path / "bare.hansa")
    x = make_client(20)["x"]
    own = {f"{part}:{name}": leaf for part in state.model._fields for name, leaf in state.model[part]._items()}
    np.savez(tmp_path / "data.npz", x=x, **own)
    paths = [str(tmp_path / name) for name in ("baked.hansa", "bare.hansa", "data.npz", "result.npz")]
    done = subprocess.run(
        [sys.executable, "-c", _PREDICTS, *paths],
        env={**os.environ, "PYTHONPATH": str(Path(hansa.__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "result.npz") as found:
        for size in (1, 5, 20):
            np.testing.assert_array_equal(found[str(size)], baked(x[:size]))
        np.testing.assert_array_equal(found["bare"], bare(state.model, x[:5]))
        other = network(3)
        state.model.assign_weights_to(other)
        np.testing.assert_allclose(found["20"], other.predict(x, verbose=0), rtol=1e-6, atol=1e-7)


def test_what_models_predict_from():
    jax_model = functional_model(
        weights(), normalised, input_spec="<x=float32[?,5],y=int32[?]>", non_trainable=INITIAL_STATISTICS
    )
    x = make_client(4)["x"]
    hidden = np.maximum(x @ weights()["hidden"]["kernel"] / np.sqrt(1.001), 0)
    found = build_prediction(jax_model, jax_model.initial_weights)(x)
    np.testing.assert_allclose(found, hidden @ weights()["out"]["kernel"], rtol=1e-5, atol=1e-6)

    def two(w, batch, training, rng):
        logits = batch.a * w["w"] + batch.b
        return BatchOutput(cross_entropy(logits, batch.y), {"logits": logits, "best": logits.argmax(1)})

    spec = "<a=float32[?,3],b=float32[?,1],y=int32[?],sample_weight=float32[?]>"
    model = functional_model({"w": np.float32(2)}, two, input_spec=spec)
    predict = build_prediction(model, model.initial_weights)
    assert (
        predict.type_signature.compact() == "(<a=float32[?,3],b=float32[?,1]> -> <logits=float32[?,3],best=int32[?]>)"
    )
    a, b = np.ones((2, 3), "float32"), np.array([[1], [2]], "float32")
    np.testing.assert_array_equal(predict(a, b).logits, 2 * a + b)
    pairs = functional_model(
        {"w": np.float32(2)},
        lambda w, batch, training, rng: BatchOutput(((batch[0] * w["w"] - batch[1]) ** 2).mean(), batch[0] * w["w"]),
        input_spec="<float32[?],float32[?]>",
    )
    np.testing.assert_array_equal(build_prediction(pairs, pairs.initial_weights)(np.ones(3, "float32")), [2, 2, 2])
    silent = functional_model(
        {"w": np.float32(2)}, lambda w, batch, training, rng: BatchOutput(w["w"]), input_spec="<x=float32[?]>"
    )
    with pytest.raises(TypeError, match="gives no predictions"):
        build_prediction(silent)


def test_a_process_begins_with_the_weights_that_the_model_has():
    pretrained = network(0)
    pretrained.fit(make_client(30)["x"], make_client(30)["y"], verbose=0)
    state = build_federated_averaging_process(of(pretrained)).initialize()
    for variable in pretrained.weights:
        if "seed" not in variable.path:
            part = "trainable" if variable.trainable else "non_trainable"
            np.testing.assert_array_equal(
                state.model[part][variable.path.removeprefix(f"{pretrained.name}/")], variable
            )


def test_training_goes_on_from_other_weights(state, tmp_path):
    process = build_federated_averaging_process(of(network(7)), server_optimizer=optax.adam(0.1))
    initial = process.initialize()
    changed = with_weights(initial, state.model)
    assert_same(changed.model, state.model)
    assert_same(changed.optimizer_state, initial.optimizer_state)
    data = [true_batches(make_client(20), 8)]
    after, _ = process.next(changed, data)
    assert after.optimizer_state[0] == 1
    assert not np.array_equal(after.model.trainable["head/bias"], state.model.trainable["head/bias"])
    other = network(8)
    state.model.assign_weights_to(other)
    assert_same(with_weights(initial, other).model, state.model)


def test_a_keras_model_without_names_of_ones_own_goes_by_the_order_of_its_layers():
    def make(seed):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    keras.utils.clear_session()  # so that the first model's layers are dense and dense_1, in the order of their names
    initial = build_federated_averaging_process(of(make(0))).initialize()
    other = make(1)
    found = list(with_weights(initial, other).model.trainable)
    expected = [other.layers[i].weights[j] for i in (0, 1) for j in (1, 0)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_layers_stay_and_are_not_sent_back():
    frozen = build_federated_averaging_process(of(network(0, frozen=["base", "norm"])))
    state = frozen.initialize()
    assert state.model.trainable._fields == ("head/bias", "head/kernel")
    told, whole = hansa.explain(frozen), hansa.explain(build_federated_averaging_process(of(network(0))))
    head, base, norm = 4 * (8 * 3 + 3), 4 * (5 * 8 + 8), 4 * 4 * 8
    assert int(str(whole.bytes_up).split()[0]) - int(str(told.bytes_up).split()[0]) == base + norm
    assert f"{head + 4} bytes -> mean" in str(told)
    after, _ = frozen.next(state, [true_batches(make_client(20), 8)])
    assert_same(after.model.non_trainable, state.model.non_trainable)
    for name in state.model.trainable._fields:
        assert not np.array_equal(after.model.trainable[name], state.model.trainable[name])


def test_statistics_of_a_layer_beside_a_frozen_one_are_averaged():
    process = build_federated_averaging_process(of(network(0, frozen=["base"])))
    state = process.initialize()
    after, _ = process.next(state, [true_batches(make_client(20), 8)])
    for name, value in after.model.non_trainable._items():
        assert np.array_equal(value, state.model.non_trainable[name]) == name.startswith("base/"), name
    assert 4 * (8 * 3 + 3 + 4 * 8) + 4 == 240
    assert "240 bytes -> mean" in str(hansa.explain(process))


def test_pretrained_weights_go_into_a_model_with_frozen_layers(state):
    pretrained = network(4)
    state.model.assign_weights_to(pretrained)
    frozen = build_federated_averaging_process(of(network(5, frozen=["base", "norm"])))
    begun = with_weights(frozen.initialize(), pretrained)
    np.testing.assert_array_equal(begun.model.non_trainable["base/kernel"], state.model.trainable["base/kernel"])
    np.testing.assert_array_equal(begun.model.trainable["head/kernel"], state.model.trainable["head/kernel"])
    client = make_client(15)
    found = build_federated_evaluation(of(network(6, frozen=["base", "norm"])))(begun.model, [true_batches(client, 8)])
    loss, _ = pretrained.evaluate(client["x"], client["y"], verbose=0)
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_other_weights_are_refused_with_both_types(state):
    model = mlp()
    other = build_federated_averaging_process(model).initialize()
    with pytest.raises(
        TypeError, match=r"of another model than those of the state: found .*base/bias.*expected .*hidden"
    ):
        with_weights(other, state.model)
    with pytest.raises(
        TypeError, match=r"than those of the model 'forward': found .*base/bias.*expected .*hidden/bias"
    ):
        build_prediction(model, state.model)
    with pytest.raises(TypeError, match=r"weights are hansa\.learning\.ModelWeights, .* found the int 3"):
        with_weights(other, 3)
    with pytest.raises(TypeError, match="takes a state with the field `model`"):
        with_weights(state.model, state.model)
    with pytest.raises(ValueError, match="is another model: its weights are"):
        with_weights(other, network(0))
