"""Datasets whose clients are given by nature, or were drawn by their publishers: by writer, by speaking role."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hansa.simulation._files import PublishedFile, obtain, obtain_uncompressed
from hansa.simulation._values import integer
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.tff_database import TffDatabase
from hansa.simulation.readers.tff_sqlite import from_tff_sqlite
from hansa.simulation.text import CharacterCoding

_TFF_MIRRORS = ("https://storage.googleapis.com/tff-datasets-public/",)
_EMNIST_FILE = PublishedFile(
    "emnist_all.sqlite.lzma", "c3aaf91b4cf4e69d53d81627ad119eccdc878ff906f68e66063ff10f67faad48", digest_of="file"
)
_CIFAR100_FILE = PublishedFile(
    "cifar100.sqlite.lzma", "23d3916c9caa33395737ee560cc7cb77bbd05fc7b73647ee7be3a7e764172939", digest_of="file"
)
_SHAKESPEARE_FILE = PublishedFile(
    "shakespeare.sqlite.lzma", "d3d11fceb9e105439ac6f4d52af6efafed5a2a1e1eb24c5bd2dd54ced242f5c4", digest_of="file"
)
_TINY_SHAKESPEARE_MIRRORS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)
_TINY_SHAKESPEARE_FILE = PublishedFile(
    "input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    name_is_unique=False,
    size=1_115_394,
)


def load_emnist(only_digits: bool = False) -> tuple[ClientData, ClientData]:
    """Federated EMNIST: handwritten characters by writer, as LEAF (Caldas et al., 2018, arXiv:1812.01097) groups EMNIST
    (Cohen et al., 2017, arXiv:1702.05373) and TensorFlow Federated publishes it.

    Its file `emnist_all.sqlite.lzma` (163 MiB, uncompressed 4.4 GiB) is looked for in the folder that `HANSA_DATA_DIR`
    names (in `emnist/` inside it, or directly in it), then in the cache, else downloaded into the cache, where it is
    uncompressed. Both are checked, once in a process. EMNIST's authors name no licence; it is made of NIST Special
    Database 19, a work of the government of the United States.

    Args:
        only_digits: only the digits, 10 classes; else digits and letters, 62 classes.

    Returns:
        Clients for training and for testing, 3,400 writers (3,383 with `only_digits`), each of whom is in both. A
        client has `x`, float32 `[examples, 28, 28]` from 0 for ink to 1 for paper (the other way round than MNIST), and
        `y`, int32 `[examples]`: 0..9 for digits, then upper-case, then lower-case letters. A client is read from disk
        when it is wanted; `.in_memory()` keeps what has been read.

    Raises:
        DatasetError: the file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> train, test = hansa.simulation.load_emnist(only_digits=True)
        >>> len(train), len(test), train.example_type
        (3383, 3383, to_type('<x=float32[?,28,28],y=int32[?]>'))
    """
    path = obtain_uncompressed("emnist", _EMNIST_FILE, _TFF_MIRRORS)
    prefix = "digits_only" if only_digits else "all"

    def split(name: str) -> ClientData:
        features = {"x": "pixels", "y": "label"}
        return from_tff_sqlite(path, f"{prefix}_{name}", features, {"x": _as_images(28, 28), "y": "int32"})

    return split("train"), split("test")


def load_cifar100() -> tuple[ClientData, ClientData]:
    """Federated CIFAR-100: the images of CIFAR-100 (Krizhevsky, 2009), dealt to clients by TensorFlow Federated.

    Clients were drawn by Pachinko allocation (Reddi et al., 2021, arXiv:2003.00295): a client draws the
    20 coarse classes from a Dirichlet distribution of parameter 0.1, and the classes in each from one of parameter 10.

    Its file `cifar100.sqlite.lzma` (146 MiB) is looked for in the folder that `HANSA_DATA_DIR` names (in `cifar100/`
    inside it, or directly in it), then in the cache, else downloaded into the cache, where it is uncompressed. Both are
    checked, once in a process. CIFAR-100's authors name no licence; they ask to cite "Learning Multiple Layers of
    Features from Tiny Images".

    Returns:
        500 clients for training and 100 others for testing, with 100 images each: `x`, uint8 `[examples, 32, 32, 3]`,
        and `y`, int32 `[examples]`, 0..99. A client is read from disk when it is wanted; `.in_memory()` keeps what has
        been read.

    Raises:
        DatasetError: the file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> train, test = hansa.simulation.load_cifar100()
        >>> len(train), len(test), train.example_type
        (500, 100, to_type('<x=uint8[?,32,32,3],y=int32[?]>'))
    """
    path = obtain_uncompressed("cifar100", _CIFAR100_FILE, _TFF_MIRRORS)

    def split(name: str) -> ClientData:
        features = {"x": "image", "y": "label"}
        return from_tff_sqlite(path, name, features, {"x": _as_images(32, 32, 3, dtype="uint8"), "y": "int32"})

    return split("train"), split("test")


def load_shakespeare(sequence_length: int = 80) -> tuple[ClientData, ClientData]:
    """Shakespeare's plays by speaking role, as LEAF (Caldas et al., 2018, arXiv:1812.01097; McMahan et al., 2017,
    arXiv:1602.05629) groups them and TensorFlow Federated publishes them.

    Its file `shakespeare.sqlite.lzma` (1.3 MiB) is looked for in the folder that `HANSA_DATA_DIR` names (in
    `shakespeare/` inside it, or directly in it), then in the cache, else downloaded into the cache, where it is
    uncompressed. Both are checked, once in a process. The text is in the public domain.

    Args:
        sequence_length: characters per sequence.

    Returns:
        Clients for training and for testing, 715 roles, each of which is in both. What a role says at a time is cut
        into sequences of characters, as `CharacterCoding().sequences` does: `x` and `y`, int32 `[sequences,
        sequence_length]`. It is read when it is first wanted, and kept.

    Raises:
        DatasetError: the file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> train, test = hansa.simulation.load_shakespeare()
        >>> len(train), len(test), train.example_type
        (715, 715, to_type('<x=int32[?,80],y=int32[?,80]>'))
    """
    length = integer("sequence_length", sequence_length, 1)
    path = obtain_uncompressed("shakespeare", _SHAKESPEARE_FILE, _TFF_MIRRORS)
    return _roles(path, "train", length), _roles(path, "test", length)


def load_tiny_shakespeare(sequence_length: int = 80) -> ClientData:
    """ "Tiny Shakespeare" (Karpathy, 2015), 40,000 lines of Shakespeare's plays in one file, by speaker.

    Its file `input.txt` (1.1 MB) is looked for in the folder `shakespeare/` inside the one that `HANSA_DATA_DIR` names,
    then in the cache, else downloaded into the cache. It is checked. The text is in the public domain.

    Args:
        sequence_length: characters per sequence.

    Returns:
        Clients, in alphabetical order of the speakers' names. The file does not say which play a passage is from, so
        one "Messenger" has what all messengers say. What a speaker says at a time is cut into sequences of characters,
        as `CharacterCoding().sequences` does: `x` and `y`, int32 `[sequences, sequence_length]`. For testing, hold some
        out with `split`.

    Raises:
        DatasetError: the file is damaged, or is not here and cannot be downloaded.

    Examples:
        >>> speakers = hansa.simulation.load_tiny_shakespeare()
        >>> sequences = speakers.client("ROMEO")["x"]
        >>> sequences.shape
        (399, 80)
        >>> hansa.simulation.CharacterCoding().decode(sequences[0])
        'Is the day so young?'
    """
    length = integer("sequence_length", sequence_length, 1)
    content = obtain("shakespeare", _TINY_SHAKESPEARE_FILE, _TINY_SHAKESPEARE_MIRRORS)
    passages = passages_by_speaker(content.decode("utf-8"))
    speakers = sorted(passages)
    return _spoken(speakers, passages.__getitem__, length)


def passages_by_speaker(text: str) -> dict[str, list[str]]:
    """What each speaker says, a passage at a time; passages are parted by empty lines, and begin with `Speaker:`."""
    passages: dict[str, list[str]] = {}
    for block in re.split("\n{2,}", text.strip("\n")):
        speaker, _, words = block.partition(":\n")
        if words:
            passages.setdefault(speaker, []).append(words)
    return passages


def _roles(path: Path, split: str, length: int) -> ClientData:
    database = TffDatabase(path)

    def snippets(role: str) -> list[str]:
        return [b"".join(example["snippets"]).decode("utf-8") for example in database.examples(split, role)]

    return _spoken(list(database.clients(split)), snippets, length)


def _spoken(speakers: Sequence[str], texts: Callable[[str], list[str]], length: int) -> ClientData:
    coding = CharacterCoding()
    return ClientData.from_function(speakers, lambda speaker: coding.sequences(texts(speaker), length)).in_memory()


def _as_images(*shape: int, dtype: str = "float32") -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    return lambda pixels: pixels.reshape(-1, *shape).astype(dtype)
