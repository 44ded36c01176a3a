"""Data frames, Parquet, CSV and Hugging Face datasets: the same table gives the same clients from each."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import ClientData, DatasetError, from_csv, from_frame, from_huggingface, from_parquet
from hansa.simulation.readers.parquet import ParquetTable

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")

RANDOM = np.random.default_rng(0)
ROWS = 200
CLIENTS = RANDOM.choice(["ann", "bo", "cy", "dee"], ROWS)
COLUMNS: dict[str, Any] = {
    "who": CLIENTS.tolist(),
    "height": RANDOM.normal(size=ROWS).round(3).tolist(),
    "weight": RANDOM.normal(size=ROWS).round(3).tolist(),
    "label": RANDOM.integers(0, 5, ROWS).tolist(),
}

Read = Callable[..., ClientData]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))


def reader(kind: str, folder: Path) -> Callable[[dict[str, Any]], Read]:
    """A function that stores columns as a table of a kind, and gives the function that reads it."""

    def store(columns: dict[str, Any]) -> Read:
        if kind == "pandas":
            return lambda *args, **named: from_frame(pandas.DataFrame(columns), *args, **named)
        if kind == "polars":
            return lambda *args, **named: from_frame(polars.DataFrame(columns, strict=False), *args, **named)
        if kind == "huggingface":
            return lambda *args, **named: from_huggingface(datasets.Dataset.from_dict(columns), *args, **named)
        table = pyarrow.table(columns)
        if kind == "parquet":
            parquet.write_table(table, folder / "table.parquet", row_group_size=16)
            return lambda *args, **named: from_parquet(folder / "table.parquet", *args, **named)
        table.to_pandas().to_csv(folder / "table.csv", index=False)
        return lambda *args, **named: from_csv(folder / "table.csv", *args, **named)

    return store


KINDS = ["pandas", "polars", "parquet", "csv", "huggingface"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, Any]], Read]:
    return reader(request.param, tmp_path)


@pytest.fixture(params=["parquet", "csv", "huggingface"])
def store_typed(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, Any]], Read]:
    return reader(request.param, tmp_path)


def mine(column: str, client: str) -> list[Any]:
    """A client's values, by a plain loop."""
    return [value for value, owner in zip(COLUMNS[column], COLUMNS["who"], strict=True) if owner == client]


def test_each_client_has_its_rows_in_order(store: Any):
    data = store(COLUMNS)("who")
    assert list(data.client_ids) == ["ann", "bo", "cy", "dee"]
    assert data.sizes.tolist() == [len(mine("label", client)) for client in data.client_ids]
    assert str(data.example_type) == "<height=float64[?],weight=float64[?],label=int64[?]>"
    for client in data.client_ids:
        for column in ("height", "weight", "label"):
            assert data.client(client)[column].tolist() == mine(column, client)


def test_columns_are_stacked_renamed_and_cast(store: Any):
    data = store(COLUMNS)(
        "who",
        {"x": ["weight", "height"], "y": "label"},
        {"x": "float32", "y": lambda labels: labels.astype(np.int32) * 10},
    )
    assert str(data.example_type) == "<x=float32[?,2],y=int32[?]>"
    found = data.client("cy")
    np.testing.assert_array_equal(
        found["x"], np.column_stack([mine("weight", "cy"), mine("height", "cy")]).astype(np.float32)
    )
    assert found["y"].tolist() == [10 * label for label in mine("label", "cy")]


def test_text_is_read_by_a_function(store: Any):
    words = [f"word{i % 7}" * (i % 3) or "none" for i in range(ROWS)]
    data = store({**COLUMNS, "text": words})("who", ["text"], {"text": lambda texts: np.array([len(t) for t in texts])})
    expected = [len(word) for word, owner in zip(words, COLUMNS["who"], strict=True) if owner == "bo"]
    assert data.client("bo")["text"].tolist() == expected


