"""The ledger of a run: what has been charged, written to the disk before noise is drawn.

It is a file of JSON, an entry a line, that only grows. Each entry holds the digest of the line before it, so that a
line that is changed, taken out or put in is seen. Only its owner can read it, as it says who took part.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._errors import UserError
from hansa._files import open_regular, sync_folder
from hansa._tracebacks import boundaries
from hansa.privacy.charge import Charge

_FIRST = "0" * 64
_MOST_BYTES = 1 << 32
_MOST_COUNT = 1 << 53


class LedgerError(UserError):
    """A ledger that cannot be used: it is damaged, or it lacks rounds.

    Examples:
        >>> raise hansa.privacy.LedgerError("line 3 does not follow line 2")
        Traceback (most recent call last):
            ...
        hansa.privacy.ledger.LedgerError: line 3 does not follow line 2
    """


@dataclass(frozen=True)
class Entry:
    """A charge: an attempt at a round.

    Attributes:
        round: its number, from 1.
        attempt: 1, or more where the runtime has given up the attempts before.
        charge: how its cohort was drawn, and the noise of what left it.
        clients: who was selected, by their ids or positions; None where it is not known.
        inputs: a digest of all that the round's sums are made of; None where that is not known.
        salt: of its noise, hexadecimal; with the same secret, round, attempt and salt, the noise is the same.
        program: a digest of the computation.
        delta: at which epsilon is given.
        epsilon_after: the upper bound of epsilon with this charge.

    Examples:
        >>> from hansa.privacy import Charge, Gaussian, Ledger, Poisson
        >>> ledger = Ledger(None)
        >>> charge = Charge(Poisson(0.05), [Gaussian(1.0)])
        >>> entry = ledger.append(1, 1, charge, clients=[3, 14], delta=1e-5, epsilon_after=1.2)
        >>> entry.round, entry.clients, entry.charge == charge
        (1, (3, 14), True)
    """

    round: int
    attempt: int
    charge: Charge
    clients: tuple[int | str, ...] | None
    inputs: str | None
    salt: str
    program: str
    delta: float
    epsilon_after: float


@boundaries
class Ledger:
    """The charges of a run, in a file or, without one, in memory.

    An entry is on the disk before `append` returns. What a process that was killed has left of a line is taken away:
    its noise was not drawn.

    Args:
        path: the file, which is made by the first entry; None keeps entries in memory.

    Attributes:
        entries: the charges, in order.

    Raises:
        LedgerError: if the file is damaged.
        OSError: if it cannot be read or written.

    Examples:
        >>> from hansa.privacy import Charge, Gaussian, Ledger, Poisson, read_ledger
        >>> ledger = Ledger("ledger.jsonl")
        >>> charge = Charge(Poisson(0.05), [Gaussian(1.0)])
        >>> entry = ledger.append(1, 1, charge, delta=1e-5, epsilon_after=1.2)
        >>> ledger.note(1, 1, counted=7, left_out={"late": ["ann"]})
        >>> ledger.of_round(1) == ledger.entries == read_ledger("ledger.jsonl")
        True
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self.entries: list[Entry] = []
        self._last = _FIRST
        if self._path is not None and os.path.lexists(self._path):
            text, torn = _read(self._path)
            self.entries, self._last = _parsed(text, self._path)
            if torn:
                with open(self._path, "rb+") as file:
                    file.truncate(len(text))
                    os.fsync(file.fileno())

    def append(
        self,
        round_number: int,
        attempt: int,
        charge: Charge,
        *,
        clients: Sequence[int | str] | None = None,
        inputs: str | None = None,
        salt: bytes = b"",
        program: str = "",
        delta: float,
        epsilon_after: float,
        nominal: float | None = None,
    ) -> Entry:
        """Charge an attempt at a round, before its noise is drawn.

        Args:
            round_number: of the round, from 1.
            attempt: from 1.
            charge: what it costs.
            clients: who was selected.
            inputs: a digest of what its sums are made of.
            salt: of its noise.
            program: a digest of the computation.
            delta: at which epsilon is given.
            epsilon_after: with this charge.
            nominal: how many clients are expected in a cohort, for people.

        Raises:
            OSError: if it cannot be written; then it is not charged, and no noise may be drawn.
        """
        fields = {
            "entry": "charge",
            "round": round_number,
            "attempt": attempt,
            **charge.to_json(),
            "nominal_cohort": nominal,
            "selected": None if clients is None else list(clients),
            "inputs": inputs,
            "salt": salt.hex(),
            "program": program,
            "delta": delta,
            "epsilon_after": epsilon_after,
        }
        entry = _entry(fields)
        self._write(fields)
        self.entries.append(entry)
        return entry

    def note(self, round_number: int, attempt: int, counted: int, left_out: Mapping[str, Any]) -> None:
        """Note who was counted in an attempt that has been charged; it changes no charge."""
        self._write(
            {"entry": "outcome", "round": round_number, "attempt": attempt, "counted": counted, "left_out": left_out}
        )

    def of_round(self, round_number: int) -> list[Entry]:
        """The charges of a round."""
        return [entry for entry in self.entries if entry.round == round_number]

    def _write(self, fields: Mapping[str, Any]) -> None:
        line = json.dumps({**fields, "previous": self._last}, allow_nan=True) + "\n"
        if self._path is not None:
            fresh = not os.path.lexists(self._path)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                # A part of a line that an error has left would be taken for one.
                length = os.fstat(descriptor).st_size
                try:
                    data = line.encode()
                    while data:
                        data = data[os.write(descriptor, data) :]
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, length)
                    raise
            finally:
                os.close(descriptor)
            if fresh:
                sync_folder(self._path.parent)
        self._last = _digest(line.rstrip("\n").encode())


