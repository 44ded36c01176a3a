"""Adapters put into the base, and a base put under adapters: the weights of two models of which one has adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.models import frontends
from hansa.models.adapters import Adapter, Adapters, adapters_of, base_names, is_replaced
from hansa.models.weights import ModelWeights
from hansa.types import Struct
from hansa.types.mismatch import describe
from hansa.types.names import listing

if TYPE_CHECKING:
    import keras
    import torch

    from hansa.models.model import FunctionalModel


def merge_adapters(
    weights: ModelWeights,
    model: FunctionalModel | keras.Model | torch.nn.Module | None = None,
    *,
    adapters: Adapters | None = None,
    scale: float | None = None,
) -> ModelWeights:
    """The weights of the model without adapters: the base, with the scaled product of each adapter added to it.

    They have the names of the model without adapters, so `assign_weights_to` writes them into it: a Keras model as it
    was before `enable_lora`, or the module that PEFT was given. From there `merged.save_keras(network, "merged.keras")`
    and `save_pretrained` of the module make files of it. Products are computed in float32, and rounded to the dtype of
    the base.

    Args:
        weights: such as `state.model` of a process that trains a model with adapters.
        model: the model that has the adapters, as it was made a `FunctionalModel`, or as that; its layers say what each
            product is multiplied by. It stays as it is.
        adapters: from weights of the base to the names of their two factors, as they are multiplied, where no layer of
            Keras or PEFT says it.
        scale: what each product is multiplied by, where there is no `model`: `lora_alpha / rank`.

    Raises:
        TypeError, ValueError: if there are no such adapters, or they are more than a product of two factors (those of
            convolutions of PyTorch, DoRA), or the base is quantized, or neither `model` nor `scale` is given.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, name="scores")])
        >>> adapted = keras.models.clone_model(network)
        >>> adapted.layers[0].enable_lora(2, lora_alpha=4)
        >>> adapted.compile("sgd", "mse")
        >>> model = hansa.learning.from_compiled_keras_model(adapted, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> merged = hansa.learning.merge_adapters(model.initial_weights, model)
        >>> [*merged.trainable._fields, *merged.non_trainable._fields]
        ['scores/bias', 'scores/kernel']
        >>> merged.assign_weights_to(network)
    """
    found = adapters_with_scale(weights, model, adapters, scale, "merge_adapters")
    leaves = by_name(weights)
    wide = {name: np.asarray(leaves[name], np.float32) for each in found for name in (each.first, each.second)}
    changes: dict[str, Any] = {}
    for adapter in found:
        product = adapter.product(wide, np).astype(np.float32)
        changes[adapter.base] = changes[adapter.base] + product if adapter.base in changes else product
    called = base_names(leaves, found)
    left = [name for name, plain in called.items() if plain is not None and "lora_" in plain]
    if left:
        raise ValueError(
            f"{listing(left)} are of adapters that are no product of two factors, or of one that is not active: write "
            "the weights back with state.model.assign_weights_to(module), and let PEFT merge them, with "
            "module.merge_and_unload()"
        )

    def merged(name: str, leaf: Any) -> Any:
        if name not in changes:
            return leaf
        return (np.asarray(leaf, np.float32) + changes[name]).astype(np.asarray(leaf).dtype)

    parts = [
        [
            (called[str(name)], merged(str(name), leaf))
            for name, leaf in part._items()
            if called[str(name)] is not None and not is_replaced(str(name))
        ]
        for part in (weights["trainable"], weights["non_trainable"])
    ]
    return ModelWeights.create(*(Struct(sorted(part, key=lambda pair: str(pair[0]))) for part in parts))


def under_adapters(weights: Any, base: Any, adapters: Adapters | None) -> ModelWeights:
    """Weights of a model with adapters on another base; factors stay.

    Args:
        weights: those of the model with adapters.
        base: the weights of the model without: as values, or of a model of Keras, PyTorch or JAX.
        adapters: as of `merge_adapters`.

    Raises:
        TypeError: if the base is no weights.
        ValueError: if it lacks a weight, or has one that is left over; the message names them.
    """
    weights = ModelWeights.create(weights["trainable"], weights["non_trainable"])
    found = adapters_of(weights, adapters, "the state", scale=1.0)
    called = base_names([str(name) for part in weights for name in part._fields], found)
    like: list[dict[str, Any]] = [{}, {}]
    for own, part in zip(like, weights, strict=True):
        for name, leaf in part._items():
            plain = called[str(name)]
            if plain is not None and plain not in like[0]:
                own[plain] = leaf
    if not isinstance(base, Struct):
        read = frontends.read(base, ModelWeights.create(*(Struct(sorted(part.items())) for part in like)))
        if read is None:
            raise TypeError(f"the weights of a base are ModelWeights or a model that has them, found {describe(base)}")
        base = ModelWeights.create(*read)
    given = by_name(base)
    _refuse_other_names(given, {name for part in like for name in part})
    return ModelWeights.create(
        *(
            Struct(
                [(name, leaf if (plain := called[str(name)]) is None else given[plain]) for name, leaf in part._items()]
            )
            for part in weights
        )
    )


def regrouped(weights: Any, like: Any) -> ModelWeights:
    """Weights in the parts that others of the same names are in: what one model trains may be frozen in another."""
    given = by_name(weights)
    return ModelWeights.create(*(Struct([(name, given[str(name)]) for name in part._fields]) for part in like))


def by_name(weights: Any) -> dict[str, Any]:
    """The weights of both parts."""
    return {str(name): leaf for part in ("trainable", "non_trainable") for name, leaf in weights[part]._items()}


def _refuse_other_names(given: Iterable[str], expected: Iterable[str]) -> None:
    lacking, beyond = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if lacking or beyond:
        parts = [
            *([f"the weights lack {listing(lacking)} of the state"] if lacking else []),
            *([f"they have {listing(beyond)}, which the state has not"] if beyond else []),
        ]
        raise ValueError(f"the weights are of another model than the state: {'; '.join(parts)}")


def factor_names(weights: Any, adapters: Adapters | None) -> set[str]:
    """The names of the factors: as they are given, or as Keras and PEFT call them."""
    if isinstance(adapters, Mapping):
        return {name for pair in adapters.values() for name in pair}
    return {name for name in by_name(weights) if "lora_" in name}


def adapters_with_scale(
    weights: Any, model: Any, adapters: Adapters | None, scale: float | None, what: str
) -> list[Adapter]:
    """The adapters of weights, of which it is known what their products are multiplied by.

    Args:
        weights, model, adapters, scale: as of `merge_adapters`.
        what: how messages call the function that is told them.
    """
    if not isinstance(weights, Struct) or weights._fields != ("trainable", "non_trainable"):
        raise TypeError(
            f"{what} takes the weights of a model, such as the field `model` of an averaging process's state; "
            f"found {describe(weights)}"
        )
    weights = ModelWeights.create(weights["trainable"], weights["non_trainable"])
    known = () if model is None else frontends.adapters_in(model)
    if scale is None and (not known or adapters is not None):
        raise ValueError(
            f"{what} does not know what the products of adapters are multiplied by: pass the model that has them "
            "(model=), or scale=lora_alpha / rank, scale=1.0 where there is no alpha"
        )
    if scale is not None and known and any(each.scale != scale for each in known):
        raise ValueError(
            f"{what} takes the scale of the model's own layers, {known[0].scale:g}, and scale={scale!r} is another; "
            "leave out one of the two"
        )
    return adapters_of(weights, adapters, getattr(model, "name", type(model).__name__), known=known, scale=scale)
