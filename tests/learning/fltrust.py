"""FLTrust (Cao et al. 2021, arXiv:2012.13995, Algorithm 2), written in the language alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import hansa
from hansa import CLIENTS, SERVER, FederatedType, SequenceType

tree = jax.tree.map


def dot(a: Any, b: Any) -> Any:
    """The inner product of two structs of arrays."""
    return sum(jax.tree.leaves(tree(jnp.vdot, a, b)))


def fltrust(
    weights: Any, loss: Callable[[Any, Any], Any], batch: Any, rate: float, server_rate: float
) -> hansa.templates.IterativeProcess:
    """A process whose `next` takes the root data, at the server, by the name `root`.

    Args:
        weights: the first model, a struct of float32 arrays.
        loss: of weights and a batch.
        batch: the type of a batch, at the clients and at the server.
        rate: beta, of the local steps.
        server_rate: alpha, of the global one.
    """

    @hansa.federated_computation
    def initialize() -> Any:
        return hansa.federated_value(weights, SERVER)

    state = initialize.type_signature.result
    kind = state.member

    @hansa.jax_computation(kind, batch)
    def step(weights: Any, batch: Any) -> Any:
        return tree(lambda w, g: w - rate * g, weights, jax.grad(loss)(weights, batch))

    @hansa.jax_computation(kind, kind)
    def change(after: Any, before: Any) -> Any:
        return tree(jnp.subtract, after, before)

    @hansa.jax_computation(kind, kind)
    def trusted(own: Any, root: Any) -> Any:
        length, of_root = jnp.sqrt(dot(own, own)), jnp.sqrt(dot(root, root))
        there = (length > 0) & (of_root > 0)
        cosine = jnp.where(there, dot(own, root) / jnp.where(there, length * of_root, 1), 0)
        scale = jnp.where(there, of_root / jnp.where(there, length, 1), 0)
        return {"update": tree(lambda g: scale * g, own), "score": jax.nn.relu(cosine)}

    @hansa.jax_computation(kind, kind)
    def moved(weights: Any, update: Any) -> Any:
        return tree(lambda w, g: w + server_rate * g, weights, update)

    at_clients, at_server = (FederatedType(SequenceType(batch), place) for place in (CLIENTS, SERVER))

    @hansa.federated_computation(state, at_clients, at_server)
    def next(state: Any, data: Any, root: Any) -> Any:
        sent = hansa.federated_broadcast(state)
        own = hansa.federated_map(change, [hansa.sequence_reduce(data, sent, step), sent])
        at_root = hansa.federated_map(change, [hansa.sequence_reduce(root, state, step), state])
        found = hansa.federated_map(trusted, [own, hansa.federated_broadcast(at_root)])
        update = hansa.federated_mean(found.update, found.score)  # zero if nobody is trusted
        metrics = {
            "mean_score": hansa.federated_mean(found.score),
            "least_score": hansa.federated_min(found.score),
        }
        return {"state": hansa.federated_map(moved, [state, update]), "metrics": metrics}

    return hansa.templates.IterativeProcess(initialize, next)
