"""What a model predicts, as a computation by itself: to call, and to save for programs without the model's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.computation import Computation
from hansa.language.tracing import narrow_computation, wide_computation
from hansa.learning.continuing import checked_weights
from hansa.learning.model_fn import model_of
from hansa.models.accumulators import type_of
from hansa.models.batch_types import LABELS
from hansa.models.model import FunctionalModel
from hansa.models.tensorflow.models import Model
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type


def build_prediction(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel, weights: ModelWeights | None = None
) -> Computation:
    """The forward pass of a model in inference, without labels, as a local computation.

    `hansa.save` writes it as StableHLO, for batches of any size; where it is loaded, neither the model's code nor the
    library it is written in is needed.

    Args:
        model_fn: makes the model, or is it: as for `build_federated_averaging_process`.
        weights: those to predict with, such as `state.model`, which are then part of the computation.

    Returns:
        A computation `(<weights,x> -> predictions)`, or, with weights, `(x -> predictions)`. `x` is the field `x` of a
        batch, or the first of a pair. In a batch of other fields it is the struct of all but the labels and sample
        weights (`y` and `sample_weight`). The model is given zeros for these.

    Raises:
        TypeError: if `model_fn` is no model and makes none, the weights are another model's, or its forward pass gives
            no predictions.

    Examples:
        >>> predict = hansa.learning.build_prediction(model, state.model)
        >>> predict(x[:2]).shape
        (2, 10)
    """
    model = model_of(model_fn)
    inputs, batch_of = _inputs(model)
    local = wide_computation if model.wide else narrow_computation
    weights_type = type_of(model.initial_weights)

    def predicted(weights: Any, x: Any) -> Any:
        found = model.forward(weights, model.initial_local, batch_of(x), False, jax.random.key(0)).output.predictions
        if found is None:
            raise TypeError(
                f"the forward pass of the model {model.name!r} gives no predictions: return "
                "hansa.learning.BatchOutput(loss, predictions)"
            )
        return found

    if weights is None:

        @local(weights_type, inputs)
        def predict(weights: Any, x: Any) -> Any:
            return predicted(weights, x)
    else:
        fixed = jax.tree.map(np.asarray, checked_weights(weights, weights_type, f"the model {model.name!r}"))

        @local(inputs)
        def predict(x: Any) -> Any:
            return predicted(jax.tree.map(jnp.asarray, fixed), x)

    return cast(Computation, predict)


def _inputs(model: FunctionalModel) -> tuple[Type, Callable[[Any], Any]]:
    """The type of what a model predicts from, and how a batch is made of that."""
    kind = model.batch_type
    if not isinstance(kind, StructType):
        return kind, lambda x: x
    positional = kind.names in ((None, None), (None, None, None))
    labels = [i > 0 if positional else name in LABELS for i, name in enumerate(kind.names)]
    given = [field for field, is_label in zip(kind.fields, labels, strict=True) if not is_label]
    alone = len(given) == 1 and given[0][0] in ("x", None)

    def batch_of(x: Any) -> Any:
        values = iter([x] if alone else x)
        rows = next((leaf.shape[0] for leaf in jax.tree.leaves(x) if leaf.ndim), 1)
        parts = [
            _zeros(member, rows) if is_label else next(values) for member, is_label in zip(kind, labels, strict=True)
        ]
        return (kind.container or Struct)(zip(kind.names, parts, strict=True))

    return (given[0][1] if alone else StructType(given)), batch_of


def _zeros(kind: Type, rows: Any) -> Any:
    """Labels of so many examples, all zero."""
    if isinstance(kind, StructType):
        parts = [(name, _zeros(member, rows)) for name, member in kind.fields]
        return (kind.container or Struct)(parts)
    assert isinstance(kind, TensorType)
    dtype = jax.dtypes.canonicalize_dtype(kind.dtype)  # in 32-bit JAX its own
    return jnp.zeros([rows if n is None else n for n in kind.shape], dtype)
