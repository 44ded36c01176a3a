"""Image datasets as NumPy arrays, before they are given to clients. Partitioning them is not done here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.simulation._cifar import read_cifar10
from hansa.simulation._errors import DatasetError
from hansa.simulation._files import PublishedFile, obtain, obtain_path
from hansa.simulation._idx import parse_idx

__all__ = ["DatasetError", "ImageData", "load_cifar10", "load_digits", "load_fashion_mnist", "load_mnist"]

_MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_MNIST_FILES = {
    "train_images": PublishedFile(
        "train-images-idx3-ubyte.gz",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        size=47_040_016,
    ),
    "train_labels": PublishedFile(
        "train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", size=60_008
    ),
    "test_images": PublishedFile(
        "t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", size=7_840_016
    ),
    "test_labels": PublishedFile(
        "t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", size=10_008
    ),
}
_FASHION_MNIST_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
# Their names are those of MNIST's files.
_FASHION_MNIST_FILES = {
    part: PublishedFile(_MNIST_FILES[part].name, digest, digest_of="file", name_is_unique=False)
    for part, digest in {
        "train_images": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train_labels": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "test_images": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "test_labels": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }.items()
}
_CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
_CIFAR10_FILE = PublishedFile(
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    digest_of="file",
)


@boundaries
@dataclass(frozen=True)
class ImageData:
    """Labelled images, split as their publisher split them.

    Attributes:
        train_images: an array of shape `[train images, ...]`.
        train_labels: an int32 array of shape `[train images]`.
        test_images: an array of shape `[test images, ...]`; of no images if the publisher made no split.
        test_labels: an int32 array of shape `[test images]`.

    Examples:
        >>> digits = hansa.simulation.load_digits()
        >>> digits.train_images.shape, digits.train_labels[:5], digits.test_images.shape
        ((1797, 64), array([0, 1, 2, 3, 4], dtype=int32), (0, 64))
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

    Examples:
        >>> digits = hansa.simulation.load_digits()
        >>> digits.train_images.shape, digits.train_labels[:5]
        ((1797, 64), array([0, 1, 2, 3, 4], dtype=int32))
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

    Examples:
        >>> mnist = hansa.simulation.load_mnist()
        >>> mnist.train_images.shape, mnist.train_images.dtype, mnist.test_labels[:5]
        ((60000, 28, 28), dtype('uint8'), array([7, 2, 1, 0, 4], dtype=int32))
    """
    return _idx_images("mnist", _MNIST_FILES, _MNIST_MIRRORS)


def load_fashion_mnist() -> ImageData:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747): 70,000 pictures of clothes of 28x28 pixels.

    Published by Zalando under the MIT licence. Its files are called as MNIST's, so they are looked for in the folder
    `fashion_mnist/` inside the one that `HANSA_DATA_DIR` names, then in the cache, else downloaded. Every file is
    checked.

    Returns:
        Images as uint8 in 0..255, `[60000, 28, 28]` for training and `[10000, 28, 28]` for testing, and labels 0..9,
        `[60000]` and `[10000]`: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.

    Raises:
        DatasetError: a file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> clothes = hansa.simulation.load_fashion_mnist()
        >>> clothes.train_images.shape, clothes.train_images.dtype
        ((60000, 28, 28), dtype('uint8'))
    """
    return _idx_images("fashion_mnist", _FASHION_MNIST_FILES, _FASHION_MNIST_MIRRORS)


def load_cifar10() -> ImageData:
    """CIFAR-10 (Krizhevsky, 2009): 60,000 colour images of 32x32 pixels.

    Its file `cifar-10-binary.tar.gz` (162 MiB) is looked for in the folder that `HANSA_DATA_DIR` names (in `cifar10/`
    inside it, or directly in it), then in the cache, else downloaded into the cache. It is checked. Its authors name no
    licence; they ask to cite "Learning Multiple Layers of Features from Tiny Images".

    Returns:
        Images as uint8 in 0..255, red, green and blue, `[50000, 32, 32, 3]` for training and `[10000, 32, 32, 3]` for
        testing, and labels 0..9, `[50000]` and `[10000]`: airplane, automobile, bird, cat, deer, dog, frog, horse,
        ship, truck.

    Raises:
        DatasetError: the file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> cifar = hansa.simulation.load_cifar10()
        >>> cifar.train_images.shape, cifar.train_images.dtype
        ((50000, 32, 32, 3), dtype('uint8'))
    """
    train, test = read_cifar10(obtain_path("cifar10", _CIFAR10_FILE, _CIFAR10_MIRRORS))
    return ImageData(*train, *test)


def _idx_images(dataset: str, files: Mapping[str, PublishedFile], mirrors: Sequence[str]) -> ImageData:
    contents = {part: obtain(dataset, file, mirrors) for part, file in files.items()}
    return ImageData(
        train_images=parse_idx(contents["train_images"], ndim=3),
        train_labels=parse_idx(contents["train_labels"], ndim=1).astype(np.int32),
        test_images=parse_idx(contents["test_images"], ndim=3),
        test_labels=parse_idx(contents["test_labels"], ndim=1).astype(np.int32),
    )
