"""CSV files with what the base installation has: the values that Arrow and pandas read, and errors with their line."""

import bz2
import gzip
import lzma
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hansa.simulation import ClientData, DatasetError, from_csv, from_frame, from_parquet
from hansa.simulation.readers import csv_rows, csv_sorting
from hansa.simulation.readers.csv_values import looks_like, parsed

TEXTS = [
    *("1", "-7", "007", "+5", "1.5", "-0.0", "1e3", "1e400", ".5", "5.", "inf", "-inf", "nan", "1_0", "0x1F", " 4 "),
    *("true", "False", "TRUE", "yes", "NA", "null", "", "N/A", "None", "9223372036854775807", "9223372036854775808"),
    *("2024-01-31", "2024-13-01", "2024-01-31 12:30:00", "2024-01-31T12:30:00Z", "2024-01-31 12:30:00.25", "1.2.3"),
    *("2024-01-31T12:30:00+02:00", "a", "é", 'say "no"', "a,b", "two\nlines", "12 345", "１"),
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))


def test_columns_are_what_arrow_takes_them_for():
    csv = pytest.importorskip("pyarrow.csv")
    import pyarrow

    random = Random(0)
    for _ in range(600):
        texts = random.choices(random.choices(TEXTS, k=random.choice([1, 2, 4])), k=random.choice([1, 2, 5]))
        lines = ['"' + text.replace('"', '""') + '",0' for text in texts]
        options = csv.ParseOptions(newlines_in_values=True)
        # Arrow takes what is in quotes for missing, too, as it does for text without them.
        column = csv.read_csv(pyarrow.BufferReader("\n".join(["x,n", *lines]).encode()), parse_options=options)["x"]
        kind = looks_like(texts)
        if "0x1F" in texts or pyarrow.types.is_null(column.type) or pyarrow.types.is_time(column.type):
            continue  # hexadecimal numbers are text here
        expected = str(column.type).replace("double", "float64").replace("string", "str").replace("date32[day]", "date")
        expected = {"timestamp[s]": "seconds", "timestamp[ns]": "time"}.get(expected.replace(", tz=UTC", ""), expected)
        assert kind == expected, texts
        found, wanted = parsed(texts, kind).read(), column.to_pylist()
        if kind in ("date", "seconds", "time"):
            missing = np.isnat(found)
            assert missing.tolist() == [value is None for value in wanted]
            days = column.cast("timestamp[ns]").to_numpy()
            np.testing.assert_array_equal(found[~missing].astype("datetime64[ns]"), days[~missing])
        elif kind == "float64":
            np.testing.assert_array_equal(found, np.array([np.nan if v is None else v for v in wanted], float))
        else:
            assert list(found) == wanted, texts


def test_files_are_read_as_pandas_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr(csv_rows, "_PIECE", 512)
    random = np.random.default_rng(3)
    rows = 500
    frame = pandas.DataFrame(
        {
            "who": random.choice(["ann", "bo, jr.", 'cy "c"', "di\ndo", "éve"], rows),
            "x": random.normal(size=rows),
            "n": random.integers(-(2**62), 2**62, rows),
            "b": random.integers(0, 2, rows).astype(bool),
            "t": random.choice(["", "a", 'q"', ",", "l\r\nm", "ü" * 30], rows),
        }
    )
    convert = {"t": lambda texts: np.array([sum(map(ord, text)) for text in texts])}
    want = from_frame(frame, "who", convert=convert)
    plain = frame[~frame.who.isin(["bo, jr.", 'cy "c"', "di\ndo"]) & frame.t.isin(["", "a", "ü" * 30])]
    ways: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
        ("quoted.csv", frame, {}, {}),
        ("semicolon.csv.gz", frame, {"sep": ";"}, {"delimiter": ";"}),
        ("tab.csv.bz2", frame, {"sep": "\t"}, {"delimiter": "\t"}),
        ("windows.csv.xz", frame, {"lineterminator": "\r\n", "encoding": "utf-8-sig"}, {}),
        ("mac.csv", plain, {"lineterminator": "\r"}, {}),
        ("latin.csv", frame, {"encoding": "cp1252"}, {"encoding": "cp1252"}),
        ("utf16.csv", plain, {"encoding": "utf-16"}, {"encoding": "utf-16"}),
    ]
    for name, written, how, options in ways:
        written.to_csv(tmp_path / name, index=False, **how)
        data = from_csv(tmp_path / name, "who", convert=convert, **options)
        expected = want if written is frame else from_frame(written, "who", convert=convert)
        assert list(data.client_ids) == list(expected.client_ids), name
        for client in data.client_ids:
            for column, values in expected.client(client).items():
                np.testing.assert_array_equal(data.client(client)[column], values, err_msg=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,x\na,1\n\nb,2,3\n", "line 4 has 3 values, and the first line has 2 names; if another character"),
        ('who,x\n"a",1\n"b\nc",2\n"d",3,4\n', "line 5 has 3 values"),
        ("who;x\na;1,5\n", "line 2 has 2 values, and the first line has 1 names; .*say delimiter="),
        ('who,x\na,1\n"b,2\n', "quotes do not end|unexpected end of data"),
        ('who,x\n"a"b,1\n', "',' expected after '\"'"),
        ("who,x\na,1\nb,two\n" + "c,3\n" * 9, r"has no value|holds text"),
        ("who,x\n" + "a" * (3 << 20), "a row of more than 1 MiB"),
        ("\n\n", "is empty; it must begin with a line of column names"),
        ("who,x\n\n", "has no rows"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        from_csv(tmp_path / "t.csv", "who")
    assert str(tmp_path / "t.csv") in str(caught.value)


def test_bytes_that_are_no_text_are_told(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes("who,x\nZoë,1\n".encode("cp1252"))
    with pytest.raises(
        DatasetError, match=r"or not written in utf-8, .*; say how it is written, such as encoding='cp1252'"
    ):
        from_csv(tmp_path / "t.csv", "who")
    assert list(from_csv(tmp_path / "t.csv", "who", encoding="cp1252").client_ids) == ["Zoë"]
    with pytest.raises(ValueError, match="unknown encoding: utf-9"):
        from_csv(tmp_path / "t.csv", "who", encoding="utf-9")
    with pytest.raises(ValueError, match="delimiter"):
        from_csv(tmp_path / "t.csv", "who", delimiter=";;")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, ending: str):
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending]
    path = tmp_path / f"t.csv.{ending}"
    content = bytearray(compress(b"who,x\n" + b"".join(b"a,%d\n" % row for row in range(5000))))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=f"{path} is damaged"):
        from_csv(path, "who")
    path.write_bytes(b"no such file")
    with pytest.raises(DatasetError, match=f"{path} is damaged"):
        from_csv(path, "who")


