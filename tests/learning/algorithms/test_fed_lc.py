"""FedLC beside NumPy with 64 bits."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

TAU = 0.8


def gradient(w: plain.Weights, batch: tuple[Any, Any], counts: Any) -> plain.Weights:
    """The gradient of the mean calibrated loss on a batch."""
    (bias, kernel), (x, y) = w, batch
    scores = (x @ kernel + bias)[:, counts > 0] - TAU * counts[counts > 0] ** -0.25
    p = np.zeros((len(y), len(counts)))
    p[:, counts > 0] = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p.mean(0), x.T @ p / len(y)


def rounds_by_hand(labels: Any) -> plain.Weights:
    """The model after all rounds, with these labels."""
    model = plain.initial()
    offsets = np.cumsum([0, *plain.SIZES])
    for cohort in plain.COHORTS:
        clients, updates = by_hand.counted(cohort), []
        for client in clients:
            own = labels[offsets[client] : offsets[client + 1]]
            counts, w = np.bincount(own, minlength=plain.CLASSES), model
            for at, (x, _) in enumerate(plain.batches(client)):
                g = gradient(w, (x, own[at * plain.BATCH :][: len(x)]), counts)
                w = plain.combine(lambda w, g: w - plain.RATE * g, w, g)
            updates.append(w)
        model = by_hand.mean(updates, [plain.SIZES[client] for client in clients])
    return model


def labels() -> Any:
    """Labels of which one client has none of a class."""
    _, y = plain.examples()
    y[: plain.SIZES[0]] %= 2
    return y


def population(y: Any) -> hansa.ClientBatches:
    x, _ = plain.examples()
    return hansa.ClientBatches({"x": x, "y": y}, np.cumsum([0, *plain.SIZES]), plain.BATCH, plain.IDS)


def rounds(process: Any, y: Any) -> Any:
    state = process.initialize()
    for cohort in plain.COHORTS:
        state, _ = process.next(state, population(y).select(cohort))
    return state.model.trainable


def test_rounds_are_those_of_the_paper() -> None:
    y = labels()
    assert 2 not in y[: plain.SIZES[0]]
    process = hansa.learning.build_fed_lc(plain.model(), num_classes=plain.CLASSES, tau=TAU)
    plain.assert_close(rounds(process, y), rounds_by_hand(y))
    uncalibrated = process.with_hparams(process.initialize(), tau=0)
    after, _ = process.next(uncalibrated, population(y).select([0, 1]))
    assert np.abs(np.subtract(after.model.trainable.kernel, process.initialize().model.trainable.kernel)).max() > 1e-3


def probabilities(encoded: str) -> Any:
    """The softmax regression of `plain`, which gives probabilities, and takes labels in another form."""
    model = plain.model()

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        p = jax.nn.softmax(batch.x @ weights["kernel"] + weights["bias"])
        return hansa.learning.BatchOutput(p.mean(), p)

    trainable = model.initial_weights.trainable
    return hansa.learning.functional_model(
        {"bias": trainable.bias, "kernel": trainable.kernel},
        forward,
        input_spec=f"<x=float32[?,{plain.FEATURES}],y={encoded}>",
        optimizer="sgd",
        learning_rate=plain.RATE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoded", ["int32[?,1]", "float32[?,3]"])
def test_probabilities_and_other_forms_of_labels_do_the_same(encoded: str) -> None:
    y = labels()
    process = hansa.learning.build_fed_lc(probabilities(encoded), num_classes=plain.CLASSES, tau=TAU, from_logits=False)
    given = y[:, None] if "1" in encoded else np.eye(plain.CLASSES, dtype=np.float32)[y]
    plain.assert_close(rounds(process, given), rounds_by_hand(y))


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be an integer, at least 2; found 1"):
        hansa.learning.build_fed_lc(plain.model(), num_classes=1)
    with pytest.raises(ValueError, match=r"predictions of the shape \[examples, 4\].*the model gives an array"):
        hansa.learning.build_fed_lc(plain.model(), num_classes=4)
    with pytest.raises(TypeError, match="labels that are class indices"):
        hansa.learning.build_fed_lc(probabilities("float32[?]"), num_classes=3)
