"""What an optimizer is called, with its learning rate, for people: `Adam, learning rate 0.01`.

Keras optimizers say it. Optax's transformations are functions that are made of functions, whose names and constants
tell it for those that Optax has itself; of others nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_NAMES = {
    "sgd": "SGD", "adam": "Adam", "amsgrad": "AMSGrad", "adamax": "Adamax", "yogi": "Yogi", "rss": "Adagrad",
    "rms": "RMSprop", "lion": "Lion", "radam": "RAdam", "novograd": "NovoGrad", "lamb": "LAMB", "belief": "AdaBelief",
    "adan": "Adan", "adadelta": "Adadelta", "factored_rms": "Adafactor", "stddev": "centered RMSprop",
}  # fmt: skip
_MOST_PARTS = 100


def with_rate(name: str, rate: float | str | None) -> str:
    """A name and a learning rate in a line; the rate may be a number, words such as "by a schedule", or unknown."""
    if rate is None:
        return name
    return f"{name}, learning rate {rate if isinstance(rate, str) else f'{rate:g}'}"


def keras_name(optimizer: Any) -> str:
    """What a Keras optimizer is called."""
    if hasattr(optimizer, "inner_optimizer"):
        return f"{keras_name(optimizer.inner_optimizer)}, in a {type(optimizer).__name__}"
    rate = getattr(optimizer, "_learning_rate", None)
    try:
        number: float | str | None = None if rate is None else float(getattr(rate, "value", rate))
    except (TypeError, ValueError):
        number = "by a schedule"
    return with_rate(type(optimizer).__name__, number)


def optax_name(transformation: Any) -> str:
    """What an Optax transformation is called; "an Optax optimizer" where that cannot be told."""
    names: list[str] = []
    rates: list[float | str] = []
    for name, constants in _parts(transformation.update, []):
        if name == "scale" and isinstance(constants.get("step_size"), int | float):
            rates.append(-float(constants["step_size"]))
        elif name == "scale_by_schedule":
            rates.append("by a schedule")
        elif name == "trace" and isinstance(constants.get("decay"), int | float):
            names.append(f"SGD with momentum {constants['decay']:g}")
        elif name != "identity":
            kind = name.removeprefix("scale_by_")
            names.append({**_NAMES, "add_decayed_weights": "weight decay"}.get(kind, kind.replace("_", " ")))
    if len(rates) > 1 or not (rates or names):
        return "an Optax optimizer"
    return with_rate(" + ".join(names) or "SGD", rates[0] if rates else None)


def _parts(function: Any, seen: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The functions of Optax that a transformation is made of, in their order: whose they are, and their constants."""
    if id(function) in seen or len(seen) > _MOST_PARTS:
        return
    seen.append(id(function))
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    if code is None or not str(getattr(function, "__module__", "")).startswith("optax"):
        return
    constants = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            constants[name] = cell.cell_contents
        except ValueError:  # not filled
            continue
    found = re.match(r"(\w+)\.<locals>\.update", function.__qualname__)
    wraps = [constants[name] for name in ("update_fns", "tx", "inner") if name in constants]
    inner = [part for wrapped in wraps for part in (wrapped if type(wrapped) in (list, tuple) else [wrapped])]
    if found and not inner:
        yield found[1], constants
    for part in inner:
        yield from _parts(getattr(part, "update", part), seen)
