"""The arrays of an `.npz` file, which may be forged: nothing is unpickled, and nothing is made larger than it is.

An `.npz` is a ZIP of `.npy` files, each of which begins with a header of its dtype and shape. NumPy would make an array
of whatever the header says before it reads a byte, so the header is compared with what the ZIP has for it.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._errors import DatasetError, reader
from hansa.simulation._limits import too_much, unpacked_limit

_SUFFIX = ".npy"
_MOST_HEADER = 10_000
_PREFIXES = {1: 10, 2: 12}
"""By version of the format, how many bytes stand before the header: a name, the version, the header's length."""
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


@reader
def read_npz(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file that `numpy.savez` or `savez_compressed` has written, by name.

    Raises:
        DatasetError: the file is damaged or forged, or holds Python objects, or more than a file of its size may.
    """
    file_path = Path(path)
    try:
        return _read(file_path)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"{file_path} is damaged, or no .npz: {error}") from error


def _read(file_path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file_path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > unpacked_limit(file_path):
            raise DatasetError(too_much(file_path, f"{total:,} bytes"))
        if not members:
            raise DatasetError(f"{file_path} is damaged, or no .npz: it holds no arrays")
        arrays: dict[str, npt.NDArray[Any]] = {}
        for member in members:
            name = member.filename.removesuffix(_SUFFIX)
            if name == member.filename:
                raise DatasetError(f"{file_path} is no .npz: it holds {member.filename!r}, which is no array")
            if name in arrays:
                raise DatasetError(f"{file_path} is damaged: it holds the array {name!r} twice")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DatasetError(f"{file_path} is no .npz: the array {name!r} is compressed as NumPy never does")
            with archive.open(member) as content:
                _check_header(content, member.file_size, f"{file_path} is damaged: the array {name!r}")
            with archive.open(member) as content:
                arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
                content.read(1)  # at whose end the ZIP's checksum is compared
    return arrays


def _check_header(content: IO[bytes], size: int, what: str) -> None:
    """Checks that an array is as large as its header says, and no array of Python objects."""
    version = np.lib.format.read_magic(content)[0]
    if version not in _HEADERS:
        raise DatasetError(f"{what} is of version {version} of its format, which is not known here")
    length = content.read(_PREFIXES[version] - 8)
    if int.from_bytes(length, "little") > _MOST_HEADER:
        raise DatasetError(f"{what} has a header of {int.from_bytes(length, 'little'):,} bytes")
    header = content.read(int.from_bytes(length, "little"))
    shape, _, dtype = _HEADERS[version](io.BytesIO(length + header), _MOST_HEADER)
    if dtype.hasobject or not dtype.itemsize:
        raise DatasetError(f"{what} is of dtype {dtype}, and not of numbers or text")
    expected = math.prod(shape) * dtype.itemsize
    found = size - _PREFIXES[version] - len(header)
    if expected != found or min(shape, default=0) < 0:
        raise DatasetError(f"{what} has {found:,} bytes, but {dtype} of shape {list(shape)} has {expected:,}")
