"""Misuse of calls: wrong arguments, wrong data, wrong clients, wrong runtimes."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from tests.misuse.table import Misuse, Table

misuse = Table()

BATCH = "<x=float32[?,2],y=int32[?]>"


def batch(x: Any = np.float32, y: Any = np.int32, size: int = 2) -> dict[str, Any]:
    return {"x": np.ones((3, size), x), "y": np.zeros(3, y)}


@hansa.jax_computation("float32", "float32")
def add(left: Any, right: Any) -> Any:
    return left + right


@hansa.federated_computation("{float32}@CLIENTS")
def mean(values: Any) -> Any:
    return hansa.federated_mean(values)


@hansa.federated_computation("{float32}@CLIENTS", "{float32}@CLIENTS", "float32@SERVER")
def weighted(values: Any, weights: Any, rate: Any) -> Any:
    return hansa.federated_mean(values, weights), rate


@hansa.federated_computation(f"{{{BATCH}*}}@CLIENTS")
def count(data: Any) -> Any:
    step = hansa.jax_computation(lambda n, batch: n + jnp.sum(batch.y * 0 + 1) + 0 * jnp.sum(batch.x).astype("int32"))
    return hansa.federated_sum(hansa.sequence_reduce(data, 0, step))


@hansa.federated_computation("{<x=float32,y=int32>}@CLIENTS")
def pairs(data: Any) -> Any:
    return hansa.federated_sum(data)


def identity(kind: str) -> Any:
    return hansa.jax_computation(lambda x: x, kind)


@misuse("a missing argument", TypeError, r"'weighted' takes 3 arguments \(values, weights, rate\); rate is missing")
def _() -> None:
    weighted([1.0], [1.0])  # wrong


@misuse("two missing arguments", TypeError, r"'<lambda>' takes 3 arguments \(a, b, c\); a, b are missing")
def _() -> None:
    hansa.jax_computation(lambda a, b, c: a, "int32", "int32", "int32")(c=1)  # wrong


@misuse(
    "a missing only argument", TypeError, r"'mean' takes one argument, of type \{float32\}@CLIENTS; none were given"
)
def _() -> None:
    mean()  # wrong


@misuse("an argument too many", TypeError, r"'add' takes 2 arguments \(left, right\), 3 were given")
def _() -> None:
    add(1.0, 2.0, 3.0)  # wrong


@misuse(
    "an argument too many for one parameter",
    TypeError,
    r"'mean' takes one argument, of type \{float32\}@CLIENTS; 2 were given",
)
def _() -> None:
    mean([1.0], [2.0])  # wrong


@misuse("an argument where there is no parameter", TypeError, "'<lambda>' takes no arguments, one was given")
def _() -> None:
    hansa.jax_computation(lambda: 1.0)(2.0)  # wrong


@misuse(
    "an argument given twice",
    TypeError,
    r"'add' takes 2 arguments \(left, right\); 'left' is given twice, by position and by name",
)
def _() -> None:
    add(1.0, left=2.0)  # wrong


@misuse(
    "an argument of an unknown name",
    TypeError,
    r"'add' takes 2 arguments \(left, right\); it has none called 'rihgt'; did you mean 'right'",
)
def _() -> None:
    add(1.0, rihgt=2.0)  # wrong


@misuse(
    "the only argument by name",
    TypeError,
    r"'mean' takes one argument, of type \{float32\}@CLIENTS; pass it without the name 'values'",
)
def _() -> None:
    mean(values=[1.0])  # wrong


@misuse(
    "an argument of an unknown name without declared types",
    TypeError,
    r"'<lambda>' takes one argument \(a\); it has none called 'b'",
)
def _() -> None:
    hansa.jax_computation(lambda a: a)(b=1.0)  # wrong


@misuse("too few arguments without declared types", TypeError, "'<lambda>' takes 2 arguments, one was given")
def _() -> None:
    hansa.jax_computation(lambda a, b: a)(1.0)  # wrong


@misuse("None for an argument", TypeError, "the argument of 'add'.right: expected float32, found None")
def _() -> None:
    add(1.0, None)  # wrong


@misuse("None without declared types", TypeError, "argument 0 of '<lambda>': None has no type; leave it out")
def _() -> None:
    hansa.jax_computation(lambda a: a)(None)  # wrong


@misuse(
    "300 for uint8",
    ValueError,
    "the argument of '<lambda>': the int 300 is out of the range of uint8, which holds 0 to 255",
)
def _() -> None:
    identity("uint8")(300)  # wrong


@misuse(
    "a negative number for uint32",
    ValueError,
    "the argument of '<lambda>': the int -1 is out of the range of uint32, which holds 0 to 4294967295",
)
def _() -> None:
    identity("uint32")(-1)  # wrong


@misuse(
    "2**40 for int32",
    ValueError,
    "the argument of '<lambda>': the int 1099511627776 is out of the range of int32, which holds -2147483648 "
    "to 2147483647",
)
def _() -> None:
    identity("int32")(2**40)  # wrong


@misuse(
    "2**70 without declared types",
    ValueError,
    "argument 0 of '<lambda>': the integer 1180591620717411303424 does not fit 64 bits; pass a float",
)
def _() -> None:
    hansa.jax_computation(lambda x: x)(2**70)  # wrong


@misuse(
    "1e300 for float32", ValueError, r"the argument of '<lambda>': the float 1e\+300 is out of the range of float32"
)
def _() -> None:
    identity("float32")(1e300)  # wrong


@misuse(
    "a float for int32",
    TypeError,
    r"the argument of '<lambda>': expected int32, found the float 1.5; convert it with int\(…\) or round\(…\)",
)
def _() -> None:
    identity("int32")(1.5)  # wrong


@misuse(
    "a bool for int32",
    TypeError,
    r"the argument of '<lambda>': expected int32, found the bool True; convert it with int\(…\)",
)
def _() -> None:
    identity("int32")(True)  # wrong


@misuse(
    "an int for bool",
    TypeError,
    r"the argument of '<lambda>': expected bool, found the int 1; convert it with bool\(…\)",
)
def _() -> None:
    identity("bool")(1)  # wrong


@misuse(
    "a string for float32",
    TypeError,
    r"the argument of '<lambda>': expected float32, found the str '1.5'; convert it with float\(…\)",
)
def _() -> None:
    identity("float32")("1.5")  # wrong


@misuse(
    "float64 for float32",
    TypeError,
    r"the argument of '<lambda>': expected float32\[3\], found float64\[3\]; convert it with "
    r".astype\('float32'\)",
)
def _() -> None:
    identity("float32[3]")(np.zeros(3))  # wrong


@misuse(
    "int64 for int32",
    TypeError,
    r"the argument of '<lambda>': expected int32\[3\], found int64\[3\]; convert it with .astype\('int32'\)",
)
def _() -> None:
    identity("int32[3]")(np.arange(3, dtype=np.int64))  # wrong


@misuse(
    "a JAX array of float64 for float32",
    TypeError,
    r"the argument of '<lambda>': expected float32\[3\], found float64\[3\]; convert it with "
    r".astype\('float32'\)",
)
def _() -> None:
    with jax.enable_x64(True):
        wide = jnp.zeros(3, jnp.float64)
    identity("float32[3]")(wide)  # wrong


@misuse(
    "a tensor of TensorFlow of float64 for float32",
    TypeError,
    r"the argument of '<lambda>': expected float32\[3\], found float64\[3\]; convert it with "
    r".astype\('float32'\)",
)
def _() -> None:
    tf = pytest.importorskip("tensorflow")
    identity("float32[3]")(tf.zeros(3, tf.float64))  # wrong


@misuse(
    "an array of another shape",
    TypeError,
    r"the argument of '<lambda>': expected float32\[2,3\], found float32\[3,2\]; its axis 0 is of size 3 "
    "instead of 2",
)
def _() -> None:
    identity("float32[2,3]")(np.zeros((3, 2), np.float32))  # wrong


@misuse(
    "an array of another rank",
    TypeError,
    r"the argument of '<lambda>': expected float32\[\?\], found float32\[3,2\]; it is of rank 2 instead of 1",
)
def _() -> None:
    identity("float32[?]")(np.zeros((3, 2), np.float32))  # wrong


@misuse(
    "a ragged list",
    TypeError,
    r"the argument of '<lambda>'\[1\]: the shape \(1,\) differs from the first one's in the list, \(2,\); pad "
    "them",
)
def _() -> None:
    identity("float32[?,2]")([[1.0, 2.0], [3.0]])  # wrong


@misuse(
    "an array of objects",
    TypeError,
    r"the argument of '<lambda>': expected float32\[2\], found object\[2\]; .*convert it with "
    r".astype\('float32'\)",
)
def _() -> None:
    identity("float32[2]")(np.array([1.0, None]))  # wrong


@misuse(
    "a struct without a field",
    TypeError,
    "the argument of '<lambda>': expected the fields a, b, but the field 'b' is missing",
)
def _() -> None:
    identity("<a=float32,b=float32>")({"a": 1.0})  # wrong


@misuse(
    "a struct with a misspelt field",
    TypeError,
    "the argument of '<lambda>': expected the fields image, label, but the field 'label' is missing, and there "
    "is no field 'lable'; did you mean 'label'",
)
def _() -> None:
    identity("<image=float32,label=int32>")({"image": 1.0, "lable": 1})  # wrong


@misuse(
    "a list for a tensor in a struct",
    TypeError,
    r"the argument of '<lambda>'.b.c: expected float32, found a list of shape \(1,\); it is of rank 1 instead "
    "of 0",
)
def _() -> None:
    identity("<a=float32,b=<c=float32>>")({"a": 1.0, "b": {"c": [1.0]}})  # wrong


@misuse(
    "a JAX random key",
    TypeError,
    "argument 0 of '<lambda>': Hansa has no dtype key<fry>; pass a key as numbers, by jax.random.key_data",
)
def _() -> None:
    hansa.jax_computation(lambda key: key)(jax.random.key(0))  # wrong


@misuse(
    "lists of two lengths",
    ValueError,
    "the argument of 'weighted'.weights has values of 2 clients, but the argument of 'weighted'.values has "
    "values of 3; pass one per client in both",
)
def _() -> None:
    weighted([1.0, 2.0, 3.0], [1.0, 2.0], 0.1)  # wrong


@misuse(
    "a number in place of the clients",
    TypeError,
    r"the argument of 'mean' must be a list with one entry per client, of type \{float32\}@CLIENTS; found a "
    "float; wrap one client's value in a list",
)
def _() -> None:
    mean(1.0)  # wrong


@misuse(
    "a dict in place of the clients",
    TypeError,
    r"the argument of 'mean' must be a list with one entry per client, of type \{float32\}@CLIENTS; found a "
    "dict; wrap one client's value in a list",
)
def _() -> None:
    mean({"a": 1.0, "b": 2.0})  # wrong


@misuse(
    "a set in place of the clients",
    TypeError,
    r"the argument of 'mean' must be a list with one entry per client, of type \{float32\}@CLIENTS; found a "
    "set; a set has no order: make a list of it",
)
def _() -> None:
    mean({1.0, 2.0})  # wrong


@misuse(
    "a generator in place of the clients",
    TypeError,
    r"the argument of 'mean' must be a list with one entry per client, of type \{float32\}@CLIENTS; found a "
    r"generator; make a list of it, with list\(…\)",
)
def _() -> None:
    mean(x for x in [1.0, 2.0])  # wrong


@misuse(
    "one client's batch in place of the clients",
    TypeError,
    "the argument of 'count' must be a list with one entry per client, of type "
    r"\{<x=float32\[\?,2\],y=int32\[\?\]>\*\}@CLIENTS; found a dict; wrap one client's value in a list",
)
def _() -> None:
    count(batch())  # wrong


@misuse(
    "one client's batches in place of the clients",
    TypeError,
    r"the argument of 'count'\[0\] must be a sequence: .*; found a dict with the keys 'x', 'y'; put the one batch in a "
    "list",
)
def _() -> None:
    count([batch(), batch()])  # wrong


@misuse(
    "one Batches in place of the clients",
    TypeError,
    "the argument of 'count' must be a list with one entry per client, of type "
    r"\{<x=float32\[\?,2\],y=int32\[\?\]>\*\}@CLIENTS; found a Batches; wrap one client's value in a list",
)
def _() -> None:
    count(hansa.Batches(batch(), 2))  # wrong


@misuse(
    "one tf.data.Dataset in place of the clients",
    TypeError,
    "the argument of 'count' must be a list with one entry per client, of type "
    r"\{<x=float32\[\?,2\],y=int32\[\?\]>\*\}@CLIENTS; found a _BatchDataset; wrap one client's value in a list",
)
def _() -> None:
    tf = pytest.importorskip("tensorflow")
    count(tf.data.Dataset.from_tensor_slices(batch()).batch(2))  # wrong


@misuse(
    "a ClientBatches in place of numbers",
    TypeError,
    r"the argument of 'mean' must be a list with one entry per client, of type \{float32\}@CLIENTS; found a "
    "ClientBatches; its clients have sequences of batches",
)
def _() -> None:
    mean(hansa.ClientBatches(batch(), [0, 1, 3], 2))  # wrong


@misuse(
    "an array in place of the clients' sequences",
    TypeError,
    "the argument of 'count' must be a list with one entry per client, of type "
    r"\{<x=float32\[\?,2\],y=int32\[\?\]>\*\}@CLIENTS; found an array float32\[2, 3\]; wrap one client's "
    "value in a list",
)
def _() -> None:
    count(np.zeros((2, 3), np.float32))  # wrong


@misuse(
    "a number among the clients",
    TypeError,
    r"the argument of 'count'\[1\] must be a sequence: a list, .*; found the int 3",
)
def _() -> None:
    count([[batch()], 3])  # wrong


@misuse("None among the clients", TypeError, r"the argument of 'mean'\[1\]: expected float32, found None")
def _() -> None:
    mean([1.0, None, 2.0])  # wrong


@misuse(
    "an int where the clients have floats of another client",
    TypeError,
    r"the argument of 'pairs'\[1\].y: expected int32, found the float 1.5; convert it",
)
def _() -> None:
    pairs([{"x": 1.0, "y": 1}, {"x": 1.0, "y": 1.5}])  # wrong


@misuse(
    "a client without a field",
    TypeError,
    r"the argument of 'pairs'\[1\]: expected the fields x, y, but the field 'y' is missing",
)
def _() -> None:
    pairs([{"x": 1.0, "y": 1}, {"x": 1.0}])  # wrong


@misuse(
    "a batch of another dtype",
    TypeError,
    r"the argument of 'count'\[1\]\[1\].x: expected float32\[\?,2\], found float64\[3,2\]; convert it with "
    r".astype\('float32'\)",
)
def _() -> None:
    count([[batch()], [batch(), batch(x=np.float64)]])  # wrong


@misuse(
    "a batch of another shape",
    TypeError,
    r"the argument of 'count'\[1\]\[0\].x: expected float32\[\?,2\], found float32\[3,3\]; its axis 1 is of "
    "size 3 instead of 2",
)
def _() -> None:
    count([[batch()], [batch(size=3)]])  # wrong


@misuse(
    "a batch without a field",
    TypeError,
    r"the argument of 'count'\[0\]\[0\]: expected the fields x, y, but the field 'y' is missing",
)
def _() -> None:
    count([[{"x": batch()["x"]}]])  # wrong


@misuse(
    "a batch with a misspelt field",
    TypeError,
    r"the argument of 'count'\[0\]\[0\]: expected the fields x, y, but .* there is no field 'Y'",
)
def _() -> None:
    count([[{"x": batch()["x"], "Y": batch()["y"]}]])  # wrong


@misuse(
    "a batch whose tensors have different numbers of examples",
    ValueError,
    r"the argument of 'count'\[0\]\[0\] is a batch whose tensors have different numbers of examples: "
    r"<x=float32\[3,2\],y=int32\[2\]>$",
)
def _() -> None:
    count([[{"x": np.ones((3, 2), np.float32), "y": np.zeros(2, np.int32)}]])  # wrong


@misuse(
    "examples instead of batches",
    TypeError,
    r"the argument of 'count'\[0\]\[0\].x: expected float32\[\?,2\], found float32\[2\]; it is of rank 1 "
    "instead of 2",
)
def _() -> None:
    count([[{"x": np.ones(2, np.float32), "y": np.int32(0)}]])  # wrong


@misuse(
    "a Batches of another dtype",
    TypeError,
    r"the argument of 'count'\[1\]\[\*\].y: expected int32\[\?\], found int64\[\?\]; dtypes are never cast",
)
def _() -> None:
    count([hansa.Batches(batch(), 2), hansa.Batches(batch(y=np.int64), 2)])  # wrong


@misuse(
    "a ClientBatches of another dtype",
    TypeError,
    r"the argument of 'count'\[\*\].y: expected int32\[\?\], found int64\[\?\]; dtypes are never cast",
)
def _() -> None:
    count(hansa.ClientBatches(batch(y=np.int64), [0, 1, 3], 2))  # wrong


@misuse(
    "a tf.data.Dataset of another dtype",
    TypeError,
    r"the argument of 'count'\[0\]\[0\].x: expected float32\[\?,2\], found float64\[2,2\]; convert it",
)
def _() -> None:
    tf = pytest.importorskip("tensorflow")
    count([tf.data.Dataset.from_tensor_slices(batch(x=np.float64)).batch(2)])  # wrong


@misuse(
    "a ClientBatches without batches' fields",
    TypeError,
    r"the argument of 'count'\[\*\]: expected <x=float32\[\?,2\],y=int32\[\?\]>, found float32\[\?,2\]",
)
def _() -> None:
    count(hansa.ClientBatches(batch()["x"], [0, 1, 3], 2))  # wrong


@misuse(
    "Batches of arrays of different lengths",
    ValueError,
    r"the arrays of examples must share their leading size, found <x=float64\[3\],y=float64\[2\]>",
)
def _() -> None:
    hansa.Batches({"x": np.zeros(3), "y": np.zeros(2)}, 2)  # wrong


@misuse("Batches of size zero", ValueError, "batch_size must be a positive integer, found 0")
def _() -> None:
    hansa.Batches({"x": np.zeros(3)}, 0)  # wrong


@misuse(
    "offsets beyond the examples",
    ValueError,
    "offsets must rise from 0 or more to at most the number of examples, 3; found 0 to 4",
)
def _() -> None:
    hansa.ClientBatches({"x": np.zeros(3)}, [0, 4], 2)  # wrong


@misuse("a client that is not there", IndexError, "there are 2 clients; position 2 was selected")
def _() -> None:
    hansa.ClientBatches({"x": np.zeros(3)}, [0, 1, 3], 2).select([0, 2])  # wrong


@misuse(
    "two populations of different clients",
    ValueError,
    "the argument of '<lambda>'.b has other clients than the argument of '<lambda>'.a: .*; select the same "
    "ones in both",
)
def _() -> None:
    both = hansa.federated_computation(lambda a, b: hansa.federated_sum([hansa.sequence_sum(a), hansa.sequence_sum(b)]))
    total = both.specialize(*[hansa.to_type("{<x=float32[2]>*}@CLIENTS")] * 2)
    population = hansa.ClientBatches({"x": np.zeros((4, 2), np.float32)}, [0, 1, 3, 4], 1)
    total(population.select([0, 1]), population.select([1, 2]))  # wrong


@misuse(
    "a runtime that is a string",
    TypeError,
    r"a runtime is an object with a method invoke\(computation, argument\), such as hansa.InProcessRuntime\(\); "
    "found 'cpu'",
)
def _() -> None:
    with hansa.runtime("cpu"):  # wrong
        mean([1.0])


@misuse("set_runtime of a string", TypeError, r"such as hansa.InProcessRuntime\(\); found 'cpu'")
def _() -> None:
    hansa.set_runtime("cpu")  # wrong


@misuse("set_runtime of the class", TypeError, r"found the class InProcessRuntime; make one: InProcessRuntime\(\)")
def _() -> None:
    hansa.set_runtime(hansa.InProcessRuntime)  # wrong


@misuse("chunks of no clients", ValueError, "clients_per_chunk must be a positive number of clients, or None; found 0")
def _() -> None:
    hansa.InProcessRuntime(clients_per_chunk=0)  # wrong


@misuse("a negative number of clients", ValueError, "default_num_clients must not be negative, found -1")
def _() -> None:
    hansa.InProcessRuntime(default_num_clients=-1)  # wrong


@misuse("a number of clients that is no integer", TypeError, "default_num_clients must be an integer, found 2.5")
def _() -> None:
    hansa.InProcessRuntime(default_num_clients=2.5)  # wrong


@misuse("no devices", TypeError, r"devices must be one or more JAX devices, such as jax.devices\(\), found \[\]")
def _() -> None:
    hansa.InProcessRuntime(devices=[])  # wrong


@misuse(
    "devices that are strings",
    TypeError,
    r"devices must be one or more JAX devices, such as jax.devices\(\), found \['cpu'\]",
)
def _() -> None:
    hansa.InProcessRuntime(devices=["cpu"])  # wrong


@misuse(
    "explain of a Python function",
    TypeError,
    "explain takes a computation with declared types, found <function .*; pass what a decorator returns",
)
def _() -> None:
    hansa.explain(lambda x: x)  # wrong


@misuse(
    "explain of a computation without declared types",
    TypeError,
    r"found <PolymorphicComputation <lambda>, typed when called>; give it types: explain\(f.specialize",
)
def _() -> None:
    hansa.explain(hansa.jax_computation(lambda x: x))  # wrong


@misuse(
    "pickling a computation",
    TypeError,
    r"the computation 'mean' \(made at .*test_calls.py:\d+\) cannot be pickled, .*; define it in a module",
)
def _() -> None:
    pickle.dumps(mean)  # wrong


@misuse(
    "pickling a computation without declared types",
    TypeError,
    r"the computation '<lambda>' \(made at .*\) cannot be pickled, .*; define it in a module",
)
def _() -> None:
    pickle.dumps(hansa.jax_computation(lambda x: x))  # wrong


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()


def test_nan_is_a_number_like_others() -> None:
    assert np.isnan(mean([1.0, float("nan")]))


def test_an_iterator_serves_for_one_call() -> None:
    data = [iter([batch()]), iter([batch(), batch()])]
    assert count(data) == 9
    assert count(data) == 0


def test_tensors_of_tensorflow_are_arrays() -> None:
    tf = pytest.importorskip("tensorflow")
    assert count([[{"x": tf.ones((3, 2)), "y": tf.zeros(3, tf.int32)}]]) == 3
    np.testing.assert_array_equal(identity("float32[2]")(tf.ones(2)), [1, 1])


def test_arrays_of_64_bits_are_taken_where_they_are_declared() -> None:
    with jax.enable_x64(True):
        wide = jnp.full(3, 2.0**40, jnp.float64)
    np.testing.assert_array_equal(identity("float64[3]")(wide), np.full(3, 2.0**40))
