"""Clients from folders of images: a folder for each client, or for each label, whose images are dealt out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa._extras import require
from hansa.simulation import _dealing
from hansa.simulation._dealing import Partition
from hansa.simulation._errors import reader
from hansa.simulation._identities import owners_of
from hansa.simulation._selection import Convert, Selection, select, without_rows
from hansa.simulation._values import integer
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import OfClients, of_file
from hansa.simulation.readers.images import Pixels, fitted, scaled
from hansa.simulation.readers.images import opened as opened_image
from hansa.simulation.readers.layouts import Folders, by_client, by_label, told
from hansa.types import names
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe


@reader
def from_folder(
    path: str | Path,
    *,
    folders: Folders | None = None,
    partition: Partition | None = None,
    image_size: tuple[int, int] | None = None,
    greyscale: bool = False,
    scale: bool = False,
    labels: Sequence[str] | None = None,
    convert: Convert | None = None,
) -> ClientData:
    """The clients of a folder of images (`.png`, `.jpg`, `.gif`, `.bmp`, `.webp`, `.tif`).

    Its folders are clients, `path/client/image.png` or, with labels, `path/client/label/image.png`. Or they are labels,
    `path/label/image.png`, as torchvision's `ImageFolder` and Keras's `image_dataset_from_directory` read them; their
    images are then dealt out to simulated clients. Only names are looked at now; a client's images are read when they
    are wanted.

    Args:
        path: the folder.
        folders: what its folders are, 'clients' or 'labels'. It may be left out where there is a `partition`, and where
            images lie in `path/client/label/`.
        partition: how images in folders of labels are dealt out: the name of a partition and its arguments, such as
            `{"method": "dirichlet", "clients": 10, "alpha": 0.5, "seed": 0}` for `partition_dirichlet`; or a function
            from the labels, int32 [images], to whose each image is, such as `lambda y: partition_shards(y, 10)`.
        image_size: height and width in pixels to which images are scaled (bilinearly); by default all must have the
            same.
        greyscale: whether images are made grey, else they are made red, green and blue, with alpha as a fourth channel
            if they have transparency.
        scale: whether `x` is float32 from 0 to 1, and not integers from 0 to 255, or 65,535.
        labels: the names of the folders of labels, in the order of their numbers; by default all that occur, in
            alphabetical order.
        convert: by name of the array, `x` or `y`, a dtype that it is cast to, or a function from values to an array
            with a row for each. For `x` it gets a list of images, which may have several sizes, or one array if they
            have one size and dtype.

    Returns:
        The clients, called as their folders, in alphabetical order, or 0, 1, … if images are dealt out; each with its
        images in the order of their paths: `x`, `[images, height, width]` if grey, else `[images, height, width, 3]`,
        or 4 with transparency; uint8, but uint16 if they have 16 bits; and, with folders of labels, `y`, int32
        `[images]`, whose names are `label_names`. They are turned as their EXIF orientation says.

    Raises:
        DatasetError: an image is damaged (when it is read). It is a FileNotFoundError if there is no such folder, and a
            ValueError if there is no image in it, or it is not known whether its folders are clients or labels, or some
            have labels and some have none, or `labels` lacks one; or images have different sizes, several frames or 16
            bits a colour, or are transparent and to be grey (when they are read).
        ImportError: Pillow is not installed.

    Examples:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> for name in ("ann/cat/1.png", "ann/dog/1.png", "bo/cat/1.png"):
        ...     Path("pictures", name).parent.mkdir(parents=True)
        ...     Image.new("RGB", (40, 30)).save(Path("pictures", name))
        >>> pictures = hansa.simulation.from_folder("pictures", image_size=(28, 28))
        >>> pictures.client("ann")["y"], pictures.label_names
        (array([0, 1], dtype=int32), ('cat', 'dog'))
        >>> print(pictures.example_type)
        <x=uint8[?,28,28,3],y=int32[?]>
    """
    require("PIL.Image", "images", "from_folder")
    size = None if image_size is None else _checked_size(image_size)
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    found, label_names = _found(root, _layout(root, folders, partition), partition, labels)
    numbers = {label: number for number, label in enumerate(label_names or ())}
    selection = select(str(root), ["x", "y"] if label_names else ["x"], None, convert)

    images = _Images(str(root), size, greyscale, scale, selection)

    def read(client_id: Any) -> dict[str, Any]:
        if not found[client_id]:
            some = next(client for client, mine in found.items() if mine)
            return without_rows(read(some))
        return images.read(part(client_id), client_id)

    def part(client_id: Any) -> list[tuple[int, str]]:
        mine = found[client_id]
        return [(numbers.get(str(label), -1), str(path.relative_to(root))) for label, path in mine]

    files = OfClients(images.told(), part) if selection.told() is not None and all(found.values()) else None
    data = of_file(root, list(found), read, [len(mine) for mine in found.values()], files=files)
    data._source.label_names = label_names
    return data


@dataclass(frozen=True)
class _Images:
    """What is made of images.

    Attributes:
        root: the folder that their paths begin at.
        size: their height and width afterwards, perhaps.
        greyscale: whether they become grey.
        scale: whether pixels are from 0 to 1.
        selection: what becomes of `x` and `y`.
    """

    root: str
    size: tuple[int, int] | None
    greyscale: bool
    scale: bool
    selection: Selection

    def read(self, part: Sequence[tuple[int, str]], client_id: ClientId) -> dict[str, Any]:
        """A client's arrays, of the numbers of the labels and the paths of its images."""

        def values(column: str) -> Any:
            if column == "y":
                return np.array([label for label, _ in part], np.int32)
            paths = [Path(self.root, path) for _, path in part]
            images = [fitted(opened_image(path, str(path)), str(path), self.greyscale, self.size) for path in paths]
            if not self.selection.is_converted("x"):
                _check_alike(paths, images)
            return [scaled(image) for image in images] if self.scale else images

        return self.selection.of_client(client_id).arrays(values)

    def told(self) -> dict[str, Any]:
        """The same as JSON has it."""
        root = str(Path(self.root).absolute())
        given = {"size": self.size, "greyscale": self.greyscale, "scale": self.scale}
        return {"reader": "folders", "root": root, **given, "selection": self.selection.told()}


