"""What a device or an operator shows: a key and a certificate in its folder, for a coordinator at an address."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa.network import identity, tls
from hansa.network.durable import Disk
from hansa.network.link import Link, UnreachableError
from hansa.network.signed_link import RequestSigner

DEVICE, OPERATOR = "device", "operator"


@dataclass(frozen=True)
class Credentials:
    """The key and the certificate of a folder.

    Attributes:
        folder: in which they lie.
        role: "device" or "operator".
        url: of the coordinator, or of the proxy before it.
        authority: the certificate of the network's authority, PEM.
        trust: of a proxy that ends TLS, whose certificate it has: PEM, or "system"; None where there is no such proxy.
        signer: who signs what the coordinator answers through it.
    """

    folder: Path
    role: str
    url: str
    authority: str
    trust: str | None = None
    signer: str | None = None

    @property
    def certificate(self) -> Path:
        """The file of the certificate."""
        return self.folder / f"{self.role}.pem"

    @property
    def key(self) -> Path:
        """The file of the key."""
        return self.folder / f"{self.role}.key"

    @property
    def context(self) -> ssl.SSLContext:
        """TLS: with the certificate, or to a proxy."""
        if self.trust is not None:
            return tls.proxy_context(self.trust)
        return tls.device_context(self.authority, self.certificate, self.key)

    def link(self) -> Link:
        """A link to the coordinator; one that fails says whether the certificate is the reason."""
        return Link(self.url, self.context, self._signer(), self.why_not)

    def renew(self, link: Link, disk: Disk, path: str) -> bool:
        """Gets another certificate, if two thirds of the life of this one are over; says whether it did.

        Raises:
            UnreachableError: if the coordinator does not give one.
        """
        if not identity.is_to_be_renewed(self.certificate):
            return False
        key = identity.private_key(self.key, disk)
        answer = link.send("POST", path, {"request": identity.request(key)})
        if answer.status != 200:
            raise UnreachableError(f"the certificate was not renewed: status {answer.status}")
        disk.write(self.certificate, [answer.json["certificate"].encode()])
        link.trust(self.context, self._signer())
        return True

    def why_not(self) -> str | None:
        """Why the certificate is of no use now, and what to do; None if it is valid."""
        try:
            begin, end = identity.validity(self.certificate)
        except (OSError, ValueError) as error:
            return f"{self.certificate} cannot be read: {error}"
        now = datetime.now(UTC)
        if now > end:
            again = "hansa join" if self.role == DEVICE else "hansa network login"
            return (
                f"the certificate of this {self.role} has expired, at {end:%Y-%m-%d %H:%M} UTC, and this machine's "
                f"clock says {now:%Y-%m-%d %H:%M}. If the clock is right, ask the operator for a new invitation, and "
                f"give it to {again} with --folder {self.folder}: the key, and who this is, stay"
            )
        if now < begin:
            return (
                f"the certificate of this {self.role} is valid from {begin:%Y-%m-%d %H:%M} UTC on, and this machine's "
                f"clock says {now:%Y-%m-%d %H:%M}: set the clock"
            )
        return None

    def _signer(self) -> RequestSigner | None:
        return None if self.trust is None else RequestSigner(self.certificate, self.key, str(self.signer))

    @classmethod
    def from_json(cls, folder: Path, role: str, found: dict[str, Any]) -> Credentials:
        """Those of a folder's notes.

        Raises:
            KeyError: if one is missing.
        """
        return cls(folder, role, found["url"], found["authority"], found.get("trust"), found.get("signer"))
