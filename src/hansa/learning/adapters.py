"""Low-rank adapters in a model: which two factors belong to which weight of the base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from hansa.models.weights import ModelWeights
from hansa.types import Struct

Adapters: TypeAlias = Mapping[str, tuple[str, str]]
"""From the name of a weight of the base to the names of the two factors whose product is added to it, in order."""

_KERAS = re.compile(r"(?P<layer>.*)lora_(?P<of>kernel|embeddings)_a")
_PEFT = re.compile(r"(?P<layer>.*)[./]lora_A[./](?P<rest>(?:\w+[./])?weight)")


class Adapter(NamedTuple):
    """The factors of a weight of the base.

    Attributes:
        base: the name of the weight.
        first, second: the names of the factors, as they are multiplied.
        random: that of the two that does not begin with zeros, A of LoRA.
    """

    base: str
    first: str
    second: str
    random: str

    def product(self, values: Any) -> Any:
        """The product of two factors of a struct: of the last axis of one and the first of the other."""
        return jnp.tensordot(values[self.first], values[self.second], 1)


def adapters_of(weights: ModelWeights, given: Adapters | None, name: str) -> list[Adapter]:
    """The adapters of a model, as its names say, or as they are given.

    Args:
        weights: the model's.
        given: what the user says, or None for the names of Keras's `enable_lora` and of PEFT.
        name: the model's.

    Raises:
        TypeError, ValueError: if there are none, a weight is missing or trained, or shapes do not go together.
    """
    found = _by_name(weights) if given is None else _given(given, weights)
    if not found:
        raise ValueError(
            f"the model {name!r} has no adapters by the names of Keras's enable_lora (lora_kernel_a) or of PEFT "
            "(lora_A); say which they are with adapters={'dense/kernel': ('dense/a', 'dense/b')}; its weights are "
            f"{', '.join(map(str, (*weights.trainable._fields, *weights.non_trainable._fields)))}"
        )
    for adapter in found:
        _check(adapter, weights, name)
    return found


def _by_name(weights: ModelWeights) -> list[Adapter]:
    found = []
    for name in map(str, weights.trainable._fields):
        if match := _KERAS.fullmatch(name):
            layer, of = match["layer"], match["of"]
            found.append(Adapter(f"{layer}{of}", name, f"{layer}lora_{of}_b", name))
        elif match := _PEFT.fullmatch(name):
            between = name[len(match["layer"])]
            base = f"{match['layer']}{between}base_layer{between}weight"
            found.append(Adapter(base, name.replace("lora_A", "lora_B"), name, name))
    return found


def _given(given: Adapters, weights: ModelWeights) -> list[Adapter]:
    if not isinstance(given, Mapping) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in given.values()):
        raise TypeError(
            "adapters must be a mapping from weights of the base to pairs of factors, "
            f"{{'dense/kernel': ('dense/a', 'dense/b')}}; found {given!r}"
        )
    known = dict(weights.trainable._items())

    def random(pair: tuple[str, str]) -> str:
        return next((name for name in pair if np.any(known.get(name, 0))), pair[0])

    return [Adapter(base, *pair, random(pair)) for base, pair in given.items()]


def _check(adapter: Adapter, weights: ModelWeights, name: str) -> None:
    for factor in (adapter.first, adapter.second):
        if factor not in weights.trainable._fields:
            raise ValueError(
                f"the model {name!r} has no trained weight {factor!r}, a factor of what is added to {adapter.base!r}; "
                f"it trains {', '.join(map(str, weights.trainable._fields))}"
            )
    if adapter.base not in weights.non_trainable._fields:
        frozen = ", ".join(map(str, weights.non_trainable._fields)) or "none"
        raise ValueError(
            f"the model {name!r} has no frozen weight {adapter.base!r}, to which the product of {adapter.first!r} and "
            f"{adapter.second!r} is added; its frozen weights are {frozen}"
        )
    base = weights.non_trainable[adapter.base]
    first, second = (weights.trainable[factor] for factor in (adapter.first, adapter.second))
    shape = (*first.shape[:-1], *second.shape[1:])
    if first.shape[-1:] != second.shape[:1] or shape != base.shape or not jnp.issubdtype(base.dtype, jnp.floating):
        raise ValueError(
            f"the product of {adapter.first!r}, {first.dtype}{list(first.shape)}, and {adapter.second!r}, "
            f"{second.dtype}{list(second.shape)}, cannot be added to {adapter.base!r}, {base.dtype}{list(base.shape)}"
        )


def added(weights: ModelWeights, residuals: Mapping[str, Any]) -> ModelWeights:
    """The weights with something added to some of the base."""
    rest = [
        (name, (leaf + residuals[str(name)]).astype(leaf.dtype) if name in residuals else leaf)
        for name, leaf in weights.non_trainable._items()
    ]
    return ModelWeights.create(weights.trainable, Struct(rest))
