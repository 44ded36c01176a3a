"""Artifacts in files and in memory: what is read when, and what comes of files that change while they are in use."""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.source import ALIGNMENT
from tests.portable.forging import contents, write

TABLE = np.random.default_rng(0).normal(size=(500, 400)).astype(np.float32)
GIVEN = np.random.default_rng(1).normal(size=(3, 500)).astype(np.float32)
EXPECTED = (GIVEN @ TABLE).sum(0)


@hansa.federated_computation("{float32[500]}@CLIENTS")
def projected(value):
    return hansa.federated_sum(hansa.federated_map(hansa.jax_computation(lambda x: x @ jnp.asarray(TABLE)), value))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sources") / "projected.hansa"
    hansa.save(projected, path, platforms=["cpu"])
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.hansa"
    path.write_bytes(saved.read_bytes())
    return path


def assert_projects(loaded: Any) -> None:
    np.testing.assert_allclose(loaded(list(GIVEN)), EXPECTED, rtol=1e-4, atol=1e-4)


def table(data: bytes) -> int:
    """Where the elements of the table are in a file."""
    place = data.index(TABLE.tobytes())
    assert place > 0
    return place


class TestBytes:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_are_loaded_as_a_file_is(self, saved, kind):
        data = kind(saved.read_bytes())
        assert_projects(hansa.load(data))
        stage = hansa.load_client_stage(data)
        found = stage.work([], [GIVEN[0]]).contributions[0][0]
        np.testing.assert_allclose(found, GIVEN[0] @ TABLE, rtol=1e-4, atol=1e-4)

    def test_what_is_written_into_a_file_that_is_open_is_what_is_written_at_a_path(self, saved, tmp_path):
        buffer = io.BytesIO()
        hansa.save(projected, buffer, platforms=["cpu"])
        assert buffer.getvalue() == saved.read_bytes()
        with (tmp_path / "open.hansa").open("wb") as file:
            hansa.save(projected, file, platforms=["cpu"])
        assert (tmp_path / "open.hansa").read_bytes() == saved.read_bytes()

        read, write = os.pipe()
        with os.fdopen(read, "rb") as source, os.fdopen(write, "wb") as target:
            hansa.save(hansa.jax_computation(lambda a: a + 1, np.float32), target, platforms=["cpu"])
            target.close()
            assert hansa.load(source.read())(2.0) == 3.0

    def test_what_is_no_file_to_write_into(self, tmp_path):
        with (tmp_path / "text").open("w") as file:
            for target in (file, io.StringIO(), 3, None):
                with pytest.raises(TypeError, match=r"open to write bytes, such as io\.BytesIO\(\)"):
                    hansa.save(projected, target)

    def test_what_is_neither_a_path_nor_bytes(self, saved):
        with saved.open("rb") as file, pytest.raises(TypeError, match=r"a path, or bytes, such as those of file\.read"):
            hansa.load(file)
        with pytest.raises(TypeError, match="found int"):
            hansa.load_client_stage(3)
        with pytest.raises(TypeError, match="must be contiguous"):
            hansa.load(memoryview(saved.read_bytes())[::2])

    def test_bytes_that_are_no_artifact(self, saved):
        with pytest.raises(hansa.ArtifactError, match="the given data is no artifact of Hansa, or is damaged"):
            hansa.load(saved.read_bytes()[:-100])
        with pytest.raises(hansa.ArtifactError, match="the given data is no artifact of Hansa"):
            hansa.load(b"")

    def test_bytes_that_somebody_may_write_into_are_copied_and_others_are_not(self, saved):
        data = saved.read_bytes()
        array = next(name for name in contents(saved)[1] if name.startswith("arrays/"))
        for given, shared in ((data, True), (memoryview(data), True), (bytearray(data), False)):
            found = np.frombuffer(Reader(given).entry(array), np.uint8)
            assert np.shares_memory(found, np.frombuffer(given, np.uint8)) == shared
            assert not found.flags.writeable

    def test_bytes_that_were_written_into_after_loading(self, saved):
        data = bytearray(saved.read_bytes())
        loaded = hansa.load(data)
        data[table(data) + 5] ^= 1
        with pytest.raises(hansa.ArtifactError, match="was changed after it was opened"):
            loaded(list(GIVEN))

    def test_bytes_that_were_written_into_after_the_first_call(self, saved):
        data = bytearray(saved.read_bytes())
        loaded = hansa.load(data)
        before = np.asarray(loaded(list(GIVEN)))
        data[:] = bytes(len(data))
        np.testing.assert_array_equal(loaded(list(GIVEN)), before)
        np.testing.assert_array_equal(loaded([*GIVEN, GIVEN[0] * 0]), before)  # compiled again

    def test_a_mapped_file_is_bytes_too(self, saved):
        with saved.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        assert_projects(hansa.load(data))


