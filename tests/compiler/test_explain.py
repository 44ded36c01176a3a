"""What `explain` says of a computation: the text, the facts, and who would see what."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler.explain.stages import AtClients, AtServer, Bytes

DOUBLE = hansa.jax_computation(lambda x: x * 2, "float32[3]")


@hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
def share_above(readings: Any, threshold: Any) -> Any:
    @hansa.jax_computation
    def is_above(reading: Any, threshold: Any) -> Any:
        return jnp.where(reading > threshold, 1.0, 0.0)

    return hansa.federated_mean(hansa.federated_map(is_above, [readings, hansa.federated_broadcast(threshold)]))


def explained(function: Any, *kinds: str) -> Any:
    return hansa.explain(hansa.federated_computation(function, *kinds))


def clients(text: Any, number: int = 0) -> AtClients:
    return [stage for stage in text.stages if isinstance(stage, AtClients)][number]


def test_the_text_says_what_goes_where() -> None:
    assert hansa.explain(share_above) == (
        "share_above: 1 client stage, one XLA program (with clients_per_chunk, several)\n"
        "  (<readings={float32}@CLIENTS,threshold=float32@SERVER> -> float32@SERVER)\n"
        "\n"
        "server stage 0\n"
        "  passes on  threshold: float32\n"
        "  computes   nothing\n"
        "\n"
        "client stage 0, on each client\n"
        "  receives   threshold: float32, 4 bytes\n"
        "  has        readings: float32\n"
        "  computes   is_above: float32, 1 FLOP\n"
        "  reports    is_above: float32, 4 bytes -> mean at the server\n"
        "  traffic    4 bytes down, 4 bytes up, per client\n"
        "\n"
        "server stage 1\n"
        "  computes   mean: float32, 2 FLOP\n"
        "\n"
        "each client  4 bytes down, 4 bytes up; 1 FLOP\n"
        "the server   2 FLOP; 3 FLOP to add up each client's reports\n"
        "seen         mean: in a deployment the server would see each client's; no sum is protected\n"
        "             Here all of it is simulated in one process, which sees everything.\n"
        "\n"
        "result  float32@SERVER\n"
        f"here    one client at a time on each of {len(jax.devices())} x cpu"
    )


def test_the_last_line_says_how_the_current_runtime_goes_about_it() -> None:
    def last(runtime: Any) -> str:
        with hansa.runtime(runtime):
            return str(hansa.explain(share_above)).splitlines()[-1]

    assert last(hansa.InProcessRuntime(jax.devices()[:1])) == "here    one client at a time on each of 1 x cpu"
    assert last(hansa.InProcessRuntime(jax.devices()[:1], clients_at_once=4)) == (
        "here    4 clients at a time on each of 1 x cpu"
    )
    assert last(hansa.ReferenceRuntime()) == "result  float32@SERVER"
    assert "here" not in explained(lambda x: hansa.federated_map(DOUBLE, x), "float32[3]@SERVER")


def test_an_explanation_is_a_text_with_facts() -> None:
    text = hansa.explain(share_above)
    assert isinstance(text, str)
    assert repr(text) == str(text) == f"{text}"
    assert copy.copy(text).stages == text.stages
    assert [type(stage) for stage in text.stages] == [AtServer, AtClients, AtServer]
    assert (text.name, text.bytes_down, text.bytes_up) == ("share_above", 4, 4)
    assert text.bytes_up.exact
    assert (text.client_flops.at(), text.server_flops.at(), text.adding_flops.at()) == (1, 2, 3)
    stage = clients(text)
    assert [operation.name for operation in stage.computes] == ["is_above"]
    assert [(report.into, report.protected) for report in stage.reports] == [("mean", False)]


def test_the_programs_of_a_call_are_as_many_as_it_says() -> None:
    for chunk, several in ((None, False), (1, True)):
        runtime = hansa.InProcessRuntime(clients_per_chunk=chunk)
        with hansa.runtime(runtime):
            share_above([1.0, 2.0, 3.0, 4.0, 5.0], 2.0)
        assert (runtime.compilations > 1) is several


def test_a_process_is_explained_by_its_next() -> None:
    start = hansa.federated_computation(lambda: hansa.federated_value(np.zeros(3, np.float32), hansa.SERVER))
    step = hansa.federated_computation(lambda state: hansa.federated_map(DOUBLE, state), "float32[3]@SERVER")
    process = hansa.templates.IterativeProcess(start, step)
    assert hansa.explain(process) == hansa.explain(process.next)
    assert hansa.explain(process).server_flops.at() == 3


def test_without_types_there_is_nothing_to_explain() -> None:
    polymorphic = hansa.federated_computation(lambda x: hansa.federated_sum(x))
    with pytest.raises(TypeError, match="explain takes a computation with declared types, found"):
        hansa.explain(polymorphic)
    with pytest.raises(TypeError, match="explain takes a computation with declared types, found 3"):
        hansa.explain(3)  # type: ignore[arg-type]


def test_sums_that_are_protected_are_told_from_those_that_are_seen() -> None:
    def work(value: Any, count: Any) -> Any:
        return (
            hansa.federated_secure_sum(count, 100),
            hansa.federated_secure_sum_bitwidth(count, 7),
            hansa.federated_sum(value),
            hansa.federated_sum(count),
        )

    text = explained(work, "{float32[3]}@CLIENTS", "{int32}@CLIENTS")
    reports = {report.into: report.protected for report in clients(text).reports}
    assert reports == {"secure_sum": True, "secure_sum_bitwidth": True, "sum": False}
    assert "4 bytes -> secure_sum at the server, protected\n" in text
    assert "protected    secure_sum, secure_sum_bitwidth: in a deployment the server would see only the sum\n" in text
    assert "seen         2 × sum: in a deployment the server would see each client's\n" in text
    only = explained(lambda count: hansa.federated_secure_sum(count, 3), "{int32}@CLIENTS")
    assert "seen  " not in only
    assert "Here all of it is simulated in one process, which sees everything." in only


def test_what_is_collected_is_seen_and_not_said_to_stay() -> None:
    def work(value: Any) -> Any:
        doubled = hansa.federated_map(DOUBLE, value)
        return hansa.federated_collect(doubled)

    text = explained(work, "{float32[3]}@CLIENTS")
    stage = clients(text)
    assert [(report.into, report.bytes, report.protected) for report in stage.reports] == [("collect", 12, False)]
    assert stage.keeps == ()
    both = explained(lambda v: (work(v), hansa.federated_map(DOUBLE, v)), "{float32[3]}@CLIENTS")
    assert len(clients(both).keeps) == 1


def test_selecting_sends_keys_up_and_slices_down_and_not_the_whole() -> None:
    def work(keys: Any, table: Any) -> Any:
        pick = hansa.jax_computation(lambda table, key: table[key])
        return hansa.federated_sum(hansa.sequence_sum(hansa.federated_select(keys, 100, table, pick)))

    text = explained(work, "{int32[4]}@CLIENTS", "float32[100,8]@SERVER")
    stage = clients(text)
    assert [(sent.name, sent.slices, sent.bytes) for sent in stage.receives] == [("table", 4, 4 * 8 * 4)]
    assert [(report.into, report.bytes) for report in stage.reports] == [("sum", 32), ("select", 16)]
    assert "receives   4 slices of table, each: float32[8], 128 bytes\n" in text

    def whole_too(keys: Any, table: Any) -> Any:
        add = hansa.jax_computation(lambda table: table.sum())
        return work(keys, table), hansa.federated_sum(hansa.federated_map(add, hansa.federated_broadcast(table)))

    both = clients(explained(whole_too, "{int32[4]}@CLIENTS", "float32[100,8]@SERVER"))
    assert sorted((sent.slices or 0, sent.bytes) for sent in both.receives) == [(0, 3200), (4, 128)]


def test_clients_that_work_twice_keep_what_they_need() -> None:
    def work(data: Any) -> Any:
        doubled = hansa.federated_map(DOUBLE, data)
        mean = hansa.federated_broadcast(hansa.federated_mean(doubled))
        apart = hansa.jax_computation(lambda x, mean: x - mean)
        return hansa.federated_map(apart, [doubled, mean])

    text = explained(work, "{float32[3]}@CLIENTS")
    assert [held.type for held in clients(text).keeps] == [hansa.to_type("float32[3]")]
    assert [held.name for held in clients(text, 1).has] == ["<lambda>"]
    assert (text.bytes_down, text.bytes_up) == (12, 12)
    assert text.startswith("work: 2 client stages, one XLA program")


def test_constants_of_the_computation_are_not_sent() -> None:
    def work(data: Any) -> Any:
        add = hansa.jax_computation(lambda total, x: total + x)
        return hansa.federated_sum(hansa.sequence_reduce(data, 1.0, add))

    text = explained(work, "{float32*}@CLIENTS")
    assert text.bytes_down == 0
    assert text.bytes_down.exact
    assert "receives" not in text


def test_sizes_that_only_data_tells_are_question_marks() -> None:
    def work(words: Any, name: Any) -> Any:
        size = hansa.jax_computation(lambda x: x.shape[0])
        return hansa.federated_sum(hansa.federated_map(size, hansa.federated_broadcast(words))), name

    text = explained(work, "float32[?]@SERVER", "str@SERVER")
    assert "words: float32[?], 0 bytes + ?" in text
    assert not text.bytes_down.exact
    assert Bytes.of([hansa.to_type("<float32[3],str>")]).exact is False
    assert str(Bytes(1)) == "1 byte"
    assert [Bytes(n).short for n in (1, 9_999, 1_628_208)] == ["1 byte", "9,999 bytes", "1.63 MB"]
    assert Bytes.total([Bytes(4), Bytes(2, exact=False)]).short == "6 bytes + ?"


def test_a_local_computation_is_at_one_place() -> None:
    text = hansa.explain(DOUBLE)
    assert text.splitlines()[0] == "<lambda>: a local computation, one XLA program"
    assert "at one place\n  computes   <lambda>: float32[3], 3 FLOP\n" in text
    assert "server" not in text


def test_what_computes_nothing_says_so() -> None:
    text = explained(lambda x: x, "float32@SERVER")
    assert text.splitlines()[0] == "<lambda>: nothing is computed"


def test_names_are_those_of_the_parts_of_a_composition() -> None:
    kind = "<x=float32[?,3]>"

    @hansa.federated_computation("float32", f"{kind}*")
    def train(start: Any, data: Any) -> Any:
        step = hansa.jax_computation(lambda total, batch: total + batch.x.sum(), "float32", kind)
        step.name = "step"
        return hansa.sequence_reduce(data, start, step)

    text = explained(lambda w, d: hansa.federated_sum(train_at(train, w, d)), "float32@SERVER", f"{{{kind}*}}@CLIENTS")
    (operation,) = clients(text).computes
    assert (operation.name, operation.parts) == ("train", ("step per batch",))
    assert "computes   train (step per batch): float32, 1 FLOP per batch + 3 FLOP per example\n" in text


def train_at(train: Any, weights: Any, data: Any) -> Any:
    return hansa.federated_map(train, [hansa.federated_broadcast(weights), data])


@pytest.mark.parametrize("weighting", ["uniform", "num_examples"])
def test_federated_averaging_of_a_dense_network(weighting: str) -> None:
    n, h, k = 784, 512, 10
    weights = {"w": np.zeros((n, h), np.float32), "v": np.zeros((h, k), np.float32)}

    def forward(w: Any, batch: Any, training: Any, key: Any) -> Any:
        logits = jnp.maximum(batch.x @ w["w"], 0) @ w["v"]
        return hansa.learning.BatchOutput(((logits - batch.y) ** 2).mean(), logits)

    import optax

    model = hansa.learning.functional_model(
        weights, forward, input_spec="<x=float32[?,784],y=float32[?,10]>", optimizer=optax.sgd(0.1)
    )
    text = hansa.explain(hansa.learning.build_federated_averaging_process(model, client_weighting=weighting))
    number = n * h + h * k
    assert text.bytes_down == 4 * number + 8
    assert 0 < text.bytes_up - 4 * number < 200
    fixed, per_example = (term.linear for term in text.client_flops.terms if term.per).__next__()
    products = 2 * 2 * n * h + 3 * 2 * h * k
    assert products < per_example < products + 10 * (h + k)
    # A step of SGD is a product and a sum for each weight.
    assert 2 * number <= fixed < 2 * number + 1000
    # The update, and whether it is finite, also where its square overflows.
    assert number < text.client_flops.terms[0].amount < 10 * number
    assert 2 * number < text.adding_flops.at() < 2 * number + 100
    assert "(start, step per batch, report)" in text
