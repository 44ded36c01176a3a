"""The demo's clients: client d holds the images of the digit d and of no other. The model's sizes are here too."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation import datasets

Batch = OrderedDict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """What the demo does with one dataset.

    Attributes:
        data: the dataset's name on the command line.
        title: its name in a sentence.
        pixels: the number of features of an image.
        hidden: the number of units of the model's hidden layer.
        batch_size: the number of images in a client's batch; its last batch may be shorter.
        learning_rate: of the clients' SGD. Each client sees one digit only, so large steps make the average unstable.
        server_learning_rate: of an Adam at the server (FedAdam); `None` for plain averaging.
        rounds: how many rounds are run if the user does not say.
        images_per_client: how many images of its digit a client holds at most; `None` for all.
    """

    data: str
    title: str
    pixels: int
    hidden: int
    batch_size: int
    learning_rate: float
    server_learning_rate: float | None
    rounds: int
    images_per_client: int | None

    @property
    def optimizers(self) -> str:
        """The optimizers in a few words."""
        clients = f"SGD {self.learning_rate:g}"
        return (
            clients
            if self.server_learning_rate is None
            else f"{clients}, at the server Adam {self.server_learning_rate:g}"
        )


SETTINGS = {
    "digits": Setting(
        data="digits",
        title="scikit-learn's digits",
        pixels=64,
        hidden=128,
        batch_size=20,
        learning_rate=0.5,
        server_learning_rate=None,
        rounds=120,
        images_per_client=None,
    ),
    "mnist": Setting(
        data="mnist",
        title="MNIST",
        pixels=784,
        hidden=512,
        batch_size=100,
        learning_rate=0.02,
        server_learning_rate=0.01,
        rounds=40,
        images_per_client=1000,
    ),
}


@dataclass(frozen=True)
class DemoData:
    """Ten clients' batches, and the images that no client trains on.

    Attributes:
        clients: for each client its batches, with `x` float32 `[batch, pixels]` and `y` int32 `[batch, 1]`.
        held_out_x: float32 `[held-out images, pixels]`, a tenth of each client's images.
        held_out_y: int32 `[held-out images, 1]`.
    """

    clients: list[list[Batch]]
    held_out_x: npt.NDArray[np.float32]
    held_out_y: npt.NDArray[np.int32]

    @property
    def training_images(self) -> int:
        """How many images all clients together train on."""
        return sum(len(batch["y"]) for client in self.clients for batch in client)


def load(setting: Setting, seed: int) -> DemoData:
    """Load a dataset, give each client its digit, and hold out a tenth of each client's images.

    Args:
        setting: which dataset, and how it is dealt out.
        seed: of the shuffle that decides which images are held out and in which order the others come.

    Returns:
        The clients' batches and the held-out images.

    Raises:
        hansa.simulation.datasets.DatasetError: the dataset cannot be had.
    """
    if setting.data == "mnist":
        mnist = datasets.load_mnist()
        images, labels = mnist.train_images.reshape(-1, setting.pixels), mnist.train_labels
    else:
        digits = datasets.load_digits()
        images, labels = digits.train_images, digits.train_labels
    shuffle = np.random.default_rng(seed)
    clients: list[list[Batch]] = []
    held_out = []
    for digit in range(10):
        own = shuffle.permutation(np.flatnonzero(labels == digit)[: setting.images_per_client])
        tenth = len(own) // 10
        held_out.append(own[:tenth])
        clients.append(_batches(own[tenth:], images, labels, setting.batch_size))
    return DemoData(clients, *_features(np.concatenate(held_out), images, labels))


def _batches(
    own: npt.NDArray[np.intp], images: npt.NDArray[Any], labels: npt.NDArray[np.int32], batch_size: int
) -> list[Batch]:
    batches = []
    for start in range(0, len(own), batch_size):
        x, y = _features(own[start : start + batch_size], images, labels)
        batches.append(OrderedDict(x=x, y=y))
    return batches


def _features(
    chosen: npt.NDArray[np.intp], images: npt.NDArray[Any], labels: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The chosen images as floats in 0..1 and their labels as a column."""
    x = images[chosen]
    if x.dtype == np.uint8:
        x = x.astype(np.float32) / 255
    return x.astype(np.float32), labels[chosen, None]
