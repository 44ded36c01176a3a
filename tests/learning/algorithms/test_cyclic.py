"""Cyclic weight transfer: averaging in rounds of one client each."""

from __future__ import annotations

import pytest

import hansa
from tests.learning.algorithms import by_hand, plain


@pytest.mark.slow
def test_rounds_of_one_client_each_are_cyclic_weight_transfer() -> None:
    """Each client goes on from the weights of the one before; who is left out hands them on as they are."""
    w = plain.initial()
    for client in range(len(plain.SIZES)):
        w = w if plain.left_out(client) else by_hand.sgd(w, client)
    process = hansa.learning.build_federated_averaging_process(plain.model())
    found = hansa.program.train(process, lambda number: plain.population().select([number - 1]), len(plain.SIZES))
    plain.assert_close(found.state.model.trainable, w)
