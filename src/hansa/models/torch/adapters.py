"""The adapters that PEFT gave to modules of PyTorch, with what each module says of its scale and its base.

PEFT is not imported: a module that has `lora_A` and a `base_layer` is one of its. Adapters that are more than a product
of two matrices, such as those of convolutions or DoRA, are left to PEFT.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from hansa.models.adapters import Adapter
from hansa.models.torch.weights import first_names


def adapters_in(module: nn.Module) -> tuple[Adapter, ...]:
    """The active adapters of a module."""
    names, found = first_names(module), []
    for path, part in module.named_modules():
        base = getattr(getattr(part, "base_layer", None), "weight", None)
        if base is None or base.ndim != 2 or len(getattr(part, "lora_magnitude_vector", ())):
            continue
        for adapter in getattr(part, "active_adapters", ()):
            for factors, ending, turned in (
                (("lora_B", "lora_A"), ".weight", bool(getattr(part, "fan_in_fan_out", False))),
                (("lora_embedding_B", "lora_embedding_A"), "", True),
            ):
                if adapter not in getattr(part, factors[1], ()):
                    continue
                first, second = (names[_joined(path, f"{factor}.{adapter}{ending}")] for factor in factors)
                scales: Any = part.scaling
                of = names[_joined(path, "base_layer.weight")]
                found.append(Adapter(of, first, second, second, float(scales[adapter]), turned))
    return tuple(found)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
