"""Clients from a folder of images for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa._extras import require
from hansa.simulation._errors import reader
from hansa.simulation._values import integer
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import of_file
from hansa.simulation.readers.columns import Convert, select
from hansa.simulation.readers.images import Pixels, fitted, opened
from hansa.types import names
from hansa.types.mismatch import describe

_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@reader
def from_folder(
    path: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    greyscale: bool = False,
    labels: Sequence[str] | None = None,
    convert: Convert | None = None,
) -> ClientData:
    """The clients of a folder in which each has a folder of images (`.png`, `.jpg`, `.gif`, `.bmp`, `.webp`, `.tif`).

    Either `path/client/image.png`, or `path/client/label/image.png` for labelled images. Only names are looked at now;
    a client's images are read when they are wanted.

    Args:
        path: the folder.
        image_size: height and width in pixels to which images are scaled (bilinearly); by default all must have the
            same.
        greyscale: whether images are made grey, else they are made red, green and blue, with alpha as a fourth channel
            if they have transparency.
        labels: the names of the folders of labels, in the order of their numbers; by default all that occur, in
            alphabetical order.
        convert: by name of the array, `x` or `y`, a dtype that it is cast to, or a function from values to an array
            with a row for each. For `x` it gets a list of images, which may have several sizes, or one array if they
            have one size and dtype.

    Returns:
        The clients, called as their folders, in alphabetical order, each with its images in the order of their names:
        `x`, `[images, height, width]` if grey, else `[images, height, width, 3]`, or 4 with transparency; uint8, but
        uint16 if they have 16 bits; and, with folders of labels, `y`, int32 `[images]`. They are turned as their EXIF
        orientation says.

    Raises:
        DatasetError: an image is damaged (when it is read). It is a FileNotFoundError if there is no such folder, and a
            ValueError if there is no image in it, or some have labels and some have none, or `labels` lacks one; or
            images have different sizes, several frames or 16 bits a colour, or are transparent and to be grey (when
            they are read).
        ImportError: Pillow is not installed.
    """
    require("PIL.Image", "images", "from_folder")
    size = None if image_size is None else _checked_size(image_size)
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    found = {folder.name: _images(folder) for folder in _folders(root)}
    found = {client: images for client, images in found.items() if images}
    if not found:
        raise ValueError(
            f"{root} has no images of clients; they must be in {root}/CLIENT/ or {root}/CLIENT/LABEL/, and be called "
            f"{' or '.join('*' + suffix for suffix in _SUFFIXES)}"
        )
    everything = [image for images in found.values() for image in images]
    labelled = [label is not None for label, _ in everything]
    if any(labelled) and not all(labelled):
        raise ValueError(
            f"{everything[labelled.index(False)][1]} lies in its client's folder, but "
            f"{everything[labelled.index(True)][1]} in a folder of a label; put all images into folders of labels, or "
            "none"
        )
    numbers = _numbers({label for label, _ in everything if label is not None}, labels, root)
    selection = select(str(root), ["x", "y"] if numbers else ["x"], None, convert)

    def read(client_id: str) -> dict[str, Any]:
        def values(column: str) -> Any:
            if column == "y":
                return np.array([numbers[str(label)] for label, _ in found[client_id]], np.int32)
            paths = [path for _, path in found[client_id]]
            images = [fitted(opened(path, str(path)), str(path), greyscale, size) for path in paths]
            if not selection.is_converted("x"):
                _check_alike(paths, images)
            return images

        return selection.of_client(client_id).arrays(values)

    return of_file(root, list(found), read, [len(images) for images in found.values()])


def _checked_size(given: Any) -> tuple[int, int]:
    if np.shape(given) != (2,):
        raise TypeError(f"image_size must be a height and a width, such as (28, 28); found {describe(given)}")
    return integer("the height in image_size", given[0], 1), integer("the width in image_size", given[1], 1)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(client: Path) -> list[tuple[str | None, Path]]:
    """The images of a client, each with its label, or with None if it lies in the client's folder."""
    found: list[tuple[str | None, Path]] = [(None, image) for image in _image_files(client)]
    return found + [(folder.name, image) for folder in _folders(client) for image in _image_files(folder)]


def _image_files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.lower().endswith(_SUFFIXES))


def _numbers(occurring: set[str], labels: Sequence[str] | None, root: Path) -> dict[str, int]:
    if labels is None:
        return {label: number for number, label in enumerate(sorted(occurring))}
    if not occurring:
        raise ValueError(f"labels are given, but there are no folders of labels in the clients' folders in {root}")
    if unknown := sorted(occurring - set(labels)):
        hint = names.suggestion(unknown[0], labels)
        raise ValueError(f"{root} has folders for the label {unknown[0]!r}, which is not in labels{hint}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels names a label twice: {list(labels)}")
    return {label: number for number, label in enumerate(labels)}


def _check_alike(paths: list[Path], images: list[Pixels]) -> None:
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise ValueError(
                f"{paths[0]} has {_size(images[0])} pixels, but {path} has {_size(image)}; give image_size=(height, "
                "width) to scale them to one size, or a function for 'x' in convert, which gets a list of images"
            )
        if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise ValueError(
                f"{paths[0]} is {describe(images[0])}, but {path} is {describe(image)}: some are transparent, or have "
                "more bits; give a function for 'x' in convert that makes them the same, which gets a list of images"
            )


def _size(image: Pixels) -> str:
    return f"{image.shape[0]} by {image.shape[1]}"
