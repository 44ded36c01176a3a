"""Stages by themselves: what they take and give by name, folds in any order, and the bits of the runtime."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa

BATCH = "<x=float32[?,64],y=int32[?]>"


def through_a_file(computation, folder):
    hansa.save(computation, folder / "saved.hansa", platforms=["cpu"])
    return hansa.load(folder / "saved.hansa")


@hansa.jax_computation("int32", "int32")
def plus(a, b):
    return a + b


@hansa.jax_computation("int32", "int32")
def distance(a, b):
    return jnp.abs(a - b)


@hansa.jax_computation("int32", "float32")
def scaled(total, factor):
    return jnp.int32(total * factor)


@hansa.jax_computation("int32")
def tripled(total):
    return total * 3


@hansa.federated_computation("{int32}@CLIENTS", "<factor=float32,most=int32>@SERVER")
def two_stages(readings, settings):
    """What a client has made in the first stage it keeps for the second; each stage folds in several ways."""
    own = hansa.federated_map(plus, [readings, hansa.federated_client_id()])
    total = hansa.federated_sum(own)
    centre = hansa.federated_map(scaled, [total, settings.factor])
    away = hansa.federated_map(distance, [own, hansa.federated_broadcast(centre)])
    summed = hansa.federated_aggregate(away, np.int32(0), plus, plus, tripled)
    return {
        "total": total,
        "away": summed,
        "largest": hansa.federated_max(away),
        "settings": settings,
        "protected": hansa.federated_secure_sum(away, settings.most),
    }


def by_hand(readings, ids, factor):
    own = [reading + number for reading, number in zip(readings, ids, strict=True)]
    centre = int(np.float32(sum(own)) * np.float32(factor))
    away = [abs(each - centre) for each in own]
    return {"total": sum(own), "away": sum(away) * 3, "largest": max(away), "protected": sum(away)}


def run(stages, readings, ids, settings, groups):
    """Every stage, with the clients folded in these groups, which are merged in their order."""
    server = {"settings": settings}
    kept: list[dict[str, Any]] = [{} for _ in readings]
    for number, clients in enumerate(stages.clients):
        server |= stages.servers[number].run(server)._asdict()
        totals = []
        for group in groups:
            total = clients.zero(server)
            for client in group:
                own = {"readings": readings[client], "client_id": ids[client]} | kept[client]
                done = clients.work(server, own)
                kept[client] |= done.kept._asdict()
                total = clients.accumulate(total, done.contributions)
            totals.append(total)
        total, *others = totals
        for other in others:
            total = clients.merge(total, other)
        server |= clients.report(total)._asdict()
    return stages.result(server | stages.servers[-1].run(server)._asdict())


READINGS, IDS = [5, -3, 10, 4, 7], [3, 1, 20, 11, 2]


@pytest.mark.parametrize("loads", [False, True])
@pytest.mark.parametrize("groups", [[[0, 1, 2, 3, 4]], [[4, 2], [], [1, 0, 3]], [[3], [1], [4], [0], [2]]])
def test_stages_one_by_one_give_what_is_computed_by_hand_in_any_order_and_any_number_of_partial_states(
    groups, loads, tmp_path
):
    computation = through_a_file(two_stages, tmp_path) if loads else two_stages
    settings = {"factor": np.float32(0.25), "most": np.int32(10_000)}
    result = run(hansa.Stages(computation), READINGS, IDS, settings, groups)
    assert dict(result.settings._asdict()) == settings
    expected = by_hand(READINGS, IDS, 0.25)
    assert {name: int(result[name]) for name in expected} == expected