class TestOnDemand:
    def test_arrays_begin_where_they_can_be_computed_with(self, saved):
        assert table(saved.read_bytes()) % ALIGNMENT == 0

    def test_loading_reads_no_arrays(self, copy):
        with copy.open("rb+") as file:
            file.seek(table(copy.read_bytes()))
            file.write(bytes(TABLE.nbytes))
        loaded = hansa.load(copy)
        assert str(loaded.type_signature) == str(projected.type_signature)
        with pytest.raises(hansa.ArtifactError, match="another checksum"):
            loaded(list(GIVEN))

    def test_a_stage_reads_its_own_functions_only(self, tmp_path):
        @hansa.federated_computation("{float32}@CLIENTS")
        def doubled_sum(value):
            total = hansa.federated_sum(hansa.federated_map(hansa.jax_computation(lambda x: x * 2), value))
            return hansa.federated_map(hansa.jax_computation(lambda x: x - 1), total)

        path = tmp_path / "doubled.hansa"
        hansa.save(doubled_sum, path, platforms=["cpu"])
        manifest, _ = contents(path)
        server = manifest["programs"]["computation"]["servers"][1]["function"]["entry"]
        with zipfile.ZipFile(path) as archive:
            place = archive.getinfo(server).header_offset + 300
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        assert hansa.load_client_stage(data).work([], [4.0]).contributions[0][0] == 8.0
        with pytest.raises(hansa.ArtifactError, match="another checksum"):
            hansa.load(data)

    def test_files_are_closed_when_nobody_has_them_any_more(self, saved):
        def opened() -> int:
            return len(os.listdir("/proc/self/fd"))

        before = opened()
        for _ in range(3):
            hansa.load_client_stage(saved)
            with pytest.raises(hansa.ArtifactError):
                hansa.load(__file__)
        assert opened() <= before + 1  # the last one may be in a cycle that is not collected yet


CHANGES = {
    "os.truncate(path, place + 4096)": "was cut off after it was opened",
    "os.truncate(path, 0)": "was cut off after it was opened",
    "write(path, place + 8000, bytes(10))": "was changed after it was opened",
    "write(path, place - 100, bytes(10))": "was changed after it was opened",
    "os.truncate(path, 0); write(path, 0, os.urandom(size))": "was changed after it was opened",
    "os.replace(new, path)": "RIGHT",
    "os.unlink(path)": "RIGHT",
    "loaded(given); os.truncate(path, 0)": "RIGHT",
    "loaded(given); write(path, place, bytes(10_000))": "RIGHT",
}
"""What happens to a file after it was loaded, and what comes of the call after that."""

CHANGING = """
import os, sys, numpy as np, hansa
place, path, new = int(sys.argv[1]), "changing.hansa", "new.hansa"
whole = open("whole.hansa", "rb").read()
size = len(whole)
given = list(np.random.default_rng(1).normal(size=(3, 500)).astype(np.float32))
expected = (np.array(given) @ np.random.default_rng(0).normal(size=(500, 400)).astype(np.float32)).sum(0)

def write(path, at, data):
    with open(path, "rb+") as file:
        file.seek(at)
        file.write(data)

for change in sys.argv[2:]:
    for name, data in ((path, whole), (new, b"another file")):
        with open(name, "wb") as file:
            file.write(data)
    loaded = hansa.load(path)
    exec(change)
    try:
        found = np.asarray(loaded([*given, given[0] * 0]))
        print("RIGHT" if np.allclose(found, expected, rtol=1e-4, atol=1e-4) else "WRONG", flush=True)
    except hansa.ArtifactError as error:
        print(error, flush=True)
"""


