"""Databases compressed with LZMA, uncompressed into the cache, once."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hansa.simulation import _kept
from hansa.simulation._errors import DatasetError
from hansa.simulation._limits import too_much, unpacked_limit
from hansa.simulation._progress import progress

_CHUNK = 1 << 20
_MEMORY = 256 << 20
"""Bytes that a decoder may take; at the highest of its usual levels it takes 66 MiB."""
_SUFFIX = ".sqlite"


def find_unpacked(folder: str, digest: str) -> Path | None:
    """The uncompressed content of a file of this digest, if it is in this folder of the cache; it is checked."""
    return _kept.find(folder, digest[:32], _SUFFIX)


def unpacked(path: Path, folder: str) -> Path:
    """The uncompressed content of a file, which is kept in a folder of the cache.

    Raises:
        DatasetError: the file is damaged, or holds more than one of its size may.
    """
    digest = _kept.digest_of(path)
    found = find_unpacked(folder, digest)
    if found is not None:
        return found
    limit = unpacked_limit(path)
    with _kept.workplace(folder) as work:
        read, written = hashlib.sha256(), 0
        with (
            path.open("rb") as raw,
            progress(raw, path.stat().st_size, f"Uncompressing {path.name}") as watched,
            (work / "unpacked").open("wb") as destination,
        ):
            for chunk in _content(watched, read, path):
                written += destination.write(chunk)
                if written > limit:
                    raise DatasetError(too_much(path, f"more than {limit:,} bytes when it is uncompressed"))
        if read.hexdigest() != digest:
            raise DatasetError(f"{path} was changed while it was read; read it again when it is whole")
        return _kept.keep(work / "unpacked", digest[:32], _SUFFIX)


def _content(raw: IO[bytes], read: hashlib._Hash, path: Path) -> Iterator[bytes]:
    """The content of one LZMA stream, a part at a time; what has been read is added to a digest."""
    decoder = lzma.LZMADecompressor(memlimit=_MEMORY)
    try:
        while not decoder.eof:
            compressed = raw.read(_CHUNK) if decoder.needs_input else b""
            if decoder.needs_input and not compressed:
                raise DatasetError(f"{path} is damaged: it cannot be uncompressed: it ends too soon")
            read.update(compressed)
            yield decoder.decompress(compressed, _CHUNK)
    except lzma.LZMAError as error:
        raise DatasetError(f"{path} is damaged: it cannot be uncompressed: {error}") from error
    if decoder.unused_data or raw.read(1):
        raise DatasetError(f"{path} is damaged: it cannot be uncompressed: something follows its end")
