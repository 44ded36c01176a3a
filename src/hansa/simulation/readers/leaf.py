"""Clients from the JSON files of LEAF (Caldas et al., 2018, arXiv:1812.01097)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hansa.simulation._errors import DatasetError, reader, reading
from hansa.simulation._numbers import Values, as_one_dtype, as_read
from hansa.simulation._selection import Convert, Features, select
from hansa.simulation.client_data import ClientData


@reader
def from_leaf(
    path: str | Path | Iterable[str | Path], features: Features | None = None, convert: Convert | None = None
) -> ClientData:
    """The clients of JSON files as LEAF writes them.

    A file holds `{"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y": [...]}}}`. All files are
    read now, one after another, and kept as arrays: JSON cannot be read in parts.

    Args:
        path: a file, several, or a folder, of which all files `*.json` are read in the order of their names.
        features: the arrays of examples: a list of names in a user's data, or a dict such as `{"image": "x"}`; by
            default all of them, which are `x` and `y`.
        convert: by name of the array, a dtype that it is cast to (JSON's numbers come as int64, or as float64 where
            one of any user has a fraction), or a function from values to an array with a row for each, such as one
            that makes numbers of text.

    Returns:
        The clients, in the order of the files and of their `users`. A user without samples is a client without
        examples, whose values `convert` does not see.

    Raises:
        DatasetError: a file is damaged, or of another format. It is a FileNotFoundError if there is no such file, and a
            TypeError or a ValueError if there is no such feature, or it does not hold what it should, or a client is in
            two files.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> ann = {"x": [[0.5, 1.5], [2.5, 3.5]], "y": [0, 1]}
        >>> users = {"users": ["ann"], "num_samples": [2], "user_data": {"ann": ann}}
        >>> _ = Path("train.json").write_text(json.dumps(users))
        >>> clients = hansa.simulation.from_leaf("train.json", convert={"x": "float32", "y": "int32"})
        >>> clients
        ClientData(1 clients, 2 examples, 2 to 2 each: <x=float32[?,2],y=int32[?]>)
    """
    clients: dict[str, dict[str, Any] | None] = {}
    origin: dict[str, Path] = {}
    for file in _files(path):
        with reading(file):
            for user, arrays in _read(file, features, convert):
                if user in origin:
                    raise ValueError(
                        f"client {user!r} is in {origin[user]} and in {file}; read what is for training and for "
                        "testing apart from each other"
                    )
                clients[user], origin[user] = arrays, file
    if not clients:
        raise ValueError(f"{path} has no users, so there are no clients")
    return ClientData.from_clients(_of_one_type(clients, str(path)))


def _files(path: str | Path | Iterable[str | Path]) -> list[Path]:
    given = [Path(path)] if isinstance(path, str | Path) else [Path(each) for each in path]
    found = [file for each in given for file in (sorted(each.glob("*.json")) if each.is_dir() else [each])]
    for file in found:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")
    if not found:
        raise FileNotFoundError(f"there are no files *.json in {', '.join(map(str, given)) or 'an empty list'}")
    return found


def _read(
    file: Path, features: Features | None, convert: Convert | None
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each user of a file, and the user's arrays."""
    content = _content(file)
    user_data, seen = content["user_data"], set[str]()
    for position, (user, count) in enumerate(zip(content["users"], content["num_samples"], strict=True)):
        if not isinstance(user, str):
            raise DatasetError(f"{file} is damaged: users[{position}] is to be a string, and is {user!r:.60}")
        if type(count) is not int or count < 0:
            raise DatasetError(f"{file} is damaged: num_samples[{position}] is no number of examples: {count!r:.60}")
        if user in seen:
            raise ValueError(f"client {user!r} is twice among the users of {file}")
        seen.add(user)
        with reading(file, f"client {user!r}"):
            arrays = _arrays(user_data, user, count, file, features, convert)
        yield user, arrays
        user_data[user] = None  # the lists take many times the memory of the arrays
    unnamed = next((user for user in user_data if user not in seen), None)
    if unnamed is not None:
        raise DatasetError(f"{file} is damaged: it has data of the user {unnamed!r:.60}, who is not among its users")


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes().decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError as error:  # of which both kinds of error here are
        raise DatasetError(f"{file} is damaged, or no JSON file: {error}") from error
    kinds = {"users": list, "num_samples": list, "user_data": dict}
    for key, kind in kinds.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise DatasetError(
                f"{file} is not of LEAF's format: it must have {key!r}, a {'list' if kind is list else 'JSON object'}"
            )
    if len(content["users"]) != len(content["num_samples"]):
        raise DatasetError(
            f"{file} is damaged: it has {len(content['users'])} users, but {len(content['num_samples'])} numbers in "
            "num_samples"
        )
    return dict(content)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose names are each there once."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the name {twice!r:.60} is twice in one object")
    return made


def _no_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no value of JSON")


def _arrays(
    user_data: dict[str, Any], user: str, count: int, file: Path, features: Features | None, convert: Convert | None
) -> dict[str, Any] | None:
    """A user's arrays; None if it has no samples, so that their types are unknown."""
    data = user_data.get(user)
    if not isinstance(data, dict):
        raise DatasetError(f"{file} is damaged: it has no data of the user {user!r}")
    table = f"client {user!r} in {file}"
    lists = [name for name, values in data.items() if isinstance(values, list)]
    if features is None and len(lists) < len(data):
        other = next(name for name in data if name not in lists)
        raise DatasetError(
            f"{table} has {other!r}, which is no list of a value for each sample; leave it out with features="
        )
    selection = select(table, lists, features, convert)
    for column in selection.columns:
        if len(data[column]) != count:
            raise DatasetError(
                f"{file} is damaged: num_samples says {count} for the user {user!r}, whose {column!r} has "
                f"{len(data[column])}"
            )
    return selection.arrays(lambda column: _finite(data[column], f"{column!r} of {table}")) if count else None


def _finite(values: list[Any], what: str) -> Values:
    """The values, in which JSON has no infinity: it would be made of a number that is too large."""
    found = as_read(values)
    if isinstance(found, np.ndarray) and found.dtype.kind == "f" and np.isinf(found).any():
        raise ValueError(f"{what} holds a number that is too large for float64; scale the values, or write it as text")
    return found


def _of_one_type(clients: dict[str, dict[str, Any] | None], what: str) -> dict[str, dict[str, Any]]:
    """The arrays of all users, of one dtype where JSON has whole numbers of some and fractions of others."""
    some = [arrays for arrays in clients.values() if arrays is not None]
    if not some:
        raise ValueError(f"{what} has users, but none of them has samples")
    for name in some[0]:
        having = [arrays for arrays in some if name in arrays]
        for arrays, array in zip(having, as_one_dtype([arrays[name] for arrays in having]), strict=True):
            arrays[name] = array
    nothing = {name: np.zeros((0, *array.shape[1:]), array.dtype) for name, array in some[0].items()}
    return {user: dict(nothing) if arrays is None else arrays for user, arrays in clients.items()}
