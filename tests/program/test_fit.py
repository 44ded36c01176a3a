"""`hansa.fit`: the forms of clients, the ways to evaluate, and the model that comes of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import keras
import numpy as np
import pytest

import hansa  # before keras
from hansa.learning import ModelWeights, build_federated_averaging_process, build_federated_evaluation
from hansa.learning import from_compiled_keras_model as from_keras
from hansa.simulation import ClientData
from tests.program.counting import ADDING, number_of
from tests.program.digits import assert_same_bits, averaging, population

CLIENTS = 6


class Scale(keras.layers.Layer):
    """A layer that no registry of Keras knows."""

    def __init__(self, by: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.by = by

    def call(self, x: Any) -> Any:
        return x * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


def keras_model() -> keras.Model:
    """A small classifier, with a layer of one's own, a loss that is a function, and statistics of batches."""
    layers = [Scale(2.0), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=lambda labels, logits: loss(labels, logits),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def examples() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    return x, (x.sum(1) > 0.3).astype(np.int32)


X, Y = examples()
PAIRS = [(X[i::CLIENTS], Y[i::CLIENTS]) for i in range(CLIENTS)]
HELD_OUT = (X[:50] + 0.5, Y[:50])


@pytest.fixture(scope="module")
def model() -> Any:
    return keras_model()


@pytest.fixture(scope="module")
def functional(model: Any) -> Any:
    return from_keras(model, {"x": X, "y": Y})


@pytest.fixture(scope="module")
def process(functional: Any) -> Any:
    return build_federated_averaging_process(
        functional, client_optimizer="sgd", client_learning_rate=0.2, server_optimizer="adam", server_learning_rate=0.1
    )


@pytest.fixture(scope="module")
def result(process: Any) -> Any:
    return hansa.fit(process, PAIRS, 2, batch_size=5, epochs=2, progress=False)


def test_it_is_train_of_a_population_whatever_form_the_clients_have(process: Any, result: Any) -> None:
    named = [{"x": x, "y": y} for x, y in PAIRS]
    data = ClientData.from_clients(dict(enumerate(named)))
    ready = data.repeat(2).batch(5)
    expected = hansa.program.train(process, ready, 2, progress=False)
    forms = [
        *(PAIRS, named, dict(enumerate(named)), data),
        *(ready, ready.cohort(range(CLIENTS)), lambda number: ready.cohort(range(CLIENTS))),
        [hansa.Batches(client, 5, epochs=2) for client in named],
    ]
    assert_same_bits(result.state, expected.state)
    for place, form in enumerate(forms):
        batching = {"batch_size": 5, "epochs": 2} if place < 4 else {}
        found = hansa.fit(process, form, 2, progress=False, **batching)
        # Clients whose batches are given one by one are dealt to devices in another order, and so added up.
        same = assert_same_bits if place < 7 else partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5))
        same(found.state, expected.state)


def test_a_fraction_of_the_clients_is_the_number_that_it_is(process: Any) -> None:
    drawn = []

    class Watched:
        def __len__(self) -> int:
            return CLIENTS

        def cohort(self, positions: Any, round_number: int) -> Any:
            drawn.append(positions.tolist())
            return [hansa.Batches({"x": X[i::CLIENTS], "y": Y[i::CLIENTS]}, 20) for i in positions]

    for cohort_size in (0.5, 3):
        hansa.fit(process, Watched(), 2, cohort_size=cohort_size, seed=4, progress=False)
    assert drawn[:2] == drawn[2:]
    assert [len(set(positions)) for positions in drawn] == [3] * 4


def test_each_way_to_evaluate_says_what_keras_says(process: Any, functional: Any) -> None:
    x, y = HELD_OUT
    judge, own = keras_model(), keras_model()
    federated = (build_federated_evaluation(functional), [(x[:10], y[:10]), (x[10:], y[10:])])
    forms = [
        *((judge, data) for data in ((x, y), {"x": x, "y": y}, hansa.Batches((x, y), 7))),
        (judge, ClientData.from_clients({1: {"x": x[:20], "y": y[:20]}, 2: {"x": x[20:], "y": y[20:]}})),
        (of_weights, HELD_OUT),
        lambda state: of_weights(state.model, HELD_OUT),
    ]
    for evaluate in (federated, *forms):
        states: list[Any] = []
        keep = partial(_keep, states)
        result = hansa.fit(process, PAIRS, 2, evaluate=evaluate, progress=False, callbacks=[keep])
        for record, state in zip(result.history, states, strict=True):
            state.model.assign_weights_to(own)
            expected = own.evaluate(x, y, verbose=0, return_dict=True)
            for name in ("loss", "accuracy"):
                assert record[f"evaluation/{name}"] == pytest.approx(expected[name], rel=1e-5), evaluate


def _keep(states: list[Any], round_number: int, state: Any, metrics: Any) -> None:
    states.append(state)


