"""The same values from every reader: what is missing, and what only a function can read."""

import datetime
import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import (
    ClientData,
    DatasetError,
    from_csv,
    from_frame,
    from_huggingface,
    from_leaf,
    from_parquet,
    from_tf_datasets,
    from_tff_hdf5,
    from_tff_sqlite,
)

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")

NAN = float("nan")
TABLES = ["pandas", "polars", "parquet", "csv", "huggingface"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))


def read(kind: str, folder: Path, columns: dict[str, Any], convert: Any = None) -> ClientData:
    """The clients of a table that is stored in a way of its own."""
    if kind == "pandas":
        return from_frame(pandas.DataFrame(columns), "who", convert=convert)
    if kind == "polars":
        return from_frame(polars.DataFrame(columns), "who", convert=convert)
    if kind == "huggingface":
        return from_huggingface(datasets.Dataset.from_dict(columns), "who", convert=convert)
    if kind == "csv":
        pandas.DataFrame(columns).to_csv(folder / "t.csv", index=False)
        return from_csv(folder / "t.csv", "who", convert=convert)
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return from_parquet(folder / "t.parquet", "who", convert=convert)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("values", [[1.5, None, 2.5], [1.5, NAN, 2.5], [1, None, 2], [True, None, False]])
def test_a_missing_value_is_refused_or_repaired(kind: str, values: list[Any], tmp_path: Path):
    columns = {"who": ["a", "a", "b"], "x": values}
    named = "column 'x' of .*has no value in 1 rows, the first of which is row 1; fill it"
    if not (kind == "pandas" and values[0] is True):  # an object column, as every other
        with pytest.raises(ValueError, match=named):
            read(kind, tmp_path, columns).client("a")
    data = read(kind, tmp_path, columns, {"x": lambda xs: np.array([-1 if x is None or x != x else x for x in xs])})
    assert [data.client(who)["x"].tolist() for who in ("a", "b")] == [[values[0], -1], [values[2]]]


@pytest.mark.parametrize("kind", TABLES)
def test_what_a_function_leaves_missing_is_refused(kind: str, tmp_path: Path):
    data = {"who": ["a", "a"], "x": [1.5, NAN]}
    with pytest.raises(ValueError, match=r"what convert\['x'\] makes of .* has no value in 1 rows.* row 1"):
        read(kind, tmp_path, data, {"x": lambda x: x / 2}).client("a")


@pytest.mark.parametrize("kind", ["pandas", "polars", "parquet", "huggingface"])
def test_columns_side_by_side_are_for_a_function(kind: str, tmp_path: Path):
    columns = {"who": ["a", "a"], "n": [2**60 + 1, None], "sex": ["f", "m"], "u": [0.5, NAN]}
    if kind == "pandas":
        columns["n"] = pandas.array(columns["n"], dtype="Int64")

    def rows(table: np.ndarray) -> np.ndarray:
        assert table.shape == (2, 3)
        return np.array([[row[0] == 2**60 + 1, row[1] == "f", row[2] == 0.5] for row in table])

    convert, features = {"x": rows}, {"x": ["n", "sex", "u"]}
    if kind in ("pandas", "polars"):
        frame = pandas.DataFrame(columns) if kind == "pandas" else polars.DataFrame(columns)
        data = from_frame(frame, "who", features, convert)
    elif kind == "parquet":
        parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
        data = from_parquet(tmp_path / "t.parquet", "who", features, convert)
    else:
        data = from_huggingface(datasets.Dataset.from_dict(columns), "who", features, convert)
    assert data.client("a")["x"].tolist() == [[True] * 3, [False] * 3]


