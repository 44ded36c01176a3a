"""Which dtypes there are, and what stands for one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hansa.types.dtypes import DTYPES, STR, as_dtype, dtype_name, find_dtype, kind


@pytest.mark.parametrize("name", DTYPES)
def test_each_dtype_is_read_from_its_name_and_from_itself(name: str) -> None:
    assert dtype_name(as_dtype(name)) == name
    assert as_dtype(DTYPES[name]) is as_dtype(DTYPES[name].type) is DTYPES[name]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (bool, "bool"),
        (int, "int32"),
        (float, "float32"),
        (complex, "complex64"),
        (str, "str"),
        (np.longlong, "int64"),
        (jnp.float32, "float32"),
        (jnp.bfloat16, "bfloat16"),
        (np.dtype("U12"), "str"),
    ],
)
def test_classes_of_python_numpy_and_jax_stand_for_dtypes(spec: object, name: str) -> None:
    assert as_dtype(spec) is DTYPES[name]


@pytest.mark.parametrize("spec", [np.zeros(3), 3.0, None, dict, jax.ShapeDtypeStruct((), np.float32)])
def test_what_is_no_dtype_stands_for_none(spec: object) -> None:
    assert find_dtype(spec) is None
    with pytest.raises(TypeError, match="is no dtype"):
        as_dtype(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flaot32", "there is no dtype 'flaot32'; did you mean 'float32'?"),
        (np.floating, "floating stands for several dtypes; name one, such as float32"),
        (np.dtype(object), r"Hansa has no dtype object; strings are of dtype str: convert them with .astype\(str\)"),
        (np.dtype(">i4"), r"not in this machine's order; convert it with .astype\('int32'\)"),
        (np.datetime64, "Hansa has no dtype datetime64; there are bool, int8"),
        (jax.random.key(0).dtype, "pass a key as numbers, by jax.random.key_data"),
    ],
)
def test_a_dtype_that_hansa_does_not_have_is_refused_with_the_remedy(spec: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_dtype(spec)


def test_the_kinds() -> None:
    assert [kind(DTYPES[name]) for name in ("bool", "uint8", "bfloat16", "complex64", "str")] == [
        "bool", "int", "float", "complex", "str",
    ]  # fmt: skip
    assert kind(STR) == "str"
