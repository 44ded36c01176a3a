"""Metrics of models of text: of tokens by their weights, and of whole answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.models.metrics import Metric


def perplexity(*, from_logits: bool = True, name: str = "perplexity") -> Metric:
    """The perplexity: e to the mean of -log p of each true token, by the weights of tokens.

    Labels are tokens `[examples, tokens]`, predictions scores of each, `[examples, tokens, vocabulary]`, and
    the weights of a batch, `[examples, tokens]` or none, say which tokens count. Of all clients together it is that of
    all their tokens.

    Args:
        from_logits: whether predictions are logits; else they are probabilities.
        name: what it is called.

    Examples:
        >>> def forward(weights, batch, training, rng):
        ...     logits = weights["table"][batch.x]
        ...     return hansa.learning.BatchOutput(logits.mean() ** 2, logits)
        >>> of_words = hansa.learning.functional_model(
        ...     {"table": np.zeros((9, 9))}, forward, input_spec="<x=int32[?,4],y=int32[?,4]>",
        ...     metrics={"perplexity": hansa.learning.perplexity()},
        ... )
        >>> batch = {"x": np.ones((2, 4), np.int32), "y": np.ones((2, 4), np.int32)}
        >>> evaluation = hansa.learning.build_federated_evaluation(of_words)
        >>> print(f"{evaluation(of_words.initial_weights, [[batch]]).perplexity:.3f}")
        9.000
    """

    def surprise(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name)
        scores = predictions.astype(jnp.float32)
        logs = jax.nn.log_softmax(scores) if from_logits else jnp.log(scores)
        found = -jnp.take_along_axis(logs, labels[..., None], -1)[..., 0]
        return jnp.where(weight > 0, found, 0), weight

    return Metric(surprise, finalize=_exp, name=name)


def _exp(mean: Any) -> Any:
    return jnp.exp(mean).astype(jnp.float32)


def token_accuracy(*, name: str = "token_accuracy") -> Metric:
    """The share of tokens that are predicted, by their weights; arguments as of `perplexity`.

    Examples:
        >>> hansa.learning.token_accuracy().name
        'token_accuracy'
    """

    def right(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name)
        return predictions.argmax(-1) == labels, weight

    return Metric(right, name=name)


def exact_match(*, name: str = "exact_match") -> Metric:
    """The share of examples of which all tokens are predicted whose weight is not 0, each from the true ones before it.

    With greedy decoding these are the examples whose answer is generated as it is. Examples without such tokens do not
    count. Arguments are as of `perplexity`.

    Examples:
        >>> hansa.learning.exact_match().name
        'exact_match'
    """

    def matches(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name)
        wrong = (predictions.argmax(-1) != labels) & (weight > 0)
        return ~wrong.any(1), (weight > 0).any(1).astype(jnp.float32)

    return Metric(matches, name=name)


def choice_accuracy(choices: Sequence[int], *, name: str = "choice_accuracy") -> Metric:
    """The share of questions with several choices of which the right one has the greatest score of all choices.

    A choice is one token, such as those of A, B, C and D. The right one is the first token of an example whose weight
    is not 0. Examples where that is none of the choices do not count. Other arguments are as of `perplexity`.

    Args:
        choices: the tokens of the choices, at least two.
        name: what it is called.

    Raises:
        ValueError: if these are not different tokens.

    Examples:
        >>> hansa.learning.choice_accuracy([5, 6, 7, 8]).name
        'choice_accuracy'
    """
    tokens = list(choices)
    numbers = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0 for n in tokens)
    if not numbers or len(tokens) < 2 or len(set(tokens)) < len(tokens):
        raise ValueError(f"choices must be the numbers of different tokens, at least two; found {choices!r}")

    def chosen(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name)
        there = weight > 0
        first = there & (jnp.cumsum(there, 1) == 1)
        scores = jnp.where(first[..., None], predictions[..., np.array(tokens)], 0).sum(1)
        right = jnp.where(first, labels, 0).sum(1)[:, None] == jnp.asarray(tokens, labels.dtype)
        counts = first.any(1) & right.any(1)
        return scores.argmax(1) == right.argmax(1), counts.astype(jnp.float32)

    return Metric(chosen, name=name)


def _checked(labels: Any, predictions: Any, weight: Any, name: str) -> tuple[Any, Any]:
    """Labels and weights, `[examples, tokens]`."""
    shape = getattr(predictions, "shape", ())
    if len(shape) != 3 or getattr(labels, "ndim", None) != 2 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name} takes labels of tokens, integers [examples, tokens], and predictions [examples, tokens, "
            f"vocabulary]; found {getattr(labels, 'dtype', type(labels).__name__)}{list(getattr(labels, 'shape', ()))} "
            f"and {list(shape)}"
        )
    if weight is None:
        return labels, jnp.ones_like(labels, dtype=jnp.float32)
    if weight.ndim == 1:
        weight = weight[:, None]
    return labels, jnp.broadcast_to(weight, labels.shape).astype(jnp.float32)
