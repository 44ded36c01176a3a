"""From graphs to stages: how many there are, what each receives, reports and keeps."""

from __future__ import annotations

from typing import Any

import pytest

import hansa
from hansa import CLIENTS, SERVER
from hansa.compiler.partition import compile_computation
from hansa.compiler.program import Program

double = hansa.jax_computation(lambda x: x * 2, "float32")
add = hansa.jax_computation(lambda a, b: a + b, "float32", "float32")


def compiled(function: Any, *kinds: str) -> Program:
    return compile_computation(hansa.federated_computation(function, *kinds))


def test_a_computation_at_the_server_has_no_client_stage() -> None:
    program = compiled(lambda x: hansa.federated_map(double, x), "float32@SERVER")
    assert (len(program.servers), len(program.clients)) == (1, 0)
    assert len(compiled(lambda: "Hello, World!").clients) == 0


def test_averaging_is_one_client_stage_however_it_is_nested() -> None:
    train = hansa.federated_computation(
        lambda m, x: hansa.federated_map(add, [m, x]), "float32@CLIENTS", "{float32}@CLIENTS"
    )
    average = hansa.federated_computation(lambda x: hansa.federated_mean(x), "{float32}@CLIENTS")

    def round(model: Any, data: Any, weight: Any) -> Any:
        sent = hansa.federated_broadcast(hansa.federated_map(double, model))
        trained = train(sent, data)
        metrics = hansa.federated_map(double, trained)
        new = hansa.federated_map(add, [average(trained), hansa.federated_mean(trained, weight)])
        return new, hansa.federated_sum(metrics), hansa.federated_max(weight)

    program = compiled(round, "float32@SERVER", "{float32}@CLIENTS", "{float32}@CLIENTS")
    (stage,) = program.clients
    assert [fold.name for fold in stage.aggregates] == ["mean", "mean", "sum", "max"]
    assert len(stage.broadcasts) == 1
    assert stage.kept == ()
    assert [len(server.outputs) for server in program.servers] == [1, 1]
    assert program.clients[0].broadcasts[0][0] in program.servers[0].outputs


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_there_are_as_many_client_stages_as_aggregates_one_behind_the_other(depth: int) -> None:
    def nest(x: Any) -> Any:
        total = hansa.federated_sum(x)
        for _ in range(depth - 1):
            total = hansa.federated_sum(hansa.federated_map(add, [hansa.federated_broadcast(total), x]))
        return total, hansa.federated_min(x)

    program = compiled(nest, "{float32}@CLIENTS")
    assert (len(program.servers), len(program.clients)) == (depth + 1, depth)
    assert [len(stage.aggregates) for stage in program.clients] == [2] + [1] * (depth - 1)
    assert all(stage.kept == () for stage in program.clients)


def test_what_a_later_stage_needs_is_kept_and_not_computed_again() -> None:
    def deviation(x: Any) -> Any:
        y = hansa.federated_map(double, x)
        return hansa.federated_sum(hansa.federated_map(add, [y, hansa.federated_broadcast(hansa.federated_mean(y))]))

    first, second = compiled(deviation, "{float32}@CLIENTS").clients
    assert [node.functions[0] for node in first.kept] == [double]
    assert first.kept[0] in second.inputs
    assert second.kept == ()


def test_values_returned_at_the_clients_are_kept() -> None:
    program = compiled(lambda x: [hansa.federated_map(double, x), hansa.federated_sum(x)], "{float32}@CLIENTS")
    assert [len(stage.kept) for stage in program.clients] == [1]
    late = compiled(
        lambda x: hansa.federated_map(add, [x, hansa.federated_broadcast(hansa.federated_sum(x))]), "{float32}@CLIENTS"
    )
    assert [len(stage.kept) for stage in late.clients] == [0, 1]


def test_an_unused_client_value_is_no_work() -> None:
    def unused(x: Any) -> Any:
        hansa.federated_sum(hansa.federated_map(double, x))
        return hansa.federated_sum(x)

    (stage,) = compiled(unused, "{float32}@CLIENTS").clients
    assert len(stage.aggregates) == 1


def test_the_start_of_an_aggregation_may_come_from_the_data_of_the_call() -> None:
    def total(start: Any, x: Any) -> Any:
        return hansa.federated_aggregate(x, start, add, add, double)

    program = compiled(total, "float32", "{float32}@CLIENTS")
    assert len(program.clients) == 1
    assert program.clients[0].aggregates[0].start is not None


def test_federated_values_without_a_parameter_take_part() -> None:
    program = compiled(lambda: hansa.federated_sum(hansa.federated_value(1, CLIENTS)))
    assert len(program.clients) == 1
    assert len(compiled(lambda: hansa.federated_value(1, SERVER)).clients) == 0