def test_files_that_change_after_they_were_loaded(saved, tmp_path):
    """In a process of its own: if a file is mapped, cutting it off ends those who read it."""
    (tmp_path / "whole.hansa").write_bytes(saved.read_bytes())
    command = [sys.executable, "-c", CHANGING, str(table(saved.read_bytes())), *CHANGES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(CHANGES), (done.returncode, lines, done.stderr[-2000:])
    for (change, expected), line in zip(CHANGES.items(), lines, strict=True):
        assert expected in line, change


class TestArchivesThatLie:
    """About where entries are and how large they are; with right checksums of what is there."""

    def refused(self, data: bytes, match: str) -> None:
        with pytest.raises(hansa.ArtifactError, match=match):
            hansa.load(data)(list(GIVEN))

    def patched(self, saved: Path, name: str, change: Callable[[bytearray, int, int], None]) -> bytes:
        """A copy in which the header and the directory's line of an entry, at these places, are changed."""
        data = bytearray(saved.read_bytes())
        with zipfile.ZipFile(saved) as archive:
            begin, directory = archive.getinfo(name).header_offset, archive.start_dir
        change(data, begin, data.index(name.encode(), directory) - zipfile.sizeCentralDir)
        return bytes(data)

    @pytest.fixture
    def array(self, saved) -> str:
        return next(name for name, data in contents(saved)[1].items() if len(data) > TABLE.nbytes)

    @pytest.fixture
    def function(self, saved) -> str:
        return next(name for name in contents(saved)[1] if name.startswith("functions/"))

    @pytest.mark.parametrize("size", [TABLE.nbytes * 2, 1 << 31, (1 << 32) - 2])
    def test_an_entry_larger_than_its_room(self, saved, array, size):
        def both(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<II", data, line + 20, size, size)

        def one(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<I", data, line + 24, size)

        for change in (both, one):
            self.refused(self.patched(saved, array, change), "is larger than the room that it has")

    def test_an_entry_smaller_than_is_listed(self, saved, array):
        def change(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<II", data, line + 20, 50, 50)

        self.refused(self.patched(saved, array, change), "has another size than is listed")

    def test_two_entries_at_one_place(self, saved, array, function):
        with zipfile.ZipFile(saved) as archive:
            place = archive.getinfo(array).header_offset

        def change(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<I", data, line + 42, place)

        self.refused(self.patched(saved, function, change), "is larger than the room that it has")

    def test_an_entry_within_another(self, saved, array, function):
        with zipfile.ZipFile(saved) as archive:
            place = archive.getinfo(array).header_offset

        def change(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<I", data, line + 42, place + 1000)
            data[place + 1000 : place + 1030] = data[begin : begin + 30]

        self.refused(self.patched(saved, function, change), "is larger than the room that it has")

    def test_an_entry_that_is_not_where_it_should_be(self, saved, function):
        def elsewhere(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<I", data, line + 42, begin + 1)

        def another_name(data: bytearray, begin: int, line: int) -> None:
            data[begin + 35] ^= 1

        def no_header(data: bytearray, begin: int, line: int) -> None:
            data[begin : begin + 4] = b"XXXX"

        for change in (elsewhere, another_name, no_header):
            self.refused(self.patched(saved, function, change), "is not where its directory says|larger than the room")

    def test_a_header_that_reaches_into_the_next_entry(self, saved, function):
        def change(data: bytearray, begin: int, line: int) -> None:
            struct.pack_into("<H", data, begin + 28, 65_000)

        self.refused(self.patched(saved, function, change), "reaches into what comes after it")

    def test_a_directory_that_lies_about_itself(self, saved):
        data = bytearray(saved.read_bytes())
        end = data.rindex(b"PK\5\6")
        for offset, value in ((12, 1 << 31), (16, 1 << 31), (16, 0), (12, 0)):
            changed = bytearray(data)
            struct.pack_into("<I", changed, end + offset, value)
            self.refused(bytes(changed), "is no artifact of Hansa|is damaged")

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (500, 400), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (500, 400), }",
            "{'descr': '|V0', 'fortran_order': False, 'shape': (1099511627776,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-500, -400), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (400, 500), }",
            "(" * 2000,
        ],
    )
    def test_an_array_that_lies_about_itself(self, saved, array, header):
        manifest, entries = contents(saved)
        text = header.encode().ljust(117) + b"\n"
        entries[array] = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + entries[array][128:]
        path = saved.with_name("lying.hansa")
        write(path, manifest, entries)
        self.refused(path.read_bytes(), "is damaged, or was not written by Hansa")

    def test_a_manifest_that_lies_about_entries(self, saved, array):
        for listed in ({"size": 1 << 60, "sha256": ""}, {"size": True}, 7, None):
            manifest, entries = contents(saved)
            manifest["entries"][array] = listed
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("manifest.json", json.dumps(manifest))
                for name, data in entries.items():
                    archive.writestr(name, data)
            self.refused(buffer.getvalue(), "has another size than is listed")
