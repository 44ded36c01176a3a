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

    Predictions are scores, or the tokens that `generating` wrote.

    Examples:
        >>> hansa.learning.token_accuracy().name
        'token_accuracy'
    """

    def right(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name, written=True)
        return _tokens(predictions) == labels, weight

    return Metric(right, name=name)


def exact_match(*, name: str = "exact_match") -> Metric:
    """The share of examples of which all tokens are predicted whose weight is not 0, each from the true ones before it.

    With greedy decoding these are the examples whose answer is generated as it is. Predictions may be what was
    generated, as `generating` has it. Examples without such tokens do not count. Arguments are as of `perplexity`.

    Examples:
        >>> hansa.learning.exact_match().name
        'exact_match'
    """

    def matches(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name, written=True)
        wrong = (_tokens(predictions) != labels) & (weight > 0)
        return ~wrong.any(1), (weight > 0).any(1).astype(jnp.float32)

    return Metric(matches, name=name)


def rouge_l(*, end: int | None = None, name: str = "rouge_l") -> Metric:
    """ROUGE-L of tokens: how much of the true answers is in those that are written, in the same order.

    Of an example it is 2 L / (m + n), for m true tokens, n written ones, and L that both have as a subsequence: the
    harmonic mean of recall L / m and precision L / n. True tokens are the labels whose weight is not 0. Predictions are
    what `generating` wrote; or scores, of which the greatest counts at the places of true tokens, each after the true
    ones before it. Examples without true tokens do not count; others count the same, and so do words that are
    one token: this is ROUGE-L of tokens, without stemming, and no library's ROUGE-L of words.

    Args:
        end: the token that ends an answer, which counts on neither side; by default there is none.
        name: what it is called.

    Examples:
        >>> hansa.learning.rouge_l(end=0).name
        'rouge_l'
    """

    def overlap(labels: Any, predictions: Any, weight: Any) -> Any:
        labels, weight = _checked(labels, predictions, weight, name, written=True)
        true = (weight > 0) & (labels != (-1 if end is None else end))
        found = _tokens(predictions)
        written = (found >= 0) if jnp.ndim(predictions) == 2 else (weight > 0)
        written &= found != (-1 if end is None else end)
        longest = _common(labels, true, found, written)
        counted = true.sum(1) + written.sum(1)
        return 2 * longest / jnp.maximum(counted, 1), true.any(1).astype(jnp.float32)

    return Metric(overlap, name=name)


def _common(ones: Any, of_ones: Any, others: Any, of_others: Any) -> Any:
    """The length of the longest common subsequence of two rows of tokens, of those that count, for each pair of rows.

    A row of the table of lengths is the running maximum of what its place and the one before it had.
    """

    def row(before: Any, at: Any) -> Any:
        token, counts = at
        same = (token[:, None] == others) & counts[:, None] & of_others
        shifted = jnp.pad(before[:, :-1], ((0, 0), (1, 0)))
        return jax.lax.cummax(jnp.maximum(before, shifted + same), axis=1), None

    start = jnp.zeros_like(others, jnp.int32)
    last, _ = jax.lax.scan(row, start, (ones.T, of_ones.T))
    return last[:, -1]


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


def _tokens(predictions: Any) -> Any:
    """The tokens that are predicted."""
    return predictions if predictions.ndim == 2 else predictions.argmax(-1)


def _checked(labels: Any, predictions: Any, weight: Any, name: str, *, written: bool = False) -> tuple[Any, Any]:
    """Labels and weights, `[examples, tokens]`. Predictions are scores, or may be tokens that are written."""
    shape = getattr(predictions, "shape", ())
    tokens = len(shape) == 2 and jnp.issubdtype(predictions.dtype, jnp.integer) and written
    if (
        not (len(shape) == 3 or tokens)
        or getattr(labels, "ndim", None) != 2
        or not jnp.issubdtype(labels.dtype, jnp.integer)
    ):
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
