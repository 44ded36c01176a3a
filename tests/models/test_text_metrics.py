"""Metrics of text beside NumPy."""

import numpy as np
import pytest

import hansa
from hansa.learning import (
    BatchOutput,
    bucketed,
    choice_accuracy,
    exact_match,
    functional_model,
    perplexity,
    token_accuracy,
)

LENGTH, VOCABULARY, CHOICES = 6, 7, [2, 4, 5]
random = np.random.default_rng(1)
TABLE = random.normal(size=(VOCABULARY, VOCABULARY)).astype("float32") + 2 * np.eye(VOCABULARY, dtype="float32")
METRICS = {
    "perplexity": perplexity(),
    "token_accuracy": token_accuracy(),
    "exact_match": exact_match(),
    "choice_accuracy": choice_accuracy(CHOICES),
}
SPEC = f"<x=int32[?,{LENGTH}],y=int32[?,{LENGTH}],sample_weight=float32[?,{LENGTH}]>"


def forward(weights, batch, training, rng):
    logits = weights["table"][batch.x]
    return BatchOutput((logits**2).mean(), logits)


def client(size, seed):
    own = np.random.default_rng(seed)
    x = own.integers(0, VOCABULARY, (size, LENGTH)).astype("int32")
    # Mostly what the table makes of it, so that some answers are right; the beginning is a prompt, the end is padding.
    y = np.where(own.random(x.shape) < 0.8, TABLE[x].argmax(-1), own.integers(0, VOCABULARY, x.shape)).astype("int32")
    first, last = own.integers(0, 3, (size, 1)), own.integers(2, LENGTH + 1, (size, 1))
    place = np.arange(LENGTH)
    return {"x": x, "y": y, "sample_weight": ((place >= first) & (place < last)).astype("float32")}


def by_hand(arrays):
    x, y, true = arrays["x"], arrays["y"], arrays["sample_weight"] > 0
    logits = np.float64(TABLE[x])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    logs = [np.log(p[i, j, y[i, j]]) for i, j in zip(*np.nonzero(true), strict=True)]
    hits = logits.argmax(-1) == y
    exact = [hits[i][true[i]].all() for i in range(len(x)) if true[i].any()]
    chosen = []
    for i in range(len(x)):
        at = np.flatnonzero(true[i])[:1]
        if len(at) and y[i, at[0]] in CHOICES:
            chosen.append(CHOICES[int(logits[i, at[0], CHOICES].argmax())] == y[i, at[0]])
    return {
        "perplexity": np.exp(-np.mean(logs)),
        "token_accuracy": hits[true].mean(),
        "exact_match": np.mean(exact),
        "choice_accuracy": np.mean(chosen),
    }


@pytest.mark.parametrize("lengths", [None, pytest.param([2, 4, LENGTH], marks=pytest.mark.slow)])
def test_all_are_those_of_all_clients_together(lengths):
    model = functional_model({"table": TABLE}, forward, input_spec=SPEC, metrics=METRICS)
    model = model if lengths is None else bucketed(model, lengths)
    clients = [client(9, 0), client(4, 1), client(1, 2)]
    clients[0]["sample_weight"][3] = 0  # an example without an answer
    batches = [[{k: v[i : i + 4] for k, v in one.items()} for i in range(0, len(one["x"]), 4)] for one in clients]
    found = hansa.learning.build_federated_evaluation(model)(model.initial_weights, batches)
    expected = by_hand({name: np.concatenate([one[name] for one in clients]) for name in clients[0]})
    assert 0 < expected["exact_match"] < 1 and 0 < expected["choice_accuracy"] <= 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_of_probabilities_and_without_weights():
    p = np.array([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]], np.float32)
    values, weights = perplexity(from_logits=False).function(np.array([[1, 1]], np.int32), p, None)
    np.testing.assert_allclose(values, -np.log([[0.25, 0.8]]), rtol=1e-6)
    np.testing.assert_array_equal(weights, [[1, 1]])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="different tokens, at least two; found"):
        choice_accuracy([3, 3])
    with pytest.raises(TypeError, match=r"takes labels of tokens, integers \[examples, tokens\]"):
        exact_match().function(np.zeros(3, np.int32), np.zeros((3, 4)), None)
