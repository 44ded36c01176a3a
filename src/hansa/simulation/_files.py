"""Find a published file on this machine, or download it; either way its content is checked before it is used.

A file is looked for in `HANSA_DATA_DIR`, then in the cache, then on the mirrors. What is downloaded goes to a temporary
file, is checked there and only then renamed, so the cache never holds half a file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from hansa._cache import cache_dir, named_cache_dir
from hansa.simulation._errors import DatasetError
from hansa.simulation._kept import digest_of
from hansa.simulation._progress import progress
from hansa.simulation._unpacked import find_unpacked, unpacked

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0
_MOST_DOWNLOADED = 1 << 30


@dataclass(frozen=True)
class PublishedFile:
    """A file that is published somewhere.

    Attributes:
        name: its name on the mirrors, such as `train-images-idx3-ubyte.gz`.
        sha256: a digest, in hexadecimal.
        digest_of: what has this digest: the content, uncompressed if the file is compressed with gzip (so it may lie
            here uncompressed too), or the file as it is published.
        name_is_unique: no other dataset has a file of this name, so it may lie directly in `HANSA_DATA_DIR`.
        size: how many bytes the content has, if the digest is the content's; so a file that holds more is not read on.
    """

    name: str
    sha256: str
    digest_of: Literal["content", "file"] = "content"
    name_is_unique: bool = True
    size: int | None = None


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

    It is uncompressed into the cache, once, and what lies there is checked each time. What somebody else has
    uncompressed cannot be checked, as only the compressed file's digest is known.
    """
    found = find_unpacked(dataset, file.sha256)
    if found is not None:
        return found
    compressed = _find(dataset, file)
    name = file.name.removesuffix(".lzma")
    other = next((path for folder in _folders(dataset, file) if (path := folder / name).is_file()), None)
    if compressed is None and other is not None:
        raise DatasetError(
            f"{other} cannot be checked, as it is uncompressed. Put {file.name} beside it, or take it away, so that "
            "that one is downloaded; or read the file with hansa.simulation.from_tff_sqlite, if you trust it"
        )
    return unpacked(obtain_path(dataset, file, mirrors), dataset)


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
    try:
        if file.digest_of == "content":
            return _read_content(path, file.size, receive)
        if receive is None:
            return digest_of(path), ""
        whole = path.read_bytes()
        digest = hashlib.sha256(whole).hexdigest()
        if digest == file.sha256:
            receive(gzip.decompress(whole))
        return digest, ""
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_content(path: Path, size: int | None, receive: Callable[[bytes], Any] | None) -> tuple[str, str]:
    digest, total = hashlib.sha256(), 0
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if compressed else raw
            while chunk := stream.read(_CHUNK):
                total += len(chunk)
                if size is not None and total > size:
                    return digest.hexdigest(), f"it holds more than {size:,} bytes"
                if receive is not None:
                    receive(chunk)
                digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return digest.hexdigest(), f"it cannot be uncompressed: {error}"
    return digest.hexdigest(), ""


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
            progress(response, int(response.headers.get("Content-Length") or 0), f"Downloading {file.name}") as source,
        ):
            while chunk := source.read(_CHUNK):
                destination.write(chunk)
                if destination.tell() > _MOST_DOWNLOADED:
                    raise DatasetError(f"it is larger than {_MOST_DOWNLOADED:,} bytes, which no data set's file is")
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
