"""How much a client's update counts: `client_weighting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from hansa.models.batch_types import sample_weight
from hansa.models.exact import narrow
from hansa.models.outputs import BatchOutput
from hansa.privacy.weighting import Capped
from hansa.types import Struct
from hansa.types.mismatch import describe

Weighting = Callable[[Struct, Any, Any], Any]
"""From a client's local outputs, its number of examples and what they weigh (see `weighs`) to its weight."""


AnyWeighting: TypeAlias = str | Capped | Callable[[Struct], Any] | None
"""What an argument `client_weighting` may be; None for "num_examples", or, with a private aggregator, "uniform"."""


def weighting_of(value: AnyWeighting) -> Weighting:
    """What an argument `client_weighting` says.

    Raises:
        ValueError: if it is neither a name that is known nor a function.
    """
    if value is None or value == "num_examples":
        return lambda outputs, count, weight: count
    if isinstance(value, Capped):
        cap = value.cap
        return lambda outputs, count, weight: jnp.minimum(count.astype(jnp.float32) / np.float32(cap), 1.0)
    if value == "uniform":
        return lambda outputs, count, weight: jnp.int32(1)
    if weighs(value):
        return lambda outputs, count, weight: weight
    if callable(value):
        returned = "client_weighting must return one number"
        return lambda outputs, count, weight: weight_of(value(narrow(outputs)), returned)
    raise ValueError(
        "client_weighting is 'num_examples', 'sample_weight', 'uniform', hansa.privacy.capped(…) or a function of a "
        f"client's local outputs, found {value!r}"
    )


def weighs(value: AnyWeighting) -> bool:
    """Whether the weights of a client's examples are to be added up."""
    return isinstance(value, str) and value == "sample_weight"


def weight_of_batch(batch: Any, output: BatchOutput, name: str) -> Any:
    """What the examples of a batch weigh together, a float32 scalar.

    Raises:
        ValueError: if the model of this name gives them no weights.
    """
    if output.weight is not None:
        return weight_of(output.weight, "the weight of a BatchOutput must be one number")
    weights = sample_weight(batch)
    if weights is None:
        raise ValueError(
            f"client_weighting='sample_weight', and the batches of the model {name!r} have no sample_weight: add the "
            "field, let the model give BatchOutput(loss, predictions, weight=…), or write 'num_examples'"
        )
    return sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(weights))


def weight_of(weight: Any, says: str) -> Any:
    """A weight as a float32 scalar.

    Raises:
        TypeError: if it is no number; the message begins with what is `says`.
    """
    kind = getattr(weight, "dtype", np.result_type(weight) if isinstance(weight, bool | int | float) else None)
    if kind is None or np.shape(weight) or not jnp.isdtype(kind, ("bool", "integral", "real floating")):
        raise TypeError(f"{says}, found {describe(weight)}; reduce it to one")
    return jnp.asarray(weight, jnp.float32)
