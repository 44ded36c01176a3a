"""Find a published file on this machine, or download it; either way its content is checked before it is used.

A file is looked for in `HANSA_DATA_DIR`, then in the cache, then on the mirrors. What is downloaded goes to a
temporary file, is checked there and only then renamed, so the cache never holds half a file.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hansa._cache import cache_dir

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0


class DatasetError(RuntimeError):
    """A dataset is not to be had, or is damaged; the message says which file and what to do."""


@dataclass(frozen=True)
class PublishedFile:
    """A gzip-compressed file that is published somewhere.

    Attributes:
        name: its name on the mirrors, such as `train-images-idx3-ubyte.gz`.
        sha256: the digest of its *uncompressed* content, in hexadecimal.
    """

    name: str
    sha256: str


def data_dir() -> Path | None:
    """The folder that `HANSA_DATA_DIR` names; `None` if it names none."""
    named = os.environ.get("HANSA_DATA_DIR")
    return Path(named).expanduser() if named else None


def obtain(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> bytearray:
    """The uncompressed content of a file: from this machine if it is here, else downloaded into the cache.

    Args:
        dataset: the dataset's name, which is also the name of its folder.
        file: which file.
        mirrors: the addresses to download from, each ending in a slash, tried in this order.

    Returns:
        The content, whose digest is `file.sha256`.

    Raises:
        DatasetError: the file found is damaged, or there is none and no mirror gave it.
    """
    found = _find(dataset, file)
    return _checked_content(found, file) if found else _download(dataset, file, mirrors)


def _find(dataset: str, file: PublishedFile) -> Path | None:
    folders = [cache_dir() / dataset]
    if (named := data_dir()) is not None:
        folders = [named / dataset, named, *folders]
    candidates = (folder / name for folder in folders for name in (file.name, file.name.removesuffix(".gz")))
    return next((path for path in candidates if path.is_file()), None)


def _checked_content(path: Path, file: PublishedFile) -> bytearray:
    content, digest, fault = _read(path)
    if digest == file.sha256 and not fault:
        return content
    raise DatasetError(
        f"{path} is damaged{fault and f' ({fault})'}.\n"
        f"  sha256 of its uncompressed content: {digest}{' (as far as it can be read)' if fault else ''}\n"
        f"  sha256 of {file.name} as published: {file.sha256}\n"
        "Delete it, or put an undamaged copy in its place."
    )


def _read(path: Path) -> tuple[bytearray, str, str]:
    """Uncompressed content, its digest, and what is wrong with the compression (empty if nothing)."""
    content, digest, fault = bytearray(), hashlib.sha256(), ""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if compressed else raw
            while chunk := stream.read(_CHUNK):
                content += chunk
                digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        fault = f"it cannot be uncompressed: {error}"
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    return content, digest.hexdigest(), fault


def _download(dataset: str, file: PublishedFile, mirrors: Sequence[str]) -> bytearray:
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


def _download_from(url: str, file: PublishedFile, folder: Path) -> bytearray:
    # Both are slow to import, and a machine that has the file needs neither.
    import urllib.request

    import rich.console
    import rich.progress

    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=folder)
    part = Path(name)
    try:
        with (
            os.fdopen(descriptor, "wb") as target,
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            # On standard error: a program's output stays its own.
            rich.progress.wrap_file(
                response,
                total=int(response.headers.get("Content-Length") or 0),
                description=f"Downloading {file.name}",
                console=rich.console.Console(stderr=True),
                transient=True,
            ) as source,
        ):
            while chunk := source.read(_CHUNK):
                target.write(chunk)
        content, digest, fault = _read(part)
        if fault or digest != file.sha256:
            raise DatasetError(fault or f"its content has sha256 {digest}, not {file.sha256}")
        part.replace(folder / file.name)
        return content
    finally:
        part.unlink(missing_ok=True)
