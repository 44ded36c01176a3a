"""Named fields go to the parameters of their names, as keyword arguments do; others are refused."""

from __future__ import annotations

import functools
import inspect
import itertools
import pydoc
import types
from collections import OrderedDict
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.language.tracing import narrow_computation, wide_computation

VALUES = {"a": 1.0, "b": 20.0, "c": 300.0}


def weighed(a: Any, b: Any, c: Any) -> Any:
    return a - 2 * b + 3 * c


def federated(kind: str) -> Any:
    return lambda function: hansa.federated_computation(
        lambda a, b, c: hansa.jax_computation(function)(a, b, c), hansa.to_type(kind)
    )


def positional(a: Any, b: Any, c: Any, /) -> Any:
    return weighed(a, b, c)


class Weighed:
    def __call__(self, a: Any, b: Any, c: Any) -> Any:
        return weighed(a, b, c)

    def method(self, a: Any, b: Any, c: Any) -> Any:
        return weighed(a, b, c)

    @staticmethod
    def static(a: Any, b: Any, c: Any) -> Any:
        return weighed(a, b, c)


@functools.wraps(weighed)
def wrapped(*args: Any) -> Any:
    return weighed(*args)


FUNCTIONS = [
    weighed,
    positional,
    Weighed(),
    Weighed().method,
    Weighed.static,
    wrapped,
    functools.partial(lambda sign, a, b, c: sign * weighed(a, b, c), 1),
]
ORDERS = list(itertools.permutations(VALUES))


@pytest.mark.parametrize("order", ORDERS, ids="".join)
@pytest.mark.parametrize(
    "decorator",
    [
        hansa.jax_computation,
        lambda kind: narrow_computation(hansa.to_type(kind)),
        lambda kind: wide_computation(hansa.to_type(kind)),
        federated,
    ],
)
def test_every_decorator_takes_named_fields_by_name(decorator: Any, order: tuple[str, ...]) -> None:
    kind = f"<{','.join(f'{name}=float32' for name in order)}>"
    made = decorator(kind)(weighed)
    assert made.type_signature.compact() == f"({kind} -> float32)"
    expected = weighed(**VALUES)
    assert made(VALUES) == made(**VALUES) == made(*(VALUES[name] for name in order)) == expected
    with hansa.runtime(hansa.ReferenceRuntime()):
        assert made(VALUES) == expected


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_function_takes_named_fields_by_name(function: Any) -> None:
    made = hansa.jax_computation("<c=float32,a=float32,b=float32>")(function)
    assert made(VALUES) == weighed(**VALUES)
    by_position = inspect.signature(made).bind(300.0, 1.0, 20.0).arguments
    assert by_position == VALUES
    assert made(300.0, 1.0, 20.0) == weighed(**VALUES)


def test_a_tensorflow_function_takes_named_fields_by_name() -> None:
    pytest.importorskip("tensorflow")

    @hansa.tf_computation("<c=float32,a=<y=float32,x=float32>,b=float32>")
    def made(a: Any, b: Any, c: Any) -> Any:
        """A sum."""
        return a["x"] - 2 * b + 3 * c

    assert (made.__doc__, made.__wrapped__.__name__, list(inspect.signature(made).parameters)) == (
        "A sum.",
        "made",
        ["c", "a", "b"],
    )
    assert hansa.tf_computation()(weighed)(1.0, 20.0, 300.0) == weighed(**VALUES)
    assert made({"b": 20.0, "c": 300.0, "a": {"x": 1.0, "y": -1.0}}) == weighed(**VALUES)


def test_fields_without_names_go_by_their_places() -> None:
    kind = "<float32,float32,float32>"
    assert hansa.jax_computation(weighed, kind)([1.0, 20.0, 300.0]) == weighed(**VALUES)
    mixed = hansa.jax_computation(weighed, "<float32,c=float32,b=float32>")
    assert mixed(1.0, 300.0, 20.0) == weighed(**VALUES)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("<a=float32,b=float32,d=float32>", "the field 'd' has no parameter; the parameter 'c' has no field"),
        ("<a=float32,b=float32>", "the parameter 'c' has no field"),
        ("<a=float32,b=float32,c=float32,class=float32>", "the field 'class' has no parameter"),
        ("<b=float32,float32,float32>", r"the field \[1\], which has no name, goes to the parameter 'b', and so does"),
        ("<float32,float32>", r"'weighed' has 3 parameters \(a, b, c\), but the type <float32,float32> has 2 fields"),
        (
            "<float32,float32,float32,float32>",
            "has 4 fields; give it one for each, or take the whole",
        ),
        ("<a=float32,b=float32,float32,float32>", r"the field \[3\], which has no name, has no parameter"),
    ],
)
def test_fields_and_parameters_that_do_not_meet_are_refused(kind: str, message: str) -> None:
    for decorator in (hansa.jax_computation, hansa.federated_computation):
        with pytest.raises(TypeError, match=message):
            decorator(weighed, kind)


