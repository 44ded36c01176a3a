"""Datasets are found, downloaded and checked; the download is tested on loopback with a made-up MNIST of few images."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hansa._cache import cache_dir
from hansa.simulation import datasets
from hansa.simulation._files import PublishedFile, data_dir
from hansa.simulation._idx import parse_idx


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


ARRAYS = {
    "train_images": np.random.default_rng(1).integers(0, 256, (7, 28, 28)),
    "train_labels": np.arange(7),
    "test_images": np.random.default_rng(2).integers(0, 256, (3, 28, 28)),
    "test_labels": np.arange(3)[::-1],
}
CONTENTS = {part: idx(array) for part, array in ARRAYS.items()}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror on loopback: its address and the folder it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for part, file in made_up_files().items():
        (folder / file.name).write_bytes(gzip.compress(CONTENTS[part]))
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()
        thread.join()


def made_up_files() -> dict[str, PublishedFile]:
    return {
        part: dataclasses.replace(file, sha256=hashlib.sha256(CONTENTS[part]).hexdigest())
        for part, file in datasets._MNIST_FILES.items()
    }


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mirror: tuple[str, Path]) -> Path:
    """MNIST is the made-up one, nothing of it is on this machine; gives the cache folder it will be put in."""
    monkeypatch.setattr(datasets, "_MNIST_FILES", made_up_files())
    monkeypatch.setattr(datasets, "_MNIST_MIRRORS", (mirror[0],))
    monkeypatch.delenv("HANSA_DATA_DIR", raising=False)
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "mnist"


def assert_made_up(data: datasets.ImageData) -> None:
    for part, array in ARRAYS.items():
        np.testing.assert_array_equal(getattr(data, part), array)


def test_digits_are_those_of_scikit_learn():
    pixels, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    data = datasets.load_digits()
    np.testing.assert_array_equal(data.train_images, pixels / 16)
    np.testing.assert_array_equal(data.train_labels, labels)


def test_digits_are_small_floats_with_integer_labels():
    data = datasets.load_digits()
    assert (data.train_images.dtype, data.train_images.shape) == (np.float32, (1797, 64))
    assert (data.train_labels.dtype, data.train_labels.shape) == (np.int32, (1797,))
    assert (data.train_images.min(), data.train_images.max()) == (0.0, 1.0)
    assert set(data.train_labels) == set(range(10))
    assert data.test_images.shape == (0, 64)
    assert data.test_labels.shape == (0,)


def test_mnist_is_the_published_one():
    folder = data_dir() or cache_dir()
    if not any((folder / sub / "train-images-idx3-ubyte.gz").is_file() for sub in ("mnist", ".")):
        pytest.skip(f"no MNIST in {folder}; set HANSA_DATA_DIR to a folder with mnist/*.gz")
    data = datasets.load_mnist()
    assert (data.train_images.dtype, data.train_images.shape) == (np.uint8, (60_000, 28, 28))
    assert (data.test_images.dtype, data.test_images.shape) == (np.uint8, (10_000, 28, 28))
    assert (data.train_labels.dtype, data.train_labels.shape) == (np.int32, (60_000,))
    assert list(data.train_labels[:5]) == [5, 0, 4, 1, 9]
    assert list(np.bincount(data.test_labels)) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_images.max() == 255


def test_what_is_missing_is_downloaded_once(made_up: Path, mirror: tuple[str, Path]):
    assert_made_up(datasets.load_mnist())
    assert sorted(path.name for path in made_up.iterdir()) == sorted(file.name for file in made_up_files().values())
    for path in mirror[1].iterdir():
        path.unlink()
    assert_made_up(datasets.load_mnist())


@pytest.mark.parametrize("sub", ["mnist", "."])
@pytest.mark.parametrize("compressed", [True, False])
def test_data_dir_comes_first(
    made_up: Path,
    mirror: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sub: str,
    compressed: bool,
):
    folder = tmp_path / "data" / sub
    folder.mkdir(parents=True)
    for part, file in made_up_files().items():
        if compressed:
            (folder / file.name).write_bytes(gzip.compress(CONTENTS[part]))
        else:
            (folder / file.name.removesuffix(".gz")).write_bytes(CONTENTS[part])
    monkeypatch.setenv("HANSA_DATA_DIR", str(tmp_path / "data"))
    assert_made_up(datasets.load_mnist())
    assert not made_up.exists()


def test_the_next_mirror_serves_when_one_is_down(
    made_up: Path, mirror: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets, "_MNIST_MIRRORS", ("http://127.0.0.1:9/", mirror[0]))
    assert_made_up(datasets.load_mnist())


def test_without_network_the_error_says_where_to_put_what(made_up: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "_MNIST_MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load_mnist()
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz" in message
    assert "HANSA_DATA_DIR" in message
    assert "http://127.0.0.1:9/" in message
    assert str(made_up) in message
    assert not list(made_up.iterdir())


def damaged(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "other content":
        content = bytearray(gzip.compress(b"other"))
    elif kind == "garbage inside":
        middle = len(content) // 2
        content[middle : middle + 20] = bytes(20)
    elif kind == "not gzip":
        content = bytearray(b"<html>Not found</html>")
    else:
        content = bytearray()
    path.write_bytes(content)


DAMAGES = ["truncated", "other content", "garbage inside", "not gzip", "empty"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named_with_both_digests(made_up: Path, kind: str):
    datasets.load_mnist()
    path = made_up / "train-images-idx3-ubyte.gz"
    damaged(path, kind)
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load_mnist()
    message = str(caught.value)
    assert f"{path} is damaged" in message
    assert hashlib.sha256(CONTENTS["train_images"]).hexdigest() in message
    if kind == "other content":
        assert hashlib.sha256(b"other").hexdigest() in message
    assert message.count("sha256") == 2


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_download_leaves_nothing_behind(made_up: Path, mirror: tuple[str, Path], kind: str):
    damaged(mirror[1] / "train-images-idx3-ubyte.gz", kind)
    with pytest.raises(datasets.DatasetError, match="could not be downloaded"):
        datasets.load_mnist()
    assert not list(made_up.iterdir())


def test_a_download_that_breaks_off_leaves_nothing_behind(made_up: Path, monkeypatch: pytest.MonkeyPatch):
    class BreaksOff(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b\x08")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(datasets, "_MNIST_MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
        with pytest.raises(datasets.DatasetError, match="could not be downloaded"):
            datasets.load_mnist()
        server.shutdown()
    assert not list(made_up.iterdir())


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("HANSA_CACHE_DIR")
    assert cache_dir() == tmp_path / "xdg" / "hansa"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir().is_relative_to(Path.home()) or os.name == "nt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too few for a header"),
        (b"PK\x03\x04", "two zero bytes"),
        (bytes([0, 0, 0x0D, 1, 0, 0, 0, 0]), "only unsigned bytes"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 0]), "3 dimensions where 1 are expected"),
        (bytes([0, 0, 8, 1, 0, 0]), "too few for the header"),
        (idx(np.arange(4))[:-1], "an array of shape \\[4\\] makes 12"),
        (idx(np.arange(4)) + b"\0", "an array of shape \\[4\\] makes 12"),
    ],
)
def test_idx_that_is_not_what_it_says_is_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        parse_idx(content, ndim=1)


def test_an_empty_idx_array_is_an_array():
    assert parse_idx(idx(np.zeros((0, 28, 28))), ndim=3).shape == (0, 28, 28)


def test_simulation_is_light_to_import():
    code = (
        "import sys, hansa; before = set(sys.modules); import hansa.simulation; "
        "print(*sorted({'sklearn', 'rich', 'matplotlib', 'keras', 'urllib.request'} & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
