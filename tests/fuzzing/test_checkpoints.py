"""Damaged and forged checkpoints are `CheckpointError`s, or are read right; the one before takes their place."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

import hansa
from hansa.program import BestModel, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from hansa.program.checkpoints import Checkpoints
from hansa.types import Struct, infer_type
from tests.fuzzing.damages import damaged_bytes, damaged_json, put_in_its_place
from tests.fuzzing.pool import fuzz

TYPE = hansa.parse_type("<w=float32[2,3],b=<int64,bfloat16[4]>,name=str>@SERVER")


def state(round_number: int) -> Any:
    w = np.arange(6, dtype=np.float32).reshape(2, 3) + round_number
    b = Struct([(None, np.int64(2**60)), (None, jax.numpy.ones(4, jax.numpy.bfloat16))])
    return Struct([("w", w), ("b", b), ("name", "x" * round_number)])


@cache
def entries_of(round_number: int) -> tuple[bytes, dict[str, Any], Mapping[str, bytes]]:
    """The bytes of a checkpoint, its manifest, and its other entries."""
    best = BestModel("loss")
    best.after_round(round_number, state(round_number), {"loss": 0.5})
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync"):
        path = Path(folder) / "c.hansa"
        run = {"asked": {"seed": 1, "config": {"a": [1, 2]}}, "rounds": 3}
        save_checkpoint(path, Checkpoint(round_number, state(round_number), {"0-x": best.save()}, None, run), TYPE)
        data = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    return data, json.loads(entries.pop("manifest.json")), entries


def forged(random: Random) -> bytes:
    """A checkpoint with right checksums, of another manifest or other arrays."""
    _, manifest, entries = entries_of(2)
    if random.random() < 0.6:
        kept = manifest.pop("entries")
        manifest, whole = damaged_json(random, manifest), manifest
        whole["entries"] = kept
        if isinstance(manifest, dict):
            manifest["entries"] = kept if random.random() < 0.9 else damaged_json(random, kept)
        entries = dict(entries)
    else:
        name = random.choice(sorted(entries))
        data = other_array(random, entries[name])
        new = f"arrays/{hashlib.sha256(data).hexdigest()}.npy"
        manifest = json.loads(json.dumps(manifest).replace(name, new))
        entries = {**{key: value for key, value in entries.items() if key != name}, new: data}
        manifest["entries"][new] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def other_array(random: Random, data: bytes) -> bytes:
    """An array in NumPy's format, whose header or contents are others."""
    if random.random() < 0.3:
        return damaged_bytes(random, data)
    shape = random.choice(["(3,)", "()", "(-1, -6)", "(10**30,)", "(0, 10**18)", "(2, 3)", "(2.0, 3)", "[6]", "(" * 50])
    kind = random.choice(["<f4", "<f8", "|O", "<U3", "|V8", "<M8[s]", "<c8", ">f4", "|b1", "|S0", "{'a'"])
    header = f"{{'descr': '{kind}', 'fortran_order': {random.choice(['False', 'True', '1', 'x'])}, 'shape': {shape}, }}"
    text = header.encode()[: random.choice([20, 1000])]
    return b"\x93NUMPY" + bytes([random.choice([1, 2, 3]), 0]) + len(text).to_bytes(2, "little") + text + data[-24:]


def attempt(random: Random, folder: Path) -> str:
    whole = entries_of(2)[0]
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    (folder / "precious").write_text("precious\n")
    (checkpoints / "round-00000001.hansa").write_bytes(entries_of(1)[0])
    newest = checkpoints / "round-00000002.hansa"
    how = random.choice(["bytes", "forged", "forged", "place"])
    if how == "place":
        put_in_its_place(random, newest)
    else:
        newest.write_bytes(forged(random) if how == "forged" else damaged_bytes(random, whole))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = load_checkpoint(folder, TYPE)
        assert_right(found, how)
        assert found.round == 2 or not newest.exists() or told
        Checkpoints(checkpoints).clean(found.round)
        assert load_checkpoint(folder, TYPE).round == found.round
    try:
        alone = load_checkpoint(newest)
    except (CheckpointError, OSError):
        return "refused"
    # Of any type, but it has one, and what it is given.
    assert infer_type(alone.state) is not None
    return "read"


def assert_right(found: Checkpoint, how: str) -> None:
    """A state of the type; and that which was saved, unless somebody has made right checksums of another."""
    assert found.round in (1, 2)
    assert TYPE.member.is_assignable_from(infer_type(found.state))  # type: ignore[attr-defined]
    if how != "forged" or found.round == 1:
        expected = state(found.round)
        for a, b in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected), strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    "inputs", [100, pytest.param(800, marks=pytest.mark.slow), pytest.param(3000, marks=pytest.mark.whole)]
)
def test_damaged_checkpoints(inputs: int) -> None:
    outcomes = fuzz(attempt, inputs, seed=16)
    assert outcomes["refused"] > inputs / 3 and outcomes["read"] > 0
