"""Random draws of a rule: a key for each round, made of a seed and of how many rounds had somebody to count."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import intrinsics as on
from hansa.language.tracing import jax_computation
from hansa.types import SERVER, TensorType

KEY = TensorType("uint32", (2,))
"""The data of a JAX random key."""

_COUNT = TensorType("int32")


class Turns:
    """The rounds of a rule, which its state counts as `rounds`, and their keys.

    Args:
        name: the rule, so that two with one seed draw differently.
        seed: the root of all draws.
    """

    def __init__(self, name: str, seed: int) -> None:
        named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
        root = np.asarray(jax.random.key_data(named))

        @jax_computation(_COUNT)
        def key_of(rounds: Any) -> Any:
            return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(root)), rounds))

        @jax_computation(_COUNT, _COUNT)
        def after(rounds: Any, number: Any) -> Any:
            return jnp.where(number > 0, rounds + 1, rounds)

        self._key_of, self._after = key_of, after

    def first(self) -> Any:
        """The number of rounds at the beginning, at the server."""
        return on.federated_value(np.int32(0), SERVER)

    def key(self, rounds: Any) -> Any:
        """The key of the round after so many."""
        return on.federated_map(self._key_of, rounds)

    def after(self, rounds: Any, number: Any) -> Any:
        """The number of rounds after one in which so many clients were counted."""
        return on.federated_map(self._after, [rounds, number])
