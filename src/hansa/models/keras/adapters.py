"""The adapters that `enable_lora` of Keras gave to layers, with the scale that each layer has."""

from __future__ import annotations

from typing import Any

from hansa.models.adapters import Adapter
from hansa.models.keras import weights as keras_weights

_OF = ("kernel", "embeddings")


def adapters_in(model: Any) -> tuple[Adapter, ...]:
    """The adapters of a Keras model that is built."""
    called: dict[int, str] = {}
    for part in keras_weights.weights(model):
        called |= {id(part[i]): name for name, i in keras_weights.order(model, part)}
    found = []
    for layer in model._flatten_layers():
        for of in _OF if getattr(layer, "lora_enabled", False) else ():
            first, second = (getattr(layer, f"lora_{of}_{factor}", None) for factor in "ab")
            base = getattr(layer, f"_{of}", None)
            if first is None or second is None or base is None:
                continue
            scale = float(layer.lora_alpha) / layer.lora_rank
            found.append(Adapter(called[id(base)], called[id(first)], called[id(second)], called[id(first)], scale))
    return tuple(found)
