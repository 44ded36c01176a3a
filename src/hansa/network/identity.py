"""The key of a device, and what it asks a certificate with. The key never leaves the device's folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa.network.durable import Disk

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_WHAT = "a device that enrols"


def private_key(path: Path, disk: Disk, signs: bool = False) -> EllipticCurvePrivateKey | Ed25519PrivateKey:
    """The key in a file that only its owner reads; a new one is made if there is none.

    Args:
        path: the file.
        disk: the disk.
        signs: whether a new one signs requests, and so is of Ed25519; else it is of P-256.
    """
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    ec = require("cryptography.hazmat.primitives.asymmetric.ec", "network", _WHAT)
    if path.exists():
        found: EllipticCurvePrivateKey | Ed25519PrivateKey
        found = serialization.load_pem_private_key(path.read_bytes(), None)
        return found
    made: EllipticCurvePrivateKey | Ed25519PrivateKey
    if signs:
        made = require(
            "cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT
        ).Ed25519PrivateKey.generate()
    else:
        made = ec.generate_private_key(ec.SECP256R1())
    write_private(path, pem_of(made), disk)
    return made


def pem_of(key: Any) -> bytes:
    """A private key as a text."""
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def write_private(path: Path, data: bytes, disk: Disk) -> None:
    """A file that only its owner reads, from its first byte on."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        disk.sync(file)
    disk.rename(part, path)


def request(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    """What a certificate is asked for with: a signed request, PEM. The authority says whose it is."""
    x509 = require("cryptography.x509", "network", _WHAT)
    hashes = require("cryptography.hazmat.primitives.hashes", "network", _WHAT)
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    digest = hashes.SHA256() if hasattr(key, "curve") else None  # Ed25519 has its own
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    return str(made.public_bytes(serialization.Encoding.PEM).decode())


def is_to_be_renewed(certificate: Path, now: datetime | None = None) -> bool:
    """Whether two thirds of a certificate's life are over."""
    begin, end = validity(certificate)
    return bool((now or datetime.now(UTC)) > begin + (end - begin) * 2 / 3)


def validity(certificate: Path) -> tuple[datetime, datetime]:
    """From when to when a certificate is valid."""
    found = require("cryptography.x509", "network", _WHAT).load_pem_x509_certificate(certificate.read_bytes())
    return found.not_valid_before_utc, found.not_valid_after_utc


def is_certified(certificate: str, authority: str, key: Any) -> bool:
    """Whether a certificate is this authority's, and of this private key."""
    x509 = require("cryptography.x509", "network", _WHAT)
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except Exception:  # whatever the library makes of what is none
        return False
    return bool(found.public_key() == key.public_key())
