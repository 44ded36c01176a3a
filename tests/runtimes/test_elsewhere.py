"""Clients that are elsewhere go to a runtime that reaches them, and are refused by others before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.simulation import ClientData
from tests.program.digits import assert_same_bits, averaging, population

NAMES = ["ann", "bo", "cy", "di"]
READINGS = dict(zip(NAMES, [np.float32([1, 2]), np.float32([3]), np.float32([]), np.float32([4, 5, 6])], strict=True))


def clients() -> ClientData:
    return ClientData.from_clients({name: {"x": rows} for name, rows in READINGS.items()}).batch(2)


class Network:
    """A runtime whose clients have their data: it is here, as this is a test, and nobody passes it."""

    reaches_elsewhere = True

    def __init__(self, data: Any) -> None:
        self._data, self._inner = data, hansa.InProcessRuntime()
        self.asked: list[Any] = []

    def invoke(self, computation: Any, argument: Any) -> Any:
        if isinstance(argument, hansa.Elsewhere):
            argument = self._found(argument)
        elif isinstance(argument, hansa.Struct):
            argument = [self._found(part) if isinstance(part, hansa.Elsewhere) else part for part in argument]
        return self._inner.invoke(computation, argument)

    def _found(self, clients: hansa.Elsewhere) -> Any:
        self.asked.append(clients.client_ids)
        if clients.client_ids is None:
            return self._data.cohort(np.arange(len(clients)))
        return self._data.cohort(self._data.positions(clients.client_ids))


@hansa.jax_computation("float32", "<x=float32[?]>")
def add(total, batch):
    return total + batch.x.sum()


@hansa.jax_computation
def zero():
    return np.float32(0)


@hansa.federated_computation("<x=float32[?]>*")
def total(batches):
    return hansa.sequence_reduce(batches, zero(), add)


@hansa.federated_computation("{<x=float32[?]>*}@CLIENTS")
def totals(data):
    return hansa.federated_map(total, data)


@hansa.federated_computation("float32@SERVER", "{<x=float32[?]>*}@CLIENTS")
def more(before, data):
    return hansa.federated_zip([before, hansa.federated_sum(hansa.federated_map(total, data))])


def test_a_runtime_that_reaches_them_is_given_who_they_are() -> None:
    network = Network(clients())
    with hansa.runtime(network):
        assert totals(hansa.Elsewhere(["di", "ann"])) == [15, 3]
        before, found = more(10.0, hansa.Elsewhere(NAMES).cohort([1, 3]))
        assert (before, found) == (10, 18)
        assert totals(hansa.Elsewhere(3)) == [3, 3, 0]
    assert network.asked == [["di", "ann"], ["bo", "di"], None]


@pytest.mark.parametrize("runtime", [hansa.InProcessRuntime(), hansa.ReferenceRuntime()], ids=["compiled", "reference"])
def test_runtimes_of_this_process_refuse_them_by_name(runtime: Any) -> None:
    with hansa.runtime(runtime):
        for call in (lambda: totals(hansa.Elsewhere(NAMES)), lambda: more(1.0, hansa.Elsewhere(5))):
            with pytest.raises(TypeError, match=rf"is elsewhere, and {type(runtime).__name__} works.*data\.cohort"):
                call()
        with pytest.raises(TypeError, match=r"^the argument of 'more'\.data is Elsewhere\(5 clients\)"):
            more(1.0, hansa.Elsewhere(5))
    with pytest.raises(TypeError, match="their data is elsewhere"):
        runtime.invoke(totals, hansa.Elsewhere(NAMES))


def test_they_stand_for_values_at_the_clients_only() -> None:
    asking = hansa.jax_computation(lambda x: x, "float32")
    with hansa.runtime(Network(clients())):
        with pytest.raises(TypeError, match=r"'more'\.before: expected float32@SERVER, found Elsewhere\(4 .*@CLIENTS"):
            more(hansa.Elsewhere(NAMES), hansa.Elsewhere(NAMES))
        with pytest.raises(TypeError, match=r"'<lambda>': expected float32, found Elsewhere"):
            asking(hansa.Elsewhere(NAMES))


def test_a_run_goes_through_them_and_have_the_bits_of_a_simulation(tmp_path: Path) -> None:
    data = population()
    network = Network(data)
    options = {"rounds": 4, "cohort_size": 3, "seed": 5, "progress": False}
    with hansa.runtime(network):
        found = hansa.program.train(averaging(), hansa.Elsewhere(range(10)), run_dir=tmp_path / "run", **options)
    expected = hansa.program.train(averaging(), data, **options)
    assert_same_bits(found.state, expected.state)
    sampler = hansa.simulation.UniformSampler(10, 3, 5)
    assert network.asked == [sampler(number).tolist() for number in range(1, 5)]
    assert found.history == expected.history
    assert '"positions"' in (tmp_path / "run" / "rounds.jsonl").read_text()


def test_who_is_there_may_be_the_runtimes_to_say(tmp_path: Path) -> None:
    data = population()
    network = Network(data)
    with hansa.runtime(network):
        result = hansa.program.train(
            averaging(), hansa.Elsewhere(10), 2, cohort_size=3, run_dir=tmp_path, progress=False
        )
    process = averaging()
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, data.cohort([0, 1, 2]))
    assert_same_bits(result.state, state)
    assert network.asked == [None, None]
    assert '"positions"' not in (tmp_path / "rounds.jsonl").read_text()


def test_a_run_is_evaluated_on_them() -> None:
    process = averaging()
    weights = hansa.FederatedType(process.state_type.member["model"], hansa.SERVER)
    batches = "<x=float32[?,64],y=int32[?]>"

    @hansa.jax_computation("float32", batches)
    def count(so_far, batch):
        return so_far + batch.y.shape[0]

    @hansa.federated_computation(f"{batches}*")
    def examples(data):
        return hansa.sequence_reduce(data, zero(), count)

    @hansa.federated_computation(weights, f"{{{batches}*}}@CLIENTS")
    def evaluation(model, data):
        return hansa.federated_zip({"examples": hansa.federated_sum(hansa.federated_map(examples, data))})

    options = {"rounds": 1, "evaluate": (evaluation, hansa.Elsewhere([7, 2])), "progress": False}
    with hansa.runtime(Network(population())):
        history = hansa.program.train(process, population(), **options).history
    assert history["evaluation/examples"] == [sum(population().sizes[[7, 2]])]
    with pytest.raises(TypeError, match=r"^the data of evaluate is Elsewhere\(2 clients: 7, 2\)"):
        hansa.program.train(process, population(), **options)


def test_a_run_of_them_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^data is Elsewhere\(10 clients: 0, 1, 2, and 7 more\)"):
        hansa.program.train(averaging(), hansa.Elsewhere(range(10)), 2, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_names_no_clients_is_refused() -> None:
    for wrong in (-1, ["ann", "ann"], ["ann", 5], "ann", 1.5, None):
        with pytest.raises((TypeError, ValueError), match="clients"):
            hansa.Elsewhere(wrong)  # type: ignore[arg-type]
    some = hansa.Elsewhere(NAMES)
    for positions, error in (([4], IndexError), ([-1], IndexError), ([0, 0], ValueError), ([0.5], TypeError)):
        with pytest.raises(error):
            some.cohort(positions)
    assert some.cohort([0, 0], replace=True).client_ids == ["ann", "ann"]
    assert len(some.cohort([])) == 0
    assert repr(some) == "Elsewhere(4 clients: 'ann', 'bo', 'cy', and 1 more)"
