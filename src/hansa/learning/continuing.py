"""Training that goes on from other weights: of a pretrained model, of a file, of another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from hansa.learning.states import LearningState
from hansa.models import frontends
from hansa.models.accumulators import type_of
from hansa.models.adapter_merging import by_name, factor_names, regrouped, under_adapters
from hansa.models.adapters import Adapters
from hansa.models.weights import ModelWeights
from hansa.types import Struct, Type
from hansa.types.aligned import settled
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    import keras
    import torch


def with_weights(
    state: Any, weights: ModelWeights | keras.Model | torch.nn.Module | Any, *, adapters: Adapters | None = None
) -> Any:
    """A state of a learning process with other weights; the optimizer's state and the count of rounds stay.

    Args:
        state: of a process whose states have the field `model`, such as federated averaging's.
        weights: the `ModelWeights` of another state, or of a file (`load_weights`); or a Keras model or PyTorch module
            that has them; or, for a model in plain JAX, a pytree like its `initial_weights`, the pair of that and of
            `non_trainable` if it has such. Where the state has low-rank adapters and these weights have none, they are
            those of its base, by name, and the adapters stay. What is trained in one may be frozen in the other.
        adapters: as of `build_ffa_lora`, where the adapters have other names than those of Keras and PEFT.

    Raises:
        TypeError: if the state is none, or the weights have another type than those in it.
        ValueError: if a model is another one, or a pytree has other leaves: the message names what is missing, and what
            is left over.

    Examples:
        >>> fresh = process.initialize()
        >>> state = hansa.learning.with_weights(fresh, network)
    """
    if isinstance(state, LearningState):
        return state._replace(server=with_weights(state.server, weights))
    if not isinstance(state, Struct) or "model" not in state._fields or not _is_weights(state["model"]):
        raise TypeError(
            "with_weights takes a state with the field `model`, such as process.initialize() of federated averaging "
            f"gives; found {describe(state)}"
        )
    weights = _like(state["model"], weights, adapters)
    found = checked_weights(weights, type_of(state["model"]), "the state")
    given = (weights["trainable"], weights["non_trainable"])
    return state._replace(model=ModelWeights.create(*jax.tree.map(_on_device, tuple(found), given)))


def _like(model: Any, weights: Any, adapters: Adapters | None) -> Any:
    """Weights by the names of a state's model, of which they may be the base."""
    factors = factor_names(model, adapters)
    if not factors:
        based = False
    elif _is_weights(weights):
        based = factors.isdisjoint(by_name(weights))
    elif frontends.is_keras(weights) or frontends.is_torch(weights):
        based = not frontends.adapters_in(weights)
    else:
        based = adapters is not None
    if based:
        return under_adapters(model, weights, adapters)
    if _is_weights(weights):
        same = by_name(weights).keys() == by_name(model).keys()
        return regrouped(weights, model) if same else weights
    read = frontends.read(weights, model)
    return weights if read is None else ModelWeights.create(*read)


def _on_device(array: Any, given: Any) -> Any:
    """An array as states have it: of JAX, and not one that the caller may write into."""
    if isinstance(given, jax.Array) or not array.ndim or array.dtype.itemsize > 4:
        return given if isinstance(given, jax.Array) else array
    return jax.device_put(settled(array))


def checked_weights(weights: Any, kind: Type, whose: str) -> ModelWeights:
    """Weights as arrays, if they have a type.

    Args:
        weights: the weights.
        kind: the type that they must have.
        whose: how messages call what has this type.

    Raises:
        TypeError: if they have another; the message names both.
    """
    if not _is_weights(weights):
        raise TypeError(
            f"weights are hansa.learning.ModelWeights, such as the field `model` of a state; found {describe(weights)}"
        )
    found = type_of(weights)
    if not kind.is_assignable_from(found):
        raise TypeError(f"the weights are of another model than those of {whose}: found {found}, expected {kind}")
    return ModelWeights.create(*jax.tree.map(np.asarray, (weights["trainable"], weights["non_trainable"])))


def _is_weights(value: Any) -> bool:
    return isinstance(value, Struct) and value._fields == ("trainable", "non_trainable")
