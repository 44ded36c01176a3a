"""Saved computations: the same types and results after loading, for data of other sizes, and by client stages apart."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.partition import compile_computation
from hansa.templates import AggregationProcess, IterativeProcess, MeasuredOutput, MeasuredProcess

BATCH = "<x=float32[?,3],y=int32[?]>"


def plus(a, b):
    return a + b


add = hansa.jax_computation(plus, np.float32, np.float32)


@hansa.jax_computation("<n=int32,s=float32[3]>", BATCH)
def fold(state, batch):
    weights = jnp.cumsum(batch.y) + batch.x.mean()
    return {"n": state.n + batch.x.shape[0], "s": state.s * 0.5 + weights @ batch.x}


def start():
    return {"n": 0, "s": np.zeros(3, np.float32)}


@hansa.federated_computation("{" + BATCH + "*}@CLIENTS", "float32@SERVER", "{float32}@CLIENTS")
def two_rounds(data, factor, bias):
    """Two rounds of broadcast and aggregate; what a client has made in the first it keeps for the second."""
    done = hansa.sequence_reduce(data, start(), fold)
    total = hansa.federated_sum(done)
    scaled = hansa.federated_map(
        hansa.jax_computation(lambda total, factor: total.s * factor / total.n), [total, factor]
    )
    shifted = hansa.federated_map(
        hansa.jax_computation(lambda done, mean, bias: done.s - mean + bias),
        [done, hansa.federated_broadcast(scaled), bias],
    )
    return {
        "total": total,
        "mean": hansa.federated_mean(shifted, done.n),
        "largest": hansa.federated_max(shifted),
        "each": shifted,
        "note": "text",
        "numbers": np.arange(3),
        "bias": bias,
    }


def clients(sizes: list[list[int]], seed: int = 0) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [
        [{"x": rng.normal(size=(n, 3)).astype("float32"), "y": rng.integers(0, 5, n).astype("int32")} for n in batches]
        for batches in sizes
    ]


def by_hand(data: list[list[Any]], factor: float, bias: list[float]) -> dict[str, Any]:
    each, counts = [], []
    for batches in data:
        s = np.zeros(3)
        for batch in batches:
            x = batch["x"].astype(np.float64)
            s = s * 0.5 + (np.cumsum(batch["y"]) + x.mean()) @ x
        each.append(s)
        counts.append(sum(len(batch["y"]) for batch in batches))
    mean = np.sum(each, axis=0) * factor / sum(counts)
    shifted = [s - mean + b for s, b in zip(each, bias, strict=True)]
    return {
        "mean": np.average(shifted, axis=0, weights=counts),
        "largest": np.max(shifted, axis=0),
        "each": shifted,
    }


def through_a_file(value: Any, folder: Path) -> Any:
    path = folder / "saved.hansa"
    hansa.save(value, path)
    return hansa.load(path)


def assert_same(found: Any, expected: Any) -> None:
    """Equal to the last bit, in the same containers."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        assert np.asarray(a).dtype == np.asarray(b).dtype


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def saved(folder: Path) -> Path:
    path = folder / "two_rounds.hansa"
    hansa.save(two_rounds, path)
    return path


@pytest.fixture(scope="module")
def loaded(saved: Path) -> Any:
    return hansa.load(saved)


