"""What algorithms for classifiers find out about a client's classes in a first pass, and the logits of predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.passes import FirstPass, mean_over_data
from hansa.models.batch_types import class_indices
from hansa.models.model import FunctionalModel
from hansa.models.outputs import BatchOutput
from hansa.models.weights import ModelWeights
from hansa.types import Struct


def checked_classes(num_classes: Any) -> int:
    """The argument `num_classes`.

    Raises:
        ValueError: if it is no integer of at least 2.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes must be an integer, at least 2; found {num_classes!r}")
    return num_classes


def class_shares(num_classes: int) -> FirstPass:
    """A first pass for the share of each class among the client's labels: `at.seen.share`, `float32[num_classes]`.

    Args:
        num_classes: how many classes there are.
    """

    def of_batch(model: FunctionalModel, at: Struct, batch: Any, key: Any) -> tuple[Any, Any]:
        labels = class_indices(batch, num_classes, "class_shares")
        return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32).mean(0), BatchOutput(None)

    return mean_over_data("share", lambda model, at: jnp.zeros(num_classes, jnp.float32), of_batch)


def class_outputs(
    num_classes: int, from_logits: bool, weights: Callable[[Struct], ModelWeights], name: str
) -> FirstPass:
    """A first pass for what a model says of each class: `at.seen.classes`, `<share=float32[c],outputs=float32[c,c]>`.

    A row of `outputs` is the sum of the probabilities that the model gives the examples of a class, over the number of
    all examples; so its mean over the class is the row over its `share`.

    Args:
        num_classes: c, how many classes there are.
        from_logits: whether the model's predictions are logits; else they are probabilities.
        weights: from `at` to the weights of the model.
        name: of the algorithm, for messages.
    """

    def first(model: FunctionalModel, at: Struct) -> Any:
        shape = (num_classes,)
        return Struct.of(share=jnp.zeros(shape, jnp.float32), outputs=jnp.zeros(shape * 2, jnp.float32))

    def of_batch(model: FunctionalModel, at: Struct, batch: Any, key: Any) -> tuple[Any, Any]:
        output = model.forward(weights(at), model.initial_local, batch, False, key).output
        probabilities = jax.nn.softmax(logits_of(output.predictions, num_classes, from_logits, name))
        labels = jax.nn.one_hot(class_indices(batch, num_classes, name), num_classes, dtype=jnp.float32)
        sums = jnp.einsum("ec,ed->cd", labels, probabilities)
        return Struct.of(share=labels.mean(0), outputs=sums / labels.shape[0]), output

    return mean_over_data("classes", first, of_batch)


def logits_of(predictions: Any, num_classes: int, from_logits: bool, name: str) -> Any:
    """Logits `[examples, num_classes]`, of a model's predictions.

    Raises:
        ValueError: if they have another shape; the message names the algorithm.
    """
    shape = getattr(predictions, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] != num_classes:
        found = "none" if shape is None else f"an array of the shape {list(shape)}"
        raise ValueError(
            f"{name} takes predictions of the shape [examples, {num_classes}], a score for each of the classes that "
            f"num_classes={num_classes} says; the model gives {found}"
        )
    scores = predictions.astype(jnp.float32)
    return scores if from_logits else jnp.log(jnp.maximum(scores, np.finfo(np.float32).tiny))
