"""Files that are damaged, forged or meant to do harm: each is a `DatasetError` that names the file, soon and small."""

import gzip
import json
import os
import sqlite3
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import (
    DatasetError,
    from_csv,
    from_folder,
    from_leaf,
    from_parquet,
    from_tff_hdf5,
    from_tff_sqlite,
)
from hansa.simulation.readers.tf_example import parse_example

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))


def refused(read: Callable[[], Any], path: Path, why: str) -> DatasetError:
    """That reading every client is a `DatasetError` which names the file and says why."""
    with pytest.raises(DatasetError, match=why) as caught:
        data = read()
        for client in data.client_ids:
            data.client(client)
    assert str(path) in str(caught.value)
    return caught.value


def varint(number: int) -> bytes:
    parts = []
    while number >> 7:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(name: str, kind: int, content: bytes) -> bytes:
    return field(1, field(1, field(1, name.encode()) + field(2, field(kind, content))))


class TestExamples:
    def test_an_integer_has_ten_bytes_at_most_and_is_found_out_at_once(self):
        begin = time.process_time()
        with pytest.raises(ValueError, match="an integer of more than ten bytes"):
            parse_example(b"\xff" * 10_000_000 + b"\x01")
        with pytest.raises(ValueError, match="an integer of more than ten bytes"):
            parse_example(feature("k", 3, field(1, b"\xff" * 10_000_000 + b"\x01")))
        assert time.process_time() - begin < 5

    @pytest.mark.parametrize("number", [0, 1, 127, 128, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
    def test_integers_are_of_64_bits_packed_or_not(self, number: int):
        want = np.array([number], np.uint64).view(np.int64)
        for content in (b"\x08" + varint(number), field(1, varint(number))):
            found = parse_example(feature("k", 3, content))["k"]
            assert found.dtype == np.int64
            assert found == want
        for content in (b"\x08" + varint(2**64 + number), field(1, varint(2**64 + number))):
            with pytest.raises(ValueError, match="an integer of more than 64 bits"):
                parse_example(feature("k", 3, content))

    def test_many_packed_integers_are_those_that_were_packed(self):
        numbers = np.random.default_rng(0).integers(-(2**63), 2**63, 200_000) >> np.arange(200_000) % 64
        packed = b"".join(varint(int(number)) for number in numbers.view(np.uint64))
        np.testing.assert_array_equal(parse_example(feature("k", 3, field(1, packed)))["k"], numbers)

    @pytest.mark.parametrize(
        "message",
        [
            "text",
            5,
            None,
            b"\x0b\x0c",
            b"\x00\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            feature("k", 2, field(1, b"abc")),
            feature("k", 2, b"\x09" + bytes(8)),
            feature("k", 1, b"\x08\x01"),
            field(1, field(1, field(1, b"\xff\xfe"))),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_what_is_none_is_a_value_error(self, message: Any):
        with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
            parse_example(message)


EXAMPLE = feature("x", 3, field(1, b"\x07"))


def database(path: Path, *statements: str | tuple[str, list[Any]], examples: bool = True, clients: bool = True) -> Path:
    with sqlite3.connect(path) as connection:
        if examples:
            connection.execute("CREATE TABLE examples (split_name, client_id, serialized_example_proto)")
        if clients:
            connection.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
        for statement in statements:
            connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.close()
    return path


class TestSqlite:
    ONE_CLIENT = "INSERT INTO client_metadata VALUES ('a', 'train', 1)"
    ONE_EXAMPLE = ("INSERT INTO examples VALUES ('train', 'a', ?)", [EXAMPLE])

    def test_a_plain_one_is_read(self, tmp_path: Path):
        path = database(tmp_path / "a.sqlite", self.ONE_CLIENT, self.ONE_EXAMPLE)
        assert from_tff_sqlite(path).client("a")["x"].tolist() == [7]

    @pytest.mark.parametrize(
        ("statement", "clients"),
        [
            (
                "CREATE VIEW client_metadata AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
                "SELECT CAST(n AS TEXT) client_id, 'train' split_name, 1 num_examples FROM r",
                True,
            ),
            ("CREATE VIEW examples AS SELECT 'train' split_name, 'a' client_id, 5 serialized_example_proto", False),
            ("CREATE VIRTUAL TABLE examples USING fts5(split_name, client_id, serialized_example_proto)", False),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_only_plain_tables_are_read(self, tmp_path: Path, statement: str, clients: bool):
        path = database(tmp_path / "a.sqlite", statement, examples=clients, clients=not clients)
        refused(lambda: from_tff_sqlite(path), path, "is to be a plain table, and is a computed (view|table)")

    def test_computed_columns_are_refused(self, tmp_path: Path):
        for kind in ("VIRTUAL", "STORED"):
            path = database(
                tmp_path / f"{kind}.sqlite",
                "CREATE TABLE examples (split_name, client_id, serialized_example_proto "
                f"AS (zeroblob(900000000)) {kind})",
                self.ONE_CLIENT,
                examples=False,
            )
            refused(lambda path=path: from_tff_sqlite(path), path, "has a computed column, 'serialized_example_proto'")

    def test_a_file_does_not_say_which_clients_are_the_same(self, tmp_path: Path):
        path = database(
            tmp_path / "a.sqlite",
            "CREATE TABLE examples (split_name TEXT, client_id TEXT COLLATE NOCASE, serialized_example_proto BLOB)",
            self.ONE_CLIENT,
            self.ONE_EXAMPLE,
            "INSERT INTO client_metadata SELECT upper(client_id), split_name, num_examples FROM client_metadata",
            "INSERT INTO examples SELECT split_name, upper(client_id), serialized_example_proto FROM examples",
            examples=False,
        )
        data = from_tff_sqlite(path)
        assert [data.client(client)["x"].tolist() for client in data.client_ids] == [[7], [7]]

    def test_no_more_comes_out_than_is_in_it(self, tmp_path: Path):
        """Rows that end before a column have its default, which stands in the file once."""
        example = feature("x", 3, field(1, bytes(9999)))
        path = database(
            tmp_path / "a.sqlite",
            "CREATE TABLE examples (split_name, client_id)",
            "INSERT INTO client_metadata VALUES ('a', 'train', 2000)",
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 2000) "
            "INSERT INTO examples SELECT 'train', 'a' FROM r",
            f"ALTER TABLE examples ADD COLUMN serialized_example_proto DEFAULT x'{example.hex()}'",
            examples=False,
        )
        refused(lambda: from_tff_sqlite(path), path, "more comes out of it than its [0-9,]+ bytes")

    def test_a_table_whose_pages_are_each_other_ends(self, tmp_path: Path):
        """Every child of an interior page is made the same page: four levels would have billions of rows."""
        rows = ("INSERT INTO examples SELECT 'train', 'a', zeroblob(20) FROM generate", [])
        path = database(
            tmp_path / "a.sqlite",
            self.ONE_CLIENT,
            "CREATE TABLE generate AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 60000) "
            "SELECT n FROM r",
            rows,
        )
        content = bytearray(path.read_bytes())
        for start in range(4096, len(content), 4096):
            if content[start] == 0x05:  # an interior page of a table
                cells = int.from_bytes(content[start + 3 : start + 5], "big")
                first = int.from_bytes(content[start + 12 : start + 14], "big")
                child = content[start + first : start + first + 4]
                for cell in range(cells):
                    place = int.from_bytes(content[start + 12 + 2 * cell : start + 14 + 2 * cell], "big")
                    content[start + place : start + place + 4] = child
        path.write_bytes(content)
        begin = time.process_time()
        refused(lambda: from_tff_sqlite(path), path, "is damaged")
        assert time.process_time() - begin < 10

    @pytest.mark.parametrize(
        ("statements", "why"),
        [
            (["INSERT INTO client_metadata VALUES (x'ff', 'train', 1)"], "the name of a client is to be text"),
            (["INSERT INTO client_metadata VALUES ('a', NULL, 1)"], "the name of a split is to be text, and is None"),
            (["INSERT INTO client_metadata VALUES ('a', 'train', -1)"], "is to have -1 examples"),
            (["INSERT INTO client_metadata VALUES ('a', 'train', 1.5)"], r"is to have 1\.5 examples"),
            ([ONE_CLIENT, ONE_CLIENT], "client 'a' is twice in its split"),
            ([ONE_CLIENT, ONE_EXAMPLE, ONE_EXAMPLE], "has 2 examples, but is said to have 1"),
            ([ONE_CLIENT, "INSERT INTO examples VALUES ('train', 'a', 5)"], "a value of type int, not bytes"),
            ([ONE_CLIENT, "INSERT INTO examples VALUES ('train', 'a', NULL)"], "of type NoneType, not bytes"),
            (["INSERT INTO client_metadata VALUES (CAST(x'ff' AS TEXT), 'train', 1)"], "is damaged"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_rows_are_of_the_right_types(self, tmp_path: Path, statements: list[Any], why: str):
        path = database(tmp_path / "a.sqlite", *statements)
        refused(lambda: from_tff_sqlite(path), path, why)

    def test_a_database_is_read_and_never_written(self, tmp_path: Path):
        path = database(
            tmp_path / "a.sqlite",
            "CREATE TRIGGER t AFTER INSERT ON examples BEGIN DELETE FROM client_metadata; END",
            self.ONE_CLIENT,
        )
        before = path.read_bytes()
        refused(lambda: from_tff_sqlite(path, features=["x"]), path, "^")
        assert (path.read_bytes(), sorted(each.name for each in tmp_path.iterdir())) == (before, ["a.sqlite"])

    def test_nothing_is_left_beside_a_database(self, tmp_path: Path):
        path = database(tmp_path / "a.sqlite", self.ONE_CLIENT, self.ONE_EXAMPLE)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        assert from_tff_sqlite(path).client("a")["x"].tolist() == [7]
        assert [each.name for each in tmp_path.iterdir()] == ["a.sqlite"]
        writing = sqlite3.connect(path)
        with writing:
            writing.execute("INSERT INTO client_metadata VALUES ('b', 'train', 1)")
            writing.execute("INSERT INTO examples VALUES ('train', 'b', ?)", [EXAMPLE])
        assert (tmp_path / "a.sqlite-wal").exists()
        assert list(from_tff_sqlite(path).client_ids) == ["a", "b"]
        writing.close()


class TestHdf5:
    def written(self, path: Path, fill: Callable[[Any], Any]) -> Path:
        with h5py.File(path, "w") as file:
            fill(file.create_group("examples/a"))
        return path

    def test_links_are_not_followed(self, tmp_path: Path):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["examples/a/x"] = np.arange(3)
        links: dict[str, Callable[[Any], Any]] = {
            "external": lambda group: group.__setitem__("x", h5py.ExternalLink("other.h5", "/examples/a/x")),
            "soft": lambda group: group.__setitem__("x", h5py.SoftLink("/examples/a/x")),
        }
        for name, fill in links.items():
            path = self.written(tmp_path / f"{name}.h5", fill)
            refused(lambda path=path: from_tff_hdf5(path), path, "/examples/a/x is a link")
        path = tmp_path / "client.h5"
        with h5py.File(path, "w") as file:
            file.create_group("examples")["a"] = h5py.ExternalLink("other.h5", "/examples/a")
        refused(lambda: from_tff_hdf5(path), path, "/examples/a is a link")

    def test_values_lie_in_the_file(self, tmp_path: Path):
        (tmp_path / "secret").write_bytes(b"secret!!")
        external = [(str(tmp_path / "secret"), 0, 8)]
        virtual = h5py.VirtualLayout((3,), "i8")
        virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
        fills: dict[str, Callable[[Any], Any]] = {
            "external": lambda group: group.create_dataset("x", (8,), "u1", external=external),
            "virtual": lambda group: group.create_virtual_dataset("x", virtual),
        }
        for name, fill in fills.items():
            path = self.written(tmp_path / f"{name}.h5", fill)
            refused(lambda path=path: from_tff_hdf5(path), path, "has its values in other files")
        path = self.written(tmp_path / "references.h5", lambda group: group.create_dataset("x", (2,), h5py.ref_dtype))
        refused(lambda: from_tff_hdf5(path), path, "holds references")

    def test_a_group_that_holds_itself_is_no_feature(self, tmp_path: Path):
        path = self.written(tmp_path / "loop.h5", lambda group: group.__setitem__("x", group))
        refused(lambda: from_tff_hdf5(path), path, "/examples/a/x is no dataset")

    def test_a_terabyte_that_is_not_there_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = self.written(
            tmp_path / "huge.h5", lambda group: group.create_dataset("x", (1 << 37,), "f8", chunks=(1 << 16,))
        )
        refused(lambda: from_tff_hdf5(path), path, "client 'a', of 1,099,511,627,776 bytes.*HANSA_MAX_UNPACKED_BYTES")
        path = self.written(
            tmp_path / "zeros.h5", lambda group: group.create_dataset("x", (1 << 18,), "f8", chunks=(1 << 16,))
        )
        assert not from_tff_hdf5(path).client("a")["x"].any()
        monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "2e6")
        refused(lambda: from_tff_hdf5(path), path, "which is more than a file of [0-9,]+ bytes may")
        path = self.written(
            tmp_path / "chunk.h5",
            lambda group: group.create_dataset("x", (1,), "f8", chunks=(1 << 27,), maxshape=(None,)),
        )
        refused(lambda: from_tff_hdf5(path), path, "has chunks of")

    def test_texts_that_lie_in_one_place_are_counted_each(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "1e6")
        path = self.written(
            tmp_path / "texts.h5", lambda group: group.create_dataset("x", data=["a" * 9000] * 500, dtype="S9000")
        )
        read = lambda: from_tff_hdf5(path, convert={"x": lambda texts: np.zeros(len(texts))})  # noqa: E731
        refused(read, path, "of 4,500,000 bytes")
        path = self.written(
            tmp_path / "any.h5",
            lambda group: group.create_dataset("x", data=["a" * 9000] * 500, dtype=h5py.string_dtype()),
        )
        refused(read, path, r"/examples/a/x, of more than 1,\d{3},\d{3} bytes")


class TestLeaf:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[" * 100_000, "nested too deeply"),
            ('{"a":' * 100_000, "nested too deeply"),
            ('{"users":[["a"]],"num_samples":[1],"user_data":{}}', r"users\[0\] is to be a string, and is \['a'\]"),
            ('{"users":["a"],"num_samples":[true],"user_data":{"a":{"x":[1]}}}', r"num_samples\[0\] is no number"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[1]},"a":{"x":[2]}}}', "the name 'a' is twice"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[NaN]}}}', "NaN is no value of JSON"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[-Infinity]}}}', "-Infinity is no value of JSON"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[1' + "0" * 400 + "]}}}", "client 'a'"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[1' + "0" * 5000 + "]}}}", "digits"),
            ('{"users":["a"],"num_samples":[2],"user_data":{"a":{"x":[[[1],[1,2]],[[1],[1,2]]]}}}', "client 'a'"),
            ('{"users":["a","a"],"num_samples":[1,1],"user_data":{"a":{"x":[1]}}}', "client 'a' is twice"),
            ('{"users":["a"],"num_samples":[1],"user_data":{"a":{"x":[{"b":1}]}}}', "client 'a'"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, text: str, why: str):
        path = tmp_path / "leaf.json"
        path.write_text(text)
        refused(lambda: from_leaf(path), path, why)

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path):
        path = tmp_path / "leaf.json"
        path.write_bytes(json.dumps({"users": ["ä"], "num_samples": [0], "user_data": {}}).encode("utf-16"))
        refused(lambda: from_leaf(path), path, "is damaged, or no JSON file")


class TestTables:
    def test_a_file_that_is_replaced_gives_nobody_elses_rows(self, tmp_path: Path):
        path, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
        parquet.write_table(pyarrow.table({"who": ["a", "b"], "x": [1, 2]}), path)
        data = from_parquet(path, "who")
        assert data.client("a")["x"].tolist() == [1]
        parquet.write_table(pyarrow.table({"who": ["b", "a"], "x": [2, 1]}), other)
        os.replace(other, path)
        with pytest.raises(DatasetError, match=f"{path} is not the file that it was .* read it anew"):
            data.client("a")
        assert from_parquet(path, "who").client("a")["x"].tolist() == [1]

    def test_a_table_of_more_rows_than_its_file_may_hold_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table({"who": ["a"] * 300_000, "x": np.zeros(300_000, np.int8)}), path)
        assert from_parquet(path, "who").sizes.tolist() == [300_000]
        monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "200000")
        refused(lambda: from_parquet(path, "who"), path, "holds 300,000 rows, which is more than a file of")

    def test_a_column_that_is_there_twice_is_named(self, tmp_path: Path):
        (tmp_path / "a.csv").write_text("who,x,x\na,1,2\n")
        table = pyarrow.Table.from_arrays(
            [pyarrow.array(["a"]), pyarrow.array([1]), pyarrow.array([2])], ["who", "x", "x"]
        )
        parquet.write_table(table, tmp_path / "a.parquet")
        for read, path in ((from_csv, tmp_path / "a.csv"), (from_parquet, tmp_path / "a.parquet")):
            refused(lambda read=read, path=path: read(path, "who"), path, "has 2 columns called 'x'; rename them")
            refused(lambda read=read, path=path: read(path, "x", ["who"]), path, "has 2 columns called 'x'")

    def test_very_many_columns_take_time_in_proportion(self, tmp_path: Path):
        path, features = tmp_path / "a.csv", [f"c{number}" for number in range(20_000)]
        path.write_text(f"who,{','.join(features)}\na{',1' * 20_000}\n")
        begin = time.process_time()
        with pytest.raises(DatasetError, match="has no column 'c'"):
            from_csv(path, "who", [*features, "c"])
        assert time.process_time() - begin < 8

    def test_errors_are_of_both_kinds(self, tmp_path: Path):
        path = tmp_path / "a.csv"
        with pytest.raises(FileNotFoundError) as missing:
            from_csv(path, "who")
        path.write_text("who,x\na,1\n")
        with pytest.raises(ValueError, match="no column") as value:
            from_csv(path, "whom")
        with pytest.raises(TypeError, match="features must be") as kind:
            from_csv(path, "who", 5)  # type: ignore[arg-type]
        for caught in (missing, value, kind):
            assert isinstance(caught.value, DatasetError)
            assert str(path) in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            gzip.compress(b"who,x\n" + b"a,1.5\n" * 1000, mtime=0)[:-20],
            b"who,x,x\na,1,2\n",
            b"who,who\na,1\n",
            b"who,x\na," + b"9" * 3_000_000 + b"\n",
            b"who,x\na,\x00\n",
            b"who,x\n\xff\xfe,1\n",
            "who,x\na,1\n".encode("utf-16"),
            b'who,x\na,"1\n',
            b"\x1f\x8b",
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_a_damaged_csv_is_named(self, tmp_path: Path, content: bytes):
        path = tmp_path / ("a.csv.gz" if content.startswith(b"\x1f\x8b") else "a.csv")
        path.write_bytes(content)
        refused(lambda: from_csv(path, "who"), path, "^")

    def test_a_mark_of_byte_order_is_no_part_of_a_name(self, tmp_path: Path):
        path = tmp_path / "a.csv"
        path.write_bytes("who,x\na,1\n".encode("utf-8-sig"))
        assert from_csv(path, "who").client("a")["x"].tolist() == [1]


class TestImages:
    def folder(self, path: Path) -> Path:
        (path / "images" / "ann").mkdir(parents=True)
        return path / "images" / "ann" / "a.png"

    def read(self, path: Path) -> Any:
        return from_folder(path.parents[1], folders="clients", image_size=(8, 8), greyscale=True)

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = self.folder(tmp_path)
        for size, why in {(10_000, 10_000): "10,000 by 10,000 pixels, which is more", (60_000, 60_000): "bomb"}.items():
            path.write_bytes(png(*size))
            tracemalloc.start()
            refused(lambda: self.read(path), path, why)
            assert tracemalloc.get_traced_memory()[1] < 32 << 20  # what Pillow imports, and no pixels
            tracemalloc.stop()
        path.write_bytes(png(300, 400))
        assert self.read(path).client("ann")["x"].shape == (1, 8, 8)
        monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100_000)
        refused(lambda: self.read(path), path, "has 400 by 300 pixels, which is more than 100,000")

    def test_what_is_no_image_is_not_run(self, tmp_path: Path):
        path = self.folder(tmp_path)
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
        refused(lambda: self.read(path), path, "is damaged, or no image")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path):
        path = self.folder(tmp_path)
        os.mkfifo(path)
        refused(lambda: self.read(path), path, "is no file")


def png(width: int, height: int) -> bytes:
    """A PNG whose header says so much, of one row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes(1 + width) * (height if width * height < 1 << 20 else 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
