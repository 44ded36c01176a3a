"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II), and averaging that keeps its update, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import hansa
from hansa import CLIENTS, SERVER, FederatedType, SequenceType, Type

Loss = Callable[[Any, Any], Any]
tree = jax.tree.map


def zeros_like(weights: Any) -> Any:
    return tree(np.zeros_like, weights)


def process_of(initial: Any, own: Any, next_of: Callable[[Type, Type], Any]) -> hansa.templates.IterativeProcess:
    """A process with a state at the server and one at the clients."""

    @hansa.federated_computation
    def initialize() -> Any:
        return {"server": hansa.federated_value(initial, SERVER), "clients": hansa.federated_value(own, CLIENTS)}

    places = initialize.type_signature.result
    kept = FederatedType(places["clients"].member, CLIENTS)
    return hansa.templates.IterativeProcess(initialize, next_of(places["server"], kept))


def scaffold(weights: Any, loss: Loss, batch: Any, rate: float, population: int) -> hansa.templates.IterativeProcess:
    def next_of(server: Any, kept: Any) -> Any:
        at = hansa.to_type({"y": server.member["x"], "steps": "int32"})
        given = hansa.to_type({"sent": server.member, "own": kept.member})
        correct = hansa.jax_computation(lambda c, c_i: tree(jnp.subtract, c, c_i))

        @hansa.jax_computation(at, batch, kept.member)
        def step(at: Any, batch: Any, correction: Any) -> Any:
            gradient = jax.grad(loss)(at.y, batch)
            y = tree(lambda y, g, d: y - rate * (g + d), at.y, gradient, correction)  # line 10
            return {"y": y, "steps": at.steps + 1}

        @hansa.jax_computation(at, given)
        def finish(at: Any, given: Any) -> Any:
            x, c, k = given.sent.x, given.sent.c, at.steps * rate
            gradient = tree(lambda x, y: (x - y) / k, x, at.y)
            own = tree(lambda c_i, c, g: c_i - c + g, given.own, c, gradient)  # line 12
            return {"x": tree(jnp.subtract, at.y, x), "gradient": gradient, "own": own}

        @hansa.jax_computation(server.member, server.member["x"], server.member["c"], "int32")
        def update(state: Any, x: Any, gradient: Any, clients: Any) -> Any:
            # Line 17 adds the mean of c_i's change, which is the gradient minus c, and c is the same for all.
            share = clients / population
            c = tree(lambda c, g: c + share * (g - c), state.c, gradient)
            return {"x": tree(jnp.add, state.x, x), "c": c}

        @hansa.federated_computation({"server": server, "clients": kept}, FederatedType(SequenceType(batch), CLIENTS))
        def next(state: Any, data: Any) -> Any:
            sent = hansa.federated_broadcast(state.server)
            given = hansa.federated_zip({"sent": sent, "own": state.clients})
            begin = hansa.federated_zip({"y": sent.x, "steps": hansa.federated_value(0, CLIENTS)})
            correction = hansa.federated_map(correct, [sent.c, state.clients])
            trained = hansa.sequence_reduce(data, begin, step, given=correction)
            done = hansa.federated_map(finish, [trained, given])
            number = hansa.federated_sum(hansa.federated_value(np.int32(1), CLIENTS))
            means = hansa.federated_mean(done.x), hansa.federated_mean(done.gradient)
            server = hansa.federated_map(update, [state.server, *means, number])
            return {"state": {"server": server, "clients": done.own}, "clients": number}

        return next

    return process_of({"x": weights, "c": zeros_like(weights)}, zeros_like(weights), next_of)


def averaging(
    weights: Any, loss: Loss, batch: Any, rate: float, keeps: bool = True
) -> hansa.templates.IterativeProcess:
    """Averaging whose clients keep their last update, or do not: all else is the same."""

    def next_of(server: Any, kept: Any) -> Any:
        @hansa.jax_computation(server.member, batch)
        def step(weights: Any, batch: Any) -> Any:
            return tree(lambda w, g: w - rate * g, weights, jax.grad(loss)(weights, batch))

        subtract = hansa.jax_computation(lambda a, b: tree(jnp.subtract, a, b))
        add = hansa.jax_computation(lambda a, b: tree(jnp.add, a, b))

        @hansa.federated_computation({"server": server, "clients": kept}, FederatedType(SequenceType(batch), CLIENTS))
        def next(state: Any, data: Any) -> Any:
            sent = hansa.federated_broadcast(state.server)
            update = hansa.federated_map(subtract, [hansa.sequence_reduce(data, sent, step), sent])
            after = hansa.federated_map(add, [state.server, hansa.federated_mean(update)])
            return {"server": after, "clients": update}

        @hansa.federated_computation(server, FederatedType(SequenceType(batch), CLIENTS))
        def forgetting(state: Any, data: Any) -> Any:
            sent = hansa.federated_broadcast(state)
            update = hansa.federated_map(subtract, [hansa.sequence_reduce(data, sent, step), sent])
            return hansa.federated_map(add, [state, hansa.federated_mean(update)])

        return next if keeps else forgetting

    if keeps:
        return process_of(weights, zeros_like(weights), next_of)
    initialize = hansa.federated_computation(lambda: hansa.federated_value(weights, SERVER))
    server = initialize.type_signature.result
    return hansa.templates.IterativeProcess(initialize, next_of(server, FederatedType(server.member, CLIENTS)))
