"""Clients from files of JSON lines, such as texts, questions with answers, or chats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._dealing import Partition, check_owner, owners
from hansa.simulation._errors import DatasetError, reader, reading
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import state_of
from hansa.simulation.readers.grouping import group
from hansa.types.mismatch import describe

Record = dict[str, Any]


@reader
def from_json_lines(
    path: str | Path,
    client: str | Callable[[Record], Any] | None = None,
    *,
    convert: Callable[[list[Record]], Mapping[str, npt.ArrayLike]],
    partition: Partition | None = None,
) -> ClientData:
    """The clients of a file with a JSON object on each line.

    The file is gone through once, to learn which lines are whose; a client's lines are read when they are wanted, and
    nothing is kept of them.

    Args:
        path: the file, in UTF-8. Empty lines are left out.
        client: the field that says whose a line is, or a function from an object to that. Where it is null, empty or
            -1, the line is nobody's, and is left out, with a warning.
        convert: from the objects of a client's lines, a list of dicts, to arrays with a row for each example, such as
            `TokenCoding` makes them. A line may make several examples, or none.
        partition: in place of `client`, how lines are dealt out to simulated clients; see `from_frame`. A function gets
            the number of lines.

    Returns:
        The clients, in ascending order of their ids; each one's lines are in the file's order. How many examples
        somebody has is known when they have been read.

    Raises:
        DatasetError: a line is no JSON object, or has no such field; the message names the line. It is a
            FileNotFoundError if there is no such file, and a TypeError or ValueError if arguments are not what is said
            above.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("asked.jsonl").write_text('{"who": "ann", "n": [1, 2]}\\n{"who": "bo", "n": [3]}\\n')
        >>> asked = hansa.simulation.from_json_lines(
        ...     "asked.jsonl", "who", convert=lambda lines: {"n": np.concatenate([line["n"] for line in lines])}
        ... )
        >>> asked.client("ann")
        {'n': array([1, 2])}
    """
    file = Path(path)
    check_owner(client, partition, str(file))
    if not callable(convert):
        raise TypeError(f"convert must be a function from a list of dicts to arrays; found {describe(convert)}")
    before = state_of(file)
    starts, whose = _scan(file, client)
    if not len(starts):
        raise ValueError(f"{file} has no lines, so there are no clients")
    if client is None:
        client_of, _ = owners(partition, lambda: np.arange(len(starts)), len(starts))
        parts: list[Any] = [np.asarray(client_of)]
    else:
        parts = [whose]
    lines = group(parts, f"{'the partition' if client is None else _called(client)} of {file}")
    positions = {client_id: position for position, client_id in enumerate(lines.client_ids)}

    def read(client_id: Any) -> Mapping[str, npt.ArrayLike]:
        with reading(file, f"client {client_id!r}"):
            if state_of(file) != before:
                raise DatasetError(f"{file} is not the file that it was when its clients were looked up; read it anew")
            numbers = lines.of(positions[client_id])
            return convert(list(_records(file, starts[numbers])))

    data = ClientData.from_function(lines.client_ids, read)
    data._source.left_out = lines.left_out
    return data


def _scan(file: Path, client: Any) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Where each line begins, and whose it is."""
    starts: list[int] = []
    whose: list[Any] = []
    start = 0
    with file.open("rb") as content:
        for number, line in enumerate(content, 1):
            if line.strip():
                starts.append(start)
                if client is not None:
                    record = _object(line, f"line {number} of {file}")
                    whose.append(client(record) if callable(client) else _field(record, client, number, file))
            start += len(line)
    return np.array(starts, np.int64), whose


def _records(file: Path, starts: Iterable[int]) -> Iterator[Record]:
    with file.open("rb") as content:
        for start in starts:
            content.seek(int(start))
            yield _object(content.readline(), f"the line at byte {start} of {file}")


def _object(line: bytes, what: str) -> Record:
    try:
        found = json.loads(line.decode("utf-8"))
    except ValueError as error:  # of which both kinds of error here are
        raise DatasetError(f"{what} is no JSON in UTF-8: {error}") from error
    if not isinstance(found, dict):
        raise DatasetError(f"{what} must be a JSON object, {{…}}; found {describe(found)}")
    return found


def _field(record: Record, name: str, number: int, file: Path) -> Any:
    if name not in record:
        raise DatasetError(
            f"line {number} of {file} has no field {name!r}; its fields are {', '.join(record) or 'none'}"
        )
    return record[name]


def _called(client: Any) -> str:
    return f"the field {client!r}" if isinstance(client, str) else "the clients"
