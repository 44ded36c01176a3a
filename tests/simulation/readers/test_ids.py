"""Every reader has the clients that its source has: none is lost, none is made of two, and what is nobody's is said."""

import json
import sqlite3
import warnings
from collections.abc import Callable
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
    from_tff_sqlite,
    partition_by_label,
)

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")

Read = Callable[[list[Any]], ClientData]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=["arrays", "pandas", "polars", "parquet", "csv", "huggingface"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    """A function that stores ids, as the library would, beside a column of their positions, and reads it."""

    def stored(ids: list[Any]) -> ClientData:
        x = np.arange(len(ids))
        if request.param == "arrays":
            return ClientData.from_arrays({"x": x}, ids)
        if request.param == "pandas":
            return from_frame(pandas.DataFrame({"who": ids, "x": x}), "who")
        if request.param == "polars":
            return from_frame(polars.DataFrame({"who": ids, "x": x}), "who")
        if request.param == "csv":
            lines = ["who,x", *(f"{'' if i is None else i},{place}" for place, i in enumerate(ids))]
            (tmp_path / "t.csv").write_text("\n".join(lines))
            return from_csv(tmp_path / "t.csv", "who")
        kind = pyarrow.uint64() if any(isinstance(i, int) and i >= 2**63 for i in ids) else None
        table = pyarrow.table({"who": pyarrow.array(ids, kind), "x": x})
        if request.param == "huggingface":
            return from_huggingface(datasets.Dataset(table), "who")
        parquet.write_table(table, tmp_path / "t.parquet")
        return from_parquet(tmp_path / "t.parquet", "who")

    return stored


@pytest.mark.parametrize(
    "ids",
    [
        [12345678901234567890, 12345678901234567999, 7, 7],
        [-1640531527, 387276957, -2128831035, -1640531527],
        [2**53 + 1, 2**53, 2**53 + 1],
        ["01", "1", "001", "1"],
        ["ann", "Ann", "ann ", " ann", "nan", "NA", "None"],
        ["é", "e\u0301", "日本"],
    ],
)
def test_each_id_is_a_client_with_its_rows(read: Read, ids: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = read(ids)
    assert list(data.client_ids) == sorted(set(ids))
    for client in data.client_ids:
        assert data.client(client)["x"].tolist() == [place for place, one in enumerate(ids) if one == client]


@pytest.mark.parametrize("ids", [["b", None, "a", "", "b"], [3, None, 1, -1, 3], ["b", "  ", "a", None, "b"]])
def test_rows_of_nobody_are_counted_and_said(read: Read, ids: list[Any]) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = read(ids)
    (text,) = [str(warning.message) for warning in said if warning.category is UserWarning]
    assert "has no client for 2 of 5 rows" in text
    assert len([warning for warning in said if warning.category is UserWarning]) == 1
    assert (list(data.client_ids), data.sizes.tolist(), data.num_left_out) == (sorted({ids[0], ids[2]}), [1, 2], 2)
    assert data.client(ids[0])["x"].tolist() == [0, 4]


def test_minus_one_beside_other_negative_ids_is_refused(read: Read) -> None:
    with pytest.raises(ValueError, match="-1, which stands for nobody, and other negative ids, such as -5"):
        read([-5, -1, 3])


FRAMES: dict[str, tuple[Any, list[Any]]] = {
    "Int64": (lambda: pandas.array([2**53 + 1, 2**53, None], "Int64"), [2**53, 2**53 + 1]),
    "categories of integers": (lambda: pandas.Categorical([2**53 + 1, 2**53, None]), [2**53, 2**53 + 1]),
    "categories of strings": (lambda: pandas.Categorical(["b", "a", None]), ["a", "b"]),
    "objects": (lambda: pandas.Series([2**70, -(2**70), pandas.NaT], dtype=object), [-(2**70), 2**70]),
    "a float column of small integers": (lambda: [3.0, 1.0, None], [1, 3]),
    "Arrow": (lambda: pandas.array([2**62 + 1, 2**62, None], pandas.ArrowDtype(pyarrow.int64())), [2**62, 2**62 + 1]),
}


@pytest.mark.parametrize("case", FRAMES)
@pytest.mark.filterwarnings("ignore:.* has no client for 1 of 3 rows")
def test_the_types_of_pandas_keep_their_ids(case: str) -> None:
    make, expected = FRAMES[case]
    frame = pandas.DataFrame({"who": make(), "x": [1, 2, 3]})
    for data in (from_frame(frame, "who"), ClientData.from_arrays({"x": np.arange(3)}, frame["who"])):
        assert (list(data.client_ids), data.num_left_out) == (expected, 1)


def test_what_a_float_column_has_lost_is_refused() -> None:
    frame = pandas.DataFrame({"who": [2**53 + 1, 2**53, None], "x": [1, 2, 3]})
    with pytest.raises(
        ValueError, match=r"row 0 holds 9007199254740992\.0; from 9007199254740992 on one float stands for"
    ):
        from_frame(frame, "who")


@pytest.mark.parametrize(
    "column",
    [
        lambda: pyarrow.array([True, False]),
        lambda: pyarrow.array([b"a", b"b"]),
        lambda: pyarrow.array([1, 2], pyarrow.date32()),
        lambda: pyarrow.array([1, 2], pyarrow.timestamp("us")),
        lambda: pyarrow.array([[1], [2]]),
        lambda: pyarrow.array([{"a": 1}, {"a": 2}]),
        lambda: pyarrow.array([1.5, 2.0]).dictionary_encode(),
    ],
)
def test_what_is_no_id_is_refused_alike(column: Any, tmp_path: Path) -> None:
    table = pyarrow.table({"who": column(), "x": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    frame = polars.from_arrow(table)
    readers: list[Callable[[], ClientData]] = [
        lambda: from_frame(frame, "who"),
        lambda: from_parquet(tmp_path / "t.parquet", "who"),
        lambda: from_huggingface(datasets.Dataset(table), "who"),
        lambda: ClientData.from_arrays({"x": np.arange(2)}, column().to_pylist()),
    ]
    for reader in readers:
        with pytest.raises(TypeError, match="must hold integers or strings, the clients' ids; "):
            reader()


def test_wide_types_keep_their_ids(tmp_path: Path) -> None:
    table = pyarrow.table({"who": pyarrow.array([Decimal(10**20 + 1), Decimal(10**20)]), "x": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert list(from_parquet(tmp_path / "t.parquet", "who").client_ids) == [10**20, 10**20 + 1]
    assert list(from_frame(polars.from_arrow(table), "who").client_ids) == [10**20, 10**20 + 1]
    assert list(from_frame(table.to_pandas(), "who").client_ids) == [10**20, 10**20 + 1]
    frame = polars.DataFrame({"who": polars.Series([2**70, 3], dtype=polars.Int128), "x": [1, 2]})
    assert list(from_frame(frame, "who").client_ids) == [3, 2**70]


class TestText:
    def test_the_kind_of_ids_does_not_depend_on_where_a_file_is_cut(self, tmp_path: Path) -> None:
        rows = 300_000
        path = tmp_path / "t.csv"
        path.write_text("who,x\n" + "7,0\n" * rows + "12345678901234567890,1\n007,2\n")
        data = from_csv(path, "who")
        assert dict(zip(data.client_ids, data.sizes.tolist(), strict=True)) == {
            "007": 1,
            "12345678901234567890": 1,
            "7": rows,
        }

    def test_floats_of_missing_integers_are_integers_again(self, tmp_path: Path) -> None:
        pandas.DataFrame({"who": [5, None, -4], "x": [1, 2, 3]}).to_csv(tmp_path / "t.csv", index=False)
        for _ in ("made", "from the cache"):
            with pytest.warns(UserWarning, match="1 of 3 rows; these are nobody's"):
                assert list(from_csv(tmp_path / "t.csv", "who").client_ids) == [-4, 5]

    def test_numbers_that_are_no_integers_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("who,x\n1.5,1\n2,2\n")
        with pytest.raises(TypeError, match=r"found '1\.5', .* say column_types="):
            from_csv(tmp_path / "t.csv", "who")
        assert list(from_csv(tmp_path / "t.csv", "who", column_types={"who": "str"}).client_ids) == ["1.5", "2"]

    def test_a_column_of_clients_that_is_a_feature_has_a_type(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("who,x\n1,1\n2,2\n")
        with pytest.raises(
            ValueError, match=r"column 'who' of .* is in features, too; say what it holds with column_types"
        ):
            from_csv(tmp_path / "t.csv", "who", ["who", "x"])
        data = from_csv(tmp_path / "t.csv", "who", ["who"], column_types={"who": "int64"})
        assert data.client(2)["who"].tolist() == [2]


@pytest.mark.parametrize("users", [["a", None], [1, 2], ["a", ["b"]], ["a", ""], ["a", "a"]])
def test_users_of_leaf_are_different_strings(users: list[Any], tmp_path: Path) -> None:
    data = {str(user): {"x": [1.0]} for user in users}
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"users": users, "num_samples": [1, 1], "user_data": data}))
    with pytest.raises(DatasetError, match=str(file)):
        from_leaf(file)


@pytest.mark.parametrize("ids", [[1, "1"], [None, "a"], [b"a", "b"], ["", "a"], [1.5, 2], ["a", "a"]])
def test_clients_of_a_database_are_different_strings(ids: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "t.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE examples (split_name, client_id, serialized_example_proto)")
        database.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
        database.executemany("INSERT INTO client_metadata VALUES (?, 'train', 1)", [(one,) for one in ids])
    database.close()
    with pytest.raises(DatasetError, match=str(file)):
        from_tff_sqlite(file)


def test_labels_of_several_types_are_not_dealt_out() -> None:
    with pytest.raises(TypeError, match="labels must be all integers or all strings"):
        partition_by_label([1, "1", 2])
    with pytest.raises(TypeError, match="labels must be all integers or all strings"):
        partition_by_label(np.ma.array([1, 2], mask=[True, False]))
