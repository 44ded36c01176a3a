"""The authority of a network: a key of its own, and certificates for the coordinator and for devices.

Nobody else's certificates are believed. Keys are of the curve P-256; of devices that sign requests, of Ed25519.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa.network import tls
from hansa.network.durable import Disk
from hansa.network.identity import private_key
from hansa.network.registry import EnrolmentError
from hansa.network.signing import Signer

if TYPE_CHECKING:
    from cryptography import x509

_WHAT = "the authority of a network"
_YEARS = timedelta(days=3650)
_NAME = "Hansa network"
_LATE = timedelta(minutes=5)
"""By how much the clocks of devices may be behind."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that was made.

    Attributes:
        pem: as a text.
        fingerprint: SHA-256 of it, in hexadecimal digits.
    """

    pem: str
    fingerprint: str


class Authority:
    """An authority in a folder; made if there is none.

    Args:
        folder: where its key lies, that of the coordinator and their certificates.
        disk: the disk.
        days: for how long certificates of devices are valid.

    Attributes:
        path: its certificate, PEM.
        signer: who signs programs.
    """

    def __init__(self, folder: Path, disk: Disk, days: float = 90.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder, self._disk, self._life = folder, disk, timedelta(days=days)
        self._x509: Any = require("cryptography.x509", "network", _WHAT)
        self._key = private_key(folder / "authority.key", disk)
        self.path = folder / "authority.pem"
        self.signer = Signer(folder / "signing.key", disk)
        if not self.path.exists():
            made = self._made(_NAME, self._key.public_key(), _YEARS, authority=True)
            disk.write(self.path, [_pem(made)])
        self._subject = self._x509.load_pem_x509_certificate(self.path.read_bytes()).subject

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.path.read_text()

    def coordinator(self, hosts: Sequence[str]) -> tuple[Path, Path]:
        """The certificate of the coordinator and its key, for the names and addresses at which it is reached.

        It is made anew each time, so that it is for these, and has its whole life before it.
        """
        key = private_key(self._folder / "coordinator.key", self._disk)
        path = self._folder / "coordinator.pem"
        made = self._made("coordinator", key.public_key(), _YEARS, hosts=hosts)
        self._disk.write(path, [_pem(made)])
        return path, self._folder / "coordinator.key"

    def key_of(self, request: str) -> str:
        """SHA-256 of the public key of a request, in hexadecimal digits.

        Raises:
            EnrolmentError: if it is no request, is not signed by its key, or its key is of another kind.
        """
        serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
        key = self._public(request)
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(key.public_bytes(encoding, form)).hexdigest()

    def device(self, request: str, name: str) -> Certificate:
        """A certificate of a name for the key of a request; what else the request says does not matter.

        Raises:
            EnrolmentError: as `key_of`.
        """
        made = self._made(name, self._public(request), self._life)
        serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
        return Certificate(_pem(made).decode(), tls.fingerprint(made.public_bytes(serialization.Encoding.DER)))

    def _public(self, request: str) -> Any:
        ec = require("cryptography.hazmat.primitives.asymmetric.ec", "network", _WHAT)
        ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT)
        try:
            found = self._x509.load_pem_x509_csr(request.encode())
            signed = found.is_signature_valid
            key = found.public_key()
        except Exception as error:  # whatever the library makes of bytes that are none
            raise EnrolmentError(f"this is no request for a certificate: {error}") from None
        is_ours = isinstance(key, ed25519.Ed25519PublicKey)
        is_ours = is_ours or (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1")
        if not signed or not is_ours:
            raise EnrolmentError("a request for a certificate is signed by its key, which is of P-256 or Ed25519")
        return key

    def _made(
        self, name: str, key: Any, life: timedelta, authority: bool = False, hosts: Sequence[str] = ()
    ) -> x509.Certificate:
        library = self._x509
        hashes = require("cryptography.hazmat.primitives.hashes", "network", _WHAT)
        now = datetime.now(UTC)
        subject = library.Name([library.NameAttribute(library.NameOID.COMMON_NAME, name)])
        extensions: list[tuple[Any, bool]] = [
            (library.BasicConstraints(authority, 0 if authority else None), True),
            (library.KeyUsage(not authority, False, False, False, False, authority, authority, False, False), True),
            (library.SubjectKeyIdentifier.from_public_key(key), False),
            (library.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        if hosts:
            extensions.append((library.SubjectAlternativeName(list(map(self._host, hosts))), False))
        if not authority:
            usages = library.oid.ExtendedKeyUsageOID
            extensions.append((library.ExtendedKeyUsage([usages.SERVER_AUTH if hosts else usages.CLIENT_AUTH]), False))
        builder = (
            library.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else self._subject)
            .public_key(key)
            .serial_number(library.random_serial_number())
            .not_valid_before(now - _LATE)
            .not_valid_after(now + life)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        made: x509.Certificate = builder.sign(self._key, hashes.SHA256())
        return made

    def _host(self, host: str) -> Any:
        try:
            return self._x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            return self._x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
    pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return pem
