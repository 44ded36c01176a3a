"""Who is enrolled: the devices of a ledger, and the tokens with which others may join them."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hansa.network.ledger import Ledger, noted
from hansa.network.tasks import decode_client, encode_client
from hansa.types.identities import ClientId, distinct, number_among, numbers

MOST_STRIKES = 3
"""Invalid contributions one after another, with which a device is not asked any more."""


class Certified(Protocol):
    """What a device is given."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal digits."""
        ...


T = TypeVar("T", bound=Certified)


class EnrolmentError(Exception):
    """A device is not enrolled. The message says why."""


@dataclass(frozen=True)
class Device:
    """A device that is enrolled.

    Attributes:
        name: what the ledger and its certificate call it.
        client_id: whose data it has.
        number: that client's number.
        fingerprint: SHA-256 of its certificate, in hexadecimal digits.
        next_fingerprint: of the one that it was given last, until it comes with it; either is right.
        revoked: whether it may not come any more.
        strikes: its invalid contributions, one after another.
        quarantined: whether it is not asked any more.
        enrolled: when it joined, in seconds since 1970.
        seen: when it was heard of last, to the half minute; None if it never was.
    """

    name: str
    client_id: ClientId
    number: int
    fingerprint: str
    next_fingerprint: str | None = None
    revoked: bool = False
    strikes: int = 0
    quarantined: bool = False
    enrolled: float = 0.0
    seen: float | None = None

    @property
    def may_be_asked(self) -> bool:
        """Whether it is given tasks."""
        return not (self.revoked or self.quarantined)