DAY = datetime.datetime(2020, 1, 2, 3)
ARROW: dict[str, tuple[Any, Any, Any]] = {
    "structs": (
        pyarrow.array([{"bytes": b"12", "path": "p"}, {"bytes": b"345", "path": None}]),
        lambda rows: [len(row["bytes"]) for row in rows],
        [2, 3],
    ),
    "decimals": (pyarrow.array([Decimal("1.25"), Decimal("-0.5")]), "float64", [1.25, -0.5]),
    "whole decimals": (pyarrow.array([Decimal(2**60 + 1), Decimal(7)]), "int64", [2**60 + 1, 7]),
    "lists of several lengths": (pyarrow.array([[1, 2], [3]]), lambda rows: [sum(row) for row in rows], [3, 3]),
    "lists with gaps": (pyarrow.array([[1, None], [3, 4]]), lambda rows: [row[0] for row in rows], [1, 3]),
    "lists of one length": (pyarrow.array([[1, 2], [3, 4]]), None, [[1, 2], [3, 4]]),
    "fixed lists": (pyarrow.array([[1, 2], [3, 4]], pyarrow.list_(pyarrow.int16(), 2)), None, [[1, 2], [3, 4]]),
    "large lists": (pyarrow.array([[1.5], [2]], pyarrow.large_list(pyarrow.float32())), None, [[1.5], [2]]),
    "list views": (pyarrow.array([[1], [2]], pyarrow.list_view(pyarrow.int8())), None, [[1], [2]]),
    "bytes": (pyarrow.array([b"1", b"22"]), lambda rows: [len(row) for row in rows], [1, 2]),
    "fixed bytes": (pyarrow.array([b"12", b"ab"], pyarrow.binary(2)), lambda rows: [row[0] for row in rows], [49, 97]),
    "categories": (pyarrow.array(["u", "v"]).dictionary_encode(), lambda rows: [ord(row) for row in rows], [117, 118]),
    "categories of numbers": (pyarrow.array([5, 6]).dictionary_encode(), None, [5, 6]),
    "times": (
        pyarrow.array([DAY, None], pyarrow.timestamp("us", "UTC")),
        lambda times: np.where(np.isnat(times), -1, (times - np.datetime64("2020-01-01")) / np.timedelta64(1, "h")),
        [27, -1],
    ),
    "dates": (
        pyarrow.array([DAY.date(), DAY.date()]),
        lambda days: (days - np.datetime64("2020-01-01")).astype(int),
        [1, 1],
    ),
    "durations": (
        pyarrow.array([datetime.timedelta(seconds=3)] * 2),
        lambda times: times / np.timedelta64(1, "s"),
        [3, 3],
    ),
    "times of day": (pyarrow.array([DAY.time()] * 2), lambda times: [time.hour for time in times], [3, 3]),
    "half floats": (pyarrow.array(np.array([0.5, 2], np.float16)), None, [0.5, 2]),
    "unsigned": (pyarrow.array([2**64 - 1, 0], pyarrow.uint64()), None, [2**64 - 1, 0]),
    "bools": (pyarrow.array([True, False]), None, [True, False]),
    "maps": (
        pyarrow.array([[("k", 1)], [("k", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        lambda rows: [dict(row)["k"] for row in rows],
        [1, 2],
    ),
    "nothing": (pyarrow.nulls(2), lambda rows: [row is None for row in rows], [True, True]),
}


@pytest.mark.parametrize("case", ARROW)
def test_every_kind_of_column_of_parquet_can_be_read(case: str, tmp_path: Path):
    column, convert, expected = ARROW[case]
    file = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"who": ["a", "a"], "x": column}), file)
    found = from_parquet(file, "who", convert=None if convert is None else {"x": convert}).client("a")["x"]
    assert found.tolist() == expected
    if convert is not None:
        with pytest.raises((TypeError, ValueError), match=r"column 'x' of .*t\.parquet"):
            from_parquet(file, "who").client("a")


def test_a_tensor_of_arrow_keeps_its_shape(tmp_path: Path):
    tensors = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    column = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(tensors)
    parquet.write_table(pyarrow.table({"who": ["a", "a"], "x": column}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(from_parquet(tmp_path / "t.parquet", "who").client("a")["x"], tensors)


@pytest.mark.parametrize(
    ("column", "convert", "expected"),
    [
        (polars.Series([[1, None], [3, 4]]), lambda rows: np.array([row[0] for row in rows]), [1, 3]),
        (polars.Series([{"a": 1}, {"a": 2}]), lambda rows: np.array([row["a"] for row in rows]), [1, 2]),
        (polars.Series([Decimal("1.25"), Decimal(3)]), "float32", [1.25, 3]),
        (polars.Series([[1, 2], [3, 4]], dtype=polars.Array(polars.Int8, 2)), None, [[1, 2], [3, 4]]),
        (
            polars.Series(["b", "a"], dtype=polars.Categorical),
            lambda rows: np.array([ord(row) for row in rows]),
            [98, 97],
        ),
        (polars.Series([DAY, None]), lambda rows: np.isnat(rows), [False, True]),
        (pandas.Series([{"a": 1}, {"a": 2}]), lambda rows: np.array([row["a"] for row in rows]), [1, 2]),
        (pandas.Series([Decimal("1.25"), None]), lambda rows: np.array([row is None for row in rows]), [False, True]),
        (
            pandas.Series(["b", None], dtype="category"),
            lambda rows: np.array([row is None for row in rows]),
            [False, True],
        ),
        (pandas.Series([5, 6], dtype="category"), None, [5, 6]),
        (pandas.Series([1, 2], dtype="int8[pyarrow]"), None, [1, 2]),
        (pandas.Series(pandas.to_datetime([DAY, None], utc=True)), lambda rows: np.isnat(rows), [False, True]),
        (pandas.arrays.SparseArray([0.0, 2.5]), None, [0, 2.5]),
    ],
)
def test_every_kind_of_column_of_a_frame_can_be_read(column: Any, convert: Any, expected: list[Any]):
    library = polars if isinstance(column, polars.Series) else pandas
    frame = library.DataFrame({"who": ["a", "a"], "x": column})
    assert from_frame(frame, "who", convert=convert and {"x": convert}).client("a")["x"].tolist() == expected
    if convert is not None:
        with pytest.raises((TypeError, ValueError), match=r"column 'x' of the frame (holds|has no value)"):
            from_frame(frame, "who")


def leaf(path: Path, **users: Any) -> Path:
    sizes = [len(user["y"]) for user in users.values()]
    path.write_text(json.dumps({"users": list(users), "num_samples": sizes, "user_data": users}))
    return path


class TestLeaf:
    def test_users_without_samples_are_clients_without_examples(self, tmp_path: Path):
        path = leaf(tmp_path / "d.json", a={"x": [], "y": []}, b={"x": [[1.0, 2.0]], "y": [0]}, c={"x": [], "y": []})
        data = from_leaf(path, convert={"x": lambda rows: np.stack(list(rows))})
        assert data.sizes.tolist() == [0, 1, 0]
        assert data.client("c")["x"].shape == (0, 2)
        with pytest.raises(ValueError, match=r"d\.json has users, but none of them has samples"):
            from_leaf(leaf(path, a={"x": [], "y": []}))

    def test_whole_numbers_beside_fractions_are_floats(self, tmp_path: Path):
        path = leaf(tmp_path / "d.json", a={"x": [[1, 2]], "y": [0]}, b={"x": [[1.5, 2]], "y": [1]})
        data = from_leaf(path)
        assert str(data.example_type) == "<x=float64[?,2],y=int64[?]>"
        assert [data.client(who)["x"].tolist() for who in "ab"] == [[[1, 2]], [[1.5, 2]]]
        with pytest.raises(
            TypeError, match=r"client 'b' has 'x' of type float64.*make what was expected float64"
        ) as caught:
            from_leaf(leaf(path, a={"x": [2**53 + 1], "y": [0]}, b={"x": [1.5], "y": [1]}))
        assert "astype('int64')" not in str(caught.value)

    def test_gaps_and_huge_numbers_name_the_client(self, tmp_path: Path):
        for values, message in (
            ([1.0, None], "no value in 1 rows"),
            ([[1, None], [1, 2]], "no value"),
            ([1, 2**70], "64"),
        ):
            path = leaf(tmp_path / "d.json", a={"x": values, "y": [0, 1]})
            with pytest.raises(ValueError, match=f"column 'x' of client 'a' in .*d.json .*{message}"):
                from_leaf(path)

    def test_a_user_who_is_not_named_is_not_left_out(self, tmp_path: Path):
        path = leaf(tmp_path / "d.json", a={"x": [1], "y": [0]}, b={"x": [2], "y": [1]})
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"users": ["a"], "num_samples": [1]}))
        with pytest.raises(DatasetError, match=r"d.json is damaged: it has data of the user 'b', who is not among"):
            from_leaf(path)

    def test_a_number_that_is_too_large_is_no_infinity(self, tmp_path: Path):
        path = leaf(tmp_path / "d.json", a={"x": [1.5], "y": [0]})
        path.write_text(path.read_text().replace("1.5", "1e400"))
        with pytest.raises(ValueError, match=r"'x' of client 'a' in .*d.json holds a number that is too large"):
            from_leaf(path)


