"""What comes back from a call: values of the types that are declared, wherever they were made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER, Struct, StructType, TensorType


@pytest.fixture(params=["whole", "in chunks", "reference"], autouse=True)
def runtime(request):
    runtimes = {
        "whole": hansa.InProcessRuntime(default_num_clients=2),
        "in chunks": hansa.InProcessRuntime(clients_per_chunk=1, default_num_clients=2),
        "reference": hansa.ReferenceRuntime(default_num_clients=2),
    }
    with hansa.runtime(runtimes[request.param]) as runtime:
        yield runtime


def test_a_struct_of_placed_values_is_returned_as_it_was_passed():
    call = hansa.federated_computation(lambda x: x, "<a=int32@SERVER,b=<{int32}@CLIENTS,float32@SERVER>>")
    result = call({"a": 1, "b": [[2, 3], 0.5]})
    assert (result.a, list(result.b[0]), result.b[1]) == (1, [2, 3], 0.5)


def test_a_sequence_at_the_server_is_returned_beside_what_is_computed():
    call = hansa.federated_computation(lambda x, s: [hansa.federated_sum(x), s], "{int32}@CLIENTS", "int32*@SERVER")
    total, sequence = call([1, 2, 3], [4, 5])
    assert (total, list(sequence)) == (6, [4, 5])


def test_what_a_client_has_is_returned_with_what_the_server_sent():
    @hansa.federated_computation("{int32}@CLIENTS", "float32@SERVER")
    def pairs(x, number):
        return hansa.federated_zip({"x": x, "sent": hansa.federated_broadcast(number)})

    assert [(pair.x, pair.sent) for pair in pairs([1, 2], 0.5)] == [(1, 0.5), (2, 0.5)]


def test_what_is_the_same_for_all_is_a_list_where_the_type_says_that_it_may_differ():
    inner = hansa.federated_computation(lambda x: [x, hansa.federated_zip([x, x])], "{int32}@CLIENTS")
    call = hansa.federated_computation(lambda x: inner(hansa.federated_broadcast(x)), "int32@SERVER")
    assert call.type_signature.result.compact() == "<{int32}@CLIENTS,{<int32,int32>}@CLIENTS>"
    each, pairs = call(3)
    assert (each, [tuple(pair) for pair in pairs]) == ([3, 3], [(3, 3), (3, 3)])


def test_results_have_the_names_of_the_computation_that_made_them():
    inner = hansa.federated_computation(lambda pair: pair, "<a=float32@SERVER,b={int32}@CLIENTS>")
    call = hansa.federated_computation(lambda x, n: inner([x, n]), "float32@SERVER", "{int32}@CLIENTS")
    result = call(1.5, [7])
    assert (result.a, list(result.b)) == (1.5, [7])


class Pair(Struct):
    """A class of one's own for structs."""


def test_structs_of_ones_own_class_are_aggregated():
    pair = StructType([("a", TensorType("float32")), ("b", TensorType("int32"))], container=Pair)
    first = hansa.jax_computation(lambda pair: pair, pair)

    @hansa.federated_computation(hansa.FederatedType(pair, CLIENTS))
    def aggregated(x):
        again = hansa.federated_map(first, x)
        floats = hansa.federated_zip({"a": x.a})
        return hansa.federated_sum(x), hansa.federated_max(again), hansa.federated_mean(floats)

    total, largest, mean = aggregated([Pair([("a", 1.0), ("b", 2)]), Pair([("a", 3.0), ("b", 1)])])
    assert type(total) is Pair and type(largest) is Pair
    assert (tuple(total), tuple(largest), tuple(mean)) == ((4.0, 3), (3.0, 2), (2.0,))


def test_strings_pass_through():
    @hansa.federated_computation("{<name=str,n=int32>}@CLIENTS", "str@SERVER", "{str*}@CLIENTS")
    def passed(x, text, words):
        written = hansa.federated_value({"text": "hansa", "n": 3}, SERVER)
        return Struct.of(
            names=x.name,
            total=hansa.federated_sum(x.n),
            sent=hansa.federated_broadcast(text),
            words=words,
            written=written,
            everywhere=hansa.federated_broadcast(written.text),
            literals=["a", {"b": "c"}],
        )

    clients = [{"name": "Lübeck", "n": 1}, {"name": "Visby", "n": 2}]
    result = passed(clients, "cog", [["a", "b"], []])
    assert (result.names, result.total, result.sent) == (["Lübeck", "Visby"], 3, "cog")
    assert ([list(words) for words in result.words], result.everywhere) == ([["a", "b"], []], "hansa")
    assert (result.written.text, result.written.n) == ("hansa", 3)
    assert (result.literals[0], result.literals[1].b) == ("a", "c")


def test_sums_of_narrow_floats_in_a_sequence_are_right():
    call = hansa.federated_computation(lambda s: hansa.sequence_sum(s), "{bfloat16*}@CLIENTS")
    assert [float(x) for x in call([[jnp.bfloat16(1)] * 1000, []])] == [1000, 0]


def test_one_computation_runs_on_several_devices_and_on_one():
    size = hansa.jax_computation(lambda x: x.sum(), "float32[?]")
    call = hansa.federated_computation(
        lambda x: hansa.federated_sum(hansa.federated_map(size, x)), "{float32[?]}@CLIENTS"
    )
    for devices in (jax.devices(), jax.devices()[:1]):
        with hansa.runtime(hansa.InProcessRuntime(devices)):
            assert call([np.ones(3, np.float32)] * 3) == 9
