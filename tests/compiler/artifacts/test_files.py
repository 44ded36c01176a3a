"""Files of saved computations: whole or refused, whatever happens to their bytes."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hansa
from hansa.compiler.artifacts.file import Reader

TABLE = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)


@hansa.federated_computation("{float32[50]}@CLIENTS")
def projected(value):
    project = hansa.jax_computation(lambda x: x @ jnp.asarray(TABLE))
    return {"sum": hansa.federated_sum(hansa.federated_map(project, value)), "name": "projected", "table": [1, 2]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "projected.hansa"
    hansa.save(projected, path)
    return path


def contents(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a file, and the other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(entries.pop("manifest.json")), entries


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], object]) -> Path:
    """A copy of a file in which something is changed, with right checksums of the archive."""
    manifest, entries = contents(path)
    change(manifest, entries)
    copy = path.with_name("changed.hansa")
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in entries.items():
            archive.writestr(name, data)
    return copy


def edits(size: int) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Ways of damaging a file of `size` bytes: where its structure is, at both ends, as often as anywhere."""
    place = st.one_of(st.integers(0, size), st.integers(0, min(size, 80)), st.integers(max(0, size - 1500), size))
    some = st.binary(min_size=1, max_size=40)
    return st.one_of(
        st.builds(lambda i, bit: lambda data: data[:i] + bytes(x ^ 1 << bit for x in data[i : i + 1]) + data[i + 1 :],
                  place, st.integers(0, 7)),
        st.builds(lambda i, new: lambda data: data[:i] + new + data[i + len(new) :], place, some),
        st.builds(lambda i, new: lambda data: data[:i] + new + data[i:], place, some),
        st.builds(lambda i, n: lambda data: data[:i] + data[i + n :], place, st.integers(1, 3000)),
        st.builds(lambda i: lambda data: data[:i], place),
    )  # fmt: skip


