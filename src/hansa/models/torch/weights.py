"""The weights of PyTorch modules by the names of their `state_dict`: read, written back, and as one.

A weight that a module has under several names, as tied ones are, is one weight, under the first of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hansa.aten.export import to_array
from hansa.models.weights import ModelWeights
from hansa.types import Struct
from hansa.types.aligned import settled
from hansa.types.names import listing


def first_names(module: torch.nn.Module) -> dict[str, str]:
    """From each name of a parameter or buffer to the name that it has first."""
    first: dict[int, str] = {}
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def initial_weights(module: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies of what is trained, and of frozen parameters and of the buffers in the `state_dict`, by name."""
    kept = module.state_dict().keys()
    trained = {name: to_array(p) for name, p in module.named_parameters() if p.requires_grad}
    rest = {name: to_array(p) for name, p in module.named_parameters() if not p.requires_grad}
    rest |= {name: to_array(b) for name, b in module.named_buffers() if name in kept}
    return trained, rest


def state_dict(weights: ModelWeights, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """See `hansa.learning.state_dict`."""
    found = _matched((weights["trainable"], weights["non_trainable"]), module, "given")
    tensors: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            # A copy for each name: safetensors writes no memory twice.
            tensors[name] = _tensor(found[name]).to(value.dtype)
        else:  # what a module says of itself with get_extra_state
            tensors[name] = value
    return tensors


def assign(values: tuple[Struct, Struct], module: torch.nn.Module) -> None:
    """Sets a module's weights; see `ModelWeights.assign_weights_to`."""
    module.load_state_dict(state_dict(ModelWeights.create(*values), module))


def read(module: torch.nn.Module, like: Any) -> tuple[Struct, Struct]:
    """The weights of a module, the trainable ones and the others, by the names of others.

    Raises:
        ValueError: if it is another module.
    """
    _matched((like["trainable"], like["non_trainable"]), module, "to replace")
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    trainable, rest = (
        Struct([(name, settled(to_array(own[str(name)]))) for name in part._fields])
        for part in (like["trainable"], like["non_trainable"])
    )
    return trainable, rest


def _matched(values: tuple[Any, Any], module: Any, which: str) -> dict[str, Any]:
    """The value of each tensor of a module's `state_dict`."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"weights are assigned to a PyTorch module, found {type(module).__name__}")
    given = {str(name): value for part in values for name, value in part._items()}
    first = first_names(module)
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    needed = {first.get(name, name) for name in own}
    if needed != given.keys():
        lacking, beyond = sorted(needed - given.keys()), sorted(given.keys() - needed)
        parts = [
            *([f"it has {listing(lacking)}, which the weights {which} have not"] if lacking else []),
            *([f"it lacks {listing(beyond)} of the weights {which}"] if beyond else []),
        ]
        raise ValueError(f"the PyTorch module {type(module).__name__} is another model: {'; '.join(parts)}")
    for name, tensor in own.items():
        value = given[first.get(name, name)]
        if tuple(tensor.shape) != tuple(np.shape(value)):
            raise ValueError(
                f"the weight {name!r} of the PyTorch module {type(module).__name__} has the shape "
                f"{tuple(tensor.shape)}, the one {which} {tuple(np.shape(value))}"
            )
    return {name: given[first.get(name, name)] for name in own}


def _tensor(value: Any) -> torch.Tensor:
    array = np.array(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array)
