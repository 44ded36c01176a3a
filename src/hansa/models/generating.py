"""A model of text whose predictions are what it writes, for metrics of generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.models.batch_types import labels, sample_weight
from hansa.models.jax.models import functional_model
from hansa.models.model import FunctionalModel
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type
from hansa.types.mismatch import describe


def generating(
    model: FunctionalModel,
    *,
    tokens: str,
    metrics: Mapping[str, Any],
    end: int | None = None,
    mask: str | None = None,
) -> FunctionalModel:
    """The model, whose predictions are the answers that it writes: for evaluation, with metrics of what is written.

    A batch has prompts with their answers, as `TokenCoding.answers` makes them: tokens, the next token after each as
    `y`, and `sample_weight`, which is not 0 where the answer is. The model is given the prompt, and takes the token
    with the greatest score each time, up to `end` or the length of the sequences. Predictions are the tokens that it
    wrote after each place, `[examples, tokens]`, and -1 where it wrote none; `exact_match`, `rouge_l` and
    `token_accuracy` take them. Each token costs a forward pass of whole sequences, as nothing of earlier ones is kept:
    for long texts have the library's own `generate` write, after `state.model.assign_weights_to(network)`.

    Args:
        model: a causal model, whose predictions are scores, `[examples, tokens, vocabulary]`.
        tokens: the field of a batch with the tokens, or the path to it: "token_ids", "x", "x/input_ids".
        metrics: as of `functional_model`. The loss is that of the model.
        end: the token after which an answer is over; by default it is as long as the true one.
        mask: the field that says where there are tokens, if the model has such: as an answer is written, it is 1.

    Returns:
        A model with the same weights, for `build_federated_evaluation` and `build_per_client_evaluation`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or batches have no such fields.

    Examples:
        >>> def forward(weights, batch, training, rng):
        ...     logits = weights["table"][batch.x]
        ...     return hansa.learning.BatchOutput(logits.mean() ** 2, logits)
        >>> of_words = hansa.learning.functional_model(
        ...     {"table": np.roll(np.eye(5), 1, 1)}, forward,
        ...     input_spec="<x=int32[?,4],y=int32[?,4],sample_weight=float32[?,4]>",
        ... )
        >>> metrics = {"rouge_l": hansa.learning.rouge_l(end=0)}
        >>> writer = hansa.learning.generating(of_words, tokens="x", end=0, metrics=metrics)
        >>> batch = {"x": [[1, 2, 3, 4]], "y": [[2, 3, 4, 0]], "sample_weight": [[0, 1, 1, 1]]}
        >>> batch = {name: np.array(rows, "float32" if "w" in name else "int32") for name, rows in batch.items()}
        >>> evaluation = hansa.learning.build_federated_evaluation(writer)
        >>> float(evaluation(of_words.initial_weights, [[batch]]).rouge_l)
        1.0
    """
    if not isinstance(model, FunctionalModel):
        raise TypeError(
            f"generating takes a model, such as that of hansa.learning.from_compiled_keras_model; found "
            f"{describe(model)}"
        )
    path = _path(tokens, "tokens", model)
    masked = None if mask is None else _path(mask, "mask", model)
    if "sample_weight" not in getattr(model.batch_type, "names", ()):
        raise ValueError(
            f"the batches of the model {model.name!r}, {model.batch_type}, have no field sample_weight, which says "
            "where an answer is: TokenCoding.answers makes it"
        )

    def forward(pair: Any, batch: Any, training: bool, rng: Any) -> Any:
        weights = ModelWeights.create(
            *(_like(part, own) for part, own in zip(model.initial_weights, pair, strict=True))
        )

        def scores(batch: Any) -> Any:
            return model.forward(weights, model.initial_local, batch, False, rng).output

        output = scores(batch)
        if getattr(output.predictions, "ndim", 0) != 3:
            raise TypeError(
                f"the predictions of the model {model.name!r} are {describe(output.predictions)}, and generating takes "
                "scores, [examples, tokens, vocabulary]"
            )
        written = _written(scores, batch, path, masked, end, model.name)
        return output._replace(predictions=written, features=None), pair[1]

    return functional_model(
        dict(model.initial_weights.trainable._items()),
        forward,
        input_spec=model.batch_type,
        metrics=metrics,
        non_trainable=dict(model.initial_weights.non_trainable._items()),
        name=f"{model.name} generating",
    )


def _written(
    scores: Any, batch: Any, path: tuple[str, ...], mask: tuple[str, ...] | None, end: int | None, name: str
) -> Any:
    """The tokens that are written after each place, -1 where none is."""
    given, weight = _at(batch, path), sample_weight(batch)
    length = given.shape[1]
    places = jnp.arange(length, dtype=jnp.int32)
    answer = jnp.broadcast_to(weight, labels(batch, name).shape) > 0
    first = jnp.where(answer.any(1), answer.argmax(1), length)[:, None]
    if mask is not None:
        there = _at(batch, mask)
        batch = _with(batch, mask, jnp.ones_like(there))

    def step(state: Any, place: Any) -> Any:
        now, over = state
        found = lax.dynamic_index_in_dim(scores(_with(batch, path, now)).predictions, place, 1, keepdims=False)
        chosen = found.argmax(-1).astype(now.dtype)
        writes = (place >= first[:, 0]) & ~over
        after = jnp.where((places == place + 1) & writes[:, None], chosen[:, None], now)
        over = over if end is None else over | (writes & (chosen == end))
        return (after, over), jnp.where(writes, chosen, -1).astype(jnp.int32)

    # What the prompt is followed by is not shown to the model.
    shown = jnp.where(places <= first, given, jnp.zeros_like(given))
    _, found = lax.scan(step, (shown, jnp.zeros_like(first[:, 0], bool)), places)
    found = found.T
    return jnp.where(answer, found, -1) if end is None else found


def _like(part: Struct, values: Mapping[str, Any]) -> Struct:
    return Struct([(name, values[str(name)]) for name in part._fields])


def _path(given: Any, what: str, model: FunctionalModel) -> tuple[str, ...]:
    path = tuple(given.split("/")) if isinstance(given, str) else ()
    found: Type | None = model.batch_type
    for field in path:
        found = found[field] if isinstance(found, StructType) and field in found.names else None
    if not path or not isinstance(found, TensorType) or len(found.shape or ()) != 2:
        raise ValueError(
            f"{what}={given!r} names no field [examples, tokens] of the batches of the model {model.name!r}, "
            f"{model.batch_type}; it is such as 'token_ids' or 'x/input_ids'"
        )
    return path


def _at(batch: Any, path: tuple[str, ...]) -> Any:
    for field in path:
        batch = batch[field]
    return batch


def _with(batch: Any, path: tuple[str, ...], value: Any) -> Any:
    """The batch with another value at a place."""
    first, *rest = path
    inner = _with(batch[first], tuple(rest), value) if rest else value
    return Struct([(name, inner if name == first else leaf) for name, leaf in batch._items()])