class TestDamage:
    def test_a_damaged_file_is_refused_or_unchanged_in_what_it_says(self, saved):
        data, whole = saved.read_bytes(), Reader(saved)
        entries = {name: whole.entry(name) for name in whole.manifest["entries"]}
        path = saved.with_name("damaged.hansa")
        refused = 0

        @settings(max_examples=100)
        @given(st.lists(edits(len(data)), min_size=1, max_size=3))
        def check(changes):
            nonlocal refused
            damaged = data
            for change in changes:
                damaged = change(damaged) if damaged else damaged
            path.write_bytes(damaged)
            try:
                loaded = hansa.load(path)
            except hansa.ArtifactError as error:
                refused += 1
                assert str(path) in str(error)
                return
            assert loaded.type_signature == projected.type_signature
            found = Reader(path)
            assert found.manifest == whole.manifest
            for name, entry in entries.items():
                try:
                    assert found.entry(name) == entry
                except hansa.ArtifactError as error:
                    refused += 1
                    assert str(path) in str(error)
                    return

        check()
        assert refused > 60

    @given(st.binary(max_size=300))
    @settings(max_examples=30)
    def test_bytes_that_are_no_file_of_ours(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "noise.hansa"
        path.write_bytes(data)
        with pytest.raises(hansa.ArtifactError, match=r"is no artifact of Hansa|is damaged"):
            hansa.load(path)

    def test_an_archive_of_something_else(self, tmp_path):
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "text")
        with pytest.raises(hansa.ArtifactError, match=r"is no artifact of Hansa: it has no manifest\.json"):
            hansa.load(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", '{"format": "holiday pictures", "version": 1}')
        with pytest.raises(hansa.ArtifactError, match="its format is 'holiday pictures'"):
            hansa.load(path)


class TestContents:
    def test_an_entry_with_other_bytes(self, saved):
        def change(manifest, entries):
            name = next(name for name, data in entries.items() if len(data) > TABLE.nbytes)
            entries[name] = entries[name][:-1] + bytes([entries[name][-1] ^ 1])

        loaded = hansa.load(rewritten(saved, change))
        with pytest.raises(hansa.ArtifactError, match=r"changed\.hansa is damaged.*arrays/.* has another checksum"):
            loaded([np.ones(50, np.float32)])

    def test_a_function_with_other_bytes(self, saved):
        def change(manifest, entries):
            name = next(name for name in entries if name.startswith("functions/"))
            entries[name] = entries[name][:-1] + bytes([entries[name][-1] ^ 1])

        with pytest.raises(hansa.ArtifactError, match=r"functions/.* has another checksum"):
            hansa.load(rewritten(saved, change))

    def test_entries_more_or_fewer_than_are_listed(self, saved):
        with pytest.raises(hansa.ArtifactError, match=r"entries are not those that its manifest\.json lists"):
            hansa.load(rewritten(saved, lambda manifest, entries: entries.update({"more.txt": b"text"})))
        with pytest.raises(hansa.ArtifactError, match=r"entries are not those that its manifest\.json lists"):
            hansa.load(rewritten(saved, lambda manifest, entries: entries.popitem()))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_entries_of_one_name(self, saved):
        path = rewritten(saved, lambda manifest, entries: None)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("manifest.json", "{}")
        with pytest.raises(hansa.ArtifactError, match="two entries of one name"):
            hansa.load(path)

    def test_compressed_entries(self, saved):
        path = saved.with_name("small.hansa")
        manifest, entries = contents(saved)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            for name, data in entries.items():
                archive.writestr(name, data)
        with pytest.raises(hansa.ArtifactError, match="compressed or encrypted"):
            hansa.load(path)

    @pytest.mark.parametrize("name", ["kind", "programs", "calling_convention", "entries"])
    def test_a_manifest_that_lacks_something(self, saved, name):
        with pytest.raises(hansa.ArtifactError, match="is damaged"):
            hansa.load(rewritten(saved, lambda manifest, entries: manifest.pop(name)))

    def test_a_manifest_that_says_something_else(self, saved):
        def another_type(manifest, entries):
            manifest["programs"]["computation"]["type"]["type"] = "({float32[50]}@CLIENTS -> int32)"

        def another_class(manifest, entries):
            manifest["kind"] = "Popen"

        def a_function_for_an_array(manifest, entries):
            (stage,) = manifest["programs"]["computation"]["clients"]
            stage["function"]["constants"] = []
            stage["function"]["entry"] = next(name for name in entries if name.startswith("arrays/"))

        def an_operation(manifest, entries):
            manifest["programs"]["computation"]["result"] = ["operation", "os.system", {"type": "int32"}, []]

        for change in (another_type, another_class, a_function_for_an_array, an_operation):
            with pytest.raises(hansa.ArtifactError, match="is damaged, or was not written by Hansa"):
                hansa.load(rewritten(saved, change))

    def test_a_newer_format_and_a_newer_jax(self, saved):
        def newer(manifest, entries):
            manifest.update(version=3, hansa="9.0", programs="in another form")

        with pytest.raises(hansa.ArtifactError, match=r"version 3 .* reads up to 2: .* by Hansa 9\.0; update Hansa"):
            hansa.load(rewritten(saved, newer))
        with pytest.raises(hansa.ArtifactError, match=r"written with JAX 7\.5.* update JAX"):
            hansa.load(rewritten(saved, lambda manifest, _: manifest.update(calling_convention=99, jax="7.5")))
        with pytest.raises(hansa.ArtifactError, match="save it again with a JAX between"):
            hansa.load(rewritten(saved, lambda manifest, _: manifest.update(calling_convention=1)))


class TestWriting:
    def test_the_same_computation_gives_the_same_bytes(self, saved, tmp_path):
        hansa.save(projected, tmp_path / "again.hansa")
        assert (tmp_path / "again.hansa").read_bytes() == saved.read_bytes()

    def test_large_constants_are_arrays_and_no_path_of_this_machine_is_there(self, saved):
        _, entries = contents(saved)
        assert any(len(data) > TABLE.nbytes for name, data in entries.items() if name.startswith("arrays/"))
        assert all(len(data) < 5000 for name, data in entries.items() if name.startswith("functions/"))
        for part in (str(Path(__file__).parent), "test_files.py", str(Path(hansa.__file__).parent)):
            assert part.encode() not in saved.read_bytes()

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
            hansa.save(projected, tmp_path)
        with pytest.raises(IsADirectoryError):
            hansa.load(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            hansa.load(tmp_path / "none.hansa")
        with pytest.raises(FileNotFoundError):
            hansa.save(projected, tmp_path / "no folder" / "file.hansa")

    def test_writing_that_fails_leaves_the_old_file(self, saved, tmp_path, monkeypatch):
        path = tmp_path / "kept.hansa"
        path.write_bytes(b"before")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            hansa.save(projected, path)
        assert path.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_is_replaced(self, tmp_path):
        path = tmp_path / "kept.hansa"
        path.write_bytes(b"before")
        hansa.save(projected, path)
        values = np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)
        found = hansa.load(path)(list(values))
        np.testing.assert_allclose(found["sum"], (values @ TABLE).sum(0), rtol=1e-4, atol=1e-4)
        assert found.name == "projected"