def of_weights(model: ModelWeights, data: Any) -> dict[str, Any]:
    """Loss and accuracy in NumPy, of the weights as they are."""
    (x, labels), weights = data, {**dict(model.trainable._items()), **dict(model.non_trainable._items())}
    part = {name.split("/")[-1]: np.asarray(value, np.float64) for name, value in weights.items()}
    normed = (2 * x - part["moving_mean"]) / np.sqrt(part["moving_variance"] + 1e-3) * part["gamma"] + part["beta"]
    logits = normed @ part["kernel"] + part["bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return {"loss": losses.mean(), "accuracy": (logits.argmax(1) == labels).mean()}


def test_the_result_has_a_keras_model_that_can_be_used(process: Any, model: Any, result: Any) -> None:
    before = [np.array(weight) for weight in model.get_weights()]
    trained = result.model
    assert result.model is trained is not model
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    expected = of_weights(result.state.model, (X, Y))
    found = trained.evaluate(X, Y, batch_size=len(X), verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)
    assert isinstance(trained.optimizer, keras.optimizers.SGD) and trained.optimizer is not model.optimizer


def test_a_model_of_another_kind_is_its_weights_and_a_state_without_one_says_so() -> None:
    found = hansa.fit(averaging(), population(), 1, progress=False)
    assert type(found.model) is ModelWeights and found.model is found.state.model
    with pytest.raises(TypeError, match="the states of this process have no field `model`"):
        _ = hansa.fit(ADDING, number_of, 1, progress=False).model


def test_a_keras_model_that_cannot_be_made_again_says_what_to_write() -> None:
    class Own(keras.Model):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.dense, self.function = keras.layers.Dense(2), function

        def call(self, x: Any) -> Any:
            return self.function(self.dense(x))

    own = Own(jax.nn.relu)
    own.compile("sgd", "mse")
    process = build_federated_averaging_process(from_keras(own, (X, Y)))
    found = hansa.program.train(process, lambda number: [], 0, progress=False)
    with pytest.raises(
        TypeError, match=r"Keras cannot make a copy of the model 'own\w*'(.|\n)*state\.model\.assign_weig"
    ):
        _ = found.model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": X}, r"data must be a hansa\.simulation\.ClientData; a list of clients, .*; found float32\[90,4\]"),
        ({"data": [X, Y]}, r"found the examples of one client: list them .*, \[\(x, y\), …\]"),
        ({"data": {"x": X, "y": Y}}, r"the examples of one client: .*ClientData\.from_arrays\("),
        ({"data": [X, Y[:3]]}, r"; data\[0\] is float32\[90,4\]"),
        ({"data": PAIRS, "epochs": 0}, "epochs must be a positive integer, found 0"),
        ({"data": [(x, y.astype(np.float32)) for x, y in PAIRS], "epochs": 0}, "epochs must be .*, found 0"),
        ({"data": []}, "data must be .*; found a list of length 0"),
        ({"data": [iter(PAIRS)]}, r"data\[0\] is .* once only, .* make a list of its batches"),
        ({"data": [PAIRS[0], [PAIRS[1]]]}, r"data\[0\] has examples, and other clients have batches"),
        ({"data": {"a": PAIRS[0], "b": 3}}, r"data\['b'\] must be the examples of a client, .*; found the int 3"),
        ({"data": [PAIRS[0], (X, Y.astype(np.float32))]}, r"data\[1\] has examples of the type .*convert them to one"),
        ({"data": population(), "batch_size": 3}, "data says itself in which batches .*; leave out batch_size"),
        ({"data": number_of, "epochs": 3}, "leave out epochs"),
        ({"data": PAIRS, "cohort_size": 9}, "cohort_size must be from 1 to the number of clients, 6; found 9"),
        (
            {"data": PAIRS, "evaluate": (lambda model: 1, X)},
            r"called with the arguments \(model, data\); found a lambda",
        ),
        ({"data": PAIRS, "evaluate": (X, Y)}, r"evaluate must be .*; found \(float32\[90,4\], …\)"),
        ({"data": PAIRS, "evaluate": (1, 2, 3)}, r"evaluate must be .*; found 3 values"),
        ({"data": PAIRS, "validation_data": HELD_OUT}, r"fit takes no argument 'validation_data': write evaluate=\(k"),
        ({"data": PAIRS, "num_rounds": 3}, "fit takes no argument 'num_rounds': write rounds= in its place"),
    ],
)
def test_mistakes_are_told_with_what_to_write(process: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        hansa.fit(process, **{"rounds": 1, "progress": False, **options})


def test_evaluations_that_do_not_go_with_the_process_are_told_before_the_first_round(
    process: Any, model: Any, functional: Any
) -> None:
    evaluation = build_federated_evaluation(functional)
    bare = keras_model()
    bare.compiled = False
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.compile("sgd", "mse")
    for on, evaluate, message in (
        (process, evaluation, r"needs the clients .* write evaluate=\(evaluation, held_out\)"),
        (process, model, r"needs data: write evaluate=\(keras_model, \(x, y\)\)"),
        (process, (bare, HELD_OUT), "is not compiled, so it has no loss and no metrics"),
        (process, (other, HELD_OUT), "evaluate: the Keras model 'sequential.*' is another model"),
        (
            process,
            (model, PAIRS[:2]),
            r"takes all examples together, \(x, y\); found a list of length 2, each a client's",
        ),
        (process, (model, dict(enumerate(PAIRS))), "takes all examples together"),
        (process, (model, [{"x": X, "y": Y}]), "takes all examples together"),
        (process, keras.Model, r"evaluate has the class Model; make an object of it"),
        (process, (model, 3), r"takes \(x, y\), or what Keras evaluates on; found the int 3"),
        (process, (model, iter([HELD_OUT])), "can be gone through once only"),
        (process, (evaluation, X), r"the data of evaluate must be .*; found float32\[90,4\]"),
        (process, (evaluation, number_of), "takes clients, and not the function"),
        (averaging(), (evaluation, PAIRS), "the model that the evaluation is of"),
        (ADDING, (of_weights, HELD_OUT), "the states of this process have none: .* pass a function of the state"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            hansa.fit(on, number_of, 1, evaluate=evaluate, progress=False)
