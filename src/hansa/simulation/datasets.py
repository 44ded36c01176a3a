"""Image datasets as NumPy arrays, before they are given to clients. Partitioning them is not done here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._files import DatasetError, PublishedFile, obtain
from hansa.simulation._idx import parse_idx

__all__ = ["DatasetError", "ImageData", "load_digits", "load_mnist"]

_MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_MNIST_FILES = {
    "train_images": PublishedFile(
        "train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train_labels": PublishedFile(
        "train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "test_images": PublishedFile(
        "t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "test_labels": PublishedFile(
        "t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}


@dataclass(frozen=True)
class ImageData:
    """Labelled images, split as their publisher split them.

    Attributes:
        train_images: an array of shape `[train images, ...]`.
        train_labels: an int32 array of shape `[train images]`.
        test_images: an array of shape `[test images, ...]`; of no images if the publisher made no split.
        test_labels: an int32 array of shape `[test images]`.
    """

    train_images: npt.NDArray[Any]
    train_labels: npt.NDArray[np.int32]
    test_images: npt.NDArray[Any]
    test_labels: npt.NDArray[np.int32]


def load_digits() -> ImageData:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships (Alpaydin and Kaynak, 1998).

    They are part of Hansa (the test half of UCI's "Optical Recognition of Handwritten Digits", CC BY 4.0), so neither
    scikit-learn nor a network is needed.

    Returns:
        Images as float32 in 0..1, `[1797, 64]`, and labels 0..9, `[1797]`, all of them for training:
        scikit-learn makes no split, so `test_images` is `[0, 64]` and `test_labels` is `[0]`.
    """
    with files("hansa.simulation").joinpath("digits.npz").open("rb") as stream, np.load(stream) as arrays:
        images = (arrays["images"].reshape(-1, 64) / np.float32(16)).astype(np.float32)
        labels = arrays["labels"].astype(np.int32)
    return ImageData(images, labels, images[:0], labels[:0])


def load_mnist() -> ImageData:
    """MNIST (LeCun, Cortes and Burges, 1998): 70,000 handwritten digits of 28x28 pixels.

    Its four files, `train-images-idx3-ubyte.gz` and so on, are looked for in the folder that the environment variable
    `HANSA_DATA_DIR` names (in `mnist/` inside it, or directly in it), then in the cache (`HANSA_CACHE_DIR`, else
    `hansa/` in the platform's folder for caches), else downloaded into the cache. Every file's content is checked.

    Returns:
        Images as uint8 in 0..255, `[60000, 28, 28]` for training and `[10000, 28, 28]` for testing, and labels 0..9,
        `[60000]` and `[10000]`.

    Raises:
        DatasetError: a file is damaged, or is not here and cannot be downloaded.
    """
    contents = {part: obtain("mnist", file, _MNIST_MIRRORS) for part, file in _MNIST_FILES.items()}
    return ImageData(
        train_images=parse_idx(contents["train_images"], ndim=3),
        train_labels=parse_idx(contents["train_labels"], ndim=1).astype(np.int32),
        test_images=parse_idx(contents["test_images"], ndim=3),
        test_labels=parse_idx(contents["test_labels"], ndim=1).astype(np.int32),
    )
