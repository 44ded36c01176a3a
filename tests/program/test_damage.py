"""A run whose checkpoints are good goes on, whatever has become of the other files of its folder."""

from __future__ import annotations

import csv
import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from hansa._files import open_regular
from hansa.program import CSV, CheckpointError, JsonLines, RunError, load_checkpoint
from hansa.program.lines import read_records, read_table
from tests.program.counting import losses, run
from tests.program.damaging import PLACES, appended, copied, prepended, replaced, resumed, rounds_in_records

pytestmark = pytest.mark.usefixtures("no_fsync")


DEEP = b'{"round": 3, "loss": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
LINES = {
    "a bad byte": replaced(b'"round": 3', b'"round\xff": 3'),
    "NULs at the end": appended(b"\0" * 512 + b"\n"),
    "a blank line": prepended(b"\n"),
    "a list": prepended(b"[3]\n"),
    "a number": prepended(b"3\n"),
    "an infinite round": prepended(b'{"round": 1e999}\n'),
    "a round that is text": prepended(b'{"round": "1"}\n'),
    "a round that is true": prepended(b'{"round": true}\n'),
    "a list as a metric": prepended(b'{"round": 1, "loss": [1]}\n'),
    "deep nesting": prepended(DEEP),
    "an integer of 5,000 digits": prepended(b'{"round": 1, "loss": ' + b"9" * 5000 + b"}\n"),
    "an integer that no float holds": prepended(b'{"round": 1, "loss": ' + b"9" * 400 + b"}\n"),
    "a round twice": lambda path: path.write_bytes(path.read_bytes().replace(b'"round": 3', b'"round": 2')),
}
ROWS = {
    "a bad byte": replaced(b"\n3,", b"\n\xff,"),
    "NULs at the end": appended(b"\0" * 512 + b"\n"),
    "a blank line": appended(b"\n"),
    "half a number": replaced(b"\n3,", b"\nx,"),
    "a stray quote": replaced(b"\n3,", b'\n"3,'),
    "a stray quote in a later cell": replaced(b"\n3,", b'\n3,"'),
    "a cell too few": replaced(b"\n3,", b"\n3"),
    "a cell too many": replaced(b"\n3,", b"\n3,1,"),
    "a carriage return": replaced(b"\n3,", b"\n3\r,"),
}


@pytest.mark.parametrize("name", ["metrics.jsonl", "rounds.jsonl"])
@pytest.mark.parametrize("damage", LINES)
def test_records_with(damage: str, name: str, whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    LINES[damage](folder / name)
    damaged = (folder / name).read_bytes()
    _, told = resumed(folder)
    assert any(f"{folder / name} is damaged: line " in text and f"It is {name}.damaged now" in text for text in told)
    assert (folder / f"{name}.damaged").read_bytes() == damaged
    lost = {3} if damage in ("a bad byte", "a round twice") else set()
    assert set(rounds_in_records(folder / name)) == {1, 2, 3, 4, 5, 6} - lost
    assert all("does not have the metrics of each" in text for text in resumed(folder)[1])


@pytest.mark.parametrize("damage", ROWS)
def test_a_table_with(damage: str, whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    ROWS[damage](folder / "metrics.csv")
    damaged = (folder / "metrics.csv").read_bytes()
    _, told = resumed(folder)
    assert len(told) == 1 and "metrics.csv is damaged: line " in told[0]
    assert (folder / "metrics.csv.damaged").read_bytes() == damaged
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    lost = set() if damage in ("NULs at the end", "a blank line") else {3}
    assert {int(row["round"]): float(row["loss"]) for row in rows} == {
        n: loss for n, loss in enumerate(losses(6), 1) if n not in lost
    }
    assert resumed(folder)[1] == []


def test_a_table_whose_line_of_names_is_damaged_begins_anew(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    replaced(b"round,", b"roun\xff,")(folder / "metrics.csv")
    resumed(folder)
    assert [int(row["round"]) for row in csv.DictReader((folder / "metrics.csv").open())] == [5, 6]
    assert rounds_in_records(folder / "metrics.jsonl") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "metrics.csv", "rounds.jsonl", "population.json", "run.json", "lock"]
)
@pytest.mark.parametrize("place", PLACES)
def test_in_the_place_of_a_file(place: str, name: str, whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    PLACES[place](folder / name)
    _, told = resumed(folder)
    assert any(str(folder / name) in text for text in told), told
    assert os.path.lexists(folder / f"{name}.damaged")
    assert (folder / name).is_file() and not (folder / name).is_symlink()
    assert (tmp_path / "precious").read_text() == "precious\n"
    # Metrics of the first rounds are gone, which is told each time.
    assert all("does not have the metrics" in text for text in resumed(folder)[1])


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff\xfe\0", b"[]", b"5", b"null", b'{"asked": 5}', b'{"asked": {}, "rounds": "x"}', b"\0" * 300,
        b'{"asked": {}, "rounds": 1e999}', b"[" * 100_000, b'{"asked": {}, "rounds": -1}',
        b'{"a": ' * 60 + b"1" + b"}" * 60,
        b'{"asked": {}, "rounds": 4, "ended": 5}', b'{"asked": {}, "rounds": 4, "versions": []}',
    ],
)  # fmt: skip
def test_what_the_run_is_comes_from_a_checkpoint_if_run_json_is_damaged(
    text: bytes, whole: Path, tmp_path: Path
) -> None:
    folder = copied(whole, tmp_path)
    before = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_bytes(text)
    with warnings.catch_warnings(), pytest.raises(RunError, match="seed was 0, and is now 1"):
        warnings.simplefilter("ignore")
        run(folder, 6, seed=1)
    _, told = resumed(folder)
    assert any("the newest checkpoint says what the run is" in one for one in told)
    assert (folder / "run.json.damaged").read_bytes() == text
    after = json.loads((folder / "run.json").read_text())
    assert {name: after[name] for name in ("asked", "versions", "data")} == {
        name: before[name] for name in ("asked", "versions", "data")
    }
    assert resumed(folder)[1] == []