class TestTensorFlowFederated:
    def test_hdf5(self, tmp_path: Path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["examples/a/x"] = np.zeros((0, 2), ">f4")
            file["examples/b/x"] = np.array([[1, 2], [3, NAN]], ">f4")
        data = from_tff_hdf5(tmp_path / "d.h5", convert={"x": np.nan_to_num})
        assert (data.client("b")["x"].dtype, data.client("b")["x"].tolist()) == (np.float32, [[1, 2], [3, 0]])
        assert data.client("a")["x"].shape == (0, 2)
        with pytest.raises(ValueError, match=r"column 'x' of .*d\.h5, client 'b', has no value in 1 rows.* row 1"):
            from_tff_hdf5(tmp_path / "d.h5").client("b")

    def test_sqlite(self, tmp_path: Path):
        tensorflow = pytest.importorskip("tensorflow")
        connection = sqlite3.connect(tmp_path / "d.sqlite")
        connection.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        connection.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        connection.execute("INSERT INTO client_metadata VALUES ('a', 's', 0), ('b', 's', 2)")
        for values in ([1.0, 2.0], [NAN]):
            example = tensorflow.train.Example()
            example.features.feature["x"].float_list.value.extend(values)
            connection.execute("INSERT INTO examples VALUES ('s', 'b', ?)", [example.SerializeToString()])
        connection.commit()
        connection.close()
        data = from_tff_sqlite(
            tmp_path / "d.sqlite", convert={"x": lambda rows: np.array([np.nan_to_num(row).sum() for row in rows])}
        )
        assert (data.client("b")["x"].tolist(), data.client("a")["x"].shape) == ([3, 0], (0,))


def test_tf_datasets():
    tensorflow = pytest.importorskip("tensorflow")
    data = from_tf_datasets({"a": tensorflow.data.Dataset.from_tensor_slices({"x": [1.0, NAN]})})
    with pytest.raises(ValueError, match="'x' of client 'a' has no value in 1 rows, the first of which is row 1"):
        data.client("a")
    pairs = tensorflow.data.Dataset.from_tensor_slices(([1], [2]))
    with pytest.raises(ValueError, match="names gives two tensors the same name"):
        from_tf_datasets({"a": pairs}, names=("x", "x"))


class TestCsv:
    @pytest.mark.parametrize("values", ["9007199254740993,1.5", "18446744073709551615,1", "1e300,1"])
    def test_whole_numbers_beyond_64_bits_or_beside_fractions_are_not_rounded(self, values: str, tmp_path: Path):
        file = tmp_path / "t.csv"
        file.write_text("who,x\n" + "\n".join(f"a,{value}" for value in values.split(",")) + "\n")
        with pytest.raises(TypeError, match=r"column 'x' of .*t\.csv holds a number as large as .*say what it is with"):
            from_csv(file, "who")
        exact = {"x": lambda texts: np.array([len(text) for text in texts])}
        assert from_csv(file, "who", convert=exact, column_types={"x": "str"}).client("a")["x"][0] == len(
            values.split(",")[0]
        )
        assert from_csv(file, "who", column_types={"x": "float64"}).client("a")["x"][0] == float(values.split(",")[0])

    def test_a_number_that_is_too_large_is_no_infinity(self, tmp_path: Path):
        (tmp_path / "t.csv").write_text("who,x\na,1e39\nb,1e400\n")
        for dtype in ("float32", "float64"):
            with pytest.raises(ValueError, match=f"column 'x' of .*t.csv holds .*too large for {dtype}"):
                from_csv(tmp_path / "t.csv", "who", convert={"x": dtype})
        with pytest.raises(ValueError, match="holds infinity, or a number that is too large for float64"):
            from_csv(tmp_path / "t.csv", "who")
        exponents = {"x": lambda texts: np.array([int(text.partition("e")[2]) for text in texts])}
        data = from_csv(tmp_path / "t.csv", "who", convert=exponents, column_types={"x": "str"})
        assert [data.client(client)["x"].tolist() for client in "ab"] == [[39], [400]]


class TestNumbersThatLibrariesRound:
    def test_a_frame_as_an_array_keeps_its_whole_numbers(self):
        owners = ["a", "b"]
        frame = pandas.DataFrame({"i": [3, 2], "f": [1.5, 2.0]})
        assert ClientData.from_arrays({"x": frame}, owners).client("a")["x"].tolist() == [[3.0, 1.5]]
        for made in (pandas.DataFrame, polars.DataFrame):
            with pytest.raises(ValueError, match="whole numbers in its column 'i' that float64"):
                ClientData.from_arrays({"x": made({"i": [2**53 + 1, 2], "f": [1.5, 2.0]})}, owners)

    def test_a_function_gets_what_arrow_stores_for_pandas(self):
        lists = pandas.Series([[2**53 + 1, None]], dtype=pandas.ArrowDtype(pyarrow.list_(pyarrow.int64())))
        seen: list[Any] = []
        convert = {"x": lambda rows: (seen.extend(rows), np.zeros(len(rows)))[1]}
        from_frame(pandas.DataFrame({"who": ["a"], "x": lists}), "who", convert=convert)
        assert seen == [[2**53 + 1, None]]

    def test_a_signalling_nan_is_missing(self):
        columns = {"who": ["a", "a", "b"], "x": [Decimal("sNaN"), Decimal(1), Decimal(2)]}
        with pytest.raises(ValueError, match="has no value in 1 rows, the first of which is row 0"):
            from_frame(pandas.DataFrame(columns), "who")
