"""Misuse of values: Python cannot look into what is not there yet."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from tests.misuse.table import Misuse, Table

misuse = Table()

double = hansa.jax_computation(lambda x: x * 2, "float32")


@misuse(
    "arithmetic",
    TypeError,
    r"`/` on a value of type \{float32\}@CLIENTS: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def halved(x: Any) -> Any:
        return x / 2  # wrong


@misuse(
    "arithmetic with a value on the right",
    TypeError,
    r"`-` on a value of type \{float32\}@CLIENTS: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def flipped(x: Any) -> Any:
        return 1 - x  # wrong


@misuse(
    "arithmetic with a NumPy array on the left",
    TypeError,
    r"a value of type \{float32\[3\]\}@CLIENTS is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32[3]}@CLIENTS")
    def shifted(x: Any) -> Any:
        return np.ones(3, np.float32) + x  # wrong


@misuse(
    "arithmetic with a JAX array on the left",
    TypeError,
    r"a value of type \{float32\[3\]\}@CLIENTS is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32[3]}@CLIENTS")
    def shifted(x: Any) -> Any:
        return jnp.ones(3) + x  # wrong


@misuse(
    "arithmetic of two values",
    TypeError,
    r"`\+` on a value of type float32@SERVER: only local computations see data; use hansa.federated_map\(fn, "
    r"\[a, b\]\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("float32@SERVER", "float32@SERVER")
    def total(x: Any, y: Any) -> Any:
        return x + y  # wrong


@misuse(
    "arithmetic on an unplaced value",
    TypeError,
    "`/` on a value of type float32: only local computations see data; call a @hansa.jax_computation on it: "
    r"fn\(value\)",
)
def _() -> None:
    @hansa.federated_computation("float32")
    def half(x: Any) -> Any:
        return x / 2  # wrong


@misuse(
    "arithmetic on a sequence",
    TypeError,
    r"`/` on a value of type float32\*: only local computations see data; use hansa.sequence_map\(fn, value\) "
    r"or hansa.sequence_reduce\(value, zero, fn\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("float32*")
    def half(x: Any) -> Any:
        return x / 2  # wrong


@misuse(
    "comparison",
    TypeError,
    r"`>` on a value of type \{float32\}@CLIENTS: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def positive(x: Any) -> Any:
        return x > 0  # wrong


@misuse(
    "equality",
    TypeError,
    r"`==` on a value of type int32@SERVER: only local computations see data; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("int32@SERVER")
    def first(round_number: Any) -> Any:
        return round_number == 0  # wrong


@misuse(
    "an if statement",
    TypeError,
    "a value of type bool@SERVER is not known while the computation is traced, so no `if`, .* can depend on "
    "it; decide in a local computation, with jnp.where",
)
def _() -> None:
    @hansa.federated_computation("bool@SERVER", "float32@SERVER")
    def chosen(flag: Any, x: Any) -> Any:
        if flag:  # wrong
            return x
        return hansa.federated_value(0.0, hansa.SERVER)


@misuse(
    "a while loop",
    TypeError,
    "a value of type float32 is not known while the computation is traced, so no `if`, .* can depend on it; "
    "decide in a local computation, with jnp.where",
)
def _() -> None:
    @hansa.federated_computation("float32")
    def reduced(x: Any) -> Any:
        while x:  # wrong
            x = double(x)
        return x


@misuse(
    "bool()",
    TypeError,
    "a value of type bool is not known while the computation is traced, so no `if`, .* can depend on it; "
    "decide in a local computation, with jnp.where",
)
def _() -> None:
    hansa.federated_computation(lambda x: bool(x), "bool")  # wrong


@misuse(
    "not",
    TypeError,
    "a value of type bool@SERVER is not known while the computation is traced, so no `if`, .* can depend on "
    "it; decide in a local computation, with jnp.where",
)
def _() -> None:
    hansa.federated_computation(lambda x: not x, "bool@SERVER")  # wrong


@misuse(
    "float()",
    TypeError,
    r"`float\(\)` on a value of type float32@SERVER: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: float(x), "float32@SERVER")  # wrong


@misuse(
    "int()",
    TypeError,
    r"`int\(\)` on a value of type int32@SERVER: only local computations see data; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: int(x), "int32@SERVER")  # wrong


@misuse(
    "round()",
    TypeError,
    r"`round\(\)` on a value of type float32@SERVER: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: round(x), "float32@SERVER")  # wrong


@misuse(
    "a function of the module math",
    TypeError,
    r"`float\(\)` on a value of type float32@SERVER: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: math.sqrt(x), "float32@SERVER")  # wrong


@misuse(
    "range()",
    TypeError,
    r"`range\(\) or an index` on a value of type int32@SERVER: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda n: list(range(n)), "int32@SERVER")  # wrong


@misuse(
    "sum()",
    TypeError,
    r"a value of type \{float32\}@CLIENTS is no struct, and cannot be iterated over; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: sum(x), "{float32}@CLIENTS")  # wrong


@misuse(
    "max()",
    TypeError,
    r"`>` on a value of type float32@SERVER: only local computations see data; use hansa.federated_map\(fn, "
    r"\[a, b\]\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x, y: max(x, y), "float32@SERVER", "float32@SERVER")  # wrong


@misuse(
    "iteration over the clients",
    TypeError,
    r"a value of type \{float32\}@CLIENTS is no struct, and cannot be iterated over; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def each(x: Any) -> Any:
        return [double(client) for client in x]  # wrong


@misuse(
    "iteration over a sequence",
    TypeError,
    r"a value of type \{float32\*\}@CLIENTS is no struct, and cannot be iterated over; use "
    r"hansa.sequence_map\(fn, value\) or hansa.sequence_reduce\(value, zero, fn\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("{float32*}@CLIENTS")
    def each(data: Any) -> Any:
        for batch in data:  # wrong
            return batch


@misuse(
    "unpacking what is no struct",
    TypeError,
    r"a value of type float32\[2\]@SERVER is no struct, and cannot be iterated over; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("float32[2]@SERVER")
    def first(pair: Any) -> Any:
        a, _ = pair  # wrong
        return a


@misuse(
    "indexing a client",
    TypeError,
    r"a value of type \{float32\}@CLIENTS is no struct, and cannot be indexed; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: x[0], "{float32}@CLIENTS")  # wrong


@misuse(
    "slicing a tensor",
    TypeError,
    r"a value of type float32\[3\]@SERVER is no struct, and cannot be indexed; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: x[:2], "float32[3]@SERVER")  # wrong


@misuse("a slice of names", TypeError, "slice indices must be integers")
def _() -> None:
    hansa.federated_computation(lambda x: x["a":"b"], "<a=int32,b=int32>")  # wrong


@misuse("an index out of range", IndexError, "the struct <a=int32,b=float32> has 2 fields, there is none at index 2")
def _() -> None:
    hansa.federated_computation(lambda x: x[2], "<a=int32,b=float32>@SERVER")  # wrong


@misuse(
    "an index that is no integer",
    TypeError,
    r"a field of <a=int32,b=float32> is reached by its index or name, .*; found \[1.0\]",
)
def _() -> None:
    hansa.federated_computation(lambda x: x[1.0], "<a=int32,b=float32>")  # wrong


@misuse(
    "an unknown field",
    AttributeError,
    "a struct with the fields image, label has no field 'lable'; did you mean 'label'",
)
def _() -> None:
    hansa.federated_computation(lambda batch: batch.lable, "<image=float32[784],label=int32>")  # wrong


@misuse(
    "an unknown field that no name is near to",
    AttributeError,
    "a struct with the fields image, label has no field 'weights'$",
)
def _() -> None:
    hansa.federated_computation(lambda batch: batch.weights, "<image=float32[784],label=int32>")  # wrong


@misuse("an unknown key", KeyError, "a struct with the fields image, label has no field 'lable'; did you mean 'label'")
def _() -> None:
    hansa.federated_computation(lambda batch: batch["lable"], "{<image=float32[784],label=int32>}@CLIENTS")  # wrong


@misuse(
    "a field of what is no struct",
    AttributeError,
    r"a value of type \{float32\}@CLIENTS is no struct, and has no 'loss'; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: x.loss, "{float32}@CLIENTS")  # wrong


@misuse(
    "a field of the elements of a sequence",
    AttributeError,
    r"a value of type \{<x=float32\[\?\]>\*\}@CLIENTS is no struct, and has no 'x'; use hansa.sequence_map\(fn, "
    r"value\) or hansa.sequence_reduce\(value, zero, fn\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda data: data.x, "{<x=float32[?]>*}@CLIENTS")  # wrong


@misuse(
    "an array's method",
    AttributeError,
    r"a value of type \{float32\[3\]\}@CLIENTS is no struct, and has no 'sum'; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: x.sum(), "{float32[3]}@CLIENTS")  # wrong


@misuse(
    "an array's shape",
    AttributeError,
    r"a value of type \{float32\[3\]\}@CLIENTS is no struct, and has no 'shape'; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: x.shape, "{float32[3]}@CLIENTS")  # wrong


@misuse(
    "len()",
    TypeError,
    r"a value of type \{float32\}@CLIENTS is no struct, and has no length while the computation is traced; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: len(x), "{float32}@CLIENTS")  # wrong


@misuse(
    "len() of a sequence",
    TypeError,
    r"a value of type float32\* is no struct, and has no length .*; count with hansa.sequence_reduce",
)
def _() -> None:
    hansa.federated_computation(lambda data: len(data), "float32*")  # wrong


@misuse(
    "in",
    TypeError,
    r"`in` on a value of type \{int32\}@CLIENTS: only local computations see data; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: 3 in x, "{int32}@CLIENTS")  # wrong


@misuse(
    "in a struct",
    TypeError,
    "`in` on a value of type <a=int32>: .*the names of its fields are value.type_signature.names",
)
def _() -> None:
    hansa.federated_computation(lambda x: "a" in x, "<a=int32>")  # wrong


@misuse(
    "a call",
    TypeError,
    r"a value of type \{float32\}@CLIENTS is no function, and cannot be called; computations are, and take "
    "values",
)
def _() -> None:
    hansa.federated_computation(lambda x: x(1), "{float32}@CLIENTS")  # wrong


@misuse(
    "a format",
    TypeError,
    "a value of type float32@SERVER has no number to format as '.3f' .*; format what the computation returns",
)
def _() -> None:
    hansa.federated_computation(lambda x: f"loss {x:.3f}", "float32@SERVER")  # wrong


@misuse("an assignment to a field", AttributeError, "values are immutable: cannot set 'a'; build a new struct instead")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        x.a = 1  # wrong
        return x


@misuse("an assignment to an item", TypeError, r"values are immutable: cannot set \['a'\]; build a new struct instead")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        x["a"] = 1  # wrong
        return x


@misuse("deleting a field", AttributeError, "values are immutable: cannot delete 'a'; build a new struct instead")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        del x.a  # wrong
        return x


@misuse(
    "in-place arithmetic",
    TypeError,
    r"`\+` on a value of type float32@SERVER: only local computations see data; use hansa.federated_map\(fn, "
    r"value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    @hansa.federated_computation("float32@SERVER")
    def grown(x: Any) -> Any:
        x += 1  # wrong
        return x


@misuse(
    "a function of jax.numpy",
    TypeError,
    "is .*Value.* the federated computation '<lambda>' is traced: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jnp.sqrt(x), "{float32}@CLIENTS")  # wrong


@misuse(
    "jnp.sum",
    TypeError,
    "is .*Value.* the federated computation '<lambda>' is traced: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jnp.sum(x), "{float32[3]}@CLIENTS")  # wrong


@misuse(
    "jnp.asarray",
    TypeError,
    r"a value of type float32\[3\]@SERVER is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jnp.asarray(x), "float32[3]@SERVER")  # wrong


@misuse(
    "jnp.stack",
    TypeError,
    "a value of type float32 is no array, and cannot be given to functions of JAX, NumPy or TensorFlow: only "
    r"local computations see data; call a @hansa.jax_computation on it: fn\(value\)",
)
def _() -> None:
    hansa.federated_computation(lambda x, y: jnp.stack([x, y]), "float32", "float32")  # wrong


@misuse(
    "a function of jax.lax",
    TypeError,
    "is .*Value.* the federated computation '<lambda>' is traced: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jax.lax.exp(x), "float32@SERVER")  # wrong


@misuse(
    "jnp.where",
    TypeError,
    "a value of type bool@SERVER is no array, and cannot be given to functions of JAX, NumPy or TensorFlow: "
    r"only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jnp.where(x, 1, 0), "bool@SERVER")  # wrong


@misuse(
    "a function that jax.jit compiled",
    TypeError,
    "is .*Value.* the federated computation '<lambda>' is traced: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    jitted = jax.jit(lambda x: x * 2)
    hansa.federated_computation(lambda x: jitted(x), "{float32}@CLIENTS")  # wrong


@misuse(
    "jax.tree.map with arithmetic",
    TypeError,
    r"`\*` on a value of type <a=float32>@SERVER: only local computations see data; use "
    r"hansa.federated_map\(fn, value\), where fn is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: jax.tree.map(lambda leaf: leaf * 2, x), "<a=float32>@SERVER")  # wrong


@misuse(
    "np.asarray",
    TypeError,
    r"a value of type float32\[3\]@SERVER is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: np.asarray(x), "float32[3]@SERVER")  # wrong


@misuse(
    "np.asarray of a struct",
    TypeError,
    "a value of type <float32,float32>@SERVER is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: np.asarray(x), "<float32,float32>@SERVER")  # wrong


@misuse(
    "a function of NumPy",
    TypeError,
    "a value of type float32@SERVER is no array, and cannot be given to functions of JAX, NumPy or TensorFlow: "
    r"only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: np.exp(x), "float32@SERVER")  # wrong


@misuse(
    "np.mean",
    TypeError,
    r"a value of type \{float32\[3\]\}@CLIENTS is no array, and cannot be given to functions of JAX, NumPy or "
    r"TensorFlow: only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: np.mean(x), "{float32[3]}@CLIENTS")  # wrong


@misuse(
    "a function of TensorFlow",
    TypeError,
    "a value of type float32@SERVER is no array, and cannot be given to functions of JAX, NumPy or TensorFlow: "
    r"only local computations see data; use hansa.federated_map\(fn, value\), where fn is a "
    "@hansa.jax_computation",
)
def _() -> None:
    tf = pytest.importorskip("tensorflow")
    hansa.federated_computation(lambda x: tf.sqrt(x), "float32@SERVER")  # wrong


@misuse(
    "pickling",
    TypeError,
    "a value of type float32@SERVER cannot be pickled or copied: .*; keep what the computation returns",
)
def _() -> None:
    hansa.federated_computation(lambda x: pickle.dumps(x), "float32@SERVER")  # wrong


@misuse(
    "copying",
    TypeError,
    "a value of type float32@SERVER cannot be pickled or copied: .*; keep what the computation returns",
)
def _() -> None:
    hansa.federated_computation(lambda x: copy.deepcopy(x), "float32@SERVER")  # wrong


@misuse(
    "JSON",
    TypeError,
    r"not JSON serializable.*only local computations see data; use hansa.federated_map\(fn, value\), where fn "
    "is a @hansa.jax_computation",
)
def _() -> None:
    hansa.federated_computation(lambda x: json.dumps({"loss": x}), "float32@SERVER")  # wrong


@misuse(
    "capturing a value of the computation around",
    TypeError,
    r"what 'inner' returns\[1\] is a value of the federated computation 'outer', made at .*test_values.py:\d+, "
    "but is used in the federated computation 'inner': .*; pass it as an argument",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        @hansa.federated_computation("{float32}@CLIENTS")  # wrong
        def inner(y: Any) -> Any:
            return hansa.federated_mean(y), factor

        return inner(x)


@misuse(
    "capturing a value in a local computation",
    TypeError,
    "is a value of the federated computation 'outer', made at .*, but is used in the local computation "
    r"'<lambda>': .*; pass it as an argument.*made at .*test_values.py:\d+, for float32",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        scale = hansa.jax_computation(lambda y: y * factor, "float32")  # wrong
        return hansa.federated_map(scale, x)


@misuse(
    "returning a captured value from a local computation",
    TypeError,
    r"what '<lambda>' returns at \[1\] is a value of the federated computation 'outer', made at .* used in the "
    "local computation '<lambda>': .*; pass it as an argument",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        scale = hansa.jax_computation(lambda y: [y, factor], "float32")  # wrong
        return hansa.federated_map(scale, x)


@misuse(
    "a value kept for another computation",
    TypeError,
    "what '<lambda>' returns is a value of the federated computation 'mean', made at .*, but is used in the "
    "federated computation '<lambda>': .*; pass it as an argument",
    later=True,
)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    hansa.federated_computation(lambda: kept[0])


@misuse(
    "a value passed to a call outside of all computations",
    TypeError,
    "the argument of '<lambda>' is a value of the federated computation 'mean', made at .*, but is used "
    "outside of it, where it stands for no data; use what the computation returns",
    later=True,
)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    double(kept[0])


@misuse(
    "a value in a struct passed to a call outside",
    TypeError,
    "argument 0 of '<lambda>'.a is a value of the federated computation 'mean', made at .*, but is used outside of it",
    later=True,
)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    hansa.jax_computation(lambda x: x["a"])({"a": kept[0]})


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()


def test_a_value_prints_as_its_type() -> None:
    shown = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        shown.extend([f"{x}", str(x), repr(x)])
        return hansa.federated_mean(x)

    assert shown == ["Value({float32}@CLIENTS)"] * 3


def test_values_are_told_apart_by_identity() -> None:
    found = []

    @hansa.federated_computation("float32", "float32")
    def both(x: Any, y: Any) -> Any:
        found.append(({x: 1, y: 2}[x], len({x, y})))
        return x, y

    assert found == [(1, 2)]
