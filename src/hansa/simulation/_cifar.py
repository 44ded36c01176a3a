"""The binary version of CIFAR-10: an archive of files, in which an image is a byte of label, then 3072 of pixels."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.simulation._errors import DatasetError

Labelled: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
"""Images, uint8 [images, 32, 32, 3], and labels, int32 [images]."""

_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"{_FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
_TEST = f"{_FOLDER}/test_batch.bin"
_RECORD = 1 + 3 * 32 * 32


def read_cifar10(path: Path) -> tuple[Labelled, Labelled]:
    """The images for training and those for testing, from `cifar-10-binary.tar.gz`. Nothing is written to disk.

    Raises:
        DatasetError: the archive lacks a file, or is damaged.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name in (*_TRAIN, _TEST) and (stream := archive.extractfile(member)) is not None:
                    contents[member.name] = stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DatasetError(f"{path} is damaged: {error}") from error
    for name in (*_TRAIN, _TEST):
        if name not in contents:
            raise DatasetError(f"{path} is damaged, or another archive: it has no file {name}")
    return parse_cifar(b"".join(contents[name] for name in _TRAIN), path), parse_cifar(contents[_TEST], path)


def parse_cifar(content: bytes, path: Any) -> Labelled:
    """The images in the content of a binary file.

    Raises:
        DatasetError: its size is not that of whole images.
    """
    if len(content) % _RECORD:
        raise DatasetError(f"{path} is damaged: {len(content)} bytes are no whole number of images of {_RECORD} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # the colours come one after another
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)
