"""Optimizers of `torch.optim` as Hansa's: their rules for the weights of each parameter group, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from hansa.models.optimizer import Optimizer
from hansa.models.optimizer_names import with_rate
from hansa.models.torch.rules import RULES, SCALARS
from hansa.types import Struct

_NEAREST = {
    "SparseAdam": "torch.optim.Adam, whose rule it has for rows that occur",
    "ASGD": "torch.optim.SGD",
    "Rprop": "torch.optim.RMSprop, or optax.rprop",
    "LBFGS": "torch.optim.SGD with momentum: its line search calls the loss more than once for a step",
    "Adafactor": "optax.adafactor",
    "Muon": "optax.contrib.muon",
}


def is_torch_optimizer(value: Any) -> bool:
    """Whether a value is an optimizer of PyTorch's kind."""
    return hasattr(value, "param_groups") and hasattr(value, "zero_grad")


def from_torch_optimizer(optimizer: Any, names: Mapping[int, str], unused: set[str]) -> Optimizer:
    """An optimizer of `torch.optim`, with the options of each of its groups. It starts anew with each client.

    Args:
        optimizer: made of parameters of the module.
        names: the names of the module's parameters, by identity.
        unused: the names of those that the loss does not depend on, which PyTorch's optimizers leave as they are.

    Raises:
        TypeError: if there is no rule for it.
        ValueError: if it has parameters that are none of the module's.
    """
    kind = type(optimizer).__name__
    if kind not in RULES or not type(optimizer).__module__.startswith("torch.optim"):
        nearest = f": the nearest is {_NEAREST[kind]}" if kind in _NEAREST else ""
        raise TypeError(
            f"the optimizer {kind} is none of those of torch.optim that Hansa has{nearest}. There are "
            f"{', '.join(RULES)}, and all of Optax, such as optax.adamw(0.001)"
        )
    rule = RULES[kind]
    options: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        found = {name: _number(value) for name, value in group.items() if name != "params"}
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ValueError(
                    f"the optimizer {kind} has a parameter of the shape {list(parameter.shape)} that the module does "
                    f"not have: make it of this module's, torch.optim.{kind}(module.parameters(), …)"
                )
            options[names[id(parameter)]] = found
    moved = {name for name in options if name not in unused}

    def initial(weights: Any) -> Struct:
        slots = [
            (name, Struct([(slot, _first(slot, start, w)) for slot, start in rule.slots(options[name]).items()]))
            for name, w in weights._items()
            if name in moved and rule.slots(options[name])
        ]
        return Struct([("step", np.int32(0)), *([("slots", Struct(slots))] if slots else [])])

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        step = state.step + np.int32(1)
        slots, changed = [], []
        for (name, w), g in zip(weights._items(), gradients, strict=True):
            if name not in moved:
                changed.append((name, w))
                continue
            own = dict(state.slots[name]._items()) if rule.slots(options[name]) else {}
            towards = -g if options[name]["maximize"] else g
            after, new = rule.apply(options[name], own, step.astype(jnp.float32), towards, w)
            changed.append((name, new.astype(w.dtype)))
            if own:
                slots.append((name, Struct([(slot, after[slot].astype(own[slot].dtype)) for slot in own])))
        return Struct([("step", step), *([("slots", Struct(slots))] if slots else [])]), type(weights)(changed)

    rates = {one["lr"] for one in options.values()}
    return Optimizer(initial, apply, name=with_rate(kind, rates.pop() if len(rates) == 1 else "by its groups"))


def _first(slot: str, start: float, weight: Any) -> Any:
    return np.float32(start) if slot in SCALARS else np.full(weight.shape, start, weight.dtype)


def _number(value: Any) -> Any:
    """An option, whose tensors are numbers."""
    if isinstance(value, tuple | list):
        return tuple(_number(part) for part in value)
    return float(value) if hasattr(value, "item") else value
