"""Clients from a folder of images for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._extras import require
from hansa.simulation._errors import DatasetError, reader
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import of_file
from hansa.types import names

_SUFFIXES = (".png", ".jpg", ".jpeg")


@reader
def from_folder(
    path: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    greyscale: bool = False,
    labels: Sequence[str] | None = None,
) -> ClientData:
    """The clients of a folder in which each has a folder of images (`.png`, `.jpg`).

    Either `path/client/image.png`, or `path/client/label/image.png` for labelled images. Only names are looked at now;
    a client's images are read when they are wanted.

    Args:
        path: the folder.
        image_size: height and width in pixels to which images are scaled (bilinearly); by default all must have the
            same.
        greyscale: whether images are made grey, else they are made red, green and blue.
        labels: the names of the folders of labels, in the order of their numbers; by default all that occur, in
            alphabetical order.

    Returns:
        The clients, called as their folders, in alphabetical order, each with its images in the order of their names:
        `x`, uint8 `[images, height, width]` if grey, else `[images, height, width, 3]`; and, with folders of labels,
        `y`, int32 `[images]`.

    Raises:
        DatasetError: an image is damaged (when it is read). It is a FileNotFoundError if there is no such folder, and a
            ValueError if there is no image in it, or some have labels and some have none, or `labels` lacks one; or
            images have different sizes (when they are read).
        ImportError: Pillow is not installed.
    """
    require("PIL.Image", "images", "from_folder")
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

    def read(client_id: str) -> dict[str, Any]:
        images = found[client_id]
        arrays: dict[str, Any] = {"x": _pixels([image for _, image in images], image_size, greyscale)}
        if numbers:
            arrays["y"] = np.array([numbers[str(label)] for label, _ in images], np.int32)
        return arrays

    return of_file(root, list(found), read, [len(images) for images in found.values()])


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


def _pixels(paths: list[Path], image_size: tuple[int, int] | None, greyscale: bool) -> npt.NDArray[np.uint8]:
    """The images as one array `[images, height, width]`, or `[images, height, width, 3]`."""
    from PIL import Image

    arrays: list[npt.NDArray[np.uint8]] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                converted = image.convert("L" if greyscale else "RGB")
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for some broken PNGs
            raise DatasetError(f"{path} is damaged, or no image: {error}") from error
        if image_size is not None:
            height, width = image_size
            converted = converted.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(converted)
        if arrays and pixels.shape != arrays[0].shape:
            raise ValueError(
                f"{paths[0]} has {_size(arrays[0])} pixels, but {path} has {_size(pixels)}; give image_size=(height, "
                "width) to scale them to one size"
            )
        arrays.append(pixels)
    return np.stack(arrays)


def _size(pixels: npt.NDArray[np.uint8]) -> str:
    return f"{pixels.shape[0]} by {pixels.shape[1]}"
