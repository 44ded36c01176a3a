"""The tables of a ledger. A newer Hansa brings them forward; an older one refuses what it does not know."""

from __future__ import annotations

import sqlite3

VERSION = 4
"""The version of the tables, which the database has as its `user_version`."""

_FIRST = """
CREATE TABLE devices (
    name TEXT PRIMARY KEY,
    client_id TEXT NOT NULL UNIQUE,          -- as JSON: a string and an integer are two clients
    number INTEGER NOT NULL UNIQUE,          -- of the client; never given to another
    fingerprint TEXT NOT NULL,               -- SHA-256 of the certificate that it has now
    next_fingerprint TEXT,                   -- of the one that it was given, and has not used yet
    token TEXT NOT NULL,                     -- digest of the token that it was enrolled with
    key TEXT NOT NULL,                       -- SHA-256 of its public key then
    enrolled REAL NOT NULL,                  -- times are seconds since 1970
    revoked REAL,
    quarantined REAL,
    strikes INTEGER NOT NULL DEFAULT 0       -- invalid contributions, one after another
) STRICT;

CREATE TABLE tokens (
    digest TEXT PRIMARY KEY,                 -- SHA-256 of the secret
    client_id TEXT,                          -- whom alone it enrols; NULL for anybody
    uses_left INTEGER NOT NULL,
    expires REAL NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE phases (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    part TEXT NOT NULL,
    call INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    program TEXT NOT NULL,                   -- digest of what devices run
    sent TEXT NOT NULL,                      -- digests of what they are sent, as JSON
    target INTEGER NOT NULL,
    least INTEGER NOT NULL,
    deadline REAL NOT NULL,
    lease REAL NOT NULL,
    status TEXT NOT NULL,
    elapsed REAL NOT NULL,                   -- seconds that it was open with the coordinator up
    opened REAL NOT NULL,
    closed REAL,
    dropped INTEGER NOT NULL DEFAULT 0,      -- whether its contributions are not here any more
    UNIQUE (run, round, attempt, part, call, stage, phase)
) STRICT;

CREATE TABLE tasks (
    phase_id INTEGER NOT NULL REFERENCES phases (id),
    device TEXT NOT NULL REFERENCES devices (name),
    position INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    reason TEXT,
    digest TEXT,
    bytes INTEGER,
    data BLOB,                               -- a small contribution; a larger one is a file of the spool
    at REAL,
    PRIMARY KEY (phase_id, device),
    UNIQUE (phase_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    chain TEXT NOT NULL                      -- SHA-256 of this row and of the chain of the row before
) STRICT;
"""

_SECOND = """
-- when it was heard of last, to the half minute
ALTER TABLE devices ADD COLUMN seen REAL;
-- digest of the file of the whole computation
ALTER TABLE phases ADD COLUMN computation TEXT;
-- digest of what states of no clients are made of
ALTER TABLE phases ADD COLUMN starts TEXT;
-- SHA-256 of what became of the contributions
ALTER TABLE phases ADD COLUMN result TEXT;
"""

_THIRD = """
-- what it makes of who takes it: a device, or an operator
ALTER TABLE tokens ADD COLUMN role TEXT NOT NULL DEFAULT 'device';

CREATE TABLE operators (
    name TEXT PRIMARY KEY,                   -- as the certificate says
    who TEXT NOT NULL,                       -- for people
    fingerprint TEXT NOT NULL,               -- SHA-256 of the certificate
    token TEXT NOT NULL,                     -- digest of the token that it was enrolled with
    key TEXT NOT NULL,                       -- SHA-256 of its public key then
    enrolled REAL NOT NULL,
    revoked REAL
) STRICT;

CREATE TABLE submissions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,               -- of the run
    terms TEXT NOT NULL,                     -- as JSON
    submitter TEXT NOT NULL,
    at REAL NOT NULL,
    status TEXT NOT NULL,
    reason TEXT
) STRICT;
"""

_FOURTH = """
-- of the certificate that it was given last, until it comes with it
ALTER TABLE operators ADD COLUMN next_fingerprint TEXT;
"""

_MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""From each version to the next."""


class NewerLedgerError(Exception):
    """The ledger was written by a newer Hansa."""


def prepare(database: sqlite3.Connection) -> None:
    """Makes the tables, or brings them to the newest version.

    Raises:
        NewerLedgerError: if they are of a newer one.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise NewerLedgerError(
            f"the ledger has version {version}, and this Hansa knows up to {VERSION}: update Hansa to go on with it"
        )
    for migration in _MIGRATIONS[version:]:
        for statement in migration.split(";\n"):
            if statement.strip():
                database.execute(statement)
    database.execute(f"PRAGMA user_version={VERSION}")
