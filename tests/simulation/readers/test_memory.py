"""No reader takes more memory than `docs/robustness.md` says: so many times what it returns, and what the file is."""

import json
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import DatasetError, from_leaf, from_tff_hdf5, from_tff_sqlite
from hansa.simulation.readers.npz_files import read_npz

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

MIB = 1 << 20


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def database(path: Path, example: bytes, count: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE examples (split_name, client_id, serialized_example_proto)")
        connection.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
        connection.execute("INSERT INTO client_metadata VALUES ('a', 'train', ?)", [count])
        message = field(1, field(1, field(1, b"x") + field(2, example)))
        connection.executemany("INSERT INTO examples VALUES ('train', 'a', ?)", [[message]] * count)
    connection.close()


def packed(path: Path, integers: bytes, count: int) -> None:
    database(path, field(3, integers), count)


def leaf(path: Path, values: str, count: int) -> None:
    content = {"users": ["a"], "num_samples": [count], "user_data": {"a": {"x": "VALUES"}}}
    path.write_text(json.dumps(content).replace('"VALUES"', values))


def hdf5(path: Path, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("examples/a").create_dataset("x", data=np.zeros((5000, 100), np.float32), **options)


FILES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any], float, float]] = {
    # How it is made and read; how many times what is returned, and how many times the file, it may take.
    "leaf of floats": (lambda path: leaf(path, json.dumps([[0.125, 1.5]] * 20_000), 20_000), from_leaf, 0, 40),
    "leaf of integers": (lambda path: leaf(path, "[[" + "1," * 300_000 + "1]]", 1), from_leaf, 0, 40),
    "leaf of nothing": (lambda path: leaf(path, "[" + "[]," * 20_000 + "[]]", 20_001), from_leaf, 0, 160),
    "leaf of objects": (lambda path: leaf(path, "[" + "{}," * 20_000 + "{}]", 20_001), from_leaf, 0, 160),
    "sqlite of floats": (lambda path: database(path, field(2, field(1, bytes(4000))), 500), from_tff_sqlite, 3, 2),
    "sqlite of small integers": (
        lambda path: database(path, field(3, field(1, b"\5" * 3000)), 300),
        from_tff_sqlite,
        3,
        2,
    ),
    "sqlite of single integers": (lambda path: packed(path, field(1, b"\5"), 3000), from_tff_sqlite, 3, 35),
    "sqlite of integers in turn": (
        lambda path: database(path, field(3, b"\x08\5" * 40_000), 1),
        from_tff_sqlite,
        3,
        2,
    ),
    "hdf5": (hdf5, from_tff_hdf5, 1.2, 1),
    "hdf5 compressed": (lambda path: hdf5(path, chunks=(500, 100), compression="gzip"), from_tff_hdf5, 1.2, 1),
    "npz": (lambda path: np.savez(path, x=np.ones(500_000)), read_npz, 1.2, 1),
    "npz compressed": (lambda path: np.savez_compressed(path, x=np.ones(500_000)), read_npz, 1.2, 1),
}


QUICK = ("leaf of floats", "sqlite of packed integers", "hdf5 compressed", "npz compressed")


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in FILES]
)
def test_memory_is_in_proportion(tmp_path: Path, kind: str):
    make, read, of_returned, of_file = FILES[kind]
    path = tmp_path / ("a.npz" if kind.startswith("npz") else "a.json")
    make(path)
    tracemalloc.start()
    try:
        found = read(path)
        returned = sum(array.nbytes for array in (found if isinstance(found, dict) else found.client("a")).values())
    except DatasetError:
        returned = 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= of_returned * returned + of_file * path.stat().st_size + MIB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no module resource")
@pytest.mark.parametrize(
    ("reader", "of_returned", "fixed"), [("from_parquet", 5, 192 * MIB), ("from_csv", 6, 256 * MIB)]
)
def test_memory_of_tables_is_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, of_returned: float, fixed: int
):
    import pyarrow
    from pyarrow import csv, parquet

    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    rows = 3_000_000
    values = np.random.default_rng(0).normal(size=rows)
    table = pyarrow.table({"who": pyarrow.repeat("a", rows), "x": values, "y": values})
    path = tmp_path / "a"
    if reader == "from_csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path, row_group_size=100_000)
    code = (
        "import resource, sys, pyarrow.parquet, hansa.simulation as simulation\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit\n"
        "before = peak()\n"
        f"arrays = simulation.{reader}(sys.argv[1], 'who').client('a')\n"
        "print(peak() - before, sum(array.nbytes for array in arrays.values()))\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    peak, returned = map(int, said.split())
    assert returned == 16 * rows
    assert peak <= 6 * returned + 256 * MIB
