"""Optimizers by name, the same names in Python and in a run's TOML file: "sgd", "adam", …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from hansa.types import names

OptimizerName = Literal["sgd", "adam", "adamw", "adagrad", "rmsprop", "yogi", "lion"]
"""The names, which are those of Optax's functions."""

LearningRate: TypeAlias = float | Callable[[Any], Any]
"""A number, or a schedule: a function from the number of a step, from 0, to the rate, such as Optax has them."""

NAMES: tuple[str, ...] = get_args(OptimizerName)


def named_optimizer(name: str, learning_rate: LearningRate | None, what: str) -> Any:
    """The Optax optimizer of a name.

    Args:
        name: one of `NAMES`.
        learning_rate: its learning rate.
        what: how messages call it: the name of the argument, such as `client_optimizer`.

    Raises:
        ValueError: if there is no such name, or no rate, or one that is negative or not finite.
        TypeError: if the rate is no number.
    """
    if name not in NAMES:
        hint = names.suggestion(name.lower(), NAMES) or ";"
        raise ValueError(
            f"{what}={name!r} is the name of no optimizer here{hint} there are {', '.join(map(repr, NAMES))}; "
            "any other is passed as an object of Optax or Keras"
        )
    if learning_rate is None:
        raise ValueError(
            f"{what}={name!r} needs a learning rate: write {rate_of(what)}={_USUAL.get(name, 0.01)}, for a start"
        )
    import optax

    make: Callable[..., Any] = getattr(optax, name)
    return make(learning_rate=_checked(learning_rate, rate_of(what)))


def rate_of(what: str) -> str:
    """The name of the argument that is the learning rate of an optimizer, by the name of the optimizer's."""
    return what.replace("optimizer", "learning_rate")


_USUAL: Mapping[str, float] = MappingProxyType({"sgd": 0.1, "adagrad": 0.1, "lion": 0.001})


def _checked(rate: Any, what: str) -> Any:
    if callable(rate):
        return rate
    try:
        number = float(rate)
    except (TypeError, ValueError):
        raise TypeError(
            f"{what} must be a number, such as 0.1, or a schedule, such as optax.cosine_decay_schedule(0.1, 100); "
            f"found {rate!r}"
        ) from None
    if isinstance(rate, bool) or not 0 <= number < float("inf"):
        raise ValueError(f"{what} must be a number of 0 or more, such as 0.1; found {rate!r}")
    return number