class Registry:
    """The devices of a ledger.

    Args:
        ledger: the ledger.
        clock: gives the time, in seconds since 1970.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock

    def devices(self) -> list[Device]:
        """All of them, in the order in which they were enrolled."""
        found: list[Device] = self._ledger.ask(_devices)
        return found

    def invite(
        self, client_id: ClientId | None = None, uses: int = 1, seconds: float = 7 * 86400.0, note: str = ""
    ) -> str:
        """A secret with which a device can enrol; the ledger has no more of it than its digest.

        Args:
            client_id: whom alone it enrols; by default the device says whose data it has.
            uses: how many devices.
            seconds: for how long.
            note: for people.

        Raises:
            ValueError: if `uses` or `seconds` is not positive, or several devices are to have one client.
        """
        if uses < 1 or not seconds > 0:
            raise ValueError(f"a token is for 1 or more devices and some seconds; found {uses} and {seconds}")
        if client_id is not None and uses > 1:
            raise ValueError("a token for one client enrols one device; leave out uses, or leave out client_id")
        secret = secrets.token_urlsafe(32)
        client = None if client_id is None else encode_client(distinct([client_id], "client_id")[0])

        def change(database: sqlite3.Connection) -> None:
            row = (token_of(secret), client, uses, self._clock() + seconds, note)
            database.execute("INSERT INTO tokens (digest, client_id, uses_left, expires, note) VALUES (?,?,?,?,?)", row)
            noted(database, self._clock(), "operator", f"invite {client or 'anybody'} {uses} times: {note}")

        self._ledger.writer.write(change).result()
        return secret

    def token(self, begin: str) -> str:
        """The token whose digits begin so, for who does not show its secret.

        Raises:
            EnrolmentError: if there is none.
        """
        if len(begin) != 16 or not begin.isalnum():
            raise EnrolmentError("an invitation is named by 16 digits")

        def question(database: sqlite3.Connection) -> str | None:
            found = database.execute("SELECT digest FROM tokens WHERE digest GLOB ?", (f"{begin}*",)).fetchone()
            return None if found is None else str(found[0])

        token: str | None = self._ledger.ask(question)
        if token is None:
            raise EnrolmentError("the token is unknown, or was used: ask the operator for another one")
        return token

    def enrol(self, token: str, client_id: ClientId | None, key: str, sign: Callable[[str], T]) -> tuple[Device, T]:
        """Enrols a device that has a token, which is used up by it. It may ask again, with the same key.

        A device that its client has already gets another certificate, if it has the same key.

        Args:
            token: `token_of` its secret.
            client_id: whose data it has, where the token does not say it.
            key: SHA-256 of its public key, in hexadecimal digits.
            sign: makes a certificate for a name, with an attribute `fingerprint`.

        Returns:
            The device, and its certificate.

        Raises:
            EnrolmentError: if there is no such token, it is used up or has expired, or the client has a device.
        """

        def change(database: sqlite3.Connection) -> tuple[Device, T]:
            again = database.execute(
                "SELECT name FROM devices WHERE token=? AND key=? AND revoked IS NULL", (token, key)
            ).fetchone()
            if again is not None:
                return _again(database, again[0], sign)
            row = database.execute(
                "SELECT client_id, uses_left, expires FROM tokens WHERE digest=? AND role='device'", (token,)
            ).fetchone()
            if row is None or row[1] < 1:
                raise EnrolmentError("the token is unknown, or was used: ask the operator for another one")
            if self._clock() > row[2]:
                raise EnrolmentError("the token has expired: ask the operator for another one")
            given = decode_client(row[0]) if row[0] is not None else client_id
            if given is None:
                raise EnrolmentError("the token does not say whose device it enrols: say it, with a client id")
            (owner,) = distinct([given], "client_id")
            client = encode_client(owner)
            found = database.execute("SELECT name, key, revoked FROM devices WHERE client_id=?", (client,)).fetchone()
            if found is not None and found[1] == key and found[2] is None:
                database.execute("UPDATE tokens SET uses_left=uses_left-1 WHERE digest=?", (token,))
                database.execute("UPDATE devices SET token=? WHERE name=?", (token, found[0]))
                noted(database, self._clock(), found[0], "was invited again, and gets another certificate")
                return _again(database, found[0], sign)
            if found is not None:
                raise EnrolmentError(f"client {owner!r} has a device already, {found[0]!r}")
            number = number_among(owner, _taken(database, owner))
            now, name = self._clock(), f"d-{key[:16]}"
            if database.execute("SELECT 1 FROM devices WHERE name=?", (name,)).fetchone() is not None:
                raise EnrolmentError("a device with this key is enrolled: a device has a key of its own")
            certificate = sign(name)
            database.execute("UPDATE tokens SET uses_left=uses_left-1 WHERE digest=?", (token,))
            database.execute(
                "INSERT INTO devices (name, client_id, number, fingerprint, token, key, enrolled)"
                " VALUES (?,?,?,?,?,?,?)",
                (name, client, number, certificate.fingerprint, token, key, now),
            )
            noted(database, now, name, f"enrolled for client {owner!r} with certificate {certificate.fingerprint}")
            return Device(name, owner, number, certificate.fingerprint, enrolled=now), certificate

        return self._ledger.writer.write(change).result()

    def renew(self, name: str, fingerprint: str) -> None:
        """The device is given another certificate; the one before is right until it comes with the new one.

        Raises:
            EnrolmentError: if there is no such device, or it was revoked.
        """
        self._of_certificate(name, "next_fingerprint=?", (fingerprint,), f"was given the certificate {fingerprint}")

    def came_with_next(self, name: str) -> None:
        """The device has come with its new certificate, and the one before is of no use any more."""
        change = "fingerprint=next_fingerprint, next_fingerprint=NULL"
        self._of_certificate(name, change, (), "uses its new certificate")

    def _of_certificate(self, name: str, change: str, values: tuple[str, ...], what: str) -> None:
        def write(database: sqlite3.Connection) -> None:
            found = database.execute(
                f"UPDATE devices SET {change} WHERE name=? AND revoked IS NULL", (*values, name)
            ).rowcount
            if not found:
                raise EnrolmentError(f"there is no device {name!r}, or it was revoked")
            noted(database, self._clock(), name, what)

        self._ledger.writer.write(write).result()

    def revoke(self, name: str) -> None:
        """The device may not come any more. Its client's number is never given to another.

        Raises:
            EnrolmentError: if there is no such device.
        """
        self._mark(name, "revoked")

    def quarantine(self, name: str) -> None:
        """The device is not asked any more; it may still come.

        Raises:
            EnrolmentError: if there is no such device.
        """
        self._mark(name, "quarantined")

    def release(self, name: str) -> None:
        """A device in quarantine is asked again.

        Raises:
            EnrolmentError: if there is no such device, or it is not in quarantine.
        """

        def change(database: sqlite3.Connection) -> None:
            device = next((each for each in _devices(database) if each.name == name), None)
            if device is None or not device.quarantined:
                raise EnrolmentError(f"there is no device {name!r}, or it is not in quarantine")
            database.execute("UPDATE devices SET quarantined=NULL, strikes=0 WHERE name=?", (name,))
            noted(database, self._clock(), "operator", f"released {name}")

        self._ledger.writer.write(change).result()

    def note_seen(self, ago: Mapping[str, float]) -> None:
        """Devices were heard of, so many seconds ago; nothing waits for it."""
        now = self._clock()
        rows = [(now - seconds, name) for name, seconds in ago.items()]
        self._ledger.writer.write(lambda database: _write_seen(database, rows))

    def invitations(self) -> list[dict[str, Any]]:
        """Those that can still be used: for whom, how often, until when, the note, and of a device or an operator."""

        def question(database: sqlite3.Connection) -> list[dict[str, Any]]:
            found = database.execute(
                "SELECT client_id, uses_left, expires, note, role FROM tokens WHERE uses_left > 0 AND expires > ?"
                " ORDER BY rowid",
                (self._clock(),),
            )
            return [
                {
                    "client_id": None if client is None else decode_client(client),
                    "uses": uses,
                    "expires": expires,
                    "note": note,
                    "role": role,
                }
                for client, uses, expires, note, role in found
            ]

        found: list[dict[str, Any]] = self._ledger.ask(question)
        return found

    def _mark(self, name: str, column: str) -> None:
        def change(database: sqlite3.Connection) -> None:
            now = self._clock()
            if not database.execute(f"UPDATE devices SET {column}=? WHERE name=?", (now, name)).rowcount:
                raise EnrolmentError(f"there is no device {name!r}")
            noted(database, now, "operator", f"{column} {name}")

        self._ledger.writer.write(change).result()


def _taken(database: sqlite3.Connection, client: ClientId) -> set[int]:
    """The numbers that others have, where one of them has that which this client would have; else none."""
    own = (int(numbers([client])[0]),)
    if database.execute("SELECT 1 FROM devices WHERE number=?", own).fetchone() is None:
        return set()
    return {number for (number,) in database.execute("SELECT number FROM devices")}


def _again(database: sqlite3.Connection, name: str, sign: Callable[[str], T]) -> tuple[Device, T]:
    """Another certificate for a device that has not had the answer."""
    certificate = sign(name)
    database.execute(
        "UPDATE devices SET fingerprint=?, next_fingerprint=NULL WHERE name=?", (certificate.fingerprint, name)
    )
    return next(device for device in _devices(database) if device.name == name), certificate


def _devices(database: sqlite3.Connection) -> list[Device]:
    rows = database.execute(
        "SELECT name, client_id, number, fingerprint, next_fingerprint, revoked, strikes, quarantined, enrolled, seen"
        " FROM devices ORDER BY rowid"
    )
    return [
        Device(
            name,
            decode_client(client),
            number,
            fingerprint,
            coming,
            revoked is not None,
            strikes,
            quarantined is not None or strikes >= MOST_STRIKES,
            enrolled,
            seen,
        )
        for name, client, number, fingerprint, coming, revoked, strikes, quarantined, enrolled, seen in rows
    ]


def _write_seen(database: sqlite3.Connection, rows: Sequence[tuple[float, str]]) -> None:
    database.executemany("UPDATE devices SET seen=? WHERE name=?", rows)


def token_of(secret: str) -> str:
    """What the ledger has of an invitation: SHA-256 of its secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()