def test_a_byte_order_mark_and_other_ends_of_lines_are_no_damage(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    for name in ("run.json", "population.json", "metrics.jsonl", "metrics.csv", "rounds.jsonl"):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found, told = resumed(folder)
    assert told == []
    assert [record["loss"] for record in found.history] == losses(6)


@pytest.mark.parametrize(
    "text", ["\u2028", "\u2029", "\x85", "\x1b[31m", "\ud800", "\0", "a\r\nb", '"', "é", "x" * 200_000]
)
def test_text_among_the_metrics_survives_going_on(text: str, tmp_path: Path) -> None:
    lines, table = JsonLines(tmp_path / "m.jsonl"), CSV(tmp_path / "m.csv")
    for sink in (lines, table):
        sink.start(None, None)
        sink.write(1, {"note": f"a{text}b", f"name{text}": 1.0})
        sink.write(2, {"loss": 2.0})
        sink.close()
    before = [path.read_bytes() for path in (lines.path, table.path)]
    for sink in (lines, table):
        sink.start(2, None)
        sink.close()
    assert [path.read_bytes() for path in (lines.path, table.path)] == before
    assert read_records(lines.path).records == [
        {"round": 1, "note": f"a{text}b", f"name{text}": 1.0},
        {"round": 2, "loss": 2.0},
    ]
    assert len(read_table(table.path).records) == 2
    assert not list(tmp_path.glob("*.damaged"))


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.program.lines._LONGEST", 100)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"round": 1}\n' + b"x" * 1000 + b'\n{"round": 2}\n' + b"y" * 1000)
    found = read_records(path)
    assert ([record["round"] for record in found.records], found.damaged) == ([1, 2], [2])


def test_text_that_no_file_holds_and_what_others_have_written_is_no_obstacle(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**known, "data": "a\ud800b", "more": [float("inf")]}))
    assert resumed(folder)[1] == []
    after = json.loads((folder / "run.json").read_text())
    assert after["data"] == "a\ud800b" and "more" not in after
    assert load_checkpoint(folder).run["data"] == "a\ud800b"
    stopped = run(tmp_path / "other", 7, callbacks=[lambda *_: "why\ud800"])
    assert load_checkpoint(tmp_path / "other").stopped == stopped.stopped == "why\ud800"


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv", "rounds.jsonl", "population.json", "run.json"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_may_not_be_read(
    name: str, code: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path)
    damaged = (folder / name).read_bytes()
    refused = (folder / name).stat().st_ino

    def opened(path: Path) -> Any:
        if path.exists() and path.stat().st_ino == refused:
            raise OSError(code, os.strerror(code), str(path))
        return open_regular(path)

    for module in ("lines", "run_file"):
        monkeypatch.setattr(f"hansa.program.{module}.open_regular", opened)
    _, told = resumed(folder)
    assert any(str(folder / name) in text and os.strerror(code) in text for text in told), told
    assert (folder / f"{name}.damaged").read_bytes() == damaged
    assert (folder / name).read_bytes()


def test_checkpoints_that_may_not_be_read_are_told_and_not_begun_anew(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path)

    plain = os.listdir

    def listed(path: Any) -> Any:
        if Path(path).name == "checkpoints":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return plain(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", listed)
        with pytest.raises(CheckpointError, match=rf"{folder / 'checkpoints'} cannot be read: Permission denied"):
            run(folder, 6)
    assert resumed(folder)[1] == []


def test_a_run_on_other_devices_is_told(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    known = json.loads((folder / "run.json").read_text())
    assert " x cpu" in known["devices"].lower()
    (folder / "run.json").write_text(json.dumps({**known, "devices": "99 x abacus"}))
    _, told = resumed(folder)
    assert len(told) == 1 and "was on 99 x abacus, and goes on with " in told[0] and "not to the bit" in told[0]
    assert resumed(folder)[1] == []


def test_another_number_of_devices_is_told_only_where_sums_depend_on_it(whole: Path, tmp_path: Path) -> None:
    known = json.loads((whole / "run.json").read_text())
    assert known["sums"] == "exact"
    more = {"devices": "99 x " + known["devices"].partition(" x ")[2]}
    for number, (facts, words) in enumerate(
        [
            (more, None),
            ({**more, "sums": "fast"}, "sums over clients were fast, and are exact"),
            ({**more, "sums": None}, "sums over clients were fast, and are exact"),
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        folder = copied(whole, place)
        (folder / "run.json").write_text(json.dumps({**known, **facts}))
        told = resumed(folder)[1]
        assert told == [] if words is None else words in told[0]
