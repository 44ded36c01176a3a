"""What who is new to Hansa passes in place of what is asked for; each message says what to write."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

import hansa

X, Y = np.ones((12, 3), "float32"), np.arange(12, dtype="int32") % 2
BUILD = "hansa.learning.build_federated_averaging_process"
COMPILED = "hansa.learning.from_compiled_keras_model(keras_model, sample_batch)"
COHORT = "choose who takes part, by position: data.cohort([0, 1, 2])"
BATCHES = """a client's value is a list of its batches: [{"x": …, "y": …}]"""


def network(compiled: bool = True) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    if compiled:
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def at() -> SimpleNamespace:
    """A population, and a process that trains on it."""
    raw = hansa.simulation.ClientData.from_arrays({"x": X, "y": Y}, np.arange(12) % 4)
    data = raw.batch(2)

    def model_fn() -> hansa.learning.FunctionalModel:
        return hansa.learning.from_compiled_keras_model(network(), data.client(0))

    process = hansa.learning.build_federated_averaging_process(model_fn)
    evaluate = hansa.learning.build_federated_evaluation(model_fn)
    state = process.initialize()
    return SimpleNamespace(raw=raw, data=data, model_fn=model_fn, process=process, evaluate=evaluate, state=state)


MISTAKES: dict[str, tuple[Callable[[Any], Any], str]] = {
    # What is passed as the clients' data.
    "a population": (lambda at: at.process.next(at.state, at.data), COHORT),
    "a population to evaluate on": (lambda at: at.evaluate(at.state.model, at.data), COHORT),
    "no batches": (lambda at: at.raw.cohort([0]), "data.batch(20).cohort(…)"),
    "arrays as clients": (lambda at: at.process.next(at.state, [X, X]), BATCHES),
    "pairs as clients": (lambda at: at.process.next(at.state, [(X, Y), (X, Y)]), BATCHES),
    "a pair": (lambda at: at.process.next(at.state, (X, Y)), BATCHES),
    "one client": (lambda at: at.process.next(at.state, at.data.client(0)), """[[{"x": …, "y": …}]]"""),
    "one batch as a client": (lambda at: at.process.next(at.state, [{"x": X, "y": Y}]), "put the one batch in a list"),
    "positions": (lambda at: at.process.next(at.state, [0, 1]), "pass data.cohort([…]) with these positions"),
    "the state alone": (lambda at: at.process.next(at.state), "if that is one of them, pass the others, too"),
    "the state last": (lambda at: at.process.next(at.data.cohort([0]), at.state), "pass it before the data"),
    # What is passed as the state, and what is looked for in it.
    "initialize itself": (
        lambda at: at.process.next(at.process.initialize, at.data.cohort([0])),
        "call it: initialize()",
    ),
    "a state for weights": (lambda at: at.evaluate(at.state, at.data.cohort([0])), "its part .model is one: pass that"),
    "predict": (lambda at: at.state.model.predict(X), "write hansa.learning.build_prediction(model_fn, state.model)"),
    # What is passed as a model.
    "a model": (lambda at: hansa.learning.build_federated_averaging_process(network()), f"return {COMPILED}"),
    "a Keras fn": (
        lambda at: hansa.learning.build_federated_averaging_process(network),
        f"return {COMPILED}",
    ),
    "a model to evaluate": (lambda at: hansa.learning.build_federated_evaluation(network()), f"return {COMPILED}"),
    "to predict with": (lambda at: hansa.learning.build_prediction(network), f"return {COMPILED}"),
    "each client's": (lambda at: hansa.learning.build_per_client_evaluation(network), f"return {COMPILED}"),
    "not compiled": (
        lambda at: hansa.learning.build_federated_averaging_process(lambda: network(False)),
        f"compile it, and return {COMPILED}",
    ),
    "a class": (
        lambda at: hansa.learning.build_federated_averaging_process(keras.Sequential),
        "model_fn is the class Sequential; make a model of it",
    ),
    "a parameter": (
        lambda at: hansa.learning.build_federated_averaging_process(lambda size: at.model_fn()),
        "<lambda>(size) needs some; pass a function that needs none",
    ),
    "a function for a model": (
        lambda at: hansa.learning.from_compiled_keras_model(network, at.data.client(0)),
        "found the function network; call it: network()",
    ),
    "a class for a model": (
        lambda at: hansa.learning.from_compiled_keras_model(keras.Sequential, at.data.client(0)),
        "found the class Sequential; make one: Sequential(…)",
    ),
    "a population for a batch": (
        lambda at: hansa.learning.from_compiled_keras_model(network(), at.data),
        "pass the examples of one client, data.client(data.client_ids[0])",
    ),
    # What is passed to a run.
    "a model to train": (lambda at: hansa.program.train(network(), at.data, rounds=1), f"write {BUILD}(model_fn)"),
    "a model_fn to train": (lambda at: hansa.program.train(at.model_fn, at.data, rounds=1), f"write {BUILD}(model_fn)"),
    "next to train": (lambda at: hansa.program.train(at.process.next, at.data, rounds=1), "pass the process itself"),
    "a callback of Keras": (
        lambda at: hansa.fit(at.process, at.data, rounds=1, callbacks=[keras.callbacks.EarlyStopping()]),
        "write hansa.program.EarlyStopping(monitor=…, patience=…)",
    ),
    "epochs of batches": (lambda at: hansa.program.train(at.process, at.data, epochs=2), "data.batch(20, epochs=2)"),
    "a misspelt argument": (lambda at: hansa.fit(at.process, at.data, 1, evalute=3), "did you mean evaluate=?"),
    "an unknown argument": (lambda at: hansa.fit(at.process, at.data, 1, colour=3), "it takes process, data, rounds,"),
    "arrays to train on": (lambda at: hansa.program.train(at.process, (X, Y), rounds=1), "hansa.simulation.ClientData"),
    # How populations are made and asked.
    "ClientData(…)": (lambda at: hansa.simulation.ClientData(X, Y), "ClientData.from_arrays(arrays, client_of)"),
    "arrays without names": (lambda at: hansa.simulation.ClientData.from_arrays(X, Y), """such as {"x": x, "y": y}"""),
    "a number of clients": (
        lambda at: hansa.simulation.ClientData.from_arrays({"x": X, "y": Y}, 4),
        "hansa.simulation.partition_iid(12, clients=4, seed=0) deals them out",
    ),
    "a list of clients": (
        lambda at: hansa.simulation.ClientData.from_clients([{"x": X}]),
        "dict(enumerate(clients)) numbers them",
    ),
    "an item": (lambda at: at.data[0], "data.client(client_id) gives one client's examples"),
    "a loop": (lambda at: list(at.data), "data.client(client_id) gives one client's examples"),
    "arrays for labels": (
        lambda at: hansa.simulation.partition_dirichlet({"x": X, "y": Y}, clients=2, alpha=0.5, seed=0),
        """pass the labels alone, such as arrays["y"]""",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_to_write(mistake: str, at: SimpleNamespace):
    make, told = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError, AttributeError)) as raised:
        make(at)
    assert told in str(raised.value)
