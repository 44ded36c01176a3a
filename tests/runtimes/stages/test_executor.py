"""Stages by themselves: what they take and give by name, folds in any order, and the bits of the runtime."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.runtimes.stages.devices import Devices

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
            total = clients.zero(server, clients=len(readings))
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


def test_several_clients_in_one_call_with_what_each_has_kept(monkeypatch):
    stages, rows = hansa.Stages(two_stages), []
    pack = Devices.pack

    def packing(*args, **options):
        packed, static = pack(*args, **options)
        rows.extend(leaf.shape[0] for leaf in jax.tree.leaves(packed) if leaf.ndim)
        return packed, static

    monkeypatch.setattr(Devices, "pack", packing)
    settings = {"factor": np.float32(0.25), "most": np.int32(10_000)}
    known, kept = {"settings": settings}, [{} for _ in READINGS]
    for number, stage in enumerate(stages.clients):
        known |= stages.servers[number].run(known)._asdict()
        own = [
            {"readings": reading, "client_id": number} | mine
            for reading, number, mine in zip(READINGS, IDS, kept, strict=True)
        ]
        done = stage.fold(stage.zero(known, clients=len(own)), known, own)
        kept = [values._asdict() for values in done.kept]
        known |= stage.report(done.state)._asdict()
    result = stages.result(known | stages.servers[-1].run(known)._asdict())
    expected = by_hand(READINGS, IDS, 0.25)
    assert {name: int(result[name]) for name in expected} == expected
    assert max(rows) <= 1.25 * len(READINGS)  # what a client has may be large


@hansa.federated_computation("{int32}@CLIENTS", "<factor=float32,most=int32>@SERVER", "{<a=int32,b=str>}@CLIENTS")
def returning(readings, settings, others):
    """Parts of the result that clients have, made of all that there is, and collected ones."""
    own = hansa.federated_map(plus, [readings, hansa.federated_client_id()])
    add_all = hansa.jax_computation(lambda total, x: total * 10 + x, "int32", "int32")
    in_turn = hansa.sequence_reduce(hansa.federated_collect(own), np.int32(0), add_all)
    tenfold = hansa.federated_map(hansa.jax_computation(lambda x: 10 * x), in_turn)
    sent = hansa.federated_broadcast(tenfold)
    return {
        "each": hansa.federated_zip([own, others.a, sent, hansa.federated_client_id()]),
        "others": others,
        "in_turn": in_turn,
        "collected": hansa.federated_collect(own),
        "factor": settings.factor,
    }


def test_results_that_clients_have_and_collected_ones_are_put_together_of_what_each_client_has():
    readings, ids = [1, 2, 3], [5, 4, 0]
    others = [{"a": 10, "b": "x"}, {"a": 20, "b": "y"}, {"a": 30, "b": "z"}]
    settings = {"factor": np.float32(0.5), "most": np.int32(1)}
    stages = hansa.Stages(returning)
    (stage,) = stages.clients
    own = [
        {"readings": reading, "client_id": number, "others": other}
        for reading, number, other in zip(readings, ids, others, strict=True)
    ]
    done = stage.fold(stage.zero(), [], own)
    known = {"settings": settings} | stages.servers[0].run([])._asdict()
    (all_kept,) = [port.name for port in stages.servers[1].inputs if port.name.startswith("all ")]
    known[all_kept] = [kept[0] for kept in done.kept]
    known |= stages.servers[1].run(known)._asdict()
    each = [mine | kept._asdict() for mine, kept in zip(own, done.kept, strict=True)]
    result = stages.result(known, each)
    assert [tuple(map(int, one)) for one in result.each] == [(6, 10, 6630, 5), (6, 20, 6630, 4), (3, 30, 6630, 0)]
    assert [(one["a"], one["b"]) for one in result.others] == [(10, "x"), (20, "y"), (30, "z")]
    assert (int(result.in_turn), list(map(int, result.collected)), result.factor) == (663, [6, 6, 3], 0.5)
    with pytest.raises(TypeError, match="each client has: pass `own`, for each client in the cohort's order"):
        stages.result(known)
    with pytest.raises(TypeError, match="what client 1 has must have a value 'plus'"):
        stages.result(known, [each[0], own[1]])


class TestProtected:
    def test_the_number_of_clients_must_be_said_and_is_checked_before_any_client_works(self):
        stages = hansa.Stages(two_stages)
        sent = {"factor": np.float32(1), "most": np.int32(2**29)}
        known = stages.servers[1].run({"settings": sent, stages.clients[0].reports[0].name: np.int32(3)})
        stage = stages.clients[1]
        (protected,) = stage.protected
        with pytest.raises(TypeError, match=rf"zero\(…, clients=…\): {protected} is to be known to fit"):
            stage.zero(known)
        stage.zero(known, clients=3)
        with pytest.raises(ValueError, match=r"federated_secure_sum.*4 clients"):
            stage.zero(known, clients=4)
        with pytest.raises(ValueError, match="a number of clients; found -1"):
            stage.zero(known, clients=-1)


@hansa.federated_computation("{float32[3]}@CLIENTS", "{float32}@CLIENTS")
def weighted(values, weights):
    return hansa.federated_mean(values, weights), hansa.federated_max(weights)


@pytest.fixture(scope="module")
def stage():
    return hansa.Stages(weighted).clients[0]


class TestWhatIsForged:
    def given(self, value, weight):
        return {"mean of values": {"value": value, "weight": weight}, "max of weights": {"value": weight}}

    def test_contributions_of_other_shapes_and_types_are_refused(self, stage):
        for value, weight in [(np.zeros(1, "float32"), 1.0), (np.zeros(3), 1.0), (np.zeros(3, "float32"), [1.0, 2.0])]:
            with pytest.raises((TypeError, ValueError), match="the contributions"):
                stage.accumulate(stage.zero(), self.given(value, weight))

    def test_states_of_another_program_or_with_other_arrays_are_refused(self, stage):
        @hansa.federated_computation("{float32}@CLIENTS", "{float32}@CLIENTS")
        def other(values, weights):
            return hansa.federated_mean(values, weights), hansa.federated_max(weights)

        forged = hansa.Stages(other).clients[0].zero()
        for function in (lambda: stage.report(forged), lambda: stage.merge(stage.zero(), forged)):
            with pytest.raises(ValueError, match="is none of 'mean of values', whose states are of"):
                function()
        with pytest.raises(ValueError, match=r"found float32\[2\]"):
            stage.report({"mean of values": stage.zero()[0], "max of weights": np.zeros(2, "float32")})
        with pytest.raises(TypeError, match="the state must have a value 'max of weights'"):
            stage.report({"mean of values": stage.zero()[0]})

    def test_a_state_that_is_used_up_or_given_twice_is_refused(self, stage):
        state = stage.zero()
        after = stage.accumulate(state, self.given(np.ones(3, "float32"), 2.0))
        with pytest.raises(ValueError, match="has been used up"):
            stage.accumulate(state, self.given(np.ones(3, "float32"), 2.0))
        with pytest.raises(ValueError, match="given twice"):
            stage.merge(after, after)
        assert np.array_equal(stage.report(after)[0], np.ones(3))

    def test_a_state_may_travel_as_plain_arrays(self, stage):
        state = stage.accumulate(stage.zero(), self.given(np.ones(3, "float32"), 2.0))
        plain = {name: [np.array(leaf) for leaf in jax.tree.leaves(state[name])] for name in state._fields}
        assert np.array_equal(stage.report(stage.merge(stage.zero(), plain))[0], np.ones(3))


WRONG = {
    "a function": (lambda stage: hansa.Stages(lambda x: x), "takes a computation with declared types"),
    "a device's name": (lambda stage: hansa.Stages(weighted, device="cpu"), "device must be a JAX device"),
    "one client for several": (lambda stage: stage.fold(stage.zero(), [], {"values": [1, 2, 3]}), "own must be a list"),
    "no rows": (lambda stage: stage.work([], [[1, 2, 3], 1.0], batch_rows=0), "batch_rows must be a positive number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_argument_is_refused_by_name(what, stage):
    call, match = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=match):
        call(stage)
