"""FedProx beside NumPy with 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import plain
from tests.learning.test_averaging import logistic, make_clients
from tests.program.digits import assert_same_bits

MU = 0.5


def by_hand(mu: float) -> plain.Weights:
    """The model after all rounds."""
    model = plain.initial()
    for cohort in plain.COHORTS:
        updates, sizes = [], []
        for client in cohort:
            if plain.left_out(client):
                continue
            w = model
            for batch in plain.batches(client):
                g = plain.gradient(w, batch)
                w = plain.combine(lambda w, g, w_t: w - plain.RATE * (g + mu * (w - w_t)), w, g, model)
            updates.append(w)
            sizes.append(plain.SIZES[client])
        shares = np.array(sizes) / sum(sizes)
        model = plain.combine(
            lambda *each, shares=shares: sum(p * w for p, w in zip(shares, each, strict=True)), *updates
        )
    return model


def rounds(process: Any, state: Any) -> Any:
    for cohort in plain.COHORTS:
        state, _ = process.next(state, plain.population().select(cohort))
    return state


def test_rounds_are_those_of_the_paper() -> None:
    process, runtime = hansa.learning.build_fed_prox(plain.model(), proximal_strength=MU), hansa.InProcessRuntime()
    with hansa.runtime(runtime):
        plain.assert_close(rounds(process, process.initialize()).model.trainable, by_hand(MU))
        before = runtime.compilations
        other = process.with_hparams(process.initialize(), proximal_strength=2)
        plain.assert_close(rounds(process, other).model.trainable, by_hand(2))
        assert runtime.compilations == before
    assert np.abs(by_hand(MU)[1] - by_hand(0)[1]).max() > 1e-3


def test_without_the_term_it_is_averaging_to_the_bit() -> None:
    model, clients = logistic(), make_clients([5, 17, 0, 3])
    average = hansa.learning.build_federated_averaging_process(model)
    prox = hansa.learning.build_fed_prox(model, proximal_strength=0.0)
    assert_same_bits(*(process.next(process.initialize(), clients)[0].model for process in (average, prox)))


def test_a_hyper_parameter_that_is_not_there_or_no_number_is_refused() -> None:
    process = hansa.learning.build_scaffold(plain.model(), client_learning_rate=0.1, population=5)
    state = process.initialize()
    assert process.with_hparams(state, population=7).server.hparams.population == 7
    for wrong, message in (
        ({"client_learning_rates": 0.3}, "there is no hyper-parameter .* did you mean 'client_learning_rate'"),
        ({"population": 7.5}, "'population' is an integer, found 7.5"),
        ({"client_learning_rate": np.inf}, "client_learning_rate must be a finite number above 0, found inf"),
        ({"client_learning_rate": 0.0}, "client_learning_rate must be a number above 0, found 0.0"),
        ({"population": 0}, "population must be a number at least 1, found 0"),
        ({"client_learning_rate": "fast"}, "client_learning_rate must be a number, found 'fast'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            process.with_hparams(state, **wrong)
    averaging = hansa.learning.build_federated_averaging_process(plain.model())
    with pytest.raises(ValueError, match="there is no hyper-parameter 'mu', as this process has none"):
        averaging.with_hparams(averaging.initialize(), mu=1)


def test_a_strength_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="proximal_strength must be a number at least 0, found -1"):
        hansa.learning.build_fed_prox(plain.model(), proximal_strength=-1)
    with pytest.raises(TypeError, match="proximal_strength must be a number, found 'much'"):
        hansa.learning.build_fed_prox(plain.model(), proximal_strength="much")  # type: ignore[arg-type]
