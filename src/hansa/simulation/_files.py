"""Find a published file on this machine, or download it; either way its content is checked before it is used.

A file is looked for in `HANSA_DATA_DIR`, then in the cache, then on the mirrors. What is downloaded or uncompressed
goes to a temporary file, is checked there and only then renamed, so the cache never holds half a file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from hansa._cache import cache_dir, named_cache_dir
from hansa.simulation._errors import DatasetError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class PublishedFile:
    """A file that is published somewhere.

    Attributes:
        name: its name on the mirrors, such as `train-images-idx3-ubyte.gz`.
        sha256: a digest, in hexadecimal.
        digest_of: what has this digest: the content, uncompressed if the file is compressed with gzip (so it may lie
            here uncompressed too), or the file as it is published.
        name_is_unique: no other dataset has a file of this name, so it may lie directly in `HANSA_DATA_DIR`.
    """

    name: str
    sha256: str
    digest_of: Literal["content", "file"] = "content"
    name_is_unique: bool = True


def data_dir() -> Path | None:
    """The folder that `HANSA_DATA_DIR` names; `None` if it names none."""
    named = os.environ.get("HANSA_DATA_DIR")
    return Path(named).expanduser() if named else None


def obtain(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> bytearray:
    """The content of a file, uncompressed: from this machine if it is here, else downloaded into the cache.

    Args:
        dataset: the dataset's name, which is also the name of its folder.
        file: which file.
        mirrors: the addresses to download from, each ending in a slash, tried in this order.

    Returns:
        The content.

    Raises:
        DatasetError: the file found is damaged, or there is none and no mirror gave it.
    """
    content = bytearray()
    _check(_find(dataset, file) or _download(dataset, file, mirrors), file, content.extend)
    return content


def obtain_path(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> Path:
    """Where a file is, which may be too large for memory; otherwise as `obtain`."""
    found = _find(dataset, file)
    if found is None:
        return _download(dataset, file, mirrors)
    _check(found, file)
    return found


def obtain_uncompressed(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> Path:
    """Where the uncompressed content of a file `*.lzma` is; otherwise as `obtain_path`.

    It is uncompressed into the cache, once. A file that is here uncompressed already is taken as it is.
    """
    name = file.name.removesuffix(".lzma")
    uncompressed = next((path for folder in _folders(dataset, file) if (path := folder / name).is_file()), None)
    return uncompressed or unpack_lzma(obtain_path(dataset, file, mirrors), cache_dir() / dataset / name)


def unpack_lzma(path: Path, target: Path) -> Path:
    """Uncompresses a file to `target`, unless that is there.

    Raises:
        DatasetError: the file is damaged.
    """
    if target.is_file():
        return target
    with _part(target) as part:
        try:
            with (
                path.open("rb") as raw,
                _progress(raw, path.stat().st_size, f"Uncompressing {path.name}") as watched,
                lzma.LZMAFile(watched) as source,
                part.open("wb") as destination,
            ):
                while chunk := source.read(_CHUNK):
                    destination.write(chunk)
        except (EOFError, lzma.LZMAError) as error:
            raise DatasetError(f"{path} is damaged: it cannot be uncompressed: {error}") from error
    return target


def fingerprint(path: Path) -> str:
    """Names a file in the state in which it is: another one if it is replaced or written to."""
    state = path.stat()
    text = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _folders(dataset: str, file: PublishedFile) -> list[Path]:
    lasting = named_cache_dir()  # which may hold data for users who cannot write there
    folders = [folder / dataset for folder in dict.fromkeys(filter(None, [lasting, cache_dir()]))]
    if (named := data_dir()) is not None:
        folders = [named / dataset, *([named] if file.name_is_unique else []), *folders]
    return folders


def _find(dataset: str, file: PublishedFile) -> Path | None:
    names = [file.name] if file.digest_of == "file" else [file.name, file.name.removesuffix(".gz")]
    candidates = (folder / name for folder in _folders(dataset, file) for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _check(path: Path, file: PublishedFile, receive: Callable[[bytes], Any] | None = None) -> None:
    """Checks a file that is here, and passes on its uncompressed content, a part at a time, if there is a receiver."""
    digest, fault = _read(path, file, receive)
    if digest == file.sha256 and not fault:
        return
    of = "its uncompressed content" if file.digest_of == "content" else "it"
    raise DatasetError(
        f"{path} is damaged{fault and f' ({fault})'}.\n"
        f"  sha256 of {of}: {digest}{' (as far as it can be read)' if fault else ''}\n"
        f"  sha256 of {file.name} as published: {file.sha256}\n"
        "Delete it, or put an undamaged copy in its place."
    )


def _read(path: Path, file: PublishedFile, receive: Callable[[bytes], Any] | None = None) -> tuple[str, str]:
    """Reads a file to its end; gives its digest, and what is wrong with its compression (empty if nothing)."""
    digest, fault = hashlib.sha256(), ""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            if file.digest_of == "file":
                raw.seek(0)
                while chunk := raw.read(_CHUNK):
                    digest.update(chunk)
                if receive is None:
                    return digest.hexdigest(), ""
            raw.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if compressed else raw
            while chunk := stream.read(_CHUNK):
                if receive is not None:
                    receive(chunk)
                if file.digest_of == "content":
                    digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        fault = f"it cannot be uncompressed: {error}"
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest(), fault


def _download(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> Path:
    import http.client

    folder = cache_dir() / dataset
    failures = []
    for mirror in mirrors:
        try:
            return _download_from(mirror + file.name, file, folder)
        except (OSError, http.client.HTTPException, DatasetError) as error:
            failures.append(f"  {mirror}{file.name}: {error}")
    named = data_dir()
    searched = f"{named} (HANSA_DATA_DIR)" if named else "HANSA_DATA_DIR (not set)"
    raise DatasetError(
        f"{file.name} of {dataset} is not on this machine and could not be downloaded.\n"
        + "\n".join(failures)
        + f"\nLooked in {searched} and in {folder}.\n"
        f"Get {file.name} by other means, put it into a folder FOLDER/{dataset}/ and set HANSA_DATA_DIR=FOLDER; "
        f"or put it into {folder}."
    )


def _download_from(url: str, file: PublishedFile, folder: Path) -> Path:
    # Slow to import, and a machine that has the file does not need it.
    import urllib.request

    target = folder / file.name
    with _part(target) as part:
        with (
            part.open("wb") as destination,
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            _progress(response, int(response.headers.get("Content-Length") or 0), f"Downloading {file.name}") as source,
        ):
            while chunk := source.read(_CHUNK):
                destination.write(chunk)
        digest, fault = _read(part, file)
        if fault or digest != file.sha256:
            raise DatasetError(fault or f"its content has sha256 {digest}, not {file.sha256}")
    return target


@contextlib.contextmanager
def _part(target: Path) -> Iterator[Path]:
    """A temporary file beside `target`, which gets its name if all goes well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _progress(source: Any, total: int, description: str) -> contextlib.AbstractContextManager[Any]:
    """The stream, reading from which moves a bar. On standard error: a program's output stays its own."""
    import rich.console
    import rich.progress

    return rich.progress.wrap_file(
        source, total=total, description=description, console=rich.console.Console(stderr=True), transient=True
    )
