"""Files of every format that is read, mutated: each gives clients with arrays, or a `DatasetError` that names it."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hansa.cli import _populations
from hansa.cli.config.schema import DataTable, PartitionTable
from hansa.simulation import (
    ClientData,
    DatasetError,
    from_csv,
    from_folder,
    from_huggingface,
    from_leaf,
    from_parquet,
    from_tff_hdf5,
    from_tff_sqlite,
)
from hansa.simulation.readers.tf_example import parse_example
from tests.fuzzing.pool import fuzz

pytest.importorskip("pyarrow")
pytest.importorskip("h5py")
pytest.importorskip("PIL")

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]
TEXTS = [
    *("", "nan", "NaN", "inf", "-1", "1e999", "007", "None", "null", "true", "9" * 25, "9" * 400, "0x10", "a,b", '"'),
    *("\0", "\n", "\r\n", "é", "﻿", "‮", '"\n"', "=1+1", " ", "x" * 3000, "[1, 2", "{}", "\\", "1.5", "3"),
]


def damaged(content: bytes, random: Random) -> bytes:
    """The content with some bytes flipped, replaced by numbers, cut out, doubled, or cut off."""
    made = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 5])):
        if not made:
            break
        place = random.randrange(len(made))
        what = random.randrange(6)
        if what == 0:
            made[place] ^= 1 << random.randrange(8)
        elif what == 1:
            size = random.choice([1, 2, 4, 8])
            number = random.choice(NUMBERS) & ((1 << 8 * size) - 1)
            made[place : place + size] = number.to_bytes(size, random.choice(["little", "big"]))
        elif what == 2:
            del made[place : place + random.choice([1, 2, 16, 500])]
        elif what == 3:
            made[place:place] = made[place : place + random.choice([1, 8, 64])]
        elif what == 4:
            made[place : place + 16] = random.randbytes(16)
        elif random.randrange(3) == 0:
            del made[place:]
    return bytes(made)


def retold(text: str, random: Random, separators: str) -> str:
    """The text with some of its values replaced; what `separators` has stands between values."""
    made = text
    for _ in range(random.choice([1, 2, 4])):
        places = [place for place, character in enumerate(made) if character in separators]
        first = random.randrange(len(places) - 1)
        last = min(len(places) - 1, first + random.choice([1, 1, 1, 3]))
        made = made[: places[first] + 1] + random.choice(TEXTS) + made[places[last] :]
        if random.randrange(4) == 0:
            made = made.replace("\n", random.choice(["\r\n", "\r", "\n\n", "\0"]), random.randrange(3))
    return made


def whole(data: ClientData) -> str:
    """Reads all clients of a population, and checks that they are what a population is."""
    assert len(set(data.client_ids)) == len(data) > 0
    sizes = data.sizes
    for client, size in zip(data.client_ids, sizes.tolist(), strict=True):
        arrays = data.client(client)
        assert arrays
        assert all(len(array) == size and array.dtype.kind in "biufcV" for array in arrays.values())
    return "read"


def tried(path: Path, read: Callable[[], ClientData], refusal: type[Exception] = DatasetError) -> str:
    try:
        return whole(read())
    except refusal as error:
        assert str(path) in str(error), f"{error!r} does not name {path}"
        assert len(str(error)) < 20_000
        return "refused"


@cache
def csv_text() -> str:
    random = np.random.default_rng(0)
    rows = [f"u{row % 5},{value:.4f},{row % 3},word{row % 4}" for row, value in enumerate(random.normal(size=60))]
    return "who,x,y,text\n" + "\n".join(rows) + "\n"


def csv(random: Random, folder: Path) -> str:
    if random.randrange(2):
        content = retold(csv_text(), random, ",\n").encode()
    else:
        content = damaged(csv_text().encode(), random)
    path = folder / "a.csv"
    if random.randrange(3) == 0:
        path, content = folder / "a.csv.gz", gzip.compress(content, 1)
        content = damaged(content, random) if random.randrange(2) else content
    path.write_bytes(content)
    features = random.choice([["x", "y"], {"x": ["x", "y"]}, {"t": "text"}, None])
    convert = {"t": lambda texts: np.array([len(text) for text in texts])} if features == {"t": "text"} else None
    return tried(path, lambda: from_csv(path, "who", features, convert))


@cache
def table_bytes(kind: int) -> bytes:
    import pyarrow
    from pyarrow import parquet

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "who": [f"u{row % 5}" for row in range(40)] if kind % 2 else [row % 5 for row in range(40)],
        "x": random.normal(size=40),
        "y": random.integers(0, 9, 40).astype(np.int32),
        "list": [[float(row), 1.0, 2.0] for row in range(40)],
    }
    target = io.BytesIO()
    parquet.write_table(
        pyarrow.table(columns),
        target,
        row_group_size=15 if kind % 3 else 40,
        compression=["none", "snappy", "gzip", "zstd"][kind % 4],
        use_dictionary=bool(kind % 2),
        write_page_checksum=False,
        data_page_version=["1.0", "2.0"][kind % 2],
    )
    return target.getvalue()


def parquet_file(random: Random, folder: Path) -> str:
    content = table_bytes(random.randrange(8))
    if random.randrange(2):  # the footer, where what says most is
        size = int.from_bytes(content[-8:-4], "little")
        footer = damaged(content[-8 - size : -8], random)
        content = content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    else:
        content = damaged(content, random)
    path = folder / "a.parquet"
    path.write_bytes(content)
    return tried(path, lambda: from_parquet(path, "who", random.choice([["x", "y"], ["list"], None])))


LEAF = {
    "users": ["a", "b", "c"],
    "num_samples": [2, 1, 0],
    "user_data": {
        "a": {"x": [[0.5, 1.5], [2.5, 3.5]], "y": [1, 2]},
        "b": {"x": [[0.25, 1]], "y": [3]},
        "c": {"x": [], "y": []},
    },
}


def leaf(random: Random, folder: Path) -> str:
    text = json.dumps(LEAF)
    path = folder / "a.json"
    if random.randrange(3):
        path.write_text(retold(text, random, "[],{}: "), "utf-8", errors="surrogatepass")
    else:
        path.write_bytes(damaged(text.encode(), random))
    return tried(path, lambda: from_leaf(path))


def varint(number: int) -> bytes:
    parts = []
    while number >> 7:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@cache
def message(label: int) -> bytes:
    floats = np.linspace(0, 1, 6, dtype="<f4").tobytes()
    features = [
        field(1, field(1, b"x") + field(2, field(2, field(1, floats)))),
        field(1, field(1, b"y") + field(2, field(3, field(1, varint(label))))),
        field(1, field(1, b"text") + field(2, field(1, field(1, b"word")))),
    ]
    return field(1, b"".join(features))


def tf_example(random: Random, folder: Path) -> str:
    """Against TensorFlow: what is read is what it reads."""
    from google.protobuf.message import DecodeError
    from tensorflow.train import Example

    content = damaged(message(random.choice([1, 300, (1 << 64) - 1])), random)
    try:
        found = parse_example(content)
    except ValueError:
        return "refused"
    try:
        features = Example.FromString(content).features.feature
    except DecodeError:
        return "read, and not by TensorFlow"
    assert set(found) == set(features)
    for name, feature in features.items():
        values = getattr(feature, feature.WhichOneof("kind")).value if feature.WhichOneof("kind") else None
        if values is None:
            assert found[name] is None
        elif isinstance(found[name], list):
            assert found[name] == list(values)
        else:
            np.testing.assert_array_equal(found[name], np.array(values, found[name].dtype))
    return "read"


@cache
def database_bytes() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        connection.execute("CREATE INDEX of_client ON examples (split_name, client_id)")
        connection.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        for client in range(12):
            connection.execute("INSERT INTO client_metadata VALUES (?, 'train', 3)", [f"c{client}"])
            for label in range(3):
                connection.execute("INSERT INTO examples VALUES ('train', ?, ?)", [f"c{client}", message(label)])
        connection.commit()
        return connection.serialize()


def sqlite(random: Random, folder: Path) -> str:
    content = damaged(database_bytes(), random)
    path = folder / "a.sqlite"
    if random.randrange(8) == 0:
        path, content = folder / "a.sqlite.lzma", damaged(lzma.compress(content, lzma.FORMAT_ALONE), random)
    path.write_bytes(content)
    features = random.choice([["x", "y"], {"t": "text"}])
    convert = {"t": lambda texts: np.array([len(text) for text in texts])} if "t" in features else None
    return tried(path, lambda: from_tff_sqlite(path, None, features, convert))


@cache
def hdf5_bytes(kind: int) -> bytes:
    import h5py

    target = io.BytesIO()
    with h5py.File(target, "w", libver="latest" if kind % 2 else "earliest") as file:
        for client in range(4):
            group = file.create_group(f"examples/c{client}")
            options = {"chunks": (2, 3), "compression": "gzip"} if kind // 2 % 2 else {}
            group.create_dataset("x", data=np.arange(12, dtype=np.float32).reshape(4, 3), **options)
            group["y"] = np.arange(4)
            group.create_dataset("text", data=["one", "two", "three", "four"], dtype=h5py.string_dtype())
    return target.getvalue()


def hdf5(random: Random, folder: Path) -> str:
    path = folder / "a.h5"
    path.write_bytes(damaged(hdf5_bytes(random.randrange(4)), random))
    features = random.choice([["x", "y"], {"t": "text"}])
    convert = {"t": lambda texts: np.array([len(text) for text in texts])} if "t" in features else None
    return tried(path, lambda: from_tff_hdf5(path, features, convert))


def npz(random: Random, folder: Path) -> str:
    """Through the loader of the command line."""
    path, target = folder / "a.npz", io.BytesIO()
    arrays = {"x": np.arange(24.0).reshape(8, 3), "y": np.arange(8), "who": np.array(list("aabbccdd"))}
    if random.randrange(3):
        random.choice([np.savez, np.savez_compressed])(target, **arrays)
        content = damaged(target.getvalue(), random)
    else:  # a ZIP without a fault, of arrays with some
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, array)
                archive.writestr(f"{name}.npy", damaged(member.getvalue(), random))
        content = target.getvalue()
    path.write_bytes(content)
    table = DataTable(path=path, client="who") if random.randrange(2) else DataTable(path=path, partition=DEALT)
    return tried(path, lambda: _populations.load(table).examples, _populations.DataError)


DEALT = PartitionTable(method="iid", clients=2)


@cache
def image_bytes(kind: int) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (7, 9, 3), np.uint8)
    image = Image.fromarray(pixels).convert(["RGB", "L", "P", "RGBA", "1"][kind % 5])
    if kind % 2:
        image.save(target, "PNG")
    else:
        image.convert("RGB").save(target, "JPEG")
    return target.getvalue()


def images(random: Random, folder: Path) -> str:
    root = folder / "images"
    for client in ("a", "b"):
        (root / client).mkdir(parents=True)
        for name in range(2):
            content = image_bytes(random.randrange(10))
            (root / client / f"{name}.png").write_bytes(damaged(content, random) if random.randrange(3) else content)
    grey = bool(random.randrange(2))
    size = (4, 4) if random.randrange(2) else None
    return tried(root, lambda: from_folder(root, folders="clients", image_size=size, greyscale=grey))


def huggingface(random: Random, folder: Path) -> str:
    """A dataset that `datasets` has saved, damaged; what `datasets` itself refuses to load is its own."""
    import datasets

    made = folder / "saved"
    shutil.copytree(huggingface_saved(), made)
    files = sorted(made.glob("*.arrow")) if random.randrange(4) else sorted(made.iterdir())
    path = random.choice(files)
    path.write_bytes(damaged(path.read_bytes(), random))
    try:
        dataset = datasets.load_from_disk(str(made), keep_in_memory=False)
    except Exception:
        return "refused by datasets"
    features = random.choice([["x", "y"], ["image"]])
    try:
        return whole(from_huggingface(dataset, "who", features))
    except DatasetError:
        return "refused"


@cache
def huggingface_saved() -> Path:
    import tempfile

    import datasets
    from PIL import Image

    picture = Image.open(io.BytesIO(image_bytes(0)))
    columns = {"who": [f"u{row % 3}" for row in range(9)], "x": [[1.0, 2.0]] * 9, "y": list(range(9))}
    made = datasets.Dataset.from_dict({**columns, "image": [picture] * 9})
    target = Path(tempfile.mkdtemp(prefix="fuzz-huggingface-"))
    made.cast_column("image", datasets.Image()).save_to_disk(str(target))
    return target


# How many inputs in `make test`, and in `make test-all`, of which `make test-slow` tries a quarter.
READERS = {
    csv: (25, 1200),
    parquet_file: (25, 1200),
    leaf: (25, 700),
    tf_example: (0, 700),
    sqlite: (25, 800),
    hdf5: (20, 600),
    npz: (20, 600),
    images: (15, 400),
    huggingface: (0, 150),
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def of_all(random: Random, folder: Path) -> str:
    """One input of one reader; a process for all of them starts once."""
    readers = [reader for reader, (few, _) in READERS.items() for _ in range(few)]
    reader = random.choice(readers)
    return f"{reader.__name__}: {reader(random, folder)}"


def test_a_few_files_of_each_format_are_read_or_refused():
    outcomes = fuzz(of_all, 150, seconds=60, memory=3 << 30)
    tried = {outcome.partition(":")[0] for outcome in outcomes}
    assert tried == {each.__name__ for each, (few, _) in READERS.items() if few}


@pytest.mark.parametrize("part", [pytest.param(4, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.whole)])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_many_files_are_read_or_refused(reader: Any, part: int):
    inputs = READERS[reader][1] // part
    assert fuzz(reader, inputs, seed=1, processes=2, seconds=60, memory=3 << 30).total() == inputs
