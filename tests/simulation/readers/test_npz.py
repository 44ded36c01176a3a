"""`.npz` files: those of NumPy are read, and those that say more than they hold are refused before anything is made."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import DatasetError
from hansa.simulation.readers.npz_files import read_npz


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(array))
    return content.getvalue()


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin1")


def zipped(path: Path, *members: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, save: Any):
    arrays = {
        "x": np.random.default_rng(0).normal(size=(30, 2, 3)),
        "columns": np.asfortranarray(np.arange(12).reshape(3, 4)),
        "text": np.array(["a", "bc"]),
        "none": np.zeros((0, 5), np.float32),
        "one": np.array(3),
        "bytes": np.array([1, 2], ">i2"),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("was unpickled",))


DESCRIBED = "{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (header(DESCRIBED.format(dtype="|O", shape=(1,))) + pickle.dumps(Harm()), "of dtype object"),
        (header(DESCRIBED.format(dtype=[("a", "|O")], shape=(1,))) + pickle.dumps(Harm()), "and not of numbers"),
        (header(DESCRIBED.format(dtype="<f8", shape=(1 << 37,))), "has 0 bytes, but float64 of shape .137438953472."),
        (header(DESCRIBED.format(dtype="<f8", shape=(1 << 40, 1 << 40))), "has 0 bytes, but"),
        (header(DESCRIBED.format(dtype="<f8", shape=(-1, -1))) + bytes(8), "has 8 bytes, but"),
        (header(DESCRIBED.format(dtype="|S0", shape=(1 << 60,))), "and not of numbers or text"),
        (header(DESCRIBED.format(dtype="<f8", shape=(2,))) + bytes(15), "has 15 bytes, but"),
        (header(DESCRIBED.format(dtype="<f8", shape=(2,))) + bytes(17), "has 17 bytes, but"),
        (header("(" * 9000), "a.npz"),
        (header(" " * 20_000), "has a header of 20,000 bytes"),
        (header(" " * 300_000, version=2), "has a header of 300,000 bytes"),
        (header("", version=3), "version 3"),
        (b"\x93NUMPY", "a.npz"),
        (b"", "a.npz"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_array_that_says_what_is_not_so_is_refused(tmp_path: Path, content: bytes, why: str):
    path = zipped(tmp_path / "a.npz", ("x.npy", content))
    tracemalloc.start()
    with pytest.raises(DatasetError, match=why) as caught:
        read_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert str(path) in str(caught.value)


def test_what_is_packed_small_and_comes_out_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000))
    assert read_npz(path)["x"].shape == (1_000_000,)
    monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "1e6")
    with pytest.raises(DatasetError, match=r"a\.npz holds 8,000,128 bytes, .*HANSA_MAX_UNPACKED_BYTES"):
        read_npz(path)
    monkeypatch.setenv("HANSA_MAX_UNPACKED_BYTES", "much")
    with pytest.raises(DatasetError, match="must be a number of bytes, such as 20e9; found 'much'"):
        read_npz(path)


def test_an_archive_that_is_none_of_numpy_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    with pytest.warns(UserWarning):
        zipped(path, ("x.npy", npy([1])), ("x.npy", npy([2])))
    with pytest.raises(DatasetError, match="the array 'x' twice"):
        read_npz(path)
    with pytest.raises(DatasetError, match=r"holds 'code\.py', which is no array"):
        read_npz(zipped(path, ("code.py", b"1")))
    with pytest.raises(DatasetError, match="is compressed as NumPy never does"):
        read_npz(zipped(path, ("x.npy", npy([1])), kind=zipfile.ZIP_LZMA))
    path.write_bytes(b"PK\x03\x04 no ZIP")
    with pytest.raises(DatasetError, match=f"{path} is damaged, or no .npz"):
        read_npz(path)


def test_every_changed_byte_of_the_values_is_noticed(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(50))
    good = path.read_bytes()
    begin = good.index(np.arange(50).tobytes())
    for place in range(begin, begin + 400, 37):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DatasetError, match="Bad CRC"):
            read_npz(path)
