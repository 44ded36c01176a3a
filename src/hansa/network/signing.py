"""Signatures by Ed25519: of programs, so that a device takes only those of whom its owner trusts, and of answers.

What is signed of a program is the digest of its file. A signer is called by its public key, `ed25519:` and Base64.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from hansa._extras import require
from hansa.network.durable import Disk
from hansa.network.identity import pem_of, write_private

_PREFIX = "ed25519:"
_WHAT = "signatures of programs"
ABOUT_PROGRAMS, ABOUT_ANSWERS = b"hansa program\n", b"hansa answer\n"
"""What a signature is of, so that none stands for another."""


class Signer:
    """Who signs programs, with a key in a file; made if there is none.

    Args:
        path: the file, which only its owner reads.
        disk: the disk.

    Attributes:
        name: what it is called by.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT)
        serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
        if not path.exists():
            write_private(path, pem_of(ed25519.Ed25519PrivateKey.generate()), disk)
        self._key: Any = serialization.load_pem_private_key(path.read_bytes(), None)
        encoding, form = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        self.name = _PREFIX + base64.b64encode(self._key.public_key().public_bytes(encoding, form)).decode()

    def sign(self, what: bytes, about: bytes = ABOUT_PROGRAMS) -> str:
        """The signature, as Base64: of a program by its digest, or of an answer."""
        return base64.b64encode(self._key.sign(about + what)).decode()


def is_signer(name: str) -> bool:
    """Whether a text is what a signer is called by."""
    return _public(name) is not None


def is_signed(what: bytes, signer: str, signature: str, about: bytes = ABOUT_PROGRAMS) -> bool:
    """Whether a signature is the signer's: of a program by its digest, or of an answer."""
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT)
    exceptions = require("cryptography.exceptions", "network", _WHAT)
    key = _public(signer)
    if key is None:
        return False
    try:
        given = base64.b64decode(signature, validate=True)
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(given, about + what)
    except (exceptions.InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _public(name: str) -> bytes | None:
    try:
        key = base64.b64decode(name.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if name.startswith(_PREFIX) and len(key) == 32 else None
