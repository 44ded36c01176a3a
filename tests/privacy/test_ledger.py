"""The ledger is on the disk before a charge counts, only grows, and shows what was changed in it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hansa.privacy import Charge, Gaussian, Ledger, LedgerError, Poisson, read_ledger

CHARGE = Charge(Poisson(0.1), [Gaussian(1.0)])


def filled(path: Path, entries: int = 3) -> Ledger:
    ledger = Ledger(path)
    for number in range(1, entries + 1):
        ledger.append(
            number,
            1,
            CHARGE,
            clients=[number, "ann"],
            inputs="ab" * 32,
            salt=bytes(16),
            delta=1e-5,
            epsilon_after=number / 2,
        )
    ledger.note(entries, 1, 1, {"late": ["ann"]})
    return ledger


def test_what_is_charged_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    assert read_ledger(path) == Ledger(path).entries == written.entries
    assert [(entry.round, entry.epsilon_after, entry.clients) for entry in written.entries] == [
        (1, 0.5, (1, "ann")),
        (2, 1.0, (2, "ann")),
        (3, 1.5, (3, "ann")),
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    more = Ledger(path)
    more.append(4, 1, CHARGE, delta=1e-5, epsilon_after=2.0)
    assert len(read_ledger(path)) == 4
    assert [entry.round for entry in more.of_round(4)] == [4]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["entry"] for line in lines] == ["charge"] * 3 + ["outcome", "charge"]


def test_an_entry_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(tmp_path / "ledger.jsonl")
    synced = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    ledger.append(4, 1, CHARGE, delta=1e-5, epsilon_after=2.0)
    assert json.loads(synced[0])["round"] == 4

    def fails(descriptor: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no room"):
        ledger.append(5, 1, CHARGE, delta=1e-5, epsilon_after=2.5)
    assert len(ledger.entries) == 4
    monkeypatch.setattr(os, "fsync", fsync)
    ledger.append(5, 1, CHARGE, delta=1e-5, epsilon_after=2.5)
    assert read_ledger(tmp_path / "ledger.jsonl") == ledger.entries


def changed(lines: list[bytes]) -> dict[str, list[bytes]]:
    return {
        "taken out": [lines[0], *lines[2:]],
        "first taken out": lines[1:],
        "swapped": [lines[1], lines[0], *lines[2:]],
        "twice": [lines[0], *lines],
        "changed": [lines[0].replace(b'"noise_multiplier": 1.0', b'"noise_multiplier": 9.0'), *lines[1:]],
        "no JSON": [lines[0], b"{", *lines[2:]],
        "no object": [b"[]", *lines[1:]],
        "no charge": [b'{"entry": "gift", "previous": "' + b"0" * 64 + b'"}'],
        "no round": [lines[0].replace(b'"round": 1', b'"round": -1')],
        "no mechanism": [lines[0].replace(b"Gaussian", b"Laplace")],
    }


@pytest.mark.parametrize("how", changed([b""] * 4))
def test_what_was_changed_is_seen(tmp_path: Path, how: str) -> None:
    path = tmp_path / "ledger.jsonl"
    filled(path)
    text = changed(path.read_bytes().splitlines())[how]
    path.write_bytes(b"".join(line + b"\n" for line in text))
    for read in (read_ledger, Ledger):
        with pytest.raises(LedgerError, match=r"is damaged: .*What has been spent is not known"):
            read(path)


def test_a_part_of_a_line_is_no_charge(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    whole = path.read_bytes()
    for cut in (1, 40):
        path.write_bytes(whole + whole.splitlines()[-1][:cut])
        assert read_ledger(path) == written.entries
        assert path.stat().st_size == len(whole) + cut
        ledger = Ledger(path)
        assert path.read_bytes() == whole
    ledger.append(4, 1, CHARGE, delta=1e-5, epsilon_after=2.0)
    assert len(read_ledger(path)) == 4


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Ledger(tmp_path / "ledger.jsonl").append(1, 1, CHARGE, delta=1e-5, epsilon_after=2.0)
