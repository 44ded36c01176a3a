"""Of a checkpoint that is no good, whatever it is, the one before is used."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.program import BestModel, CheckpointError, EarlyStopping, checkpoints, load_checkpoint
from tests.program.counting import run
from tests.program.damaging import PLACES, Damage, copied, resumed

pytestmark = pytest.mark.usefixtures("no_fsync")


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a checkpoint with another manifest."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(entries.pop("manifest.json"))
    manifest = change(manifest) or manifest
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in entries.items():
            archive.writestr(name, data)


def _set(**fields: Any) -> Damage:
    return lambda path: rewritten(path, lambda manifest: {**manifest, **fields})


NONSENSE: dict[str, Damage] = {
    **PLACES,
    "a manifest that is a list": lambda path: rewritten(path, lambda manifest: [manifest]),
    "a state that is a list": _set(state=[]),
    "a state of another type": lambda path: rewritten(
        path, lambda manifest: {**manifest, "state": {**manifest["state"], "type": "<sum=float32,squares=int32>"}}
    ),
    "a state nested deep": _set(state={"type": "<" * 50_000}),
    "a state of an absurd shape": lambda path: rewritten(
        path, lambda manifest: {**manifest, "saved": {"0-x": {"type": "float32[9999999,9999999]", "value": {}}}}
    ),
    "a round that is text": _set(round="4"),
    "another round": _set(round=3),
    "a reason that is a number": _set(stopped=5),
    "no reason": lambda path: rewritten(path, lambda manifest: manifest.pop("stopped") and None),
    "another kind": _set(kind="process"),
    "another version": _set(version=99),
}


@pytest.mark.parametrize("damage", NONSENSE)
def test_the_checkpoint_before_is_used_if_the_newest_is(damage: str, whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    newest = folder / "checkpoints" / "round-00000004.hansa"
    NONSENSE[damage](newest)
    with pytest.warns(UserWarning, match=r"round-00000004\.hansa.*; the checkpoint before it is used"):
        assert load_checkpoint(folder).round == 2
    _, told = resumed(folder)
    assert any("round-00000004.hansa" in text for text in told)
    assert os.path.lexists(newest.with_name(f"{newest.name}.damaged"))
    assert load_checkpoint(folder).round == 6
    assert (tmp_path / "precious").read_text() == "precious\n"


def test_a_checkpoint_that_goes_while_it_is_read_is_one_that_is_old(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path) / "checkpoints"
    read, old = checkpoints.load_checkpoint, sorted(folder.iterdir())

    def reading(path: Path, *arguments: Any) -> Any:
        for each in old:  # as a run does that goes on
            if each.exists():
                rewritten(each, _four_rounds_more)
                each.rename(each.with_name(f"round-{int(each.stem[6:]) + 4:08d}.hansa"))
        return read(path, *arguments)

    monkeypatch.setattr(checkpoints, "load_checkpoint", reading)
    assert load_checkpoint(folder.parent).round == 8


def _four_rounds_more(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "round": manifest["round"] + 4}


def test_a_checkpoint_of_another_array_falls_back(whole: Path, tmp_path: Path) -> None:
    """Its checksums are right, and NumPy's header is nonsense, or of another shape than the type says."""
    folder = copied(whole, tmp_path)
    newest = folder / "checkpoints" / "round-00000004.hansa"
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, np.float32))
    for data in (b"\x93NUMPY\x01\x00\x2a\x00{'descr': " + b"(" * 31 + b"}", buffer.getvalue()):
        with zipfile.ZipFile(newest) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            name, *others = sorted(manifest["entries"])
            kept = {other: archive.read(other) for other in others}
        new = f"arrays/{hashlib.sha256(data).hexdigest()}.npy"
        text = json.dumps(manifest).replace(name, new)
        manifest = json.loads(text)
        manifest["entries"][new] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        with zipfile.ZipFile(newest, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            for entry, content in {**kept, new: data}.items():
                archive.writestr(entry, content)
        with pytest.warns(UserWarning, match="does not hold what a checkpoint does"):
            assert load_checkpoint(folder).round == 2


@pytest.mark.parametrize("place", PLACES)
def test_what_is_in_the_place_of_the_checkpoints_is_set_aside_before_the_first_round(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious\n")
    folder = tmp_path / "run"
    run(folder, 1)
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").touch()
    PLACES[place](folder / "checkpoints")
    if place == "a folder":
        return
    with pytest.warns(UserWarning, match="checkpoints is damaged: it is no folder"):
        assert run(folder, 2).state.sum == 3
    assert load_checkpoint(folder).round == 2


def test_a_folder_or_link_among_old_checkpoints_is_left_or_removed(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    (folder / "checkpoints" / "round-00000001.hansa").mkdir()
    (folder / "checkpoints" / "round-00000000.hansa").symlink_to(tmp_path / "precious")
    resumed(folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "round-00000001.hansa", "round-00000004.hansa", "round-00000006.hansa",
    ]  # fmt: skip
    assert (tmp_path / "precious").exists()


def test_callbacks_do_not_take_nonsense(tmp_path: Path) -> None:
    for callback in (BestModel("loss"), EarlyStopping("loss")):
        for nonsense in (np.zeros(3), "text", {"best": "x"}):
            with pytest.raises(CheckpointError, match=f"{type(callback).__name__}"):
                callback.restore(nonsense)
    assert tmp_path