def opened(told: Mapping[str, Any]) -> Callable[[Any, ClientId], dict[str, Any]]:
    """What reads clients' images here, of what `from_folder` has told elsewhere."""
    if not Path(told["root"]).is_dir():
        raise FileNotFoundError(
            f"clients' images are in {told['root']}, which this worker does not have; keep them in a folder that all "
            "nodes have under the same name"
        )
    size = None if told["size"] is None else (told["size"][0], told["size"][1])
    selection = Selection.of_told(told["selection"])
    return _Images(told["root"], size, told["greyscale"], told["scale"], selection).read


def _layout(root: Path, folders: Any, partition: Any) -> Folders:
    if folders not in ("clients", "labels", None):
        raise ValueError(f"folders must be 'clients' or 'labels', what the folders in {root} are; found {folders!r}")
    layout: Folders = folders or ("labels" if partition is not None else told(root))
    if layout == "labels" and partition is None:
        raise ValueError(
            f"folders='labels' says that {root} has a folder for each label, and nothing says whose its images are; "
            "give partition={'method': 'iid', 'clients': 10}, which deals them out"
        )
    if layout == "clients" and partition is not None:
        raise ValueError(
            "folders='clients' and partition both say whose each image is; leave partition out, or say "
            "folders='labels' if the folders are labels"
        )
    return layout


def _found(
    root: Path, layout: Folders, partition: Any, labels: Sequence[str] | None
) -> tuple[Mapping[Any, list[tuple[str | None, Path]]], tuple[str, ...] | None]:
    """Each client's images with their labels, and the names of the labels; None if there are none."""
    if layout == "clients":
        clients = by_client(root)
        occurring = {label for images in clients.values() for label, _ in images if label is not None}
        return clients, _names(occurring, labels, root)
    by_name = by_label(root)
    label_names = _names(set(by_name), labels, root)
    assert label_names is not None
    images = [(label, image) for label in sorted(by_name) for image in by_name[label]]
    number = {label: number for number, label in enumerate(label_names)}
    known = np.array([number[label] for label, _ in images], np.int32)
    client_of, client_ids = _dealing.owners(partition, lambda: known, len(images))
    dealt = owners_of(client_of, len(images), "what partition gives")
    mine: dict[Any, list[tuple[str | None, Path]]] = {
        client: [] for client in (dealt.client_ids if client_ids is None else client_ids)
    }
    for image, position in zip(images, dealt.index.tolist(), strict=True):
        if position >= 0:
            mine[dealt.client_ids[position]].append(image)
    return mine, label_names


def _checked_size(given: Any) -> tuple[int, int]:
    if np.shape(given) != (2,):
        raise TypeError(f"image_size must be a height and a width, such as (28, 28); found {describe(given)}")
    return integer("the height in image_size", given[0], 1), integer("the width in image_size", given[1], 1)


def _names(occurring: set[str], labels: Sequence[str] | None, root: Path) -> tuple[str, ...] | None:
    """The names of the labels, in the order of their numbers; None if there are none."""
    if labels is None:
        return tuple(sorted(occurring)) or None
    if not occurring:
        raise ValueError(f"labels are given, but there are no folders of labels in the clients' folders in {root}")
    if unknown := sorted(occurring - set(labels)):
        hint = names.suggestion(unknown[0], labels)
        raise ValueError(f"{root} has folders for the label {unknown[0]!r}, which is not in labels{hint}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels names a label twice: {list(labels)}")
    return tuple(labels)


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