class TestTwoRounds:
    def test_the_type_and_the_stages_are_the_same(self, loaded):
        assert loaded.type_signature == two_rounds.type_signature
        assert loaded.name == "two_rounds"
        program, again = compile_computation(two_rounds), compile_computation(loaded)
        assert [len(stage.aggregates) for stage in again.clients] == [1, 2]
        for before, after in zip(program.clients, again.clients, strict=True):
            assert [fold.name for fold in after.aggregates] == [fold.name for fold in before.aggregates]
            assert sorted(str(node.type) for node in after.kept) == sorted(str(node.type) for node in before.kept)

    def test_its_messages_are_explained(self, loaded):
        explained, original = hansa.explain(loaded), hansa.explain(two_rounds)
        assert (explained.bytes_down, explained.bytes_up) == (original.bytes_down, original.bytes_up)
        assert "16 bytes -> sum at the server" in explained
        assert "without what was loaded from a file" in explained
        assert explained.adding_flops == original.adding_flops

    @pytest.mark.parametrize(
        "sizes",
        [[[4, 4, 2], [], [4, 1, 4], [3]], [[1], [2, 30], [5, 5, 5, 1], [], [9], [8, 8]]],
        ids=["ragged batches and an empty client", "larger batches, more clients"],
    )
    def test_results_are_those_of_the_original_and_of_numpy(self, loaded, sizes):
        data = clients(sizes)
        bias = [float(i) for i in range(len(sizes))]
        found = loaded(data, 2.0, bias)
        assert_same(found, two_rounds(data, 2.0, bias))
        expected = by_hand(data, 2.0, bias)
        for name in ("mean", "largest", "each"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
        assert found.note == "text"
        assert found.bias == bias

    def test_results_are_the_same_in_chunks(self, loaded):
        data, bias = clients([[4, 2], [3], [], [5, 1], [6]]), [1.0, 2.0, 3.0, 4.0, 5.0]
        with hansa.runtime(hansa.InProcessRuntime(clients_per_chunk=2)):
            assert_same(loaded(data, 0.5, bias), two_rounds(data, 0.5, bias))

    def test_results_are_the_same_for_several_clients_at_once(self, loaded, saved):
        data, bias = clients([[4, 2], [3], [], [5, 1], [6]]), [1.0, 2.0, 3.0, 4.0, 5.0]
        manifest = Reader(saved).manifest["programs"]["computation"]
        assert [stage["vectorised"]["clients"] for stage in manifest["clients"]] == [None, None]
        with hansa.runtime(hansa.InProcessRuntime(clients_at_once=3)):
            found = loaded(data, 0.5, bias)
        expected = two_rounds(data, 0.5, bias)
        assert found.total.n == expected.total.n
        for name in ("mean", "largest", "each"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)

    def test_one_program_serves_cohorts_of_all_sizes(self, loaded):
        runtime = hansa.InProcessRuntime()
        with hansa.runtime(runtime):
            for sizes in ([[4, 2]], [[4], [3]], [[4, 4], [1], [2], [3]]):
                loaded(clients(sizes), 1.0, [0.0] * len(sizes))
        assert runtime.compilations == 1

    def test_arrays_that_the_clients_share_are_data_too(self, loaded):
        rng = np.random.default_rng(3)
        arrays = {"x": rng.normal(size=(40, 3)).astype("float32"), "y": rng.integers(0, 5, 40).astype("int32")}
        population = hansa.ClientBatches(arrays, [0, 11, 11, 40], batch_size=4)
        assert_same(loaded(population, 1.0, [1.0, 2.0, 3.0]), two_rounds(population, 1.0, [1.0, 2.0, 3.0]))

    def test_what_was_loaded_can_be_saved(self, loaded, folder):
        again = through_a_file(loaded, folder)
        data = clients([[4, 3], [5]])
        assert again.type_signature == loaded.type_signature
        assert_same(again(data, 2.0, [0.0, 1.0]), two_rounds(data, 2.0, [0.0, 1.0]))

    def test_it_can_be_part_of_another_computation(self, loaded):
        @hansa.federated_computation("{" + BATCH + "*}@CLIENTS", "{float32}@CLIENTS")
        def outer(data, bias):
            factor = hansa.federated_sum(bias)
            return hansa.federated_map(hansa.jax_computation(lambda mean: mean + 1), loaded(data, factor, bias).mean)

        data = clients([[4, 3], [5]])
        expected = two_rounds(data, 3.0, [1.0, 2.0]).mean
        np.testing.assert_allclose(outer(data, [1.0, 2.0]), expected + 1, rtol=1e-6)

    def test_a_sequence_that_another_computation_maps_is_refused(self, loaded):
        negated = hansa.jax_computation(lambda batch: {"x": -batch.x, "y": batch.y})

        @hansa.federated_computation("{" + BATCH + "*}@CLIENTS", "float32@SERVER", "{float32}@CLIENTS")
        def outer(data, factor, bias):
            return loaded(hansa.sequence_map(negated, data), factor, bias).mean

        with pytest.raises(TypeError, match=r"sequence_map .* loaded from a file"):
            outer(clients([[4]]), 1.0, [0.0])


class TestValues:
    def test_a_user_aggregate_keeps_its_state_and_functions(self, folder):
        @hansa.federated_computation("{float32[2]}@CLIENTS")
        def spread(value):
            def accumulate(state, x):
                return {"n": state.n + 1, "sum": state.sum + x, "least": jnp.minimum(state.least, x)}

            def merge(a, b):
                return {"n": a.n + b.n, "sum": a.sum + b.sum, "least": jnp.minimum(a.least, b.least)}

            def report(state):
                return {"above": state.sum / state.n - state.least, "n": state.n}

            zero = {"n": 0, "sum": np.zeros(2, np.float32), "least": np.full(2, np.inf, np.float32)}
            return hansa.federated_aggregate(value, zero, *map(hansa.jax_computation, [accumulate, merge, report]))

        values = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
        found = through_a_file(spread, folder)(list(values))
        np.testing.assert_allclose(found.above, values.mean(0) - values.min(0), rtol=1e-5)
        assert found.n == 7

    def test_every_aggregate_of_the_language(self, folder):
        @hansa.federated_computation("{<a=float32,b=int32>}@CLIENTS")
        def everything(value):
            return [
                hansa.federated_sum(value),
                hansa.federated_mean(value.a),
                hansa.federated_mean(value.a, value.b),
                hansa.federated_min(value),
                hansa.federated_max(value.b),
                hansa.federated_secure_sum(value.b, 5),
                hansa.federated_collect(value),
                hansa.federated_collect(hansa.federated_client_id()),
            ]

        values = [{"a": 1.5, "b": 2}, {"a": -2.0, "b": 7}, {"a": 4.0, "b": 1}]
        loaded = through_a_file(everything, folder)
        found = loaded(values)
        assert str(found[:6]) == "<<a=3.5,b=10>,1.16667,-0.7,<a=-2.0,b=1>,7,8>"
        assert [(float(x.a), int(x.b)) for x in found[6]] == [(1.5, 2), (-2.0, 7), (4.0, 1)]
        assert list(found[7]) == [0, 1, 2]
        assert_same(loaded([]), everything([]))

    def test_collected_values_are_worked_on_and_sent_back(self, folder):
        @hansa.federated_computation("{float32}@CLIENTS")
        def above_all_sums(value):
            doubled = hansa.federated_map(add, [value, value])
            total = hansa.sequence_reduce(hansa.federated_collect(doubled), 0.0, add)
            return hansa.federated_map(add, [doubled, hansa.federated_broadcast(total)])

        assert through_a_file(above_all_sums, folder)([1.0, 2.0, 5.0]) == [18.0, 20.0, 26.0]

    def test_clients_select_slices(self, folder):
        @hansa.federated_computation("{int32[2]}@CLIENTS", "float32[4]@SERVER")
        def selected(keys, table):
            slices = hansa.federated_select(keys, 4, table, hansa.jax_computation(lambda table, key: table[key]))
            return hansa.sequence_reduce(slices, 0.0, add)

        keys = [np.array([0, 3], np.int32), np.array([2, 2], np.int32)]
        assert through_a_file(selected, folder)(keys, np.array([1, 2, 4, 8], np.float32)) == [9.0, 8.0]

    def test_sequences_at_the_server_and_sent_to_the_clients(self, folder):
        @hansa.federated_computation("float32*@SERVER", "{float32}@CLIENTS")
        def sums(numbers, own):
            sent = hansa.sequence_sum(hansa.federated_broadcast(numbers))
            return hansa.sequence_sum(numbers), hansa.federated_map(add, [own, sent])

        loaded = through_a_file(sums, folder)
        assert list(loaded([1.0, 2.0, 4.0], [0.5, 1.5])) == [7.0, [7.5, 8.5]]
        assert list(loaded([], [0.5])) == [0.0, [0.5]]

    def test_strings_and_unused_parts_of_the_argument_pass_by(self, folder):
        @hansa.federated_computation("{<n=str,v=float32>}@CLIENTS", "str@SERVER")
        def named(values, title):
            return {"names": values.n, "title": title, "sum": hansa.federated_sum(values.v), "all": values}

        values = [{"n": "a", "v": 1.0}, {"n": "b", "v": 2.0}]
        found = through_a_file(named, folder)(values, "heading")
        assert (found.names, found.title, found.sum, found["all"]) == (["a", "b"], "heading", 3.0, values)

    def test_64_bits_and_half_precision(self, folder):
        @hansa.federated_computation("{<n=int64,h=bfloat16[2],d=float64>}@CLIENTS")
        def sums(value):
            zero = hansa.jax_computation(lambda: jnp.asarray([0.5, 3.0], jnp.bfloat16))
            return hansa.federated_sum(value), hansa.federated_eval(zero, hansa.SERVER)

        value = {"n": np.int64(2**40), "h": np.ones(2, jnp.bfloat16), "d": np.float64(1 / 3)}
        loaded = through_a_file(sums, folder)
        assert_same(loaded([value] * 3), sums([value] * 3))
        assert loaded([value] * 3)[0].n == 3 * 2**40

    def test_random_keys_that_a_function_closes_over(self, folder):
        key = jax.random.key(7)
        noise = hansa.jax_computation(lambda n: jax.random.normal(jax.random.fold_in(key, n), (3,)), np.int32)
        assert_same(through_a_file(noise, folder)(4), noise(4))

    def test_what_is_compiled_for_another_number_of_clients_is_done_one_by_one(self, folder):
        @hansa.federated_computation("{<x=float32[1,6,6,1],w=float32[2,2,1,3]>}@CLIENTS")
        def convolved(value):
            def apply(value):
                return jax.lax.conv_general_dilated(
                    value.x, value.w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )

            return hansa.federated_map(hansa.jax_computation(apply), value)

        rng = np.random.default_rng(0)
        values = [
            {"x": rng.normal(size=(1, 6, 6, 1)).astype("float32"), "w": rng.normal(size=(2, 2, 1, 3)).astype("float32")}
            for _ in range(5)
        ]
        loaded = through_a_file(convolved, folder)
        (stage,) = Reader(folder / "saved.hansa").manifest["programs"]["computation"]["clients"]
        assert stage["vectorised"]["clients"] == 32
        expected = convolved(values)
        for at_once in (3, 32):
            with hansa.runtime(hansa.InProcessRuntime(clients_at_once=at_once)):
                np.testing.assert_allclose(loaded(values), expected, rtol=1e-5, atol=1e-6)

    def test_a_local_function_of_any_sizes(self, folder):
        rng = np.random.default_rng(0)

        @hansa.jax_computation("<a=float32[?,2],b=float32[?,2]>", np.float32)
        def joined(pair, factor):
            return {"all": jnp.concatenate([pair.a, pair.b]) * factor, "n": pair.a.shape[0] + pair.b.shape[0]}

        loaded = through_a_file(joined, folder)
        assert loaded.type_signature.compact() == (
            "(<pair=<a=float32[?,2],b=float32[?,2]>,factor=float32> -> <all=float32[?,2],n=int32>)"
        )
        for m, n in ((3, 3), (1, 5)):
            a, b = rng.normal(size=(m, 2)).astype("float32"), rng.normal(size=(n, 2)).astype("float32")
            found = loaded({"a": a, "b": b}, 2.0)
            np.testing.assert_array_equal(found["all"], np.concatenate([a, b]) * 2)
            assert found.n == m + n

    def test_a_local_function_whose_arguments_share_a_size(self, folder):
        loaded = through_a_file(hansa.jax_computation(plus, "float32[?]", "float32[?]"), folder)
        for n in (1, 4):
            np.testing.assert_array_equal(
                loaded(np.ones(n, np.float32), np.arange(n, dtype=np.float32)), np.arange(n) + 1
            )

    def test_a_loaded_local_function_is_mapped_and_reduced_with(self, folder):
        loaded = through_a_file(fold, folder)

        @hansa.federated_computation("{" + BATCH + "*}@CLIENTS")
        def reduced(data):
            return hansa.federated_sum(hansa.sequence_reduce(data, start(), loaded))

        @hansa.federated_computation("{" + BATCH + "*}@CLIENTS")
        def original(data):
            return hansa.federated_sum(hansa.sequence_reduce(data, start(), fold))

        data = clients([[4, 3], [2]])
        found, expected = reduced(data), original(data)
        assert found.n == 9
        np.testing.assert_allclose(found.s, expected.s, rtol=1e-5, atol=1e-6)


class TestProcesses:
    def test_a_process_comes_back_in_its_class(self, folder):
        @hansa.federated_computation
        def initialize():
            return hansa.federated_value(0, hansa.SERVER)

        @hansa.federated_computation("int32@SERVER", "{float32}@CLIENTS")
        def next(state, values):
            counted = hansa.federated_map(hansa.jax_computation(lambda n: n + 1, np.int32), state)
            return MeasuredOutput(counted, hansa.federated_sum(values), counted)

        for kind in (IterativeProcess, MeasuredProcess, AggregationProcess):
            loaded = through_a_file(kind(initialize, next), folder)
            assert type(loaded) is kind
            output = loaded.next(loaded.next(loaded.initialize(), [1.0]).state, [2.0, 3.0])
            assert (output.state, output.result, output.measurements) == (2, 5.0, 2)
        stage = hansa.load_client_stage(folder / "saved.hansa", computation="next")
        assert stage.work([], [4.0]).contributions[0][0] == 4.0

    def test_a_process_of_ones_own_class_is_saved_as_what_it_is_derived_from(self, folder):
        class Counting(IterativeProcess):
            pass

        one = hansa.jax_computation(lambda: 1)
        loaded = through_a_file(Counting(one, hansa.jax_computation(lambda n: n + 1, np.int32)), folder)
        assert type(loaded) is IterativeProcess
        assert loaded.next(loaded.initialize()) == 2


class TestDeviceStage:
    def test_clients_apart_give_what_the_runtime_aggregates(self, saved):
        first, second = (hansa.load_client_stage(saved, number) for number in (0, 1))
        assert [port.name for port in first.inputs] == ["data"]
        assert not first.broadcasts
        assert [str(port.type) for port in second.broadcasts] == ["float32[3]"]
        assert [part.operation for part in second.contributions] == ["federated_mean", "federated_max"]

        data, bias = clients([[4, 4, 2], [], [4, 1]]), [1.0, -1.0, 0.5]
        whole = two_rounds(data, 2.0, bias)
        firsts = [first.work([], [batches]) for batches in data]
        n = sum(int(done.contributions[0][0].n) for done in firsts)
        total = np.sum([done.contributions[0][0].s for done in firsts], axis=0)
        assert n == whole.total.n
        np.testing.assert_allclose(total, whole.total.s, rtol=1e-6)

        # Of what it needs, a device has the parts of the argument and what it kept, and knows them by name.
        seconds = []
        for done, b in zip(firsts, bias, strict=True):
            own = {"bias": b, **dict(zip([port.name for port in first.kept], done.kept, strict=True))}
            seconds.append(second.work([total * 2 / n], [own[port.name] for port in second.inputs]))
        shifted = np.array([np.asarray(done.contributions[1][0]) for done in seconds])
        weights = [int(done.contributions[0][1]) for done in seconds]
        np.testing.assert_allclose(shifted, whole.each, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.average(shifted, axis=0, weights=weights), whole.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shifted.max(0), whole.largest, rtol=1e-5, atol=1e-6)

    def test_a_stage_by_itself_is_a_file_with_nothing_else(self, saved, folder):
        stage = hansa.load_client_stage(saved, 1)
        path = folder / "device.hansa"
        hansa.save(stage, path)
        names = zipfile.ZipFile(path).namelist()
        assert sorted(name.split("/")[0] for name in names) == ["functions", "manifest.json"]
        assert path.stat().st_size < saved.stat().st_size / 4

        again = hansa.load(path)
        assert (again.name, again.broadcasts, again.inputs) == (stage.name, stage.broadcasts, stage.inputs)
        given = [np.ones(3, np.float32)], [hansa.Struct.of(n=4, s=np.arange(3, dtype=np.float32)), 0.5]
        if again.inputs[0].name == "bias":
            given[1].reverse()
        assert_same(again.work(*given), stage.work(*given))

    def test_the_protected_are_marked(self, folder):
        @hansa.federated_computation("{int32}@CLIENTS")
        def sums(value):
            return hansa.federated_sum(value), hansa.federated_secure_sum(value, 100)

        hansa.save(sums, folder / "sums.hansa")
        stage = hansa.load_client_stage(folder / "sums.hansa")
        assert [(part.operation, part.protected) for part in stage.contributions] == [
            ("federated_sum", False),
            ("federated_secure_sum", True),
        ]
        assert [int(part[0]) for part in stage.work([], [np.int32(150)] * len(stage.inputs)).contributions] == [
            150,
            100,
        ]

    def test_a_wrong_value_or_number_is_refused(self, saved):
        with pytest.raises(IndexError, match=r"no client stage 2 .* it has 2"):
            hansa.load_client_stage(saved, 2)
        with pytest.raises(KeyError, match="no computation 'initialize'"):
            hansa.load_client_stage(saved, computation="initialize")
        with pytest.raises(TypeError, match="float32"):
            hansa.load_client_stage(saved).work([], [[{"x": np.ones((2, 3)), "y": np.ones(2, np.int32)}]])


class TestRefusals:
    def test_a_computation_without_types(self, folder):
        with pytest.raises(TypeError, match=r"'plus' has no declared types.*specialize"):
            hansa.save(hansa.jax_computation(plus), folder / "no.hansa")

    @pytest.mark.parametrize("value", [plus, 3, None])
    def test_what_is_no_computation(self, folder, value):
        with pytest.raises(TypeError, match=r"hansa\.save takes a computation or a process"):
            hansa.save(value, folder / "no.hansa")

    def test_a_function_that_is_another_for_each_size_of_batch(self, folder):
        @hansa.jax_computation(np.float32, "float32[?]")
        def by_size(state, batch):
            return state + (batch.sum() if batch.shape[0] == 3 else batch.max())

        @hansa.federated_computation("{float32[?]*}@CLIENTS")
        def reduced(data):
            return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, by_size))

        with pytest.raises(hansa.ArtifactError, match=r"'reduced' cannot be saved: 'by_size'.*depends on the batch"):
            hansa.save(reduced, folder / "no.hansa")
        assert not (folder / "no.hansa").exists()

    def test_a_sequence_with_elements_of_unknown_size(self, folder):
        @hansa.federated_computation("{float32[?,?]*}@CLIENTS")
        def reduced(data):
            total = hansa.jax_computation(lambda state, batch: state + batch.sum(), np.float32, "float32[?,?]")
            return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, total))

        with pytest.raises(hansa.ArtifactError, match=r"elements of unknown size.*declare the others"):
            hansa.save(reduced, folder / "no.hansa")

    def test_what_calls_back_into_python(self, folder):
        def shout(x):
            jax.debug.print("{x}", x=x)
            return x

        with pytest.raises(hansa.ArtifactError, match="'shout' cannot be saved"):
            hansa.save(hansa.jax_computation(shout, np.float32), folder / "no.hansa")

    def test_a_platform_that_there_is_not(self, folder):
        with pytest.raises(TypeError, match="platforms is a sequence of names"):
            hansa.save(add, folder / "no.hansa", platforms="cpu")
        with pytest.raises(ValueError, match="cpu, cuda, rocm, tpu; found 'abacus'"):
            hansa.save(add, folder / "no.hansa", platforms=("abacus",))
