"""Misuse of the decorators, and of what functions may do while they are traced."""

from __future__ import annotations

import functools
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
    "no return",
    TypeError,
    "'squared' returned None: a local computation must return arrays, or a struct of arrays; is a `return` missing",
)
def _() -> None:
    @hansa.jax_computation("float32")  # wrong
    def squared(x: Any) -> Any:
        x * x


@misuse(
    "no return of a federated computation",
    TypeError,
    "'mean' returned None: a computation must return a value; is a `return` missing",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")  # wrong
    def mean(x: Any) -> Any:
        hansa.federated_mean(x)


@misuse(
    "returning None in a struct",
    TypeError,
    "'squared' returned None at .aux: a local computation must return arrays, or a struct of arrays; leave the "
    "field out",
)
def _() -> None:
    @hansa.jax_computation("float32")  # wrong
    def squared(x: Any) -> Any:
        return {"square": x * x, "aux": None}


@misuse(
    "returning None in a struct of a federated computation",
    TypeError,
    "what 'mean' returns.aux: None has no type; leave it out",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")  # wrong
    def mean(x: Any) -> Any:
        return {"mean": hansa.federated_mean(x), "aux": None}


@misuse(
    "returning a function",
    TypeError,
    "what 'mean' returns must be a value, found the function 'federated_mean'; call it",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")  # wrong
    def mean(x: Any) -> Any:
        return hansa.federated_mean


@misuse(
    "returning a computation",
    TypeError,
    "what 'nothing' returns must be a value, found the function '<lambda>'; call it",
)
def _() -> None:
    @hansa.federated_computation  # wrong
    def nothing() -> Any:
        return double


@misuse(
    "returning a string from a local computation",
    TypeError,
    "'<lambda>' returned the str 'loss' at .name: a local computation must return arrays, or a struct of "
    "arrays; return it from the federated computation around it",
)
def _() -> None:
    hansa.jax_computation(lambda x: {"x": x, "name": "loss"}, "float32")  # wrong


@misuse(
    "returning an object from a local computation",
    TypeError,
    "'<lambda>' returned <object object .*>.*: a local computation must return arrays, or a struct of arrays",
)
def _() -> None:
    hansa.jax_computation(lambda x: object(), "float32")  # wrong


@misuse(
    "returning a set from a local computation",
    TypeError,
    r"'<lambda>' returned \{1, 2\} of type set: a local computation must return arrays, or a struct of arrays",
)
def _() -> None:
    hansa.jax_computation(lambda x: {1, 2}, "float32")  # wrong


@misuse(
    "returning a set from a federated computation",
    TypeError,
    r"what '<lambda>' returns: \{1, 2\} of type set has no type; a value is a number, a string, an array, or a "
    "list",
)
def _() -> None:
    hansa.federated_computation(lambda: {1, 2})  # wrong


@misuse(
    "returning a generator",
    TypeError,
    "'<lambda>' returned <generator .* of type generator: a local computation must return arrays, or a struct "
    "of arrays",
)
def _() -> None:
    hansa.jax_computation(lambda x: (x + i for i in range(3)), "float32")  # wrong


@misuse("a function that yields", TypeError, "'several' is a generator function: .*; write it without `yield`")
def _() -> None:
    @hansa.jax_computation("float32")  # wrong
    def several(x: Any) -> Any:
        yield x


@misuse("a coroutine function", TypeError, "'mean' is a coroutine function: .*; write it without `async`")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")  # wrong
    async def mean(x: Any) -> Any:
        return hansa.federated_mean(x)


@misuse(
    "a dict with keys that are no strings",
    TypeError,
    "what '<lambda>' returns: the fields of a struct are named by strings, but a dict has the key 0",
)
def _() -> None:
    hansa.jax_computation(lambda x: {0: x, 1: x}, "float32")  # wrong


@misuse(
    "a dict with keys that are no strings from a federated computation",
    TypeError,
    "what '<lambda>' returns: the fields of a struct are named by strings, but a dict has the key 0",
)
def _() -> None:
    hansa.federated_computation(lambda x: {0: x, 1: x}, "float32@SERVER")  # wrong


@misuse(
    "a default",
    TypeError,
    "the parameter 'factor' of 'scaled' has a default: a computation has none; close over the value instead, "
    "or pass it",
)
def _() -> None:
    @hansa.jax_computation("float32", "float32")  # wrong
    def scaled(x: Any, factor: Any = 2.0) -> Any:
        return x * factor


@misuse(
    "positional arguments of any number",
    TypeError,
    r"'<lambda>' takes \*xs: a computation has a fixed number of typed parameters; name them one by one, or "
    "wrap it",
)
def _() -> None:
    hansa.jax_computation(lambda *xs: sum(xs), "float32", "float32")  # wrong


@misuse(
    "keyword arguments of any name",
    TypeError,
    r"'<lambda>' takes \*\*xs: a computation has a fixed number of typed parameters; name them one by one",
)
def _() -> None:
    hansa.jax_computation(lambda **xs: xs["a"], "float32")  # wrong


@misuse("a keyword-only parameter", TypeError, "the parameter 'weight' of 'mean' is keyword-only; make it positional")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "{float32}@CLIENTS")  # wrong
    def mean(x: Any, *, weight: Any) -> Any:
        return hansa.federated_mean(x, weight)


@misuse("too few types", TypeError, r"'product' has 2 parameters \(x, y\), but is given one type: float32")
def _() -> None:
    @hansa.jax_computation("float32")  # wrong
    def product(x: Any, y: Any) -> Any:
        return x * y


@misuse("too many types", TypeError, r"'squared' has one parameter \(x\), but is given 2 types: float32, float32")
def _() -> None:
    @hansa.jax_computation("float32", "float32")  # wrong
    def squared(x: Any) -> Any:
        return x * x


@misuse(
    "types for a function without parameters", TypeError, "'<lambda>' has no parameters, but is given one type: float32"
)
def _() -> None:
    hansa.jax_computation(lambda: 1.0, "float32")  # wrong


@misuse(
    "a method",
    TypeError,
    r"'loss' has 2 parameters \(self, x\), but is given one type: float32; .*decorate a function without `self`",
)
def _() -> None:
    class Model:
        @hansa.jax_computation("float32")  # wrong
        def loss(self, x: Any) -> Any:
            return x


@misuse(
    "a computation decorated again",
    TypeError,
    "'<lambda>' is a computation already; decorate a Python function with @hansa.federated_computation",
)
def _() -> None:
    hansa.federated_computation(double, "float32")  # wrong


@misuse(
    "a decorator of something else than a function",
    TypeError,
    "@hansa.jax_computation decorates a Python function, found 3",
)
def _() -> None:
    hansa.jax_computation("float32")(3)  # wrong


@misuse(
    "types before the function",
    TypeError,
    r"the function comes first, and its types after it: hansa.jax_computation\(function, type, …\)",
)
def _() -> None:
    hansa.jax_computation("float32", lambda x: x * x)  # wrong


@misuse(
    "a function of NumPy whose parameters are not known",
    TypeError,
    "the parameter 'out' of 'add' has a default: a computation has none; close over the value instead, or pass it",
)
def _() -> None:
    hansa.jax_computation(np.add, "float32", "float32")  # wrong


@misuse(
    "a partial function with keyword arguments",
    TypeError,
    "functools.partial gives '<lambda>' its 'exponent' as a default, and a computation has none; fix it in a lambda "
    r"instead: lambda a: f\(a, exponent=…\)",
)
def _() -> None:
    power = functools.partial(lambda x, exponent: x**exponent, exponent=2)
    hansa.jax_computation(power, "float32")  # wrong


@misuse(
    "a sequence given to a local computation",
    TypeError,
    r"tensors and structs of tensors, not <x=float32\[\?\]>\*; give it the type of an element, and use "
    "hansa.sequence_map",
)
def _() -> None:
    hansa.jax_computation(lambda data: data, "<x=float32[?]>*")  # wrong


@misuse(
    "a placed value given to a local computation",
    TypeError,
    r"tensors and structs of tensors, not \{float32\}@CLIENTS; map it over placed values with "
    "hansa.federated_map",
)
def _() -> None:
    hansa.jax_computation(lambda x: x, "{float32}@CLIENTS")  # wrong


@misuse(
    "a function given to a local computation",
    TypeError,
    r"tensors and structs of tensors, not \(int32 -> int32\); close over functions",
)
def _() -> None:
    hansa.jax_computation(lambda f: f, "(int32 -> int32)")  # wrong


@misuse(
    "a string given to a local computation",
    TypeError,
    "the local computation '<lambda>' takes str, but strings cannot be computed with; give it",
)
def _() -> None:
    hansa.jax_computation(lambda name: name, "str")  # wrong


@misuse(
    "a string in a struct given to a local computation",
    TypeError,
    "the local computation '<lambda>' takes <x=float32,name=str>, but strings cannot be computed with; give it "
    "the other fields only",
)
def _() -> None:
    hansa.jax_computation(lambda row: row.x, "<x=float32,name=str>")  # wrong


@misuse(
    "an if that depends on data",
    jax.errors.TracerBoolConversionError,
    r"This is the local computation 'positive', made at .*test_functions.py:\d+, for float32. .*use jnp.where, "
    "jax.lax.cond or jax.lax.while_loop",
)
def _() -> None:
    @hansa.jax_computation("float32")
    def positive(x: Any) -> Any:
        return x if x > 0 else 0.0  # wrong


@misuse(
    "an if that depends on data of unknown size",
    jax.errors.TracerBoolConversionError,
    r"This is the local computation 'positive', made at .*test_functions.py:\d+.*use jnp.where, jax.lax.cond or "
    "jax.lax.while_loop",
)
def _() -> None:
    @hansa.jax_computation("float32[?]")
    def positive(x: Any) -> Any:
        if jnp.any(x > 0):  # wrong
            return x
        return jnp.zeros_like(x)


@misuse(
    "range of data",
    jax.errors.TracerIntegerConversionError,
    r"This is the local computation 'repeated', made at .*test_functions.py:\d+, for int32. .*use "
    "jax.lax.fori_loop",
)
def _() -> None:
    @hansa.jax_computation("int32")
    def repeated(n: Any) -> Any:
        return sum(range(n))  # wrong


@misuse(
    "float() of data",
    jax.errors.ConcretizationTypeError,
    r"This is the local computation '<lambda>', made at .*test_functions.py:\d+, for float32. .*keep them as "
    "arrays",
)
def _() -> None:
    hansa.jax_computation(lambda x: float(x), "float32")  # wrong


@misuse(
    "a NumPy function of data",
    jax.errors.TracerArrayConversionError,
    r"This is the local computation '<lambda>', made at .*test_functions.py:\d+, for float32. .*use the "
    "functions of jax.numpy",
)
def _() -> None:
    hansa.jax_computation(lambda x: np.sin(x), "float32")  # wrong


@misuse(
    "a boolean index",
    jax.errors.NonConcreteBooleanIndexError,
    r"This is the local computation '<lambda>', made at .*test_functions.py:\d+, for float32\[5\]. .*use "
    "jnp.where",
)
def _() -> None:
    hansa.jax_computation(lambda x: x[x > 0], "float32[5]")  # wrong


@misuse(
    "a size that depends on data",
    TypeError,
    r"This is the local computation '<lambda>', made at .*test_functions.py:\d+, for int32",
)
def _() -> None:
    hansa.jax_computation(lambda n: jnp.zeros(n), "int32")  # wrong


@misuse(
    "shapes that do not fit",
    TypeError,
    r"\(2,\) and \(3,\).*This is the local computation 'predicted', made at .*test_functions.py:\d+, for "
    r"float32\[3\], float32\[5,2\]",
)
def _() -> None:
    @hansa.jax_computation("<w=float32[3]>", "<x=float32[?,2]>")
    def predicted(model: Any, batch: Any) -> Any:
        return batch.x @ model.w  # wrong


@misuse(
    "a field of a batch that is not there",
    AttributeError,
    "there is no field 'lable'; did you mean 'label'.*This is the local computation 'loss', made at "
    r".*test_functions.py:\d+",
)
def _() -> None:
    @hansa.jax_computation("<image=float32[?,784],label=int32[?]>")
    def loss(batch: Any) -> Any:
        return jnp.mean(batch.lable)  # wrong


@misuse(
    "an exception of the user's own",
    ZeroDivisionError,
    r"division by zero.*This is the local computation '<lambda>', made at .*test_functions.py:\d+",
)
def _() -> None:
    hansa.jax_computation(lambda x: x * (1 / 0), "float32")  # wrong


@misuse(
    "an error for one size of batch",
    TypeError,
    r"seven.*This is the local computation 'pairs', made at .*test_functions.py:\d+, for float32\[7\]",
    later=True,
)
def _() -> None:
    @hansa.jax_computation("float32[?]")  # wrong
    def pairs(x: Any) -> Any:
        if x.shape[0] == 7:
            raise TypeError("seven")
        return x.sum()

    pairs(np.ones(7, np.float32))


@misuse(
    "a local computation that calls itself",
    NameError,
    "'factorial' is still being traced, and a computation cannot call itself: .*jax.lax.while_loop",
)
def _() -> None:
    @hansa.jax_computation("int32")
    def factorial(n: Any) -> Any:
        return n * factorial(n - 1)  # wrong


@misuse(
    "a federated computation that calls itself",
    NameError,
    "'again' is still being traced, and a computation cannot call itself: .*hansa.sequence_reduce",
)
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def again(x: Any) -> Any:
        return again(x)  # wrong


@misuse(
    "a local computation without types that calls itself",
    TypeError,
    r"'factorial' calls itself, for the types int32 \(made at .*\): tracing it would never end, "
    ".*jax.lax.while_loop",
)
def _() -> None:
    @hansa.jax_computation
    def factorial(n: Any) -> Any:
        return jnp.where(n > 0, n * factorial(n - 1), 1)  # wrong

    factorial(3)


@misuse(
    "a federated computation without types that calls itself",
    TypeError,
    r"'again' calls itself, for the types \{float32\}@CLIENTS \(made at .*\): tracing it would never end",
)
def _() -> None:
    @hansa.federated_computation
    def again(x: Any) -> Any:
        return again(x)  # wrong

    hansa.federated_computation(lambda x: again(x), "{float32}@CLIENTS")


@misuse(
    "two computations without types that call each other",
    TypeError,
    r"'ping' calls 'pong', which calls 'ping', for the types float32 \(made at .*\): tracing it would never end",
)
def _() -> None:
    @hansa.federated_computation
    def ping(x: Any) -> Any:
        return pong(x)

    @hansa.federated_computation
    def pong(x: Any) -> Any:
        return ping(x)  # wrong

    ping(1.0)


@misuse(
    "a computation that calls itself for larger and larger types",
    TypeError,
    r"'nested' calls itself for ever new types, the last of them <<<.*\(made at .*\): .* must come to types for "
    "which it does not",
)
def _() -> None:
    @hansa.federated_computation
    def nested(x: Any) -> Any:
        return nested([x])  # wrong

    nested(1.0)


@misuse("a computation that maps itself", TypeError, "sequence_map needs a sequence, found float32")
def _() -> None:
    @hansa.federated_computation
    def again(x: Any) -> Any:
        return hansa.sequence_map(again, x)  # wrong

    hansa.federated_computation(lambda x: again(x), "float32*")


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()


def test_a_computation_may_call_itself_for_smaller_types() -> None:
    @hansa.federated_computation
    def first(x: Any) -> Any:
        return first(x[0]) if isinstance(x.type_signature, hansa.StructType) else x

    assert first([[3.0, 1], 2]) == 3


def test_print_in_a_local_computation_sees_what_is_traced(capsys: pytest.CaptureFixture[str]) -> None:
    hansa.jax_computation(lambda x: (print(x), x)[1], "float32")
    assert "float32[]" in capsys.readouterr().out