def test_the_one_parameter_gets_the_struct_itself() -> None:
    made = hansa.jax_computation(lambda a: a.a - a["class"], "<class=float32,a=float32>")
    assert made({"a": 5.0, "class": 3.0}) == 2.0


def test_functions_without_declared_types_take_arguments_by_name() -> None:
    for made in (hansa.jax_computation(weighed), federated_untyped):
        assert made(c=300.0, a=1.0, b=20.0) == made(1.0, c=300.0, b=20.0) == weighed(**VALUES)
        assert made(types.MappingProxyType({"c": 300.0, "b": 20.0, "a": 1.0})) == weighed(**VALUES)
        assert made([1.0, 20.0, 300.0]) == weighed(**VALUES)
        for kind in ("<c=float32,a=float32,b=float32>", "<float32,float32,float32>"):
            called = hansa.federated_computation(functools.partial(lambda made, struct: made(struct), made), kind)
            values = VALUES if "=" in kind else list(VALUES.values())
            assert called(values) == weighed(**VALUES)
        with pytest.raises(TypeError, match=r"takes 3 arguments \(a, b, c\); it has none called 'd'"):
            made({**VALUES, "d": 1.0})
        with pytest.raises(TypeError, match=r"takes 3 arguments \(a, b, c\); c is missing"):
            made(1.0, b=2.0)


@hansa.federated_computation()
def federated_untyped(a: Any, b: Any, c: Any) -> Any:
    return hansa.jax_computation(weighed)(c=c, a=a, b=b)


def test_a_parameter_may_have_the_name_of_one_of_pythons() -> None:
    def difference(self: Any, args: Any) -> Any:
        return self - args

    for made in (hansa.jax_computation(difference), hansa.jax_computation(difference, "<args=float32,self=float32>")):
        assert made(args=1.0, self=3.0) == 2.0


def test_a_callable_object_shows_its_class() -> None:
    made = hansa.jax_computation(Weighed())
    assert (made.__name__, made.__qualname__, made.__module__) == ("Weighed", "Weighed", __name__)


# Functions without declared types, and values of a federated computation.

IN_ANOTHER_ORDER = "<y=float32,x=<q=float32,p=float32>>"


def difference(x: Any, y: Any) -> Any:
    return x.p - 10 * x.q + 100 * y


TYPED = hansa.jax_computation(difference, "<p=float32,q=float32>", "float32")
DATA = [{"x": {"p": float(i), "q": 2.0}, "y": 3.0} for i in range(3)]
EXPECTED = sum(i - 20 + 300 for i in range(3))
RUNTIMES = [hansa.InProcessRuntime(), hansa.ReferenceRuntime()]


@pytest.mark.parametrize("function", [TYPED, hansa.jax_computation(difference)])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_functions_that_are_mapped_take_named_fields_by_name(function: Any, runtime: Any) -> None:
    @hansa.federated_computation(f"{{{IN_ANOTHER_ORDER}}}@CLIENTS")
    def of_values(data: Any) -> Any:
        return hansa.federated_sum(hansa.federated_map(function, data))

    @hansa.federated_computation(f"{{{IN_ANOTHER_ORDER}}}@CLIENTS")
    def of_a_dict(data: Any) -> Any:
        return hansa.federated_sum(hansa.federated_map(function, {"y": data.y, "x": data.x}))

    @hansa.federated_computation(f"{{{IN_ANOTHER_ORDER}*}}@CLIENTS")
    def of_sequences(data: Any) -> Any:
        return hansa.federated_sum(hansa.sequence_sum(hansa.sequence_map(function, data)))

    with hansa.runtime(runtime):
        assert of_values(DATA) == of_a_dict(DATA) == of_sequences([DATA[:2], DATA[2:]]) == EXPECTED


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_states_of_folds_take_named_fields_by_name(runtime: Any) -> None:
    state = "<total=float32,n=int32>"

    @hansa.jax_computation(state, IN_ANOTHER_ORDER)
    def add(state: Any, value: Any) -> Any:
        return {"total": state.total + value.y * value.x.p, "n": state.n + 1}

    @hansa.jax_computation(state, state)
    def merge(a: Any, b: Any) -> Any:
        return {"total": a.total + b.total, "n": a.n + b.n}

    report = hansa.jax_computation(lambda n, total: total / n, state)

    @hansa.federated_computation("{<x=<p=float32,q=float32>,y=float32>}@CLIENTS", f"{IN_ANOTHER_ORDER}*")
    def both(data: Any, sequence: Any) -> Any:
        zero = {"n": 0, "total": 0.0}
        mean = hansa.federated_aggregate(data, zero, add, merge, report)
        return mean, report(hansa.sequence_reduce(sequence, zero, add))

    with hansa.runtime(runtime):
        assert list(both(DATA, DATA)) == [3.0, 3.0]


