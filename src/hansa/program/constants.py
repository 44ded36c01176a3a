"""What a run's state has from its beginning, and no round changes, such as frozen weights: in a file of its own.

The file is written once, lies beside the checkpoints that name it, and is called by the digest of what it holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import jax
import numpy as np

from hansa._files import remove_others
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.compiler.artifacts.types import encode_type, encode_value
from hansa.types import Type

CONSTANTS = "constants"
"""The folder of these files, beside the checkpoints that name them."""

_KIND = "constants"
_NAME = re.compile(r"[0-9a-f]{64}\.hansa")


class Constants:
    """A folder of constants.

    Args:
        folder: the folder, which is made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: tuple[list[ref[Any]], str] = ([], "")

    def save(self, arrays: Sequence[jax.Array]) -> str:
        """Writes arrays, if they are in no file yet; gives the name of their file."""
        known, name = self._written
        if len(known) != len(arrays) or any(old() is not array for old, array in zip(known, arrays, strict=True)):
            name = self._write(arrays)
            self._written = [ref(array) for array in arrays], name
        return name

    def _write(self, arrays: Sequence[jax.Array]) -> str:
        writer = Writer()
        listed = [writer.array(np.asarray(array)) for array in arrays]
        name = f"{_digest(listed)}.hansa"
        if not self._is_whole(name):
            self._folder.mkdir(exist_ok=True)
            writer.write(self._folder / name, {"kind": _KIND, "arrays": listed})
        return name

    def _is_whole(self, name: str) -> bool:
        if not (self._folder / name).exists():
            return False
        try:
            self.load(name)
        except Exception:  # whatever comes of a file that is damaged
            return False
        return True

    def load(self, name: str) -> list[Any]:
        """The arrays of a file.

        Raises:
            Exception: of any kind, if the file is not there, or holds other arrays than those it is called by.
        """
        reader = self._reader(name)
        listed = reader.manifest["arrays"]
        if reader.manifest["kind"] != _KIND or f"{_digest(listed)}.hansa" != name:
            raise ValueError(f"{CONSTANTS}/{name} holds other arrays than those that it is called by")
        return [reader.array(each).read() for each in listed]

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        return self._reader(name).size

    def _reader(self, name: str) -> Reader:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"a file of constants cannot be called {name!r}")
        return Reader(self._folder / name)

    def exist(self) -> bool:
        """Whether there may be any."""
        return self._folder.is_dir()

    def clean(self, named: Iterable[str]) -> None:
        """Removes the files but for these, and what was left of writing."""
        remove_others(self._folder, _NAME, named)


def constants_beside(checkpoint: Path) -> Constants:
    """The constants of a checkpoint and of those in the same folder."""
    return Constants(checkpoint.parent / CONSTANTS)


def constants_of(manifest: Mapping[str, Any]) -> set[str]:
    """The names of the files of constants that a checkpoint names."""
    parts = [manifest["state"], *manifest["saved"].values()]
    return {str(part["constants"]["file"]) for part in parts if "constants" in part}


class Apart:
    """Encodes values, of which some arrays are in a file of their own.

    Args:
        fixed: these arrays.
        constants: where the file is.
    """

    def __init__(self, fixed: Sequence[jax.Array], constants: Constants) -> None:
        self._places = {id(array): place for place, array in enumerate(fixed)}
        self._file = constants.save(fixed) if fixed else ""

    def encode(self, value: Any, kind: Type, writer: Writer) -> dict[str, Any]:
        """What a checkpoint has of a value, and what `decode_type` takes for its type."""
        leaves, tree = jax.tree.flatten(value)
        at = [[i, self._places[id(leaf)]] for i, leaf in enumerate(leaves) if id(leaf) in self._places]
        here = [_NOTHING if id(leaf) in self._places else leaf for leaf in leaves]
        return {
            **encode_type(kind),
            "value": encode_value(jax.tree.unflatten(tree, here), writer),
            "on_device": [isinstance(leaf, jax.Array) for leaf in leaves],
            **({"constants": {"file": self._file, "at": at}} if at else {}),
        }


_NOTHING = np.zeros(0, np.uint8)
"""What is in the place of an array that is in a file of its own."""


class Begun:
    """The arrays that a state had at the beginning, which are not kept for that."""

    def __init__(self, state: Any) -> None:
        self._arrays: dict[int, ref[jax.Array]] = {
            id(leaf): ref(leaf) for leaf in jax.tree.leaves(state) if _is_large(leaf)
        }

    def still_in(self, state: Any) -> list[Any]:
        """Those that a later state has, too: the same objects, as no computation has touched them."""
        return [
            leaf for leaf in jax.tree.leaves(state) if id(leaf) in self._arrays and self._arrays[id(leaf)]() is leaf
        ]


def _is_large(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.nbytes >= _LEAST


_LEAST = 1 << 12
"""Bytes of an array that is worth a place of its own."""


def _digest(listed: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
