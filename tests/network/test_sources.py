"""A device's data, from all that it may come from: the same arrays as were written."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from PIL import Image

from hansa.network.sources import Source, SourceError

HEIGHTS, WEIGHTS, ILL = [1.7, 1.8, 1.6], [60.0, 80.5, 61.0], [0, 1, 1]
WANTED = {"x": np.float32(np.column_stack([HEIGHTS, WEIGHTS])), "y": np.array(ILL, np.int32)}
ROWS = list(zip(HEIGHTS, WEIGHTS, ILL, strict=True))
SAID = {"features": {"x": ["height", "weight"], "y": "ill"}, "types": {"x": "float32", "y": "int32"}}


def write_csv(path):
    path.write_text("height,weight,ill\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS))


def write_tsv(path):
    path.write_text("height\tweight\till\n" + "".join(f"{a}\t{b}\t{c}\n" for a, b, c in ROWS))


def write_parquet(path):
    import pandas as pd

    pd.DataFrame({"height": HEIGHTS, "weight": WEIGHTS, "ill": ILL}).to_parquet(path)


def write_database(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE visits (height REAL, weight REAL, ill INTEGER, note TEXT)")
        database.executemany("INSERT INTO visits VALUES (?,?,?,'')", ROWS)
    database.close()


def arrays(source):
    source = Source.from_json(json.loads(json.dumps(source.to_json())))
    return source.read()._arrays


@pytest.mark.parametrize(
    ("name", "write", "query"),
    [
        ("a.csv", write_csv, None),
        ("a.tsv", write_tsv, None),
        ("a.parquet", write_parquet, None),
        ("a.db", write_database, "SELECT height, weight, ill FROM visits"),
    ],
)
def test_tables_are_read_in_their_order(tmp_path, monkeypatch, name, write, query):
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    write(tmp_path / name)
    found = arrays(Source(tmp_path / name, query=query, **SAID))
    assert set(found) == set(WANTED)
    for key, wanted in WANTED.items():
        assert found[key].dtype == wanted.dtype
        np.testing.assert_array_equal(found[key], wanted)


def test_arrays_and_single_values_are_read_from_npz(tmp_path):
    np.savez(tmp_path / "a.npz", reading=np.float64(18.5), x=np.eye(3))
    found = arrays(Source(tmp_path / "a.npz", {"own": "reading"}, {"own": "float32"}))
    assert found == {"own": np.float32(18.5)} and found["own"].dtype == np.float32


def test_images_are_read_with_the_labels_of_all_devices(tmp_path):
    for name, shade in (("dog/1.png", 10), ("dog/2.png", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (6, 4), shade).save(tmp_path / name)
    found = arrays(Source(tmp_path, image_size=(2, 3), greyscale=True, labels=["cat", "dog"]))
    assert found["x"].shape == (2, 2, 3) and found["x"][:, 0, 0].tolist() == [10, 20]
    assert found["y"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"path": "no.csv"}, "there is no .*no.csv"),
        ({"path": "a.xyz"}, "it is not known what a.xyz is"),
        ({"path": "a.db"}, 'a database is asked by a query: --query "SELECT'),
        ({"path": "a.db", "query": "SELECT height FROM visits WHERE ill > 5"}, "the query gives no rows"),
        ({"path": "a.db", "query": "SELECT hight FROM visits"}, "no such column: hight"),
        ({"path": "a.db", "query": "DELETE FROM visits"}, "readonly"),
        ({"path": "a.db", "query": "SELECT height, height FROM visits"}, "two columns of one name"),
        ({"path": "a.db", "query": "SELECT NULL AS x FROM visits"}, "the column 'x' has NULL in row 1"),
        ({"path": "a.db", "query": "SELECT x'00' AS x FROM visits"}, "neither all numbers nor all texts"),
        ({"path": "a.csv", "features": {"x": "hight"}}, "hight"),
        ({"path": "a.npz", "features": {"x": "z"}}, "the array x is of 'z', and the file has x"),
        ({"path": "a.npz", "types": {"z": "int8"}}, "z is to be of type int8, and the arrays are x"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, monkeypatch, said, message):
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    write_database(tmp_path / "a.db")
    write_csv(tmp_path / "a.csv")
    (tmp_path / "a.xyz").write_text("")
    np.savez(tmp_path / "a.npz", x=np.eye(2))
    with pytest.raises(SourceError, match=message):
        Source(**{**said, "path": tmp_path / said["path"]}).read()
