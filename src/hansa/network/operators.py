"""Operators from elsewhere: who may submit, watch and stop runs over TLS, by a certificate of that role."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from hansa.network.ledger import Ledger, noted
from hansa.network.registry import EnrolmentError, T

DEVICE, OPERATOR = "device", "operator"
"""What an invitation makes of who takes it."""


@dataclass(frozen=True)
class Person:
    """An operator.

    Attributes:
        name: what its certificate calls it.
        who: for people, as the invitation says.
        fingerprint: SHA-256 of the certificate, in hexadecimal digits.
        revoked: whether it may not come any more.
    """

    name: str
    who: str
    fingerprint: str
    revoked: bool


class Operators:
    """The operators of a ledger.

    Args:
        ledger: the ledger.
        clock: gives the time, in seconds since 1970.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock

    def all(self) -> list[Person]:
        """All of them, in the order in which they came."""
        found: list[Person] = self._ledger.ask(_all)
        return found

    def known(self, name: str, fingerprint: str) -> Person | None:
        """The operator of a certificate; None if it is none's, or was revoked."""
        found = next((each for each in self.all() if each.name == name), None)
        return found if found is not None and not found.revoked and found.fingerprint == fingerprint else None

    def invite(self, who: str, seconds: float = 86400.0) -> str:
        """A secret with which one operator enrols; the ledger has no more of it than its digest.

        Raises:
            ValueError: if `who` is empty, or there are no seconds.
        """
        if not who or not seconds > 0:
            raise ValueError(f"an operator has a name, and an invitation some seconds; found {who!r} and {seconds}")
        secret = secrets.token_urlsafe(32)

        def change(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO tokens (digest, uses_left, expires, note, role) VALUES (?,1,?,?,?)",
                (_digest(secret), self._clock() + seconds, who, OPERATOR),
            )
            noted(database, self._clock(), "operator", f"invite the operator {who}")

        self._ledger.writer.write(change).result()
        return secret

    def enrol(self, secret: str, key: str, sign: Callable[[str], T]) -> tuple[Person, T]:
        """Enrols an operator that has a token; it may ask again, with the same key.

        Args:
            secret: the token's secret.
            key: SHA-256 of its public key, in hexadecimal digits.
            sign: makes a certificate for a name.

        Raises:
            EnrolmentError: if there is no such token, or it was used, or has expired.
        """
        token = _digest(secret)

        def change(database: sqlite3.Connection) -> tuple[Person, T]:
            row = database.execute(
                "SELECT uses_left, expires, note FROM tokens WHERE digest=? AND role=?", (token, OPERATOR)
            ).fetchone()
            again = database.execute("SELECT name FROM operators WHERE token=? AND key=?", (token, key)).fetchone()
            if row is None or (row[0] < 1 and again is None):
                raise EnrolmentError("the token is no operator's, or was used: ask for another one")
            if self._clock() > row[1]:
                raise EnrolmentError("the token has expired: ask for another one")
            now, name = self._clock(), f"o-{key[:16]}"
            certificate = sign(name)
            if again is None:
                database.execute("UPDATE tokens SET uses_left=0 WHERE digest=?", (token,))
                database.execute(
                    "INSERT INTO operators (name, who, fingerprint, token, key, enrolled) VALUES (?,?,?,?,?,?)",
                    (name, row[2], certificate.fingerprint, token, key, now),
                )
                noted(database, now, name, f"enrolled as the operator {row[2]}, certificate {certificate.fingerprint}")
            else:
                database.execute("UPDATE operators SET fingerprint=? WHERE name=?", (certificate.fingerprint, name))
            return next(each for each in _all(database) if each.name == name), certificate

        return self._ledger.writer.write(change).result()

    def revoke(self, name: str) -> None:
        """The operator may not come any more.

        Raises:
            EnrolmentError: if there is none of this name.
        """

        def change(database: sqlite3.Connection) -> None:
            now = self._clock()
            if not database.execute("UPDATE operators SET revoked=? WHERE name=?", (now, name)).rowcount:
                raise EnrolmentError(f"there is no operator {name!r}")
            noted(database, now, "operator", f"revoked {name}")

        self._ledger.writer.write(change).result()


def _all(database: sqlite3.Connection) -> list[Person]:
    rows = database.execute("SELECT name, who, fingerprint, revoked FROM operators ORDER BY rowid")
    return [Person(name, who, fingerprint, revoked is not None) for name, who, fingerprint, revoked in rows]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
