"""Where a device's data comes from: a file of arrays or of a table, a folder of images, or a query of a database.

All of it is one client's. It is read once, when the device starts, and by the readers of `hansa.simulation`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from hansa._errors import UserError
from hansa.network.holdings import Holdings
from hansa.simulation import DatasetError, from_csv, from_folder, from_parquet
from hansa.simulation._dealing import Parts
from hansa.simulation._numbers import cast
from hansa.simulation._selection import select
from hansa.simulation.readers.npz_files import read_npz

_WHOLE = Parts(2**62)
"""All rows are the one client's, in their order."""

_TABLES = {".csv": "csv", ".gz": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz"}
_DATABASES = (".db", ".sqlite", ".sqlite3")


class SourceError(UserError):
    """A device's data cannot be read. The message says why."""


@dataclass(frozen=True)
class Source:
    """Where one client's data comes from.

    Attributes:
        path: a file `.npz`, `.csv` or `.parquet`, a SQLite database, or a folder with a folder of images for each
            label.
        features: arrays and their columns; by default each column is an array.
        types: dtypes that arrays are cast to.
        query: of a database, what is asked: a row for each example.
        image_size: of images, height and width.
        greyscale: of images.
        labels: of images, all labels in the order of their numbers. All devices say the same.
    """

    path: Path
    features: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    image_size: tuple[int, int] | None = None
    greyscale: bool = False
    labels: Sequence[str] | None = None

    def read(self) -> Holdings:
        """The data.

        Raises:
            SourceError: if it cannot be read, or is not as it was said to be.
            ImportError: if a library for it is not installed.
        """
        try:
            return Holdings(self._arrays())
        except (DatasetError, OSError, ValueError, TypeError, KeyError, sqlite3.Error) as error:
            told = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            raise SourceError(told if str(self.path) in told else f"{self.path}: {told}") from error

    def _arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        convert, features = dict(self.types) or None, dict(self.features) or None
        if self.path.is_dir():
            return self._images(convert)
        if not self.path.exists():
            raise FileNotFoundError(f"there is no {self.path}")
        kind = _TABLES.get(self.path.suffix.lower())
        if self.query is not None or self.path.suffix.lower() in _DATABASES:
            return self._database(features, convert)
        if kind == "npz":
            return self._npz()
        if kind == "csv":
            delimiter = "\t" if ".tsv" in self.path.suffixes else ","
            return from_csv(self.path, None, features, convert, partition=_WHOLE, delimiter=delimiter).client(0)
        if kind == "parquet":
            return from_parquet(self.path, None, features, convert, partition=_WHOLE).client(0)
        raise ValueError(
            f"it is not known what {self.path.name} is: a device reads .npz, .csv, .parquet, folders of images, and "
            "SQLite databases with --query"
        )

    def _images(self, convert: dict[str, str] | None) -> Mapping[str, npt.NDArray[Any]]:
        if self.features:
            raise ValueError("images are the arrays x and y: features is for tables")
        return from_folder(
            self.path,
            folders="labels",
            partition=_WHOLE,
            image_size=self.image_size,
            greyscale=self.greyscale,
            labels=self.labels,
            convert=convert,
        ).client(0)

    def _npz(self) -> Mapping[str, npt.NDArray[Any]]:
        """The arrays of a file, which may be single values as well as examples."""
        arrays = read_npz(self.path)
        for name, source in self.features.items():
            if not isinstance(source, str) or source not in arrays:
                raise ValueError(f"the array {name} is of {source!r}, and the file has {', '.join(arrays)}")
        if self.features:
            arrays = {name: arrays[str(source)] for name, source in self.features.items()}
        for name, dtype in self.types.items():
            if name not in arrays:
                raise ValueError(f"{name} is to be of type {dtype}, and the arrays are {', '.join(arrays)}")
            arrays[name] = cast(arrays[name], np.dtype(dtype), f"the array {name!r} of {self.path}")
        return arrays

    def _database(self, features: Any, convert: Any) -> Mapping[str, npt.NDArray[Any]]:
        if self.query is None:
            raise ValueError('a database is asked by a query: --query "SELECT height, weight, ill FROM patients"')
        database = sqlite3.connect(f"file:{quote(self.path.resolve().as_posix())}?mode=ro", uri=True)
        try:
            cursor = database.execute(self.query)
            names = [each[0] for each in cursor.description or ()]
            rows = cursor.fetchall()
        finally:
            database.close()
        if not rows:
            raise ValueError("the query gives no rows")
        if len(set(names)) < len(names):
            raise ValueError(f"the query gives two columns of one name, of {', '.join(names)}: name them with AS")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        selection = select(f"the query of {self.path}", names, features, convert, None)
        return selection.arrays(lambda column: _column(columns[column], column))

    def to_json(self) -> dict[str, Any]:
        """It as values that JSON has, for another process."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Source:
        """What `to_json` gave."""
        size = value.get("image_size")
        return cls(**{**value, "path": Path(value["path"]), "image_size": None if size is None else tuple(size)})


def _column(values: list[Any], name: str) -> Any:
    """A column of a database, which has a type for each value: numbers as an array, texts as a list."""
    if any(value is None for value in values):
        raise ValueError(f"the column {name!r} has NULL in row {[*values].index(None) + 1}: leave such rows out")
    if all(isinstance(value, str) for value in values):
        return values
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError(f"the column {name!r} holds what are neither all numbers nor all texts")
    return np.array(values)
