"""The keys of random draws: of a round by its number, and of a client by its id, all from one seed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import jax_computation
from hansa.types import TensorType

KEY = TensorType("uint32", (2,))
"""The type of a key, as data: `jax.random.wrap_key_data` makes one of it."""

_COUNT = TensorType("int64")


def round_key(seed: int) -> Computation:
    """`(int64 -> uint32[2])`: from the number of a round, at the server, to its key."""

    @jax_computation(_COUNT)
    def round_key(count: Any) -> Any:
        return _fold_in(jax.random.key_data(jax.random.key(seed)), count)

    return round_key


def key_of_client(seed: int) -> Computation:
    """`(int32 -> uint32[2])`: from the id of a client to its key, where there are no rounds."""

    @jax_computation(TensorType("int32"))
    def client_key(client: Any) -> Any:
        return _fold_in(jax.random.key_data(jax.random.key(seed)), client)

    return client_key


def client_keys(key: Any) -> Any:
    """Each client's key, `{uint32[2]}@CLIENTS`, from that of a round at the server."""
    return on.federated_map(client_key, [on.federated_broadcast(key), on.federated_client_id()])


def _fold_in(key: Any, data: Any) -> Any:
    return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key), data.astype(jnp.uint32)))


@jax_computation(KEY, TensorType("int32"))
def client_key(key: Any, client: Any) -> Any:
    """The key of a client in a round, from the round's and the client's id."""
    return _fold_in(key, client)


@jax_computation(KEY)
def key_of_server(key: Any) -> Any:
    """The key of the server's own work in a round; clients' ids are at least 0."""
    return _fold_in(key, jnp.int32(-1))