def test_a_computation_that_is_called_takes_a_mapping_by_name() -> None:
    inner = hansa.federated_computation(
        lambda weight, value: hansa.federated_mean(value, weight), "<weight={float32}@CLIENTS,value={float32}@CLIENTS>"
    )
    kinds = ["{float32}@CLIENTS"] * 2
    outer = hansa.federated_computation(lambda v, w: inner({"value": v, "weight": w}), *kinds)
    assert outer([1.0, 2.0, 3.0], [6.0, 3.0, 1.0]) == 1.5
    with pytest.raises(TypeError, match=r"surplus: wieght|missing: weight"):
        hansa.federated_computation(
            lambda v, w: inner({"value": v, "wieght": w}), "{float32}@CLIENTS", "{float32}@CLIENTS"
        )


# Data.

BATCH = "<x=<a=float32[?],b=float32[?]>,y=float32[?]>"


@hansa.federated_computation(f"{{{BATCH}*}}@CLIENTS", "<rate=float32,<s=float32,t=float32>>@SERVER")
def over_batches(data: Any, server: Any) -> Any:
    @hansa.jax_computation(BATCH)
    def of_batch(batch: Any) -> Any:
        return jnp.sum(batch.x.a - 10 * batch.x.b + 100 * batch.y)

    return hansa.federated_sum(hansa.sequence_sum(hansa.sequence_map(of_batch, data))), server


def column(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def shuffled(make: Any) -> Any:
    """A batch whose mappings have their entries in another order than the type's fields."""
    return make({"y": column(1, 2), "x": make({"b": column(3, 4), "a": column(5, 6)})})


SERVER_VALUE = hansa.Struct([("rate", 1.0), (None, {"t": 3.0, "s": 2.0})])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("make", [dict, OrderedDict, types.MappingProxyType, lambda d: hansa.Struct(d.items())])
def test_any_mapping_is_taken_by_name_at_any_depth(make: Any, runtime: Any) -> None:
    batch = shuffled(make)
    everyone = hansa.ClientBatches(batch, [0, 2], 1)
    with hansa.runtime(runtime):
        for data in ([[batch]], [iter([batch])], [hansa.Batches(batch, 2)], everyone):
            total, server = over_batches(make({"server": SERVER_VALUE, "data": data}))
            assert total == 11 - 70 + 300
            assert (server[1]["s"], server[1]["t"], server.rate) == (2.0, 3.0, 1.0)


@pytest.mark.parametrize("make", [dict, types.MappingProxyType])
def test_missing_and_extra_keys_are_refused_by_name(make: Any) -> None:
    batch = {"y": column(1), "x": make({"b": column(3), "aa": column(5)})}
    for data in ([[make(batch)]], [hansa.Batches(batch, 1)], hansa.ClientBatches(batch, [0, 1], 1)):
        with pytest.raises(
            TypeError, match=r"the argument of 'over_batches'.data.*x.*(field 'a' is missing|missing: a)"
        ):
            over_batches(data, SERVER_VALUE)
    with pytest.raises(TypeError, match=r"field 'server' is missing, and there is no field 'sever'; did you mean"):
        over_batches(make({"data": [], "sever": SERVER_VALUE}))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_passed_through_is_found_by_name(runtime: Any) -> None:
    kind = "<b=float32,a=float32>"
    parts = hansa.federated_computation(lambda s, c: [s.a, c.a, s], f"{kind}@SERVER", f"{{{kind}}}@CLIENTS")
    value = types.MappingProxyType({"a": 1.0, "b": 2.0})
    with hansa.runtime(runtime):
        server, clients, whole = parts(value, [value, value])
        assert (server, clients) == (1.0, [1.0, 1.0])
        assert whole == hansa.Struct.of(b=2.0, a=1.0)


# What `help` and `inspect` show.


def test_a_computation_shows_the_function_that_it_was_made_of() -> None:
    def total(x: Any) -> Any:
        """The sum of all of it.

        In one number.
        """
        return x

    made = [
        hansa.jax_computation(total, "float32"),
        hansa.jax_computation(total),
        hansa.jax_computation()(total).specialize(hansa.to_type("float32")),
        hansa.federated_computation(total, "float32"),
        hansa.federated_computation(total),
        narrow_computation("float32")(total),
    ]
    for computation in made:
        assert computation.__wrapped__ is total
        assert computation.__name__ == "total"
        assert computation.__qualname__ == total.__qualname__
        assert computation.__module__ == __name__
        assert inspect.getdoc(computation) == inspect.getdoc(total)
        assert list(inspect.signature(computation).parameters) == ["x"]
        assert inspect.unwrap(computation) is total
        assert "The sum of all of it.\n" in pydoc.plain(pydoc.render_doc(computation))


def test_a_partial_function_shows_the_function_within() -> None:
    made = hansa.jax_computation(functools.partial(weighed, 1.0, 2.0), "float32")
    assert (made.name, made.__wrapped__.func) == ("weighed", weighed)
    assert repr(made).startswith("<LocalComputation weighed:")
