"""The data of the experiments: MNIST, and the ways of papers to deal it out that `hansa.simulation` has not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hansa.simulation import ClientData, load_mnist


class Mnist(NamedTuple):
    """Rows of 784 numbers from 0 to 1, float32 [images, 784], and digits, int32 [images]."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int32]
    test_x: npt.NDArray[np.float32]
    test_y: npt.NDArray[np.int32]


def mnist(images: int, test_images: int = 10_000, seed: int = 0) -> Mnist:
    """So many of MNIST's images to train on, drawn at random, and of those to test with."""
    data, draws = load_mnist(), np.random.default_rng(seed)
    train = draws.permutation(len(data.train_labels))[:images]
    test = draws.permutation(len(data.test_labels))[:test_images]
    return Mnist(
        _rows(data.train_images[train]),
        data.train_labels[train].astype(np.int32),
        _rows(data.test_images[test]),
        data.test_labels[test].astype(np.int32),
    )


def _rows(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return (images.reshape(len(images), 784) / np.float32(255)).astype(np.float32)


def partition_by_similarity(labels: npt.NDArray[np.int32], clients: int, similarity: float) -> npt.NDArray[np.int64]:
    """Whose each example is: a share is dealt out at random, and the rest sorted by label (Karimireddy et al. 2020,
    arXiv:1910.06378, section 7, after Hsu et al. 2019).

    Args:
        labels: of the examples, in a random order.
        clients: how many.
        similarity: the share, from 0, where most clients have one label, to 1.
    """
    shared = round(similarity * len(labels))
    rest = shared + np.argsort(labels[shared:], kind="stable")
    client_of = np.empty(len(labels), np.int64)
    for part in (np.arange(shared), rest):
        for client, own in enumerate(np.array_split(part, clients)):
            client_of[own] = client
    return client_of


def rotated(x: npt.NDArray[np.float32], quarters: int) -> npt.NDArray[np.float32]:
    """The images of rows of 784, turned by so many quarters of a circle."""
    return np.ascontiguousarray(np.rot90(x.reshape(-1, 28, 28), quarters, axes=(1, 2)).reshape(-1, 784))


def population(x: npt.NDArray[np.float32], y: npt.NDArray[np.int32], client_of: npt.NDArray[np.int64]) -> ClientData:
    """Clients with rows and labels."""
    return ClientData.from_arrays({"x": x, "y": y}, client_of)
