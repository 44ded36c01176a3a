"""The way of somebody who comes from Keras: what is typed first, what is answered, and a model in a `.keras` file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import hansa


class Begun(NamedTuple):
    """What is there after the first lines."""

    network: Any
    x: Any
    y: Any
    train: Any
    test: Any
    process: Any


def network() -> keras.Model:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def begun() -> Begun:
    digits = hansa.simulation.load_digits()
    x, y = digits.train_images, digits.train_labels
    clients = hansa.simulation.partition_iid(len(y), 10)
    train, test = hansa.simulation.ClientData.from_arrays({"x": x, "y": y}, clients).split(0.2)
    model = network()
    learned = hansa.learning.from_compiled_keras_model(model, {"x": x, "y": y})
    process = hansa.learning.build_federated_averaging_process(learned)
    return Begun(model, x, y, train.batch(20), test, process)


MISTAKES: dict[str, tuple[Callable[[Begun], object], str]] = {
    "the function and not the model": (
        lambda b: hansa.learning.from_compiled_keras_model(network, {"x": b.x, "y": b.y}),  # type: ignore[arg-type]
        "call it: network()",
    ),
    "a model that is not compiled": (
        lambda b: hansa.learning.from_compiled_keras_model(keras.Sequential([keras.Input((64,))]), {"x": b.x}),
        "call keras_model.compile(optimizer, loss, metrics) first",
    ),
    "a model that is compiled already": (
        lambda b: hansa.learning.from_keras_model(network(), {"x": b.x, "y": b.y}, loss="mse"),
        "use hansa.learning.from_compiled_keras_model",
    ),
    "the Keras model itself": (
        lambda b: hansa.learning.build_federated_averaging_process(b.network),
        "return hansa.learning.from_compiled_keras_model(keras_model, sample_batch)",
    ),
    "arrays without names": (
        lambda b: hansa.simulation.ClientData.from_arrays(b.x, b.y),
        'such as {"x": x, "y": y}',
    ),
    "images for their number": (
        lambda b: hansa.simulation.partition_iid(b.x, 10),
        "write len(labels)",
    ),
    "a population for a cohort": (
        lambda b: b.process.next(b.process.initialize(), b.train),
        "data.cohort([0, 1, 2])",
    ),
    "no batches": (lambda b: b.test.cohort([0]), "data.batch(20)"),
    "a model to fit": (
        lambda b: hansa.fit(b.network, b.train, rounds=1, progress=False),
        "write hansa.learning.build_federated_averaging_process(model_fn)",
    ),
    "validation_data": (
        lambda b: hansa.fit(b.process, b.train, rounds=1, validation_data=b.test),  # type: ignore[call-arg]
        "write evaluate=(keras_model, (x, y))",
    ),
    "val_loss": (
        lambda b: hansa.fit(
            b.process,
            b.train,
            rounds=1,
            callbacks=[hansa.program.EarlyStopping(monitor="val_loss", patience=2)],
            progress=False,
        ),
        "there is no such metric; did you mean 'loss'?",
    ),
    "FedAvg": (lambda b: hansa.learning.FedAvg, "hansa.learning.build_federated_averaging_process(model_fn)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_first_mistake_is_answered_with_what_to_write(name: str, begun: Begun) -> None:
    mistake, write = MISTAKES[name]
    with pytest.raises((TypeError, ValueError, AttributeError), match=re.escape(write)):
        mistake(begun)


def test_the_way_ends_with_a_model_that_keras_reads(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held_out = begun.test.centralized()
    stopping = hansa.program.EarlyStopping(monitor="evaluation/loss", patience=5)
    result = hansa.fit(
        begun.process,
        begun.train,
        rounds=8,
        cohort_size=6,
        evaluate=(begun.network, (held_out["x"], held_out["y"])),
        callbacks=[stopping],
        run_dir="runs/first",
        progress=False,
    )
    accuracies = result.history["evaluation/accuracy"]
    assert len(accuracies) == 8 and accuracies[-1] > accuracies[0] and accuracies[-1] > 0.7
    result.model.save("digits.keras")
    read = keras.models.load_model("digits.keras")
    _, accuracy = read.evaluate(held_out["x"], held_out["y"], verbose=0)
    assert accuracy == pytest.approx(accuracies[-1], abs=1e-6)
    assert (read.predict(held_out["x"], verbose=0).argmax(1) == held_out["y"]).mean() == pytest.approx(accuracy)
    # A longer run of the same goes on, and what it is may be looked at.
    longer = hansa.fit(
        begun.process,
        begun.train,
        rounds=9,
        cohort_size=6,
        evaluate=(begun.network, (held_out["x"], held_out["y"])),
        callbacks=[hansa.program.EarlyStopping(monitor="evaluation/loss", patience=5)],
        run_dir="runs/first",
        progress=False,
    )
    np.testing.assert_array_equal(longer.history["evaluation/accuracy"][:8], accuracies)
    assert "9" in hansa.program.write_report("runs/first").read_text("utf-8")
