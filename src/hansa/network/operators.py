"""Operators from elsewhere: who may submit, watch and stop runs over TLS, by a certificate of that role."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from hansa.network.credentials import OPERATOR
from hansa.network.ledger import Ledger, noted
from hansa.network.registry import EnrolmentError, T, token_of


@dataclass(frozen=True)
class Person:
    """An operator.

    Attributes:
        name: what its certificate calls it.
        who: for people, as the invitation says.
        fingerprint: SHA-256 of the certificate, in hexadecimal digits.
        next_fingerprint: of the one that it was given last, until it comes with it; either is right.
        revoked: whether it may not come any more.
    """

    name: str
    who: str
    fingerprint: str
    next_fingerprint: str | None
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
        if found is None or found.revoked or fingerprint not in (found.fingerprint, found.next_fingerprint):
            return None
        if fingerprint == found.next_fingerprint:
            self._certified(name, "fingerprint=next_fingerprint, next_fingerprint=NULL", (), "uses its new certificate")
        return found

    def renew(self, name: str, fingerprint: str) -> None:
        """The operator is given another certificate; the one before is right until it comes with the new one.

        Raises:
            EnrolmentError: if there is no such operator, or it was revoked.
        """
        self._certified(name, "next_fingerprint=?", (fingerprint,), f"was given the certificate {fingerprint}")

    def _certified(self, name: str, change: str, values: tuple[str, ...], what: str) -> None:
        def write(database: sqlite3.Connection) -> None:
            found = database.execute(
                f"UPDATE operators SET {change} WHERE name=? AND revoked IS NULL", (*values, name)
            ).rowcount
            if not found:
                raise EnrolmentError(f"there is no operator {name!r}, or it was revoked")
            noted(database, self._clock(), name, what)

        self._ledger.writer.write(write).result()

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
                (token_of(secret), self._clock() + seconds, who, OPERATOR),
            )
            noted(database, self._clock(), "operator", f"invite the operator {who}")

        self._ledger.writer.write(change).result()
        return secret

    def enrol(self, token: str, key: str, sign: Callable[[str], T]) -> tuple[Person, T]:
        """Enrols an operator that has a token; it may ask again, with the same key. Who is one gets a new certificate.

        Args:
            token: `token_of` its secret.
            key: SHA-256 of its public key, in hexadecimal digits.
            sign: makes a certificate for a name.

        Raises:
            EnrolmentError: if there is no such token, or it was used, or has expired.
        """

        def change(database: sqlite3.Connection) -> tuple[Person, T]:
            row = database.execute(
                "SELECT uses_left, expires, note FROM tokens WHERE digest=? AND role=?", (token, OPERATOR)
            ).fetchone()
            found = next((each for each in _all(database) if each.name == f"o-{key[:16]}"), None)
            again = database.execute("SELECT name FROM operators WHERE token=? AND key=?", (token, key)).fetchone()
            if row is None or (row[0] < 1 and again is None):
                raise EnrolmentError("the token is no operator's, or was used: ask for another one")
            if self._clock() > row[1]:
                raise EnrolmentError("the token has expired: ask for another one")
            now, name = self._clock(), f"o-{key[:16]}"
            if found is not None and found.revoked:
                raise EnrolmentError("the operator with this key was revoked: log in anew in another folder")
            certificate = sign(name)
            database.execute("UPDATE tokens SET uses_left=0 WHERE digest=?", (token,))
            if found is None:
                database.execute(
                    "INSERT INTO operators (name, who, fingerprint, token, key, enrolled) VALUES (?,?,?,?,?,?)",
                    (name, row[2], certificate.fingerprint, token, key, now),
                )
                noted(database, now, name, f"enrolled as the operator {row[2]}, certificate {certificate.fingerprint}")
            else:
                database.execute(
                    "UPDATE operators SET fingerprint=?, next_fingerprint=NULL, token=? WHERE name=?",
                    (certificate.fingerprint, token, name),
                )
                noted(database, now, name, f"has the certificate {certificate.fingerprint}")
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
    rows = database.execute("SELECT name, who, fingerprint, next_fingerprint, revoked FROM operators ORDER BY rowid")
    return [Person(name, who, mark, coming, revoked is not None) for name, who, mark, coming, revoked in rows]
