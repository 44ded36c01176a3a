"""The rules of `torch.optim`'s optimizers for one weight, with PyTorch's arithmetic.

What PyTorch computes of the number of a step in float64, `1 - beta**step` above all, is written here so that float32
has its precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

Options = Mapping[str, Any]
Slots = dict[str, Any]
Stepped = tuple[Slots, Any]


class Rule(NamedTuple):
    """How an optimizer changes one weight.

    Attributes:
        apply: (options of the weight's group, slots, number of the step from 1, gradient, weight) -> (slots, weight).
        slots: from the options to what is kept for a weight, each with its first value.
    """

    apply: Callable[[Options, Slots, Any, Any, Any], Stepped]
    slots: Callable[[Options], Mapping[str, float]]


def _none_left(beta: float, step: Any) -> Any:
    """1 - beta**step."""
    return -jnp.expm1(step * jnp.float32(math.log(beta))) if beta > 0 else jnp.float32(1)


def _decayed(o: Options, g: Any, w: Any) -> Any:
    """The gradient with that of the weight's decay."""
    return g + o["weight_decay"] * w if o["weight_decay"] else g


def _decay(o: Options, g: Any, w: Any, decoupled: bool) -> tuple[Any, Any]:
    """The gradient and the weight, after its decay in the one or the other."""
    if decoupled and o["weight_decay"]:
        return g, w * (1 - o["lr"] * o["weight_decay"])
    return _decayed(o, g, w), w


def _moments(o: Options, s: Slots, g: Any) -> tuple[Any, Any]:
    b1, b2 = o["betas"]
    return s["exp_avg"] + (1 - b1) * (g - s["exp_avg"]), b2 * s["exp_avg_sq"] + (1 - b2) * g * g


def _sgd(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g = _decayed(o, g, w)
    if o["momentum"]:
        part = jnp.where(step == 1, 1.0, 1 - o["dampening"]) if o["dampening"] else 1.0
        s = {"momentum_buffer": o["momentum"] * s["momentum_buffer"] + part * g}
        g = g + o["momentum"] * s["momentum_buffer"] if o["nesterov"] else s["momentum_buffer"]
    return s, w - o["lr"] * g


def _adam(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g, w = _decay(o, g, w, o.get("decoupled_weight_decay", False))
    m, v = _moments(o, s, g)
    after = {"exp_avg": m, "exp_avg_sq": v}
    if o["amsgrad"]:
        after["max_exp_avg_sq"] = jnp.maximum(s["max_exp_avg_sq"], v)
    spread = jnp.sqrt(after.get("max_exp_avg_sq", v)) / jnp.sqrt(_none_left(o["betas"][1], step)) + o["eps"]
    return after, w - o["lr"] / _none_left(o["betas"][0], step) * m / spread


def _adamw(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    return _adam({**o, "decoupled_weight_decay": True}, s, step, g, w)


def _nadam(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g, w = _decay(o, g, w, o["decoupled_weight_decay"])
    m, v = _moments(o, s, g)
    spread = jnp.sqrt(v / _none_left(o["betas"][1], step)) + o["eps"]

    def warm(number: Any) -> Any:
        return o["betas"][0] * (1 - 0.5 * 0.96 ** (number * o["momentum_decay"]))

    mu, following = warm(step), warm(step + 1)
    product = s["mu_product"] * mu
    after = {"exp_avg": m, "exp_avg_sq": v, "mu_product": product}
    w = w - o["lr"] * (1 - mu) / (1 - product) * g / spread
    return after, w - o["lr"] * following / (1 - product * following) * m / spread


def _radam(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g, w = _decay(o, g, w, o["decoupled_weight_decay"])
    m, v = _moments(o, s, g)
    b1, b2 = o["betas"]
    corrected = m / _none_left(b1, step)
    most = 2 / (1 - b2) - 1
    length = _sma_length(b2, step)
    some = jnp.maximum(length, 5.0)  # where it is not used, of a root that there is
    by = jnp.sqrt((some - 4) * (some - 2) * most / ((most - 4) * (most - 2) * some))
    adapted = corrected * jnp.sqrt(_none_left(b2, step)) / (jnp.sqrt(v) + o["eps"]) * by
    return {"exp_avg": m, "exp_avg_sq": v}, w - o["lr"] * jnp.where(length > 5, adapted, corrected)


def _sma_length(beta: float, step: Any) -> Any:
    """RAdam's `rho`, 2 / (1 - beta) - 1 - 2 step beta^step / (1 - beta^step), without its cancellation."""
    rate = -math.log(beta)
    constant = 2 / (1 - beta) - 1 - 2 / rate
    e = step * jnp.float32(rate)
    small = e / 2 - e**2 / 12 + e**4 / 720 - e**6 / 30240
    return constant + 2 / rate * jnp.where(e < 0.5, small, 1 - e / jnp.expm1(e))


def _adamax(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g, (b1, b2) = _decayed(o, g, w), o["betas"]
    m = s["exp_avg"] + (1 - b1) * (g - s["exp_avg"])
    most = jnp.maximum(b2 * s["exp_inf"], jnp.abs(g) + o["eps"])
    return {"exp_avg": m, "exp_inf": most}, w - o["lr"] / _none_left(b1, step) * m / most


def _adadelta(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g = _decayed(o, g, w)
    square = o["rho"] * s["square_avg"] + (1 - o["rho"]) * g * g
    change = jnp.sqrt(s["acc_delta"] + o["eps"]) / jnp.sqrt(square + o["eps"]) * g
    after = {"square_avg": square, "acc_delta": o["rho"] * s["acc_delta"] + (1 - o["rho"]) * change * change}
    return after, w - o["lr"] * change


def _adagrad(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g = _decayed(o, g, w)
    total = s["sum"] + g * g
    return {"sum": total}, w - o["lr"] / (1 + (step - 1) * o["lr_decay"]) * g / (jnp.sqrt(total) + o["eps"])


def _rmsprop(o: Options, s: Slots, step: Any, g: Any, w: Any) -> Stepped:
    g = _decayed(o, g, w)
    after = {"square_avg": o["alpha"] * s["square_avg"] + (1 - o["alpha"]) * g * g}
    spread = after["square_avg"]
    if o["centered"]:
        after["grad_avg"] = s["grad_avg"] + (1 - o["alpha"]) * (g - s["grad_avg"])
        spread = spread - after["grad_avg"] ** 2
    change = g / (jnp.sqrt(spread) + o["eps"])
    if o["momentum"]:
        after["momentum_buffer"] = change = o["momentum"] * s["momentum_buffer"] + change
    return after, w - o["lr"] * change


def _zeros(*names: str, **when: str) -> Callable[[Options], Mapping[str, float]]:
    """Slots that begin with zeros; some only where an option says so."""
    return lambda o: dict.fromkeys([*names, *(slot for option, slot in when.items() if o[option])], 0.0)


_ADAM = _zeros("exp_avg", "exp_avg_sq", amsgrad="max_exp_avg_sq")

RULES: dict[str, Rule] = {
    "SGD": Rule(_sgd, _zeros(momentum="momentum_buffer")),
    "Adam": Rule(_adam, _ADAM),
    "AdamW": Rule(_adamw, _ADAM),
    "NAdam": Rule(_nadam, lambda o: {"exp_avg": 0.0, "exp_avg_sq": 0.0, "mu_product": 1.0}),
    "RAdam": Rule(_radam, _zeros("exp_avg", "exp_avg_sq")),
    "Adamax": Rule(_adamax, _zeros("exp_avg", "exp_inf")),
    "Adadelta": Rule(_adadelta, _zeros("square_avg", "acc_delta")),
    "Adagrad": Rule(_adagrad, lambda o: {"sum": o["initial_accumulator_value"]}),
    "RMSprop": Rule(_rmsprop, _zeros("square_avg", centered="grad_avg", momentum="momentum_buffer")),
}
"""The rules by the names of the optimizers' classes."""

SCALARS = {"mu_product"}
"""Slots that are one number for a weight."""
