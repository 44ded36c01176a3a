"""Files of version 1 of the format, which `version_1/make.py` made with the last Hansa that wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.compiler.artifacts.artifact import load_program
from tests.compiler.artifacts.version_1.make import TABLE, two_stages
from tests.portable.forging import contents, write

FOLDER = Path(__file__).parent / "version_1"
SAVED = FOLDER / "two_stages.hansa"
VALUES = [np.array(value, np.float32) for value in ([1, 2], [3, -1], [0, 5])]


def test_the_files_are_of_version_1():
    for path in FOLDER.glob("*.hansa"):
        assert contents(path)[0]["version"] == 1
    assert len(list(FOLDER.glob("*.hansa"))) == 3


@pytest.mark.parametrize("given", [SAVED, SAVED.read_bytes()], ids=["a path", "bytes"])
def test_a_computation_computes_what_it_did(given):
    loaded = hansa.load(given)
    assert loaded.type_signature == two_stages.type_signature
    found = loaded(VALUES, 0.5)
    done = np.array(VALUES) @ TABLE
    np.testing.assert_allclose(found.mean, done.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.largest, np.abs(done - done.mean(0) / 2).max(), rtol=1e-6)
    assert found.note == "text"
    np.testing.assert_array_equal(found.table, TABLE)


def test_its_ports_are_found_from_where_values_come_from(tmp_path):
    hansa.save(two_stages, tmp_path / "new.hansa", platforms=["cpu"])
    old, new = hansa.load_ports(SAVED), hansa.load_ports(tmp_path / "new.hansa")
    assert (old.servers, old.type, old.result) == (new.servers, new.type, new.result)
    for before, after in zip(old.clients, new.clients, strict=True):
        assert (before.broadcasts, before.inputs, before.kept) == (after.broadcasts, after.inputs, after.kept)
        for a, b in zip(before.aggregates, after.aggregates, strict=True):
            assert a.state is None
            assert replace(a, state=b.state) == b
    assert [port.source for port in old.servers[1].inputs] == [("aggregate", 0, 0), ("argument", 1)]


def test_it_is_saved_again_as_the_newest_version(tmp_path):
    hansa.save(hansa.load(SAVED), tmp_path / "again.hansa", platforms=["cpu"])
    assert contents(tmp_path / "again.hansa")[0]["version"] == 2
    again = hansa.load(tmp_path / "again.hansa")
    assert str(again(VALUES, 0.5)) == str(hansa.load(SAVED)(VALUES, 0.5))
    assert len(load_program(SAVED).nodes) == len(load_program(tmp_path / "again.hansa").nodes)


def test_a_device_works_as_it_did(tmp_path):
    stage = hansa.load(FOLDER / "device.hansa")
    (sent,), (own,) = stage.broadcasts, stage.inputs
    assert (str(sent.type), str(own.type)) == ("float32[3]", "float32[3]")
    given = np.array([1, 2, 3], np.float32), np.array([4, -7, 0], np.float32)
    taken = hansa.load_client_stage(SAVED, 1)
    hansa.save(stage, tmp_path / "device.hansa")
    for each in (stage, taken, hansa.load(tmp_path / "device.hansa")):
        assert each.work([given[0]], [given[1]]).contributions[0][0] == 9.0
        assert each.contributions == taken.contributions


def test_a_checkpoint_is_read():
    found = hansa.program.load_checkpoint(FOLDER / "checkpoint.hansa")
    assert (found.round, found.state.count) == (12, 3)
    np.testing.assert_array_equal(found.state.weights, TABLE)


def test_a_damaged_file_is_refused(tmp_path):
    def no_names(program):
        program["clients"][0]["names"] = []

    def another_source(program):
        program["servers"][1]["inputs"][0] = ["aggregate", 1, 0]

    def a_recursion(program):
        program["servers"][1]["inputs"][0] = ["select", program["result"], 0]

    def fewer_aggregates(program):
        program["clients"][0]["aggregates"] = []

    for change in (no_names, another_source, a_recursion, fewer_aggregates):
        manifest, entries = contents(SAVED)
        change(manifest["programs"]["computation"])
        write(tmp_path / "damaged.hansa", manifest, entries)
        with pytest.raises(hansa.ArtifactError, match="is damaged, or was not written by Hansa"):
            hansa.load(tmp_path / "damaged.hansa")
