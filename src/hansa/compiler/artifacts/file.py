"""The file that an artifact is: a ZIP archive of a manifest in JSON and of entries named by their SHA-256.

What is in the manifest is `save`'s and `load`'s. Here is only what makes a file whole or not. Of a file that is opened,
the directory and the manifest are read and checked. An entry is read when it is used, and nothing is taken from it
before its size and checksum have been found right.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hansa._files import replacing
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.source import ALIGNMENT, Given, Source, Stream, source_of
from hansa.types.rows import ReadRows

FORMAT = "hansa artifact"
VERSION = 2
"""The version of the format that is written, and the newest that is read."""

_MANIFEST = "manifest.json"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What is before an entry: a signature, what its directory says too, the lengths of its name and of extra fields."""
_SIGNATURE = b"PK\3\4"
_PADDING, _ZIP64 = 0xD935, 20
"""The kind of extra field that only fills, as in Android's archives, and the bytes of the one of entries of 2 GiB."""
_MOST_HEADER = 10_000
_SMALL = 1 << 16
_AT_A_TIME = 1 << 24


class Writer:
    """Collects the entries of a file, each once however often it is added."""

    def __init__(self) -> None:
        self.entries: dict[str, _Pieces] = {}

    def function(self, data: bytes) -> str:
        """Adds a serialized function; gives the entry's name."""
        return self._add("functions", (data,), "bin")

    def array(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        """Adds an array, which must stay as it is until the file is written; gives what `Reader.array` takes."""
        plain = np.ascontiguousarray(array).reshape(array.shape)
        stored = plain.view(np.uint16) if plain.dtype == _BFLOAT16 else plain
        if stored.dtype.hasobject:
            raise ValueError("an array of Python objects, of which a file holds none")
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(stored))
        data = stored.tobytes() if stored.nbytes < _SMALL else stored.reshape(-1).view(np.uint8).data
        return {"entry": self._add("arrays", (header.getvalue(), data), "npy"), "dtype": _dtype_text(plain.dtype)}

    def _add(self, folder: str, pieces: _Pieces, ending: str) -> str:
        name = f"{folder}/{_digest(pieces)}.{ending}"
        self.entries[name] = pieces
        return name

    def write(self, target: str | os.PathLike[str] | BinaryIO, manifest: dict[str, Any]) -> None:
        """Writes a file at a path, all of it or none, or into one that is open to write."""
        listed = {
            name: {"size": sum(map(len, pieces)), "sha256": Path(name).stem}
            for name, pieces in sorted(self.entries.items())
        }
        whole = {"format": FORMAT, "version": VERSION, **manifest, "entries": listed}
        # All that is not ASCII is escaped: texts of the user's may hold what UTF-8 does not.
        text = json.dumps(whole, allow_nan=False, separators=(",", ":")).encode()
        if isinstance(target, str | os.PathLike):
            path = Path(target)
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder: name a file in it, such as {path / 'process.hansa'}")
            with replacing(path) as part, part.open("wb") as file:
                self._archive(file, text)
        else:
            buffer = io.BytesIO()  # the archive goes back to the beginning of entries, and not every file can
            self._archive(buffer, text)
            target.write(buffer.getbuffer())

    def _archive(self, file: BinaryIO, text: bytes) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, pieces in ((_MANIFEST, (text,)), *sorted(self.entries.items())):
                info = zipfile.ZipInfo(name)
                info.file_size = sum(map(len, pieces))
                before = file.tell() + _LOCAL_HEADER.size + len(name)
                info.extra = _filler(before + _ZIP64 * (info.file_size * 1.05 > zipfile.ZIP64_LIMIT))
                with archive.open(info, "w") as entry:
                    for piece in pieces:
                        entry.write(piece)


def _filler(offset: int) -> bytes:
    """An extra field after which there is a place at which arrays may begin."""
    head = struct.Struct("<HHH")
    count = -(offset + head.size) % ALIGNMENT
    return head.pack(_PADDING, 2 + count, ALIGNMENT) + bytes(count)


_Pieces = tuple[bytes | memoryview, ...]


class _Place(NamedTuple):
    """Where an entry is: from the header before it to where something else begins, and how large it is."""

    begin: int
    end: int
    size: int