def read_ledger(path: str | os.PathLike[str]) -> list[Entry]:
    """The charges in a file, which is not changed. A part of a last line, which a kill has left, is no charge.

    Raises:
        LedgerError: if it is damaged, or there is none.

    Examples:
        >>> hansa.privacy.read_ledger("no/such/ledger.jsonl")
        Traceback (most recent call last):
            ...
        hansa.privacy.ledger.LedgerError: no/such/ledger.jsonl cannot be read: No such file or directory
    """
    path = Path(path)
    try:
        return _parsed(_read(path)[0], path)[0]
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path) -> tuple[bytes, bool]:
    """The whole lines of a file, and whether there is more."""
    with open_regular(path) as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise LedgerError(f"{path} has more than {_MOST_BYTES >> 30} GiB")
    whole = text[: text.rfind(b"\n") + 1]
    return whole, len(whole) < len(text)


def _parsed(text: bytes, path: Path) -> tuple[list[Entry], str]:
    """The charges, and the digest of the last line."""
    entries, last = [], _FIRST
    for number, line in enumerate(text.splitlines(), 1):
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("it is no object of JSON")
            if fields.get("previous") != last:
                raise ValueError("it does not follow the line before it: one of them was changed, added or taken out")
            if fields.get("entry") == "charge":
                entries.append(_entry(fields))
            elif fields.get("entry") != "outcome":
                raise ValueError("it is neither a charge nor an outcome")
        except (ValueError, RecursionError) as error:
            raise LedgerError(
                f"line {number} of {path} is damaged: {error}. What has been spent is not known, so the run cannot go "
                "on; nor is there a guarantee"
            ) from None
        last = _digest(line)
    return entries, last


def _entry(fields: Mapping[str, Any]) -> Entry:
    """An entry of the fields of a line.

    Raises:
        ValueError: if they are not those of one.
    """
    for name in ("round", "attempt"):
        value = fields.get(name)
        if type(value) is not int or not 1 <= value < _MOST_COUNT:
            raise ValueError(f"its {name} is {value!r:.100}")
    selected = fields.get("selected")
    listed = isinstance(selected, list) and all(type(each) in (int, str) for each in selected)
    if selected is not None and not listed:
        raise ValueError("its `selected` is no list of clients")
    for name in ("delta", "epsilon_after"):
        if type(fields.get(name)) not in (int, float):
            raise ValueError(f"its {name} is no number")
    for name in ("salt", "program"):
        if not isinstance(fields.get(name), str):
            raise ValueError(f"its {name} is no text")
    if not isinstance(fields.get("inputs"), str | None):
        raise ValueError("its inputs are no text")
    bytes.fromhex(fields["salt"])
    return Entry(
        fields["round"],
        fields["attempt"],
        Charge.from_json(fields),
        None if selected is None else tuple(selected),
        fields["inputs"],
        fields["salt"],
        fields["program"],
        float(fields["delta"]),
        float(fields["epsilon_after"]),
    )


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
