"""Batches of sequences that are computed with as long as they are: a model in a few lengths, in one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa._tracebacks import add_note
from hansa.models.model import Forward, FunctionalModel, ScaleLoss
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type
from hansa.types.mismatch import describe


def bucketed(model: FunctionalModel, lengths: Sequence[int], *, mask: str = "sample_weight") -> FunctionalModel:
    """The model, which computes with batches cut to the least of some lengths that has room for their sequences.

    Clients have sequences padded at their ends to one length, the greatest. A batch is as long as its longest sequence,
    and what comes after that is padding of all of them. All lengths are in the one program of a round, each batch goes
    through one of them, and a short one costs what its length does. `ClientData.group_by_length` makes batches of
    sequences of similar lengths. On accelerators, where clients are vectorised, all lengths are computed: there it
    costs more than it saves.

    The results are those of the model if what it makes of a sequence does not depend on padding after it: a loss that
    is a mean over what counts, such as one with weights of tokens and `reduction="mean_with_sample_weight"`, metrics
    with the same weights, and attention that is causal or is given a mask. Keras's own metrics of tokens do not: they
    take the mean over each sequence first, padding included. Give a `Metric` in their place, whose function returns
    (values, weights). Predictions are zero beyond the length.

    Args:
        model: a model in JAX, such as a Keras model, which takes sequences of any length: `keras.Input((None,))`.
        lengths: the lengths, ascending. The last is that of the sequences in the data; all tensors of a batch
            `[examples, length, …]` are cut.
        mask: the field of a batch, or the path to it, such as `"x/padding_mask"`, that is not zero, or is true, where
            a sequence is: `[examples, length]`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself or is not in JAX.

    Examples:
        >>> def forward(weights, batch, training, rng):
        ...     losses = (weights["table"][batch.x] - batch.y) ** 2
        ...     return hansa.learning.BatchOutput((losses * batch.true).sum() / batch.true.sum())
        >>> spec = "<x=int32[?,64],y=float32[?,64],true=float32[?,64]>"
        >>> of_words = hansa.learning.functional_model({"table": np.zeros(9)}, forward, input_spec=spec)
        >>> hansa.learning.bucketed(of_words, [16, 32, 64], mask="true").name
        'forward'
    """
    sizes = _checked(lengths)
    if not isinstance(model, FunctionalModel):
        raise TypeError(
            f"bucketed takes a model, such as that of hansa.learning.from_compiled_keras_model; found {describe(model)}"
        )
    if model.train_on_batch is not None or not model.differentiable:
        why = "trains itself" if model.differentiable else "is not in JAX, and is compiled for one length"
        raise ValueError(f"bucketed takes a model that JAX differentiates, and {model.name!r} {why}")
    path = tuple(mask.split("/"))
    _check_mask(model.batch_type, path, mask, sizes[-1], model.name)
    of = _Buckets(model, sizes, path)
    return replace(model, forward=of.forward, gradients=of.gradients)


class _Buckets:
    def __init__(self, model: FunctionalModel, lengths: Sequence[int], mask: tuple[str, ...]) -> None:
        self._model, self._lengths, self._mask = model, lengths, mask

    def forward(self, weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
        """The `forward` of the model."""

        def of(cut: Any) -> Forward:
            return self._model.forward(weights, local, cut, training, key)

        found: Forward = self._in_one(batch, of, lambda forward: forward)
        return found

    def gradients(
        self, weights: ModelWeights, local: Struct, batch: Any, key: Any, scale_loss: ScaleLoss
    ) -> tuple[Forward, Struct]:
        """The `gradients` of the model: taken within a length, so that nothing of the others is kept for them."""

        def of(cut: Any) -> Any:
            return self._model.gradients_of(weights, local, cut, key, scale_loss)

        found: tuple[Forward, Struct] = self._in_one(batch, of, lambda pair: pair[0])
        return found

    def _in_one(self, batch: Any, compute: Callable[[Any], Any], forward_of: Callable[[Any], Forward]) -> Any:
        """What is computed of a batch that is cut to its length."""

        def branch(length: int) -> Callable[[], Any]:
            def run() -> Any:
                try:
                    found = compute(self._cut(batch, length))
                except Exception as error:
                    add_note(
                        error,
                        f"while tracing the model {self._model.name!r} on sequences of {length}, one of the lengths "
                        "of bucketed; it must take sequences of any length, such as keras.Input((None,))",
                    )
                    raise
                before = forward_of(found).output
                after = before._replace(
                    predictions=self._filled(before.predictions, length),
                    features=self._filled(before.features, length),
                    num_examples=None if before.num_examples is None else jnp.asarray(before.num_examples, jnp.int32),
                )
                return jax.tree.map(
                    lambda leaf: after if leaf is before else leaf, found, is_leaf=lambda x: x is before
                )

            return run

        return lax.switch(self._place(batch), [branch(length) for length in self._lengths])

    def _place(self, batch: Any) -> Any:
        """The number of the length that has room for all sequences of a batch."""
        there: Any = batch
        for name in self._mask:
            there = there[name]
        ends = jnp.where(there != 0, jnp.arange(1, self._lengths[-1] + 1, dtype=jnp.int32), 0)
        return jnp.sum(jnp.max(ends) > jnp.asarray(self._lengths[:-1], jnp.int32), dtype=jnp.int32)

    def _cut(self, batch: Any, length: int) -> Any:
        whole = self._lengths[-1]
        return jax.tree.map(lambda x: x[:, :length] if x.ndim > 1 and x.shape[1] == whole else x, batch)

    def _filled(self, value: Any, length: int) -> Any:
        """Zeros after what is as long as the sequences."""
        more = self._lengths[-1] - length

        def fill(x: Any) -> Any:
            if not more or jnp.ndim(x) < 2 or x.shape[1] != length:
                return x
            return jnp.pad(x, [(0, more if axis == 1 else 0) for axis in range(x.ndim)])

        return jax.tree.map(fill, value)


def _checked(lengths: Any) -> tuple[int, ...]:
    given = list(lengths) if isinstance(lengths, Sequence) and not isinstance(lengths, str) else None
    numbers = given is not None and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in given)
    if given is None or not numbers or not given or given[0] < 1 or sorted(set(given)) != given:
        raise ValueError(f"lengths must be positive integers, ascending, such as [32, 64, 128]; found {lengths!r}")
    return tuple(map(int, given))


def _check_mask(kind: Type, path: tuple[str, ...], mask: str, length: int, name: str) -> None:
    found: Any = kind
    for field in path:
        if not isinstance(found, StructType) or field not in found.names:
            raise ValueError(
                f"mask={mask!r} names no field of the batches of the model {name!r}, {kind}; it is the one that is not "
                "zero where a sequence is, such as sample_weight or padding_mask"
            )
        found = found[field]
    if not isinstance(found, TensorType) or found.shape != (None, length):
        raise ValueError(
            f"the field {mask!r} of the batches of the model {name!r} is {found}, and the greatest of the lengths is "
            f"{length}: it must be [examples, {length}]"
        )