class Reader:
    """A file whose directory and manifest are whole.

    Args:
        given: the path of a file, or bytes.

    Attributes:
        name: what messages call it.
        size: how many bytes the file has.
        manifest: what `Writer.write` was given.

    Raises:
        OSError: if there is no file at the path, or it cannot be read.
        ArtifactError: if it is no artifact, is newer than this Hansa, or its directory or manifest is damaged.
    """

    def __init__(self, given: Given) -> None:
        self._source = source_of(given)
        self.name, self.size = self._source.name, self._source.size
        try:
            with zipfile.ZipFile(io.BufferedReader(Stream(self._source))) as archive:
                self._places = _places(archive)
                text = archive.read(_MANIFEST) if self._places.pop(_MANIFEST, None) else None
        except _Damaged as error:
            raise ArtifactError(f"{self.name} {error}") from None
        except Exception as error:  # whatever zipfile raises on bytes that are no archive
            raise ArtifactError(f"{self.name} is no artifact of Hansa, or is damaged: {error}") from error
        self.manifest: dict[str, Any] = self._manifest(text)
        self._listed = self._entries(self.manifest.get("entries"))

    def _manifest(self, text: bytes | None) -> dict[str, Any]:
        if text is None:
            raise ArtifactError(f"{self.name} is no artifact of Hansa: it has no {_MANIFEST}")
        try:
            manifest = json.loads(text)
            ours, version = manifest["format"] == FORMAT, manifest["version"]
        except Exception as error:
            raise ArtifactError(f"{self.name} is damaged: its {_MANIFEST} cannot be read: {error}") from error
        if not ours:
            raise ArtifactError(f"{self.name} is no artifact of Hansa: its format is {manifest['format']!r}")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ArtifactError(f"{self.name} is damaged: the version of its format is {version!r}")
        if version > VERSION:
            raise ArtifactError(
                f"{self.name} has version {version} of the format, and this Hansa reads up to {VERSION}: it was "
                f"written by Hansa {manifest.get('hansa')}; update Hansa to read it"
            )
        return manifest  # type: ignore[no-any-return]

    def _entries(self, listed: Any) -> dict[str, dict[str, Any]]:
        if not isinstance(listed, dict) or listed.keys() != self._places.keys():
            raise ArtifactError(f"{self.name} is damaged: its entries are not those that its {_MANIFEST} lists")
        for name, place in self._places.items():
            if not isinstance(listed[name], dict) or listed[name].get("size") != place.size:
                raise ArtifactError(f"{self.name} is damaged: the entry {name} has another size than is listed")
        return listed

    @property
    def functions(self) -> list[str]:
        """The names of the serialized functions."""
        return [name for name in self._listed if name.startswith("functions/")]

    def function(self, name: str) -> bytes:
        """A serialized function."""
        return bytes(self.entry(name))

    def array(self, found: dict[str, Any]) -> StoredArray:
        """An array, of which nothing but what it is has been read."""
        array = self._described(str(found["entry"]), None)
        if found["dtype"] == str(_BFLOAT16) and array.dtype == np.uint16:
            return replace(array, dtype=_BFLOAT16)
        if found["dtype"] != _dtype_text(array.dtype):
            raise ValueError(f"an array of {array.dtype} in place of {found['dtype']}")
        return array

    def entry(self, name: str) -> memoryview:
        """The bytes of an entry, read now.

        Raises:
            ArtifactError: if they are not those that were written.
        """
        data = self._part(name, self._places[name].size)
        self._check(name, len(data), _digest([data]))
        return data

    def checked(self, name: str) -> tuple[Source, int]:
        """Where an entry's bytes are, after all of them have been read and found right, some at a time.

        Raises:
            ArtifactError: if they are not those that were written.
        """
        start, size = self._start_of(name), self._places[name].size
        firsts = range(0, size, _AT_A_TIME)
        pieces = (self._source.read(start + first, min(_AT_A_TIME, size - first)) for first in firsts)
        self._check(name, size, _digest(pieces))
        return self._source, start

    def _check(self, name: str, size: int, digest: str) -> None:
        if self._listed[name] != {"size": size, "sha256": digest}:
            raise ArtifactError(
                f"{self.name} is damaged, or was changed after it was opened: the entry {name} has another checksum "
                "than is listed"
            )

    def _part(self, name: str, size: int) -> memoryview:
        """The first bytes of an entry, unchecked."""
        return self._source.read(self._start_of(name), size)

    def _start_of(self, name: str) -> int:
        """Where the bytes of an entry begin."""
        place = self._places[name]
        signature, length, extra = _LOCAL_HEADER.unpack(self._source.read(place.begin, _LOCAL_HEADER.size))
        start = place.begin + _LOCAL_HEADER.size
        if signature != _SIGNATURE or self._source.read(start, length) != name.encode():
            raise ArtifactError(
                f"{self.name} is damaged, or was changed after it was opened: the entry {name} is not where its "
                "directory says"
            )
        if start + length + extra + place.size > place.end:
            raise ArtifactError(f"{self.name} is damaged: the entry {name} reaches into what comes after it")
        return int(start + length + extra)

    def _described(self, name: str, data: memoryview | None) -> StoredArray:
        """What an entry says that it holds; of an entry that has been read, or of its beginning."""
        size = self._places[name].size
        stream = io.BytesIO(self._part(name, min(size, _MOST_HEADER)) if data is None else data[:_MOST_HEADER])
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("an array in another version of NumPy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran or dtype.hasobject or math.prod(shape) * dtype.itemsize != size - stream.tell():
            raise ValueError(f"an array {dtype}{list(shape)} in {size} bytes")
        return StoredArray(shape, dtype, dtype, stream.tell(), name, self)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, whose elements are read when they are asked for.

    Attributes:
        shape: its sizes.
        dtype: of its elements.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _stored: np.dtype[Any] = field(repr=False)
    _start: int = field(repr=False)
    _entry: str = field(repr=False)
    _reader: Reader = field(repr=False)

    def read(self) -> npt.NDArray[Any]:
        """The array, which cannot be written into: read now, and its checksum is right.

        Raises:
            ArtifactError: if the bytes are not those that were written, or are not there any more.
        """
        data = self._reader.entry(self._entry)
        now = self._reader._described(self._entry, data)
        if (now.shape, now._stored, now._start) != (self.shape, self._stored, self._start):
            raise ArtifactError(f"{self._reader.name} was changed after it was opened: {self._entry} is another array")
        array = np.frombuffer(data, self._stored, math.prod(self.shape), self._start).reshape(self.shape)
        return array if self.dtype == self._stored else array.view(self.dtype)

    def rows(self) -> StoredRows:
        """The array, row by row, read when they are asked for; all of it has been found right once.

        Raises:
            ArtifactError: if the bytes are not those that were written, or are not there any more.
        """
        source, start = self._reader.checked(self._entry)
        return StoredRows(source, start + self._start, self.shape, self.dtype, self._stored)


class StoredRows(ReadRows):
    """An array in a file of which rows are read one by one."""

    def __init__(
        self, source: Source, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], stored: np.dtype[Any]
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._source, self._start, self._stored = source, start, stored
        self._size = math.prod(shape[1:]) * stored.itemsize

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        data = self._source.read(self._start + row * self._size, self._size)
        array = np.frombuffer(data, self._stored, math.prod(self.shape[1:])).reshape(self.shape[1:])
        found: npt.NDArray[Any] = array if self.dtype == self._stored else array.view(self.dtype)
        return found if self.shape[1:] else found[()]


class _Damaged(Exception):
    """What is wrong with an archive, without the name of the file."""


def _places(archive: zipfile.ZipFile) -> dict[str, _Place]:
    """Where the entries of an archive are, if they are as they should be."""
    listed = sorted(archive.infolist(), key=lambda info: info.header_offset)
    names = [info.filename for info in listed]
    if len(set(names)) != len(names):
        raise _Damaged("is damaged: it has two entries of one name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in listed):
        raise _Damaged("is no artifact of Hansa, or is damaged: it has compressed or encrypted entries")
    ends = [info.header_offset for info in listed[1:]] + [archive.start_dir]
    places = {}
    for info, end in zip(listed, ends, strict=True):
        least = info.header_offset + _LOCAL_HEADER.size + len(info.filename) + info.file_size
        if info.header_offset < 0 or info.compress_size != info.file_size or least > end:
            raise _Damaged(f"is damaged: its entry {info.filename} is larger than the room that it has")
        places[info.filename] = _Place(info.header_offset, end, info.file_size)
    return places


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _dtype_text(dtype: Any) -> str:
    return "str" if dtype.kind == "U" else str(dtype)
