"""How much a client's update counts: `client_weighting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from hansa.models.exact import narrow
from hansa.privacy.weighting import Capped
from hansa.types import Struct
from hansa.types.mismatch import describe

Weighting = Callable[[Struct, Any], Any]
"""From a client's local outputs and its number of examples to its weight."""


AnyWeighting: TypeAlias = str | Capped | Callable[[Struct], Any] | None
"""What an argument `client_weighting` may be; None for "num_examples", or, with a private aggregator, "uniform"."""


def weighting_of(value: AnyWeighting) -> Weighting:
    """What an argument `client_weighting` says.

    Raises:
        ValueError: if it is neither a name that is known nor a function.
    """
    if value is None or value == "num_examples":
        return lambda outputs, count: count
    if isinstance(value, Capped):
        cap = value.cap
        return lambda outputs, count: jnp.minimum(count.astype(jnp.float32) / np.float32(cap), 1.0)
    if value == "uniform":
        return lambda outputs, count: jnp.int32(1)
    if callable(value):
        return lambda outputs, count: weight_of(value(narrow(outputs)), "client_weighting must return one number")
    raise ValueError(
        "client_weighting is 'num_examples', 'uniform', hansa.privacy.capped(…) or a function of a client's local "
        f"outputs, found {value!r}"
    )


def weight_of(weight: Any, says: str) -> Any:
    """A weight as a float32 scalar.

    Raises:
        TypeError: if it is no number; the message begins with what is `says`.
    """
    kind = getattr(weight, "dtype", np.result_type(weight) if isinstance(weight, bool | int | float) else None)
    if kind is None or np.shape(weight) or not jnp.isdtype(kind, ("bool", "integral", "real floating")):
        raise TypeError(f"{says}, found {describe(weight)}; reduce it to one")
    return jnp.asarray(weight, jnp.float32)
