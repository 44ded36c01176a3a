"""How images lie in folders: which are whose, and what they show.

| layout | a folder is | an image lies in |
|---|---|---|
| clients | a client | `root/CLIENT/`, or `root/CLIENT/LABEL/` |
| labels | a label | `root/LABEL/`, and folders within |

The second is that of torchvision's `ImageFolder` and of Keras's `image_dataset_from_directory`. Only names are
looked at here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
FORM = f"called {' or '.join('*' + suffix for suffix in SUFFIXES)}"

Folders = Literal["clients", "labels"]

_TRAINING = ("train", "training")
_HELD_OUT = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""What folders of examples for training and for evaluation are called, the first one found being evaluated on."""


def split_folders(root: Path) -> tuple[Path, Path | None] | None:
    """The folders for training and for evaluation in a folder that has a `train`; None if it is no such folder."""
    found = {folder.name.lower(): folder for folder in folders_in(root)}
    training = next((found[name] for name in _TRAINING if name in found), None)
    if training is None or not set(found) <= {*_TRAINING, *_HELD_OUT}:
        return None
    return training, next((found[name] for name in _HELD_OUT if name in found), None)


def by_client(root: Path) -> dict[str, list[tuple[str | None, Path]]]:
    """Each client's images, those of folders of labels with their label.

    Raises:
        ValueError: if there are none, or some have labels and some have none.
    """
    found = {folder.name: _of_client(folder) for folder in folders_in(root)}
    found = {client: images for client, images in found.items() if images}
    if not found:
        raise ValueError(
            f"{root} has no images of clients; they must be in {root}/CLIENT/ or {root}/CLIENT/LABEL/, and be {FORM}"
        )
    everything = [image for images in found.values() for image in images]
    labelled = [label is not None for label, _ in everything]
    if any(labelled) and not all(labelled):
        raise ValueError(
            f"{everything[labelled.index(False)][1]} lies in its client's folder, but "
            f"{everything[labelled.index(True)][1]} in a folder of a label; put all images into folders of labels, or "
            "none"
        )
    return found


def by_label(root: Path) -> dict[str, list[Path]]:
    """The images of each label, with those in folders within it, in the order of their paths; an empty list for a label
    without images.

    Raises:
        ValueError: if there are none, or all lie as those of clients do.
    """
    found = {folder.name: list(_within(folder)) for folder in folders_in(root)}
    everything = [image for images in found.values() for image in images]
    if not everything:
        raise ValueError(f"{root} has no images in folders of labels; they must be in {root}/LABEL/, and be {FORM}")
    if all(image.parent.parent != root for image in everything):
        raise ValueError(
            f"{root} has no images in {root}/LABEL/, but some a folder deeper, such as {everything[0]}: as those of "
            "clients lie, root/CLIENT/LABEL/; if they are, say folders='clients', and leave partition out"
        )
    return found


def told(root: Path) -> Folders:
    """What the folders in `root` are, if how images lie tells it.

    Raises:
        ValueError: if it does not; the message says what does.
    """
    split = split_folders(root)
    if split is not None:
        raise ValueError(
            f"{root} has the folder {split[0].name}, so its folders seem to be neither clients nor labels; read "
            f"{split[0]}, and what is to be evaluated on, such as {split[1] or root / 'test'}, by itself, or say "
            "folders='clients' if they are clients"
        )
    direct = unclear(root)
    if direct is None:
        return "clients"
    raise ValueError(
        f"{direct} has images, and its name may be that of a client or that of a label; say folders='clients', or "
        "folders='labels' and how its images are dealt out, such as partition={'method': 'iid', 'clients': 10}"
    )


def unclear(root: Path) -> Path | None:
    """A folder in `root` that has images, and so may be a client or a label; None if there is none."""
    return next((folder for folder in folders_in(root) if _image_files(folder)), None)


def folders_in(folder: Path) -> list[Path]:
    """The folders in one, but for hidden ones, in the order of their names."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _of_client(client: Path) -> list[tuple[str | None, Path]]:
    """The images of a client, each with its label, or with None if it lies in the client's folder."""
    found: list[tuple[str | None, Path]] = [(None, image) for image in _image_files(client)]
    return found + [(folder.name, image) for folder in folders_in(client) for image in _image_files(folder)]


def _within(label: Path) -> list[Path]:
    places = sorted(os.walk(label), key=lambda place: place[0])
    return [Path(place, name) for place, _, files in places for name in sorted(files) if _is_image(name)]


def _image_files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if _is_image(entry.name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
