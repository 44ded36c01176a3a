"""`Struct`: access, immutability, equality, copies, and its life as a JAX pytree."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import Struct
from tests.types.strategies import NAMES, value_types, values_of

STRUCT = Struct([("loss", 0.5), ("dense/kernel", 2), (None, "c")])


class Output(Struct):
    """A container of its own, as processes have for their results."""

    __slots__ = ()

    @property
    def both(self) -> list[Any]:
        """All fields."""
        return list(self)


def test_fields_are_reached_by_attribute_name_index_and_slice() -> None:
    assert STRUCT.loss == STRUCT["loss"] == STRUCT[0] == 0.5
    assert STRUCT["dense/kernel"] == STRUCT[1] == 2
    assert STRUCT[-1] == "c"
    assert STRUCT[1:] == Struct([("dense/kernel", 2), (None, "c")])


def test_a_struct_unpacks_and_lists_its_fields() -> None:
    loss, kernel, last = STRUCT
    assert (loss, kernel, last) == (0.5, 2, "c")
    assert len(STRUCT) == 3
    assert STRUCT._fields == ("loss", "dense/kernel", None)
    assert STRUCT._items() == (("loss", 0.5), ("dense/kernel", 2), (None, "c"))
    assert "loss" in dir(STRUCT)


def test_of_takes_keywords_in_order() -> None:
    assert Struct.of(b=1, a=2) == Struct([("b", 1), ("a", 2)])
    assert type(Output.of(a=1)) is Output


def test_any_name_without_an_underscore_is_an_attribute() -> None:
    struct = Struct.of(of=1, cls=2, self=3, index=4, count=5)
    assert (struct.of, struct.cls, struct.self, struct.index, struct.count) == (1, 2, 3, 4, 5)
    assert Struct.of(_fields=1)["_fields"] == 1


def test_asdict_and_replace_go_one_level_deep() -> None:
    inner = Struct.of(x=1)
    struct = Output.of(a=inner, b=2)
    assert struct._asdict() == {"a": inner, "b": 2}
    assert list(struct._asdict()) == ["a", "b"]
    changed = struct._replace(b=3)
    assert type(changed) is Output
    assert changed == Struct.of(a=inner, b=3)
    assert STRUCT._replace(**{"dense/kernel": 7})[1] == 7


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (
            lambda: STRUCT.los,
            AttributeError,
            "there is no field 'los'; did you mean 'loss'? the fields are: loss, dense",
        ),
        (lambda: STRUCT.zzz, AttributeError, "there is no field 'zzz'; the fields are: loss, dense/kernel, [2]"),
        (lambda: STRUCT._private, AttributeError, "a struct has no attribute '_private'"),
        (lambda: STRUCT["dense/kernels"], KeyError, "did you mean 'dense/kernel'?"),
        (lambda: STRUCT[3], IndexError, "there is no field [3] in a struct of 3"),
        (lambda: setattr(STRUCT, "loss", 1), AttributeError, "make a changed one with _replace(loss=…)"),
        (lambda: setattr(STRUCT, "a/b", 1), AttributeError, "_replace(**{'a/b': …})"),
        (lambda: delattr(STRUCT, "loss"), AttributeError, "a struct is immutable"),
        (lambda: STRUCT._replace(lss=1), ValueError, "there is no field 'lss'; did you mean 'loss'?"),
        (lambda: STRUCT._asdict(), ValueError, "the field [2] of <loss=0.5,dense/kernel=2,'c'> has no name"),
        (lambda: "loss" in STRUCT, TypeError, "ask `in struct._fields` for names"),
        (lambda: Struct({"abc": 1}), TypeError, "for a dict, pass its items()"),
        (lambda: Struct([("a", 1), ("a", 2)]), ValueError, "two fields have the name 'a'"),
        (lambda: Struct([(3, 1)]), TypeError, "the name of a field is a string, or None where it has none; found 3"),
    ],
)
def test_errors_say_what_to_do(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert message in str(caught.value)


def test_arrays_are_compared_by_their_elements() -> None:
    def build(last: float) -> Struct:
        return Struct.of(a=np.array([1.0, last]), b=[jnp.arange(3), {"c": (np.float32(1), "x")}], d=Struct.of(e=None))

    assert build(2.0) == build(2.0)
    assert build(2.0) != build(3.0)
    assert Struct.of(a=np.arange(3)) != Struct.of(a=np.arange(4))
    assert Struct.of(a=np.array(1)) == Struct.of(a=1)
    assert Struct.of(a=np.array([1])) != Struct.of(a=Struct.of(a=1))
    assert isinstance(Struct.of(a=np.arange(3)) == Struct.of(a=np.arange(3)), bool)


def test_names_take_part_in_equality_and_classes_do_not() -> None:
    assert Struct.of(a=1) != Struct.of(b=1)
    assert Struct.of(a=1) != Struct([(None, 1)])
    assert Struct.of(a=1) == Output.of(a=1)
    assert Struct.of(a=1) != (1,)


def test_a_struct_is_copied_and_pickled_as_what_it_is() -> None:
    struct = Output.of(a=np.arange(3), b=[1])
    for twin in (copy.copy(struct), copy.deepcopy(struct), pickle.loads(pickle.dumps(struct))):
        assert type(twin) is Output
        assert twin == struct
        assert twin.both[1] == [1]
    assert copy.copy(struct).b is struct.b
    assert copy.deepcopy(struct).b is not struct.b


@given(
    st.lists(
        st.tuples(st.none() | NAMES, st.integers()), unique_by=lambda pair: object() if pair[0] is None else pair[0]
    )
)
def test_a_struct_gives_back_the_pairs_it_was_made_of(pairs: list[tuple[str | None, int]]) -> None:
    struct = Struct(pairs)
    assert list(struct._items()) == pairs
    for index, (name, value) in enumerate(pairs):
        assert struct[index] == value
        assert name is None or struct[name] == value


@given(value_types().flatmap(values_of))
def test_flattening_as_a_pytree_is_undone(value: Any) -> None:
    leaves, definition = jax.tree.flatten(value)
    again = jax.tree.unflatten(definition, leaves)
    assert type(again) is type(value)
    assert Struct([(None, again)]) == Struct([(None, value)])
    assert jax.tree.structure(again) == definition
    assert len(jax.tree_util.tree_leaves_with_path(value)) == len(leaves)


def test_the_key_paths_of_leaves_are_their_names() -> None:
    struct = Struct([("a", Struct([("dense/kernel", 1)])), (None, 2)])
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(struct)]
    assert paths == [".a['dense/kernel']", "[1]"]


def test_a_subclass_is_a_pytree_that_keeps_its_class_and_order() -> None:
    output = Output.of(b=1.0, a=2.0)
    doubled = jax.jit(lambda tree: jax.tree.map(lambda leaf: 2 * leaf, tree))(output)
    assert type(doubled) is Output
    assert doubled._fields == ("b", "a")
    assert doubled == Struct.of(b=2.0, a=4.0)


def test_unflattening_takes_any_leaves() -> None:
    marker = object()
    struct = jax.tree.map(lambda _: marker, Struct.of(a=1, b=2))
    assert struct.a is marker
    assert jax.tree.unflatten(jax.tree.structure(struct), [None, marker]).a is None
    assert jax.eval_shape(lambda tree: tree, Struct.of(a=1.0)).a.shape == ()
    assert jax.vmap(lambda tree: tree.a)(Struct.of(a=np.arange(3))).shape == (3,)


def test_structs_of_other_names_are_other_trees() -> None:
    with pytest.raises(ValueError):
        jax.tree.map(lambda one, other: one, Struct.of(a=1), Struct.of(b=1))
