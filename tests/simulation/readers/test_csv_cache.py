"""The table that is kept of a CSV file never gives other numbers than the file: whatever happened to either."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hansa.simulation import ClientData, DatasetError, _kept, from_csv
from hansa.simulation.readers import csv_files, csv_sorting


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tables(cache: Path) -> list[Path]:
    return sorted((cache / "tables").glob("*.table"))


def written(path: Path, seed: int = 0, rows: int = 300) -> dict[str, np.ndarray]:
    """Writes a file, and gives what its clients have."""
    values = np.random.default_rng(seed).normal(size=rows)
    path.write_text("who,x\n" + "".join(f"c{row % 7},{value!r}\n" for row, value in enumerate(values.tolist())))
    return {f"c{client}": values[client::7] for client in range(7)}


def check(data: ClientData, want: dict[str, np.ndarray]) -> None:
    assert list(data.client_ids) == list(want)
    for client, values in want.items():
        np.testing.assert_array_equal(data.client(client)["x"], values)


def test_a_file_is_known_by_its_content(cache: Path, tmp_path: Path):
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text("who,x\na,1.0\n")
    other.write_text("who,x\na,2.0\n")
    for each in (path, other):
        os.utime(each, (1e9, 1e9))
    assert from_csv(path, "who").client("a")["x"] == [1]
    os.replace(other, path)
    assert from_csv(path, "who").client("a")["x"] == [2]
    assert len(tables(cache)) == 2
    path.write_text("who,x\na,3.0\n")
    os.utime(path, (1e9, 1e9))
    assert from_csv(path, "who").client("a")["x"] == [3]
    (tmp_path / "copy.csv").write_text("who,x\na,1.0\n")
    assert from_csv(tmp_path / "copy.csv", "who").client("a")["x"] == [1]
    assert len(tables(cache)) == 3


def test_a_flipped_bit_anywhere_in_a_table_is_noticed(cache: Path, tmp_path: Path):
    path, random = tmp_path / "a.csv", Random(0)
    want = written(path)
    check(from_csv(path, "who"), want)
    (table,) = tables(cache)
    good = table.read_bytes()
    for _ in range(30):
        damaged = bytearray(good)
        damaged[random.randrange(len(good))] ^= 1 << random.randrange(8)
        table.write_bytes(damaged)
        check(from_csv(path, "who"), want)
        assert [each.read_bytes() for each in tables(cache)] == [good]


@pytest.mark.parametrize("content", [b"", b"hansa", b"hansa table 1\n{}\x02\0\0\0\0\0\0\0"])
def test_half_a_table_is_made_anew(cache: Path, tmp_path: Path, content: bytes):
    want = written(tmp_path / "a.csv")
    check(from_csv(tmp_path / "a.csv", "who"), want)
    tables(cache)[0].write_bytes(content)
    check(from_csv(tmp_path / "a.csv", "who"), want)


def test_a_table_that_is_damaged_in_use_is_an_error(cache: Path, tmp_path: Path):
    want = written(tmp_path / "a.csv")
    data = from_csv(tmp_path / "a.csv", "who")
    (table,) = tables(cache)
    state, content = table.stat(), bytearray(table.read_bytes())
    content[content.index(want["c0"][20].tobytes())] ^= 1
    with table.open("r+b") as file:  # as a disk does it, without a word to anybody
        file.write(content)
    os.utime(table, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DatasetError, match=r"a\.csv"):
        for client in data.client_ids:
            data.client(client)


def test_a_file_that_changes_while_it_is_read_is_an_error(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    written(path)
    sort = csv_files.sort_by_client

    def changing(*args: Any) -> int:
        rows = sort(*args)
        with path.open("a") as file:
            file.write("c0,5.0\n")
        return rows

    monkeypatch.setattr(csv_files, "sort_by_client", changing)
    with pytest.raises(DatasetError, match=f"{path} was changed while it was read"):
        from_csv(path, "who")
    assert not list((cache / "tables").iterdir())
    monkeypatch.undo()


def test_a_full_disk_is_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    written(tmp_path / "a.csv")
    monkeypatch.setattr(csv_sorting, "_joined", full)
    with pytest.raises(DatasetError, match=r"a\.csv: .*cache/tables cannot be written: No space left.*make room"):
        from_csv(tmp_path / "a.csv", "who")
    assert not list((cache / "tables").iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path, tmp_path: Path):
    want = written(tmp_path / "a.csv")
    cache.mkdir()
    (cache / "tables").write_text("no folder")
    check(from_csv(tmp_path / "a.csv", "who"), want)
    (cache / "tables").unlink()
    (cache / "tables").symlink_to(tmp_path / "nowhere")
    check(from_csv(tmp_path / "a.csv", "who"), want)
    (tmp_path / "elsewhere").mkdir()
    (cache / "tables").unlink()
    (cache / "tables").symlink_to(tmp_path / "elsewhere")
    check(from_csv(tmp_path / "a.csv", "who"), want)


def test_what_has_a_tables_name_and_is_none_is_passed_over(cache: Path, tmp_path: Path):
    want = written(tmp_path / "a.csv")
    check(from_csv(tmp_path / "a.csv", "who"), want)
    (table,) = tables(cache)
    table.unlink()
    os.mkfifo(table)
    os.mkfifo(table.with_name(table.name.replace(".table", "0.table")))
    check(from_csv(tmp_path / "a.csv", "who"), want)
    table.unlink()
    table.symlink_to(table)
    check(from_csv(tmp_path / "a.csv", "who"), want)


def test_a_table_in_use_is_not_replaced_by_the_same(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    want = written(tmp_path / "a.csv")
    data = from_csv(tmp_path / "a.csv", "who")
    before = tables(cache)[0].stat().st_ino
    monkeypatch.setattr(_kept, "has_any", lambda *_: False)  # as a process finds it that began at the same time
    check(from_csv(tmp_path / "a.csv", "who"), want)
    assert [table.stat().st_ino for table in tables(cache)] == [before]
    check(data, want)


@pytest.mark.slow
def test_processes_that_make_a_table_at_once_make_the_same(cache: Path, tmp_path: Path):
    path = tmp_path / "a.csv"
    want = written(path, rows=20_000)
    code = (
        "import sys; from hansa.simulation import from_csv; d = from_csv(sys.argv[1], 'who');"
        "print(len(d), sum(float(d.client(c)['x'].sum()) for c in d.client_ids))"
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate()[0].strip() for process in processes}
    assert said == {f"7 {sum(float(values.sum()) for values in want.values())}"}
    assert len(tables(cache)) == 1
    assert [each.name for each in (cache / "tables").iterdir()] == [tables(cache)[0].name]


def test_a_file_is_gone_through_for_its_digest_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    path.write_text("who,x\na,1.0\n")
    settled = os.stat(path).st_ctime_ns + 3 * _kept._SETTLED_NANOSECONDS
    first = _kept.digest_of(path)
    monkeypatch.setattr(_kept.time, "time_ns", lambda: settled)
    assert _kept.digest_of(path) == first
    monkeypatch.setattr(_kept, "_CHUNK", None)  # reading would fail, or read all at once
    monkeypatch.setattr(_kept, "hashlib", None)
    assert _kept.digest_of(path) == first


def test_a_compressed_file_that_holds_too_much_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gzip

    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"who,x\n" + b"a,1.5\n" * 1_000_000))
    monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "3e6")
    with pytest.raises(DatasetError, match=f"{path} holds more than 3,000,000 bytes when it is uncompressed"):
        from_csv(path, "who")
    monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "7e6")
    assert from_csv(path, "who").sizes.tolist() == [1_000_000]


def test_a_table_stays_where_its_maker_removes_its_own_link_meanwhile(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path / "a.csv")
    from_csv(tmp_path / "a.csv", "who")
    (table,), own_link, look = tables(cache), tmp_path / "arranged", _kept.identity
    time.sleep(0.05)

    def and_then_link(file: int | Path) -> tuple[int, ...]:
        state = look(file)
        if not own_link.exists():
            os.link(table, own_link)  # which changes the file's ctime, as removing one does
        return state

    monkeypatch.setattr(_kept, "identity", and_then_link)
    assert _kept.find("tables", table.name.rpartition("-")[0], ".table") == table
    assert table.samefile(own_link)
