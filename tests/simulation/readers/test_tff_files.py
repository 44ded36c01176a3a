"""The SQLite and HDF5 files of TensorFlow Federated, and the protocol buffers in them, against TensorFlow's own."""

import lzma
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.simulation import DatasetError, from_tff_hdf5, from_tff_sqlite
from hansa.simulation.readers.tf_example import parse_example

tensorflow = pytest.importorskip("tensorflow")
h5py = pytest.importorskip("h5py")


def example(**features: Any) -> Any:
    """A `tf.train.Example`, made by TensorFlow."""
    train = tensorflow.train
    made = {}
    for name, value in features.items():
        if isinstance(value, list) and (not value or isinstance(value[0], bytes)):
            made[name] = train.Feature(bytes_list=train.BytesList(value=value))
        elif np.asarray(value).dtype.kind == "f":
            made[name] = train.Feature(float_list=train.FloatList(value=np.ravel(value)))
        else:
            made[name] = train.Feature(int64_list=train.Int64List(value=np.ravel(value)))
    return train.Example(features=train.Features(feature=made))


def database(path: Path, splits: dict[str, dict[str, list[Any]]]) -> Path:
    """A database as TensorFlow Federated lays them out: `{split: {client: examples}}`."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE examples "
            "(split_name TEXT NOT NULL, client_id TEXT NOT NULL, serialized_example_proto BLOB NOT NULL)"
        )
        connection.execute("CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id)")
        connection.execute(
            "CREATE TABLE client_metadata "
            "(client_id TEXT NOT NULL, split_name TEXT NOT NULL, num_examples INTEGER NOT NULL)"
        )
        for split, clients in splits.items():
            for client, examples in clients.items():
                connection.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (client, split, len(examples)))
                rows = [(split, client, each.SerializeToString()) for each in examples]
                connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)
    connection.close()
    return path


INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
FEATURES = st.one_of(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.lists(FLOATS, min_size=1, max_size=40).map(lambda values: np.array(values, np.float32)),
    st.lists(st.one_of(INTEGERS, st.integers(0, 255)), min_size=1, max_size=40).map(lambda v: np.array(v, np.int64)),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=10), FEATURES, max_size=4))
def test_an_example_is_read_as_tensorflow_wrote_it(features: dict[str, Any]):
    found = parse_example(example(**features).SerializeToString())
    assert set(found) == set(features)
    for name, value in features.items():
        if isinstance(value, list):
            assert found[name] == value
        else:
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)


def test_numbers_that_are_not_packed_are_read():
    # The integers 300 and -1, and two floats, each with a tag of its own.
    integers = bytes([0x08, 0xAC, 0x02, 0x08, *[0xFF] * 9, 0x01])
    floats = b"\x0d" + np.float32(1.5).tobytes() + b"\x0d" + np.float32(-2.0).tobytes()

    def wrapped(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    entries = [
        wrapped(0x0A, b"i") + wrapped(0x12, wrapped(0x1A, integers)),
        wrapped(0x0A, b"f") + wrapped(0x12, wrapped(0x12, floats)),
    ]
    message = wrapped(0x0A, b"".join(wrapped(0x0A, entry) for entry in entries))
    assert tensorflow.train.Example.FromString(message).features.feature["i"].int64_list.value == [300, -1]
    found = parse_example(message)
    assert found["i"].tolist() == [300, -1]
    assert found["f"].tolist() == [1.5, -2.0]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.data())
def test_damage_is_an_error_and_never_another(noise: bytes, data: st.DataObject):
    message = example(x=np.arange(5.0), y=7, z=[b"text"]).SerializeToString()
    cut = data.draw(st.integers(0, len(message)))
    for damaged in (noise, message[:cut], message[:cut] + noise):
        try:
            parse_example(damaged)
        except ValueError as error:
            assert "not a tf.train.Example" in str(error)


class TestSqlite:
    def emnist_like(self, path: Path) -> tuple[Path, dict[str, list[Any]]]:
        random = np.random.default_rng(0)
        clients = {
            client: [(random.random((4, 4), np.float32), int(random.integers(0, 10))) for _ in range(count)]
            for client, count in {"f0002_03": 3, "f0001_41": 1}.items()
        }
        stored = {client: [example(pixels=x, label=y) for x, y in examples] for client, examples in clients.items()}
        return database(path, {"all_train": stored, "all_test": {"f0001_41": stored["f0002_03"][:2]}}), clients

    def test_a_client_has_its_examples(self, tmp_path: Path):
        path, clients = self.emnist_like(tmp_path / "e.sqlite")
        data = from_tff_sqlite(path, "all_train")
        assert list(data.client_ids) == ["f0001_41", "f0002_03"]
        assert data.sizes.tolist() == [1, 3]
        # The map of an example has no order, so the names have none.
        assert {name: str(data.example_type[name]) for name in data.example_type.names} == {
            "pixels": "float32[?,16]",
            "label": "int64[?]",
        }
        for client, examples in clients.items():
            found = data.client(client)
            np.testing.assert_array_equal(found["pixels"], [x.ravel() for x, _ in examples])
            assert found["label"].tolist() == [y for _, y in examples]
        assert from_tff_sqlite(path, "all_test").sizes.tolist() == [2]

    def test_features_are_named_and_shaped(self, tmp_path: Path):
        path, clients = self.emnist_like(tmp_path / "e.sqlite")
        convert = {"x": lambda pixels: pixels.reshape(-1, 4, 4), "y": "int32"}
        data = from_tff_sqlite(path, "all_train", {"x": "pixels", "y": "label"}, convert)
        assert str(data.example_type) == "<x=float32[?,4,4],y=int32[?]>"
        np.testing.assert_array_equal(data.client("f0002_03")["x"], [x for x, _ in clients["f0002_03"]])

    def test_bytes_are_read_by_a_function(self, tmp_path: Path):
        path = database(tmp_path / "s.sqlite", {"train": {"LEAR": [example(s=[b"Howl!"]), example(s=[b"No"])]}})
        data = from_tff_sqlite(path, convert={"s": lambda texts: np.array([len(text) for text in texts])})
        assert data.client("LEAR")["s"].tolist() == [5, 2]
        with pytest.raises(
            TypeError, match=r"feature 's' of .* holds bytes; leave it out of features, or give convert"
        ):
            from_tff_sqlite(path)

    def test_a_compressed_database_is_uncompressed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
        path, _ = self.emnist_like(tmp_path / "e.sqlite")
        compressed = tmp_path / "e.sqlite.lzma"
        compressed.write_bytes(lzma.compress(path.read_bytes(), lzma.FORMAT_ALONE))
        path.unlink()
        assert from_tff_sqlite(compressed, "all_train").sizes.tolist() == [1, 3]
        monkeypatch.setattr(lzma, "LZMADecompressor", None)
        assert from_tff_sqlite(compressed, "all_test").sizes.tolist() == [2]
        monkeypatch.undo()
        monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
        compressed.write_bytes(compressed.read_bytes()[:100])
        with pytest.raises(DatasetError, match=f"{compressed} is damaged: it cannot be uncompressed"):
            from_tff_sqlite(compressed, "all_train")

    def test_only_the_client_that_is_wanted_is_read(self, tmp_path: Path):
        good, bad = example(x=[1.0]), b"\xff\xff\xff"
        path = database(tmp_path / "d.sqlite", {"train": {"ann": [good], "bo": [good]}})
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE examples SET serialized_example_proto = ? WHERE client_id = 'bo'", (bad,))
        connection.close()
        data = from_tff_sqlite(path)
        assert data.client("ann")["x"].tolist() == [1.0]
        with pytest.raises(
            DatasetError, match=f"{path} is damaged: an example of client 'bo' is not a tf.train.Example"
        ):
            data.client("bo")

    def test_what_cannot_be_read_is_said(self, tmp_path: Path):
        path, _ = self.emnist_like(tmp_path / "e.sqlite")
        with pytest.raises(FileNotFoundError, match="there is no file"):
            from_tff_sqlite(tmp_path / "none.sqlite")
        with pytest.raises(ValueError, match="has several splits; say which with split=: all_test, all_train"):
            from_tff_sqlite(path)
        with pytest.raises(ValueError, match=r"has no split 'al_train'; did you mean 'all_train'[?] the splits are"):
            from_tff_sqlite(path, "al_train")
        with pytest.raises(ValueError, match=r"has no column 'pixel'; did you mean 'pixels'\?"):
            from_tff_sqlite(path, "all_train", ["pixel"])
        other = tmp_path / "other.sqlite"
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE t (a)")
        connection.close()
        with pytest.raises(DatasetError, match=r"no database of TensorFlow Federated.*no table 'examples'"):
            from_tff_sqlite(other)
        other.write_bytes(b"<html>" * 400)
        with pytest.raises(DatasetError, match="file is not a database"):
            from_tff_sqlite(other)

    def test_examples_of_different_lengths_are_named(self, tmp_path: Path):
        path = database(tmp_path / "d.sqlite", {"train": {"a": [example(x=[1.0]), example(x=[1.0, 2.0])]}})
        with pytest.raises(
            ValueError, match=r"client 'a', has rows of different shapes: row 0 is .1., row 1 .2.; pad or crop"
        ):
            from_tff_sqlite(path).client("a")
        path = database(tmp_path / "m.sqlite", {"train": {"a": [example(x=[1.0], y=1), example(x=[1.0])]}})
        with pytest.raises(
            ValueError, match=r"column 'y' of .* client 'a', has no value in 1 rows, the first of which is row 1"
        ):
            from_tff_sqlite(path, features=["x", "y"]).client("a")


class TestHdf5:
    def written(self, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            for client, count in {"f2": 3, "f1": 2}.items():
                group = file.create_group(f"examples/{client}")
                group["pixels"] = np.random.default_rng(count).random((count, 4, 4), np.float32)
                group["label"] = np.arange(count, dtype=np.int32)
                group["name"] = [b"text"] * count
        return path

    def test_a_client_has_the_datasets_of_its_group(self, tmp_path: Path):
        data = from_tff_hdf5(self.written(tmp_path / "e.h5"), {"x": "pixels", "y": "label"}, {"y": "int64"})
        assert list(data.client_ids) == ["f1", "f2"]
        assert data.sizes.tolist() == [2, 3]
        assert str(data.example_type) == "<x=float32[?,4,4],y=int64[?]>"
        np.testing.assert_array_equal(data.client("f2")["x"], np.random.default_rng(3).random((3, 4, 4), np.float32))
        assert data.client("f2")["y"].tolist() == [0, 1, 2]

    def test_only_what_is_chosen_of_the_client_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = self.written(tmp_path / "e.h5")
        seen: list[str] = []
        read = h5py.Dataset.__getitem__

        def watched(self: Any, *args: Any, **named: Any) -> Any:
            seen.append(self.name)
            return read(self, *args, **named)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
        data = from_tff_hdf5(path, ["label"])
        assert (data.sizes.tolist(), seen) == ([2, 3], [])
        data.client("f1")
        assert seen == ["/examples/f1/label"]

    def test_what_cannot_be_read_is_said(self, tmp_path: Path):
        path = self.written(tmp_path / "e.h5")
        with pytest.raises(TypeError, match=r"feature 'name' of .* holds text"):
            from_tff_hdf5(path)
        with pytest.raises(ValueError, match=r"has no column 'labels'; did you mean 'label'\?"):
            from_tff_hdf5(path, ["labels"])
        with pytest.raises(FileNotFoundError, match="there is no file"):
            from_tff_hdf5(tmp_path / "none.h5")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["data"] = [1]
        with pytest.raises(DatasetError, match="has no group 'examples'; it has: data"):
            from_tff_hdf5(tmp_path / "other.h5")
        path.write_bytes(b"no")
        with pytest.raises(DatasetError, match=f"{path} is damaged, or no HDF5 file"):
            from_tff_hdf5(path)
