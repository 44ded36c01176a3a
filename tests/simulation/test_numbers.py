"""What may be the values of clients: numbers as they are, missing values, and what is left to a function."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from hansa.simulation import ClientData
from hansa.simulation._numbers import as_numbers, as_read, cast, own_array

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2, -3], "int64"),
        ([0, 2**63], "uint64"),
        ([1, 2**53, 0.5], "float64"),
        ([True, False], "bool"),
        ([np.float32(1), np.float32(2)], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([[1, 2], [1.5, 2]], "float64"),
        ([[0, 2**63]], "uint64"),
        ([1 + 2j, 3], "complex128"),
        (np.array([1, 2], ">i4"), "int32"),
        (np.array([1.5, 2], ">f8"), "float64"),
        (np.array([1, 2**60], object), "int64"),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), "float64"),
        (np.ma.array([1, 2], mask=[False, False]), "int64"),
        (jnp.array([1, 2], jnp.bfloat16), "bfloat16"),
    ],
)
def test_numbers_stay_what_they_are(values: Any, dtype: str):
    found = as_numbers(as_read(values), "x")
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), np.asarray(values, object).tolist())
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "values", [[1, 2**64], [-1, 2**63], [2**53 + 1, 0.5], [[2**53 + 1, 0.5]], [[2**60 + 1, 2], [1.5, 2]]]
)
def test_whole_numbers_are_not_rounded(values: Any):
    with pytest.raises((ValueError, TypeError), match="x "):
        as_numbers(as_read(values), "x")
    assert as_read(values) == values  # for a function


@pytest.mark.parametrize(
    "values",
    [
        [1.0, NAN, 3.0],
        [1, None, 3],
        [1.0, None, 3.0],
        ["a", None, "b"],
        [[1.0, 2.0], [NAN, 2.0], [1.0, 2.0]],
        [[1, 2], [None, 2], [1, 2]],
        [[1, 2], None, [3, 4]],
        np.array([1.0, NAN, 3.0], np.float16),
        np.array([1.0, NAN, 3.0], jnp.bfloat16),
        np.ma.array([1, 2, 3], mask=[0, 1, 0]),
        np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        np.array(["2020-01-01", "NaT", "2020-01-01"], "datetime64[s]"),
        [Decimal(1), Decimal("NaN"), Decimal(2)],
        np.array([1, complex(NAN, 0), 2]),
    ],
)
def test_a_missing_value_is_named_by_its_row(values: Any):
    with pytest.raises(ValueError, match="x has no value in 1 rows, the first of which is row 1; fill it"):
        as_numbers(as_read(values), "x")


def test_a_function_sees_what_is_missing():
    np.testing.assert_array_equal(as_read([1.5, None]), [1.5, NAN])
    np.testing.assert_array_equal(as_read(np.ma.array([1.5, 2], mask=[0, 1])), [1.5, NAN])
    assert as_read([2**60 + 1, None, NAN]) == [2**60 + 1, None, None]
    assert as_read(np.ma.array([1, 2], mask=[1, 0])) == [None, 2]
    assert as_read(["a", NAN]) == ["a", None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b"], "x holds text; leave it out of features, or"),
        ([b"a"], "x holds text"),
        ([{"bytes": b""}], "x holds structs; "),
        ([Decimal("1.5")], r"x holds decimals, such as 1\.5; say what becomes of them with convert"),
        (np.array(["2020-01-01"], "datetime64[D]"), r"x holds datetime64\[D\], which is no number; make numbers of it"),
        ([np.timedelta64(3, "s")], r"x holds timedelta64\[s\]"),
        ([Fraction(1, 2)], "which is no number"),
        ([1, "a"], "x mixes types: row 0 is the int 1, row 1 the str 'a'"),
        ([True, 2], "x mixes types: row 0 is the bool True, row 1 the int 2"),
        ([[1], ["a"]], r"x has in row 1 \['a'\], which is no array of numbers"),
        ([[1], [1, 2]], r"x has rows of different shapes: row 0 is \[1\], row 1 \[2\]; pad or crop"),
        ([np.zeros(2, np.uint8), np.zeros(2, np.uint16)], r"x has rows of different types: row 0 is uint8\[2\], row 1"),
        (np.zeros(2, "i4,f4"), "x holds structs with the fields f0, f1"),
        (np.zeros(2, "V8"), r"x holds \|V8: Hansa has no dtype"),
        ([], "x has no rows"),
    ],
)
def test_what_is_no_number_is_said(values: Any, message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        as_numbers(as_read(values), "x")


def test_a_cast_to_integers_changes_no_value_and_one_to_floats_stays_finite():
    assert cast(np.array([1.0, 2.0]), np.dtype("int8"), "x").tolist() == [1, 2]
    assert cast([Decimal("1.25"), Decimal(2)], np.dtype("float64"), "x").tolist() == [1.25, 2.0]
    assert cast([Decimal(2**60 + 1)], np.dtype("int64"), "x").tolist() == [2**60 + 1]
    assert cast(np.array([0.1]), np.dtype("float32"), "x") == np.float32(0.1)
    assert cast(np.array([np.inf]), np.dtype("float32"), "x").tolist() == [np.inf]
    for values, dtype in (
        (np.array([0, 300]), "uint8"),
        (np.array([0, -1]), "uint64"),
        (np.array([0.0, 1e300]), "float32"),
        (np.array([0, 2**63], np.uint64), "int64"),
        (np.array([0, 1 + 1j]), "float32"),
        (np.array([0, 2]), "bool"),
        ([Decimal(0), Decimal("1.5")], "int64"),
    ):
        with pytest.raises(ValueError, match=f"x cannot be converted to {dtype}: it holds"):
            cast(as_read(values), np.dtype(dtype), "x")


class TestArraysOfTheUser:
    def test_nan_is_a_number_in_them(self):
        data = ClientData.from_arrays({"x": np.array([NAN, 1.0])}, [0, 0])
        np.testing.assert_array_equal(data.client(0)["x"], [NAN, 1.0])

    @pytest.mark.parametrize("given", [np.ma.array([1.0, 2.0], mask=[0, 1]), [1.5, None], [1, None]])
    def test_masked_and_missing_values_are_refused(self, given: Any):
        with pytest.raises(ValueError, match=r"'x' is masked in 1 places.*row 1|'x' has 1 missing values"):
            ClientData.from_arrays({"x": given}, [0, 0])

    def test_so_are_those_of_columns_of_other_libraries(self):
        pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
        for column in (pandas.array([1, None], dtype="Int64"), pandas.Series([1.5, None], dtype="Float64")):
            with pytest.raises(ValueError, match="'x' has 1 missing values"):
                ClientData.from_clients({"a": {"x": column}})
        with pytest.raises(ValueError, match="'x' has 1 missing values"):
            ClientData.from_function(["a"], lambda _: {"x": polars.Series([1, None])}).client("a")
        assert ClientData.from_clients({"a": {"x": polars.Series([1, 2])}}).client("a")["x"].tolist() == [1, 2]

    def test_a_dtype_is_advised_only_where_it_changes_no_number(self):
        whole, parts = {"x": np.array([1, 2])}, {"x": np.array([1.5])}
        with pytest.raises(TypeError, match="int64 cannot hold all of its numbers: make what was expected float64"):
            ClientData.from_clients({"a": whole, "b": parts})
        with pytest.raises(TypeError, match=r"convert it with \.astype\('float64'\)"):
            ClientData.from_clients({"b": parts, "a": whole})

    def test_a_matrix_is_an_array(self):
        assert type(own_array(np.asmatrix([[1, 2]]), "x")) is np.ndarray
        assert own_array(np.zeros((0, 3)), "x").shape == (0, 3)
