"""Low-rank adapters in a model: which two factors belong to which weight, and what the base alone is called.

A frontend knows the scales, and how a base lies, from the layers themselves (`keras/adapters.py`, `torch/adapters.py`).
Where there are only weights, names tell which factors belong together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from hansa.models.weights import ModelWeights
from hansa.types import Struct

Adapters: TypeAlias = Mapping[str, tuple[str, str]]
"""From the name of a weight of the base to the names of the two factors whose product is added to it, in order."""

_KERAS = re.compile(r"(?P<layer>.*)lora_(?P<of>kernel|embeddings)_a")
_PEFT = re.compile(r"(?P<layer>.*)[./]lora_A[./](?P<rest>(?:\w+[./])?weight)")
_PEFT_EMBEDDING = re.compile(r"(?P<layer>.*)[./]lora_embedding_A(?P<rest>(?:[./]\w+)?)")
_PEFT_MODEL = "base_model.model."
_PEFT_COPY = re.compile(r"\.modules_to_save\.\w+\.")
_PEFT_REPLACED = ".original_module."


class Adapter(NamedTuple):
    """The factors of a weight of the base.

    Attributes:
        base: the name of the weight.
        first, second: the names of the factors, as they are multiplied.
        random: that of the two that does not begin with zeros, A of LoRA.
        scale: what the product is multiplied by.
        transposed: whether the base is as the transposed product is, as in GPT-2 of Hugging Face.
    """

    base: str
    first: str
    second: str
    random: str
    scale: float = 1.0
    transposed: bool = False

    def product(self, values: Any, xp: Any = jnp) -> Any:
        """What is added to the base: the scaled product of two factors of a struct or mapping."""
        found = self.scale * xp.tensordot(values[self.first], values[self.second], 1)
        return found.T if self.transposed else found

    def shape(self, shape_of: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
        """The shape of the product, of the shapes of the factors."""
        found = (*shape_of(self.first)[:-1], *shape_of(self.second)[1:])
        return found[::-1] if self.transposed else found


def adapters_of(
    weights: ModelWeights,
    given: Adapters | None,
    name: str,
    *,
    known: Iterable[Adapter] = (),
    scale: float | None = None,
) -> list[Adapter]:
    """The adapters of a model: as they are given, else as its layers say, else by the names of its weights.

    Args:
        weights: the model's.
        given: what the user says, or None.
        name: the model's.
        known: what its layers say.
        scale: what the products are multiplied by, or None for what is known, else 1.

    Raises:
        TypeError, ValueError: if there are none, a weight is missing, shapes do not go together, or the scale is no
            finite number.
    """
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not np.isfinite(scale)):
        raise ValueError(f"scale must be a finite number, found {scale!r}")
    found = _given(given, weights) if given is not None else list(known) or _by_name(weights, name)
    if not found:
        raise ValueError(
            f"the model {name!r} has no adapters by the names of Keras's enable_lora (lora_kernel_a) or of PEFT "
            "(lora_A); say which they are with adapters={'dense/kernel': ('dense/a', 'dense/b')}; its weights are "
            f"{', '.join(_flat(weights))}"
        )
    for adapter in found:
        _check(adapter, weights, name)
    return found if scale is None else [adapter._replace(scale=float(scale)) for adapter in found]


def trained_adapters(weights: ModelWeights, found: list[Adapter], name: str) -> list[Adapter]:
    """The adapters, where both factors are trained and the base is not.

    Raises:
        ValueError: if one is otherwise.
    """
    for adapter in found:
        for factor in (adapter.first, adapter.second):
            if factor not in weights.trainable._fields:
                raise ValueError(
                    f"the model {name!r} has no trained weight {factor!r}, a factor of what is added to "
                    f"{adapter.base!r}; it trains {', '.join(map(str, weights.trainable._fields))}"
                )
        if adapter.base not in weights.non_trainable._fields:
            frozen = ", ".join(map(str, weights.non_trainable._fields)) or "none"
            raise ValueError(
                f"the model {name!r} has no frozen weight {adapter.base!r}, to which the product of {adapter.first!r} "
                f"and {adapter.second!r} is added; its frozen weights are {frozen}"
            )
    return found


def base_names(names: Iterable[str], adapters: Iterable[Adapter]) -> dict[str, str | None]:
    """From each weight of a model with adapters to what the model without them calls it, None for factors.

    Of what PEFT keeps twice, the trained copy of a module and the original, both have the same name.
    """
    factors = {name for adapter in adapters for name in (adapter.first, adapter.second)}
    return {name: None if name in factors else _base_name(name) for name in names}


def is_replaced(name: str) -> bool:
    """Whether a weight is one that a trained copy stands for (`modules_to_save` of PEFT)."""
    return _PEFT_REPLACED in name


def _base_name(name: str) -> str:
    if "base_layer" not in name and not name.startswith(_PEFT_MODEL):
        return name
    plain = name.removeprefix(_PEFT_MODEL).replace(".base_layer.", ".").replace("/base_layer/", "/")
    return _PEFT_COPY.sub(".", plain).replace(_PEFT_REPLACED, ".")


def _flat(weights: ModelWeights) -> dict[str, Any]:
    return {str(name): leaf for part in (weights.trainable, weights.non_trainable) for name, leaf in part._items()}


def _by_name(weights: ModelWeights, model: str) -> list[Adapter]:
    found, leaves = [], _flat(weights)
    for name in leaves:
        if match := _KERAS.fullmatch(name):
            layer, of = match["layer"], match["of"]
            found.append(Adapter(f"{layer}{of}", name, f"{layer}lora_{of}_b", name))
        elif match := _PEFT.fullmatch(name):
            between = name[len(match["layer"])]
            base = f"{match['layer']}{between}base_layer{between}weight"
            found.append(Adapter(base, name.replace("lora_A", "lora_B"), name, name))
        elif match := _PEFT_EMBEDDING.fullmatch(name):
            between = name[len(match["layer"])]
            base = f"{match['layer']}{between}base_layer{between}weight"
            second = name.replace("lora_embedding_A", "lora_embedding_B")
            found.append(Adapter(base, second, name, name, transposed=True))
    return [_turned(adapter, leaves) for adapter in _unambiguous(found, leaves, model)]


def _unambiguous(found: list[Adapter], leaves: dict[str, Any], model: str) -> list[Adapter]:
    """The adapters, unless shapes say of some that they lie transposed, and leave it open for others."""
    known = [each for each in found if {each.base, each.first, each.second} <= leaves.keys()]
    of_matrices = [each for each in known if "lora_A" in each.second]
    turned = [each for each in of_matrices if _turned(each, leaves).transposed]
    square = [each for each in of_matrices if each not in turned and len({*np.shape(leaves[each.base])}) == 1]
    if turned and square:
        raise ValueError(
            f"the weight {turned[0].base!r} of the model {model!r} lies transposed, as those of Conv1D of Hugging Face "
            f"do, and {square[0].base!r} is square, so that its shape does not tell: pass the module itself, which "
            "says so, as model="
        )
    return found


def _turned(adapter: Adapter, leaves: dict[str, Any]) -> Adapter:
    """The adapter, transposed if only so its product is of the shape of the base."""
    if adapter.transposed or not {adapter.base, adapter.first, adapter.second} <= leaves.keys():
        return adapter
    shape, of_base = adapter.shape(lambda name: np.shape(leaves[name])), np.shape(leaves[adapter.base])
    return adapter._replace(transposed=len(shape) == 2 and shape != of_base and shape[::-1] == of_base)


def _given(given: Adapters, weights: ModelWeights) -> list[Adapter]:
    if not isinstance(given, Mapping) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in given.values()):
        raise TypeError(
            "adapters must be a mapping from weights of the base to pairs of factors, "
            f"{{'dense/kernel': ('dense/a', 'dense/b')}}; found {given!r}"
        )
    known = _flat(weights)

    def random(pair: tuple[str, str]) -> str:
        return next((name for name in pair if np.any(known.get(name, 0))), pair[0])

    return [Adapter(base, *pair, random(pair)) for base, pair in given.items()]


def _check(adapter: Adapter, weights: ModelWeights, name: str) -> None:
    leaves = _flat(weights)
    for needed, what in (
        (adapter.first, f"a factor of what is added to {adapter.base!r}"),
        (adapter.second, f"a factor of what is added to {adapter.base!r}"),
        (adapter.base, f"to which the product of {adapter.first!r} and {adapter.second!r} is added"),
    ):
        if needed not in leaves:
            raise ValueError(
                f"the model {name!r} has no weight {needed!r}, {what}; its weights are {', '.join(leaves)}"
            )
    base, first, second = (leaves[each] for each in (adapter.base, adapter.first, adapter.second))
    fits = np.shape(first)[-1:] == np.shape(second)[:1]
    shape = adapter.shape(lambda name: np.shape(leaves[name]))
    if not fits or shape != np.shape(base) or not jnp.issubdtype(base.dtype, jnp.floating):
        raise ValueError(
            f"the product of {adapter.first!r}, {first.dtype}{list(first.shape)}, and {adapter.second!r}, "
            f"{second.dtype}{list(second.shape)}, cannot be added to {adapter.base!r}, {base.dtype}{list(base.shape)}"
        )


def added(weights: ModelWeights, changes: Mapping[str, Any]) -> ModelWeights:
    """The weights with something added to some of them, in 32 bits, and rounded to what they were."""
    parts = [
        Struct(
            [
                (name, (leaf + changes[str(name)]).astype(leaf.dtype) if name in changes else leaf)
                for name, leaf in part._items()
            ]
        )
        for part in (weights.trainable, weights.non_trainable)
    ]
    return ModelWeights.create(*parts)