def test_integers_are_ids_and_minus_one_is_nobody(store: Any):
    owners = [3, -1, 10, 3, -1, 2]
    with pytest.warns(UserWarning, match="column 'id' of .* has no client for 2 of 6 rows"):
        data = store({"id": owners, "y": [0, 1, 2, 3, 4, 5]})("id")
    assert list(data.client_ids) == [2, 3, 10]
    assert [data.client(client)["y"].tolist() for client in (2, 3, 10)] == [[5], [0, 3], [2]]


def test_rows_without_an_id_are_nobodys(store: Any):
    with pytest.warns(UserWarning, match="has no client for 1 of 4 rows"):
        data = store({"who": ["b", None, "a", "b"], "y": [0, 1, 2, 3]})("who")
    assert data.num_left_out == 1
    assert list(data.client_ids) == ["a", "b"]
    assert data.client("b")["y"].tolist() == [0, 3]
    with pytest.warns(UserWarning, match="has no client for 1 of 3 rows"):
        assert store({"who": [5, None, 4], "y": [0, 1, 2]})("who").client(5)["y"].tolist() == [0]


def test_lists_of_one_length_are_an_axis(tmp_path: Path):
    columns = {"who": ["a", "b", "a"], "x": [[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]}
    for kind in ("pandas", "polars", "parquet", "huggingface"):
        data = reader(kind, tmp_path)(columns)("who")
        assert data.client("a")["x"].tolist() == [[[1.0, 2.0]], [[5.0, 6.0]]], kind
        ragged = {"who": ["a", "a"], "x": [[1.0], [1.0, 2.0]]}
        with pytest.raises(ValueError, match=r"rows of different shapes: row 0 is \[1\], row 1 \[2\]; pad or crop"):
            reader(kind, tmp_path)(ragged)("who").client("a")


def test_a_missing_column_is_answered_with_the_nearest(store: Any):
    read = store(COLUMNS)
    with pytest.raises(ValueError, match=r"has no column 'whoo'; did you mean 'who'[?] the columns are: who, height"):
        read("whoo")
    with pytest.raises(ValueError, match=r"has no column 'lable'; did you mean 'label'\?"):
        read("who", {"x": "height", "y": "lable"})
    with pytest.raises(ValueError, match="convert names an array that is not there: there is no field 'label'"):
        read("who", {"x": "height"}, {"label": "int32"})


def test_text_is_no_number(store: Any):
    with pytest.raises(TypeError, match=r"column 'text' of .* holds text.*leave it out of features, or"):
        store({**COLUMNS, "text": ["word"] * ROWS})("who")


def test_missing_values_are_pointed_at(store_typed: Any, tmp_path: Path):
    columns = {"who": ["a", "a", "a"], "y": [1, None, 3]}
    for read in (reader("polars", tmp_path)(columns), reader("parquet", tmp_path)(columns)):
        with pytest.raises(ValueError, match=r"column 'y' of .* has no value in 1 rows, the first of which is row 1"):
            read("who").client("a")


def test_a_stack_of_two_dtypes_is_refused(store: Any):
    with pytest.raises(TypeError, match=r"'x' is to be made of columns of one dtype, .*convert=\{'x': 'float64'\}"):
        store(COLUMNS)("who", {"x": ["height", "label"]}).client("ann")
    both = store(COLUMNS)("who", {"x": ["height", "label"]}, {"x": np.float32}).client("ann")["x"]
    assert (both.dtype, both.shape[1]) == (np.float32, 2)


def test_a_cast_that_changes_values_is_refused(tmp_path: Path):
    for kind in KINDS:
        with pytest.raises((ValueError, TypeError), match=r"converted to int32: it holds|line 2, column 'height'"):
            reader(kind, tmp_path)(COLUMNS)("who", {"x": "height"}, {"x": "int32"}).client("ann")


def test_no_rows_are_no_clients(store: Any):
    with pytest.raises((ValueError, TypeError), match="no rows"):
        store({"who": np.array([], np.int64), "y": np.array([], np.float32)})("who")


def test_ids_are_not_fractions(store: Any):
    with pytest.raises(TypeError, match="must hold integers or strings, the clients' ids; "):
        store({"who": [0.5, 1.5], "y": [1, 2]})("who")


def test_frames_with_mixed_types_are_refused():
    frame = pandas.DataFrame({"who": ["a", "b"], "x": pandas.Series([1, "two"], dtype=object)})
    with pytest.raises(TypeError, match="column 'x' of the frame mixes types: row 0 is the int 1, row 1 the str 'two'"):
        from_frame(frame, "who")
    frame = pandas.DataFrame({"who": pandas.Series(["a", 3], dtype=object), "x": [1, 2]})
    with pytest.raises(TypeError, match="must hold integers or strings"):
        from_frame(frame, "who")
    dates = pandas.DataFrame({"who": ["a"], "x": pandas.to_datetime(["2020-01-01"])})
    with pytest.raises(TypeError, match="column 'x' of the frame holds datetime64"):
        from_frame(dates, "who")


def test_missing_integers_are_not_floats():
    numbers = pandas.array([1, None, 3], dtype="Int64")
    frame = pandas.DataFrame({"who": ["a", "a", "b"], "x": numbers})
    with pytest.raises(ValueError, match="column 'x' of the frame has no value in 1 rows, the first of which is row 1"):
        from_frame(frame, "who")
    with pytest.warns(UserWarning, match="column 'who' of the frame has no client for 1 of 3 rows"):
        assert list(from_frame(pandas.DataFrame({"who": numbers, "x": [1, 2, 3]}), "who").client_ids) == [1, 3]


def test_a_function_gives_a_row_for_each_value(store: Any):
    for wrong in (lambda values: values[:2], lambda values: ["text"] * len(values)):
        with pytest.raises(ValueError, match=r"convert\['label'\] must return an array of numbers with a row for each"):
            store(COLUMNS)("who", ["label"], {"label": wrong}).client("ann")


def test_what_is_no_frame_is_refused():
    with pytest.raises(TypeError, match=r"must have strings for names; found the int 0; call frame.rename"):
        from_frame(pandas.DataFrame(np.zeros((2, 2))), "who")
    with pytest.raises(TypeError, match="must be a DataFrame of pandas or Polars; found a dict"):
        from_frame({"who": ["a"]}, "who")
    with pytest.raises(TypeError, match=r"call \.collect\(\) first"):
        from_frame(polars.LazyFrame({"who": ["a"], "x": [1]}), "who")
    with pytest.raises(TypeError, match=r"pass dataset\['train'\]"):
        from_huggingface(datasets.DatasetDict({"train": datasets.Dataset.from_dict(COLUMNS)}), "who")


class TestParquet:
    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str]]]:
        """The row groups and columns of each read of a Parquet file."""
        seen: list[tuple[list[int], list[str]]] = []
        read = parquet.ParquetFile.iter_batches

        def watched(self: Any, batch_size: int, row_groups: Any, columns: Any, **named: Any) -> Any:
            seen.append((list(row_groups), list(columns)))
            return read(self, batch_size, row_groups, columns, **named)

        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", watched)
        for whole in ("read", "read_row_group", "read_row_groups"):
            monkeypatch.setattr(parquet.ParquetFile, whole, None)
        monkeypatch.setattr(parquet, "read_table", None)
        return seen

    def sorted_by_client(self, path: Path) -> Any:
        table = pyarrow.table(COLUMNS).sort_by("who")
        parquet.write_table(table, path, row_group_size=10)
        return table

    def test_only_a_clients_row_groups_and_the_chosen_columns_are_read(self, reads: Any, tmp_path: Path):
        table = self.sorted_by_client(tmp_path / "sorted.parquet")
        data = from_parquet(tmp_path / "sorted.parquet", "who", {"x": "weight"})
        assert reads == [(list(range(20)), ["who"])]
        reads.clear()
        found = data.client("bo")["x"]
        owners = table.column("who").to_pylist()
        rows = [row for row, owner in enumerate(owners) if owner == "bo"]
        assert reads == [(list(range(rows[0] // 10, rows[-1] // 10 + 1)), ["weight"])]
        assert found.tolist() == [table.column("weight")[row].as_py() for row in rows]

    def test_sizes_need_no_second_look(self, reads: Any, tmp_path: Path):
        self.sorted_by_client(tmp_path / "sorted.parquet")
        data = from_parquet(tmp_path / "sorted.parquet", "who")
        assert data.sizes.sum() == ROWS
        assert len(reads) == 1

    def test_batches_that_span_row_groups_are_told_apart(self, tmp_path: Path):
        random = np.random.default_rng(1)
        owners = random.integers(0, 50, 3000)
        path = tmp_path / "scattered.parquet"
        parquet.write_table(pyarrow.table({"who": owners, "row": np.arange(3000)}), path, row_group_size=7)
        data = from_parquet(path, "who")
        for client in (0, 17, 49):
            assert data.client(client)["row"].tolist() == np.flatnonzero(owners == client).tolist()
        rows = np.array([3, 7, 8, 2999])
        assert ParquetTable(path, "test").rows(rows, ["row"]).column("row").to_pylist() == rows.tolist()

    def test_a_damaged_file_is_named(self, tmp_path: Path):
        path = tmp_path / "sorted.parquet"
        with pytest.raises(FileNotFoundError, match=f"there is no file {path}"):
            from_parquet(path, "who")
        self.sorted_by_client(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DatasetError, match=f"{path} is damaged, or no Parquet file"):
            from_parquet(path, "who")


class TestCsv:
    def written(self, path: Path, text: str) -> Path:
        path.write_text(text)
        return path

    def test_it_is_arranged_once_and_then_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = self.written(tmp_path / "t.csv", "who;a;b\nx;1;2\ny;3;4\nx;5;6\n")
        assert from_csv(path, "who", ["a"], delimiter=";").client("x")["a"].tolist() == [1, 5]
        (arranged,) = (tmp_path / "cache" / "tables").iterdir()
        first = arranged.stat().st_mtime_ns
        assert from_csv(path, "who", ["a"], delimiter=";").client("y")["a"].tolist() == [3]
        assert [each.stat().st_mtime_ns for each in (tmp_path / "cache" / "tables").iterdir()] == [first]
        path.write_text("who;a;b\nx;10;2\n")
        assert from_csv(path, "who", ["a"], delimiter=";").client("x")["a"].tolist() == [10]

    def test_it_is_never_loaded_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        from hansa.simulation.readers import csv_sorting

        random = np.random.default_rng(2)
        owners, values = random.integers(0, 40, 200_000), random.integers(0, 10**9, 200_000)
        path = tmp_path / "large.csv"
        pandas.DataFrame({"who": owners, "value": values, "word": [f"é{owner}" for owner in owners]}).to_csv(
            path, index=False
        )
        monkeypatch.setattr(csv_sorting, "_BUCKET_BYTES", path.stat().st_size // 5)
        largest: list[int] = []
        joined = csv_sorting.joined
        monkeypatch.setattr(
            csv_sorting,
            "joined",
            lambda parts, kind: (largest.append(sum(len(part.values) for part in parts)), joined(parts, kind))[1],
        )
        lengths = {"word": lambda words: np.array([int(word[1:]) for word in words])}
        data = from_csv(path, "who", convert=lengths)
        assert len(largest) > 6
        assert max(largest) < 100_000
        for client in (0, 39):
            assert data.client(client)["value"].tolist() == values[owners == client].tolist()
            assert set(data.client(client)["word"].tolist()) == {client}
        assert data.sizes.tolist() == np.bincount(owners, minlength=40).tolist()

    def test_types_are_those_of_the_first_rows_or_given(self, tmp_path: Path):
        lines = ["who,x", *["a,1"] * 600_000, "b,2.5", "c01,3"]
        path = self.written(tmp_path / "t.csv", "\n".join(lines))
        with pytest.raises(TypeError, match=r"not of its column's type: .*2\.5.*say another with column_types="):
            from_csv(path, "who")
        assert from_csv(path, "who", convert={"x": "float32"}).client("b")["x"].tolist() == [2.5]
        given = from_csv(path, "who", column_types={"x": "float64"})
        assert given.client("c01")["x"].tolist() == [3.0]
        assert from_csv(path, "who", convert={"x": "float16"}, column_types={"x": "float64"}).client("b")["x"] == [2.5]
        with pytest.raises(ValueError, match="column_types names 'z'"):
            from_csv(path, "who", column_types={"z": "str"})
        with pytest.raises(TypeError, match=r"column_types\['x'\] must be 'str', or a dtype such as 'float64'"):
            from_csv(path, "who", column_types={"x": "strr"})

    def test_ids_that_look_like_numbers_may_be_strings(self, tmp_path: Path):
        path = self.written(tmp_path / "t.csv", "who,x\n007,1\n7,2\n,3\n")
        with pytest.warns(UserWarning, match="column 'who' of .* has no client for 1 of 3 rows"):
            assert list(from_csv(path, "who").client_ids) == ["007", "7"]
            assert list(from_csv(path, "who", column_types={"who": "str"}).client_ids) == ["007", "7"]
            assert list(from_csv(path, "who", column_types={"who": "int64"}).client_ids) == [7]

    def test_compressed_files_are_read(self, tmp_path: Path):
        import gzip

        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"who,x\na,1\nb,2\n"))
        assert from_csv(tmp_path / "t.csv.gz", "who").client("b")["x"].tolist() == [2]

    def test_what_is_no_table_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            from_csv(tmp_path / "none.csv", "who")
        empty = self.written(tmp_path / "empty.csv", "")
        with pytest.raises(ValueError, match=f"{empty} is empty"):
            from_csv(empty, "who")
        header = self.written(tmp_path / "header.csv", "who,x\n")
        with pytest.raises(ValueError, match=f"{header} has no rows"):
            from_csv(header, "who")
        broken = self.written(tmp_path / "broken.csv", "who,x\na,1\nb,2,3\n")
        with pytest.raises(DatasetError, match=f"{broken} is damaged.*line 3 has 3 values, and the first line has 2"):
            from_csv(broken, "who")


class TestHuggingFace:
    def test_rows_of_a_shuffled_selection_are_those_it_shows(self):
        dataset = datasets.Dataset.from_dict(COLUMNS).shuffle(seed=3).select(range(50))
        data = from_huggingface(dataset, "who")
        for client in data.client_ids:
            expected = [row["label"] for row in dataset if row["who"] == client]
            assert data.client(client)["label"].tolist() == expected

    def test_images_are_decoded(self):
        image = pytest.importorskip("PIL.Image")
        pixels = np.random.default_rng(4).integers(0, 256, (3, 5, 4), np.uint8)
        columns = {"who": ["a", "b", "a"], "image": [image.fromarray(each) for each in pixels], "label": [0, 1, 2]}
        features = datasets.Features(
            {
                "who": datasets.Value("string"),
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["zero", "one", "two"]),
            }
        )
        data = from_huggingface(datasets.Dataset.from_dict(columns, features), "who", {"x": "image", "y": "label"})
        assert str(data.example_type) == "<x=uint8[?,5,4],y=int64[?]>"
        np.testing.assert_array_equal(data.client("a")["x"], pixels[[0, 2]])
        assert data.client("a")["y"].tolist() == [0, 2]

    def test_arrays_of_two_axes_keep_them(self):
        features = datasets.Features({"who": datasets.Value("int64"), "x": datasets.Array2D((2, 3), "float32")})
        values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
        dataset = datasets.Dataset.from_dict({"who": [1, 0], "x": values}, features)
        found = from_huggingface(dataset, "who").client(1)["x"]
        np.testing.assert_array_equal(found, values[:1])


def test_a_missing_library_says_what_to_install(tmp_path: Path):
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import hansa.simulation\n"
        f"hansa.simulation.from_parquet({str(tmp_path / 't.parquet')!r}, 'who')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "from_parquet needs pyarrow, which is not installed: pip install 'hansa[parquet]'" in done.stderr
