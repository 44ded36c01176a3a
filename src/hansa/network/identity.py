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

_WHAT = "a device that enrols"


def private_key(path: Path, disk: Disk) -> EllipticCurvePrivateKey:
    """The key in a file that only its owner reads; a new one is made if there is none."""
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    ec = require("cryptography.hazmat.primitives.asymmetric.ec", "network", _WHAT)
    if path.exists():
        found: EllipticCurvePrivateKey = serialization.load_pem_private_key(path.read_bytes(), None)
        return found
    made: EllipticCurvePrivateKey = ec.generate_private_key(ec.SECP256R1())
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


def request(key: EllipticCurvePrivateKey) -> str:
    """What a certificate is asked for with: a signed request, PEM. The authority says whose it is."""
    x509 = require("cryptography.x509", "network", _WHAT)
    hashes = require("cryptography.hazmat.primitives.hashes", "network", _WHAT)
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return str(made.public_bytes(serialization.Encoding.PEM).decode())


def is_to_be_renewed(certificate: Path, now: datetime | None = None) -> bool:
    """Whether two thirds of a certificate's life are over."""
    x509 = require("cryptography.x509", "network", _WHAT)
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    return bool((now or datetime.now(UTC)) > begin + (end - begin) * 2 / 3)
