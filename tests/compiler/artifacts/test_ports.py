"""What a manifest says of stages, and that stages of a file can be run by it, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.compiler.artifacts.artifact import load_program
from hansa.compiler.artifacts.expressions import Expressions
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.ports import Input, Port, distinct, source
from hansa.compiler.artifacts.types import encode_type
from hansa.compiler.evaluate import evaluate
from hansa.compiler.partition import compile_computation
from hansa.language.runtime_values import CLIENT_ID
from hansa.language.terms import Terms
from tests.portable.forging import contents, write


@hansa.federated_computation("{<x=float32[2],n=int32>}@CLIENTS", "<scale=float32,shift=float32>@SERVER")
def centred(values, terms):
    """The weighted mean, and of twice what is away from it the sum, the number of clients and the largest."""
    mean = hansa.federated_mean(values.x, values.n)
    scaled = hansa.federated_map(hansa.jax_computation(lambda m, scale: m * scale), [mean, terms.scale])
    sent = [hansa.federated_broadcast(scaled), hansa.federated_broadcast(terms.shift)]
    away = hansa.federated_map(
        hansa.jax_computation(lambda value, scaled, shift: {"a": value.x - scaled, "b": shift}), [values, *sent]
    )
    return {
        "sum": hansa.federated_sum(away.a),
        "shift": hansa.federated_sum(away.b),
        "largest": hansa.federated_max(away.a),
        "ids": hansa.federated_collect(hansa.federated_client_id()),
        "bounded": hansa.federated_secure_sum(values.n, 10),
    }


CLIENTS = [
    hansa.Struct.of(x=np.array([1, 2], np.float32), n=np.int32(1)),
    hansa.Struct.of(x=np.array([5, -2], np.float32), n=np.int32(3)),
]
TERMS = hansa.Struct.of(scale=np.float32(2), shift=np.float32(0.5))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ports") / "centred.hansa"
    hansa.save(centred, path, platforms=["cpu"])
    return path


def names(ports: Any) -> list[str]:
    return [port.name for port in ports]


class TestPorts:
    def test_what_server_stages_take_and_give(self, saved):
        first, second, last = hansa.load_ports(saved).servers
        assert first.inputs == ()
        assert [str(port.type) for port in first.outputs] == ["<uint64>"]  # the bound of the protected sum
        assert second.inputs == (
            Input("mean", hansa.to_type("float32[2]"), ("aggregate", 0, 0)),
            Input("terms.scale", hansa.to_type("float32"), ("argument", 1, 0)),
        )
        assert [str(port.type) for port in second.outputs] == ["float32[2]"]
        assert last.inputs == last.outputs == ()

    def test_what_client_stages_are_sent_have_give_and_keep(self, saved):
        first, second = hansa.load_ports(saved).clients
        assert not first.broadcasts
        assert {port.source for port in first.inputs} == {("argument", 0, 0), ("argument", 0, 1)}
        assert {(port.source, str(port.type)) for port in second.broadcasts} == {
            (("server", 1, 0), "float32[2]"),
            (("argument", 1, 1), "float32"),
        }
        operations = [fold.operation for fold in (*first.aggregates, *second.aggregates)]
        assert sorted(operations) == [
            "federated_max", "federated_mean", "federated_secure_sum", "federated_sum", "federated_sum",
        ]  # fmt: skip

    def test_it_is_what_a_device_says_of_itself(self, saved):
        for number, stage in enumerate(hansa.load_ports(saved).clients):
            device = hansa.load_client_stage(saved, number)
            assert device.inputs == tuple(Port(port.name, port.type) for port in stage.inputs)
            assert device.broadcasts == tuple(Port(port.name, port.type) for port in stage.broadcasts)
            assert [part.values for part in device.contributions] == [fold.contributions for fold in stage.aggregates]
            assert device.kept == stage.kept

    def test_aggregates_say_their_state_start_and_result(self, saved):
        folds = {
            fold.operation: fold for stage in hansa.load_ports(saved).clients for fold in reversed(stage.aggregates)
        }
        mean, bounded = folds["federated_mean"], folds["federated_secure_sum"]
        assert [str(port.type) for port in mean.contributions] == ["float32[2]", "int32"]
        assert list(map(str, mean.state)) == ["float64[2]", "float64"]
        assert (mean.start, mean.collective, mean.protected) == (None, "sum", False)
        assert bounded.protected
        assert bounded.start == Input("a constant", hansa.to_type("<uint64>"), ("server", 0, 0))
        assert str(bounded.result.type) == "int32"

    def test_names_are_all_different(self, saved):
        ports = hansa.load_ports(saved)
        for stage in ports.clients:
            outputs = [port for fold in stage.aggregates for port in fold.contributions]
            for group in (stage.broadcasts, stage.inputs, [*outputs, *stage.kept]):
                assert len(set(names(group))) == len(names(group))
        results = [fold.result.name for fold in ports.clients[1].aggregates]
        assert sorted(results) == sorted(set(results))

    def test_numbers_for_names_that_are_there_already(self):
        assert distinct(["a", "b", "a", "a_2", "a", "b"]) == ["a", "b", "a_2", "a_2_2", "a_3", "b_2"]
        assert distinct([]) == []

    def test_what_a_file_asks_of_the_runtime_is_one_value_and_older_files_call_it_an_operation(self, saved):
        given = Expressions(hansa.to_type("({int32}@CLIENTS -> int32@SERVER)"), Reader(saved))
        kind = encode_type(hansa.to_type("{int32}@CLIENTS"))
        assert given.node(["operation", "federated_client_id", kind, []]) is CLIENT_ID
        assert given.node(["runtime", "client_id", kind]) is CLIENT_ID
        with pytest.raises(ValueError, match=r"asks for a value 'noise' of type .* which has 'client_id' of type"):
            given.node(["runtime", "noise", kind])

    def test_where_values_come_from(self):
        argument, kind = ["parameter"], {"type": "int32"}
        assert source(["select", ["select", argument, 1], 0]) == ("argument", 1, 0)
        assert source(["select", ["server", 2, 1], 3]) == ("server", 2, 1, 3)
        assert source(["runtime", "client_id", kind]) == ("runtime", "client_id")
        assert source(["operation", "federated_client_id", kind, []]) == ("runtime", "client_id")
        made = ["struct", kind, [argument, ["literal", kind, {}]]]
        assert source(made) == ("struct", ("argument",), ("literal",))
        assert source(["select", made, 1]) == ("literal",)
        assert source(["operation", "federated_zip", kind, [made]]) == source(made)
        for wrong in (["parameter", 1], ["server", "1", 0], [], ["operation", "federated_zip", kind, []]):
            with pytest.raises(ValueError, match="a value that comes from"):
                source(wrong)

    def test_nothing_but_the_manifest_is_read(self, saved, tmp_path):
        manifest, entries = contents(saved)
        copy = tmp_path / "noise.hansa"
        write(copy, manifest, dict.fromkeys(entries, b"noise"))
        assert hansa.load_ports(copy) == hansa.load_ports(saved)
        with pytest.raises(hansa.ArtifactError):
            hansa.load(copy)

    def test_what_has_no_stages_or_lies_about_them(self, saved, tmp_path):
        hansa.save(hansa.load_client_stage(saved), tmp_path / "device.hansa")
        with pytest.raises(hansa.ArtifactError, match="has no computations"):
            hansa.load_ports(tmp_path / "device.hansa")
        with pytest.raises(KeyError, match="no computation 'initialize'"):
            hansa.load_ports(saved, "initialize")

        def one_name(program):
            for port in program["clients"][1]["broadcasts"]:
                port["name"] = "same"

        def no_name(program):
            program["servers"][1]["inputs"][0].pop("name")

        def no_source(program):
            program["servers"][1]["inputs"][0]["from"] = ["elsewhere"]

        for change in (one_name, no_name, no_source):
            manifest, entries = contents(saved)
            change(manifest["programs"]["computation"])
            write(tmp_path / "lying.hansa", manifest, entries)
            with pytest.raises(hansa.ArtifactError, match="is damaged, or was not written by Hansa"):
                hansa.load_ports(tmp_path / "lying.hansa")

    def test_declared_types_are_those_of_what_is_there(self, saved, tmp_path):
        def an_input(program):
            program["servers"][1]["inputs"][0]["type"]["type"] = "float32[3]@SERVER"

        def a_state(program):
            program["clients"][0]["aggregates"][0]["state"][0]["type"] = "float32[2]"

        def a_start(program):
            fold = next(
                fold for stage in program["clients"] for fold in stage["aggregates"] if fold["start"] is not None
            )
            fold["start"]["type"]["type"] = "float64"

        for change in (an_input, a_state, a_start):
            manifest, entries = contents(saved)
            change(manifest["programs"]["computation"])
            write(tmp_path / "lying.hansa", manifest, entries)
            with pytest.raises(hansa.ArtifactError, match="is damaged, or was not written by Hansa"):
                hansa.load(tmp_path / "lying.hansa")


SAID = {"disclosure": "noised sum", "bound": 1.5, "max_weight": 100, "min_cohort": 20}


class TestTerms:
    def test_what_the_computation_does_not_say_is_not_said(self, saved):
        for stage in hansa.load_ports(saved).clients:
            for fold in stage.aggregates:
                assert fold.terms == Terms("sum" if "secure" in fold.operation else None)

    def test_what_is_said_is_kept_through_load_and_save(self, saved, tmp_path):
        manifest, entries = contents(saved)
        manifest["programs"]["computation"]["clients"][1]["aggregates"][0].update(SAID)
        write(tmp_path / "said.hansa", manifest, entries)
        hansa.save(hansa.load(tmp_path / "said.hansa"), tmp_path / "again.hansa", platforms=["cpu"])
        for path in (tmp_path / "said.hansa", tmp_path / "again.hansa"):
            folds = hansa.load_ports(path).clients[1].aggregates
            assert [fold.terms == Terms(**SAID) for fold in folds].count(True) == 1
            device = hansa.load_client_stage(path, 1)
            hansa.save(device, tmp_path / "device.hansa")
            for stage in (device, hansa.load(tmp_path / "device.hansa")):
                (said,) = [part.terms for part in stage.contributions if part.terms.min_cohort is not None]
                assert (said.disclosure, said.bound, said.max_weight, said.min_cohort) == tuple(SAID.values())

    def test_a_file_that_does_not_say_it(self, saved, tmp_path):
        manifest, entries = contents(saved)
        for stage in manifest["programs"]["computation"]["clients"]:
            for fold in stage["aggregates"]:
                for name in SAID:
                    del fold[name]
        write(tmp_path / "silent.hansa", manifest, entries)
        assert hansa.load_ports(tmp_path / "silent.hansa") == hansa.load_ports(saved)
        hansa.load(tmp_path / "silent.hansa")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("disclosure", "all"), ("disclosure", ["sum"]), ("disclosure", {}), ("bound", 0), ("bound", -1.0),
            ("bound", True), ("bound", "1"), ("bound", float("inf")), ("bound", float("nan")), ("bound", 10**400),
            ("max_weight", 0.0), ("max_weight", []), ("min_cohort", 0), ("min_cohort", 2.0), ("min_cohort", True),
        ],
    )  # fmt: skip
    def test_what_is_of_another_kind_is_refused(self, saved, tmp_path, name, value):
        manifest, entries = contents(saved)
        manifest["programs"]["computation"]["clients"][1]["aggregates"][0][name] = value
        write(tmp_path / "wrong.hansa", manifest, entries)
        for load in (hansa.load, hansa.load_ports, lambda path: hansa.load_client_stage(path, 1)):
            with pytest.raises(hansa.ArtifactError, match=f"ValueError: {name} is "):
                load(tmp_path / "wrong.hansa")


class TestPrograms:
    def test_each_value_of_a_file_is_one_of_the_program(self, saved):
        program = load_program(saved)
        stages = compile_computation(program.computation)
        for (what, stage, _), node in program.nodes.items():
            place: Any = {
                "server": lambda i: stages.servers[i].outputs,
                "broadcast": lambda i: [there for _, there in stages.clients[i].broadcasts],
                "kept": lambda i: stages.clients[i].kept,
                "aggregate": lambda i: [fold.node for fold in stages.clients[i].aggregates],
                "collected": lambda i: [there for _, there in stages.clients[i].collected],
            }[what]
            assert any(node is other for other in place(stage)), (what, stage)

    def test_a_computation_is_run_stage_by_stage(self, saved):
        """By what the file says alone: devices apart, folds apart, as somebody else's server would do it."""
        program, argument = load_program(saved), hansa.Struct([(None, None), (None, TERMS)])
        devices = [hansa.load_client_stage(saved, number) for number in range(2)]
        stages = compile_computation(program.computation)
        values: dict[Any, Any] = {}

        def found(where: Any, client: int | None = None) -> Any:
            kind, *path = where
            if kind == "argument":
                value = argument if client is None else [CLIENTS[client]]
                for index in path:
                    value = value[index]
                return value
            if kind == "client_id":
                return np.int32(client)
            return values[where] if client is None else values[client, where]

        with jax.enable_x64(True):
            for i, (ports, device) in enumerate(zip(program.ports.clients, devices, strict=True)):
                inputs = program.ports.servers[i].inputs
                env = {program.nodes[port.source]: values[port.source] for port in inputs if port.source in values}
                env[stages.parameter] = argument
                outputs = [program.nodes["server", i, j] for j in range(len(program.ports.servers[i].outputs))]
                values.update((("server", i, j), value) for j, value in enumerate(evaluate(outputs, env)))
                sent = [found(port.source) for port in ports.broadcasts]
                folds = [program.aggregate(i, j) for j in range(len(ports.aggregates))]
                starts = [None if fold.start is None else found(fold.start.source) for fold in ports.aggregates]
                parts = [[fold.zero(start) for fold, start in zip(folds, starts, strict=True)] for _ in CLIENTS]
                for client in range(len(CLIENTS)):
                    done = device.work(sent, [found(port.source, client) for port in ports.inputs])
                    values.update(((client, ("kept", i, j)), value) for j, value in enumerate(done.kept))
                    for j, (fold, given) in enumerate(zip(folds, done.contributions, strict=True)):
                        parts[client][j] = fold.accumulate(parts[client][j], list(given))
                for j, fold in enumerate(folds):
                    values["aggregate", i, j] = fold.report(fold.merge(parts[0][j], parts[1][j]))

        whole = centred([{"x": each.x, "n": each.n} for each in CLIENTS], {"scale": 2.0, "shift": 0.5})
        assert program.ports.result[0] == "struct"
        for name, where in zip(whole._fields, program.ports.result[1:], strict=True):
            if name != "ids":
                np.testing.assert_allclose(values[where], whole[name], rtol=1e-6)
        mean = np.average([each.x for each in CLIENTS], axis=0, weights=[each.n for each in CLIENTS])
        away = [each.x - 2 * mean for each in CLIENTS]
        np.testing.assert_allclose(whole["sum"], np.sum(away, axis=0), rtol=1e-6)

    def test_only_the_functions_of_the_computation_are_looked_at(self, tmp_path):
        process = hansa.templates.IterativeProcess(
            hansa.federated_computation(lambda: hansa.federated_value(0, hansa.SERVER)),
            hansa.federated_computation(
                lambda state, values: (state, hansa.federated_sum(values)), "int32@SERVER", "{float32}@CLIENTS"
            ),
        )
        hansa.save(process, tmp_path / "process.hansa", platforms=["cpu"])
        assert [fold.operation for fold in load_program(tmp_path / "process.hansa").ports.clients[0].aggregates] == [
            "federated_sum"
        ]
        assert load_program(tmp_path / "process.hansa", "initialize").ports.clients == ()


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_zipped_of_values_is_a_struct_of_them(count):
    parts = [["server", 1, i] for i in range(count)]
    assert source(["operation", "federated_zip", {}, parts]) == ("struct", *map(tuple, parts))