def test_a_table_without_clients_is_dealt_out_the_same_from_everywhere(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": random.normal(size=60), "b": random.normal(size=60), "ill": np.arange(60) % 3})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    partition = {"method": "dirichlet", "clients": 4, "alpha": 1.0, "seed": 5}
    options: dict[str, Any] = {"features": {"x": ["a", "b"], "y": "ill"}, "partition": partition}
    first = from_frame(frame, **options)
    assert len(first) == 4 and first.sizes.sum() == 60
    others: list[ClientData] = [
        from_csv(tmp_path / "t.csv", **options),
        from_parquet(tmp_path / "t.parquet", **options),
    ]
    for other in others:
        assert other.is_in_memory
        for client in range(4):
            for name in "xy":
                np.testing.assert_array_equal(other.client(client)[name], first.client(client)[name])
    by_ill = from_csv(tmp_path / "t.csv", partition={"method": "by_label"}, label="ill")
    assert [set(by_ill.client(client)["ill"]) for client in range(3)] == [{0}, {1}, {2}]
    for wrong, message in [
        ({}, "nothing says whose each row of .*t.csv is; give client='…', the column that does, or partition="),
        ({"client": "ill", "partition": partition}, "client and partition both say"),
        ({"partition": partition}, "label='y': .*t.csv has no such array; its arrays are a, b, ill"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_csv(tmp_path / "t.csv", **wrong)


def test_the_base_installation_reads_csv(tmp_path: Path):
    (tmp_path / "t.csv").write_text('who,x\nann,1\n"bo",2\n')
    program = (
        "import sys\nfor name in ('pyarrow', 'pandas', 'polars'): sys.modules[name] = None\n"
        "import hansa.simulation\n"
        f"print(hansa.simulation.from_csv({str(tmp_path / 't.csv')!r}, 'who').client('bo')['x'])\n"
        f"hansa.simulation.from_csv({str(tmp_path / 't.csv.zst')!r}, 'who')\n"
    )
    (tmp_path / "t.csv.zst").write_bytes(b"")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[2]\n"
    assert "from_csv of a file *.zst needs pyarrow, which is not installed: pip install 'hansa[parquet]'" in done.stderr


def test_many_clients_in_few_files_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_sorting, "_BUCKET_BYTES", 2000)
    monkeypatch.setattr(csv_rows, "_PIECE", 700)
    random = np.random.default_rng(1)
    owners = random.integers(0, 300, 5000)
    (tmp_path / "t.csv").write_text("who,row\n" + "".join(f"{who},{row}\n" for row, who in enumerate(owners)))
    data = from_csv(tmp_path / "t.csv", "who")
    for client in data.client_ids:
        assert data.client(client)["row"].tolist() == np.flatnonzero(owners == client).tolist()
