"""The file that an artifact is: a ZIP archive of a manifest in JSON and of entries named by their SHA-256.

What is in the manifest is `artifact_save`'s and `artifact_load`'s. Here is only what makes a file whole or not: nothing
is taken from a file before its size, its checksums and its list of entries have been found right.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hansa._files import open_regular, replacing
from hansa.compiler.artifact_error import ArtifactError

FORMAT = "hansa artifact"
VERSION = 1
"""The version of the format that is written, and the newest that is read."""

_MANIFEST = "manifest.json"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Writer:
    """Collects the entries of a file, each once however often it is added."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def function(self, data: bytes) -> str:
        """Adds a serialized function; gives the entry's name."""
        return self._add("functions", data, "bin")

    def array(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        """Adds an array; gives what `Reader.array` takes."""
        plain = np.ascontiguousarray(array).reshape(array.shape)
        buffer = io.BytesIO()
        np.save(buffer, plain.view(np.uint16) if plain.dtype == _BFLOAT16 else plain, allow_pickle=False)
        return {"entry": self._add("arrays", buffer.getvalue(), "npy"), "dtype": _dtype_text(plain.dtype)}

    def _add(self, folder: str, data: bytes, ending: str) -> str:
        name = f"{folder}/{hashlib.sha256(data).hexdigest()}.{ending}"
        self.entries[name] = data
        return name

    def write(self, path: Path, manifest: dict[str, Any]) -> None:
        """Writes the file, all of it or none."""
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: name a file in it, such as {path / 'process.hansa'}")
        listed = {name: {"size": len(data), "sha256": _digest(data)} for name, data in sorted(self.entries.items())}
        whole = {"format": FORMAT, "version": VERSION, **manifest, "entries": listed}
        # All that is not ASCII is escaped: texts of the user's may hold what UTF-8 does not.
        text = json.dumps(whole, allow_nan=False, separators=(",", ":")).encode()
        with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_MANIFEST), text)
            for name, data in sorted(self.entries.items()):
                archive.writestr(zipfile.ZipInfo(name), data)


class Reader:
    """A file that is whole.

    Attributes:
        manifest: what `Writer.write` was given.

    Raises:
        OSError: if there is no file at the path, or it cannot be read.
        ArtifactError: if it is no artifact, is newer than this Hansa, or its checksums are wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                with zipfile.ZipFile(file) as archive:
                    contents = _read(archive, size)
            except ArtifactError as error:
                raise ArtifactError(f"{path} {error}") from None
            except Exception as error:  # whatever zipfile raises on bytes that are no archive
                raise ArtifactError(f"{path} is no artifact of Hansa, or is damaged: {error}") from error
        self.manifest: dict[str, Any] = self._manifest(contents.pop(_MANIFEST, None))
        self._entries = self._checked(contents)

    def _manifest(self, text: bytes | None) -> dict[str, Any]:
        if text is None:
            raise ArtifactError(f"{self._path} is no artifact of Hansa: it has no {_MANIFEST}")
        try:
            manifest = json.loads(text)
            ours, version = manifest["format"] == FORMAT, manifest["version"]
        except Exception as error:
            raise ArtifactError(f"{self._path} is damaged: its {_MANIFEST} cannot be read: {error}") from error
        if not ours:
            raise ArtifactError(f"{self._path} is no artifact of Hansa: its format is {manifest['format']!r}")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ArtifactError(f"{self._path} is damaged: the version of its format is {version!r}")
        if version > VERSION:
            raise ArtifactError(
                f"{self._path} has version {version} of the format, and this Hansa reads up to {VERSION}: it was "
                f"written by Hansa {manifest.get('hansa')}; update Hansa to read it"
            )
        return manifest  # type: ignore[no-any-return]

    def _checked(self, contents: dict[str, bytes]) -> dict[str, bytes]:
        listed = self.manifest.get("entries")
        if not isinstance(listed, dict) or listed.keys() != contents.keys():
            raise ArtifactError(f"{self._path} is damaged: its entries are not those that its {_MANIFEST} lists")
        for name, data in contents.items():
            if listed[name] != {"size": len(data), "sha256": _digest(data)}:
                raise ArtifactError(f"{self._path} is damaged: the entry {name} has another checksum than is listed")
        return contents

    @property
    def functions(self) -> list[str]:
        """The names of the serialized functions."""
        return [name for name in self._entries if name.startswith("functions/")]

    def function(self, name: str) -> bytes:
        """A serialized function."""
        return self._entries[name]

    def array(self, found: dict[str, Any]) -> npt.NDArray[Any]:
        """An array."""
        data = self._entries[found["entry"]]
        stream = io.BytesIO(data)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("an array in another version of NumPy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran or dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError(f"an array {dtype}{list(shape)} in {len(data)} bytes")
        array = np.frombuffer(data, dtype, math.prod(shape), stream.tell()).reshape(shape)
        if found["dtype"] == _dtype_text(_BFLOAT16):
            array = array.view(_BFLOAT16)
        if found["dtype"] != _dtype_text(array.dtype):
            raise ValueError(f"an array of {array.dtype} in place of {found['dtype']}")
        return array


def _read(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    """The entries of an archive in a file of a size; in pieces only, if they are as they should be."""
    listed = archive.infolist()
    names = [info.filename for info in listed]
    if len(set(names)) != len(names):
        raise ArtifactError("is damaged: it has two entries of one name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in listed):
        raise ArtifactError("is no artifact of Hansa, or is damaged: it has compressed or encrypted entries")
    if sum(info.file_size for info in listed) > size:
        raise ArtifactError("is damaged: its entries are larger than the file")
    return {info.filename: archive.read(info) for info in listed}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _dtype_text(dtype: Any) -> str:
    return "str" if dtype.kind == "U" else str(dtype)
