"""How a device joins a network: an invitation, a key that it makes, and the certificate that it gets for that.

All of it lies in the device's folder, which only its owner reads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._tracebacks import boundaries
from hansa.network import identity, tls
from hansa.network.credentials import DEVICE, Credentials
from hansa.network.durable import Disk
from hansa.network.link import Link, TurnedAwayError
from hansa.network.proxies import proof
from hansa.types.identities import ClientId

_PREFIX = "hansa1."
_FILE = "device.json"


class InvitationError(ValueError):
    """A text is no invitation, or the coordinator does not take it. The message says why."""


@boundaries
@dataclass(frozen=True)
class Invitation:
    """What a device needs to join: where the coordinator is, whom to believe, and a secret.

    Attributes:
        url: of the coordinator.
        authority: the certificate of the network's authority, PEM.
        secret: which the coordinator takes once, or as often as it was made for.
        trust: of a proxy that ends TLS at the URL, whose certificate it has: PEM, or "system" for those that the device
            believes anyway; None where there is no such proxy.
        signer: who signs what is answered through it.

    Examples:
        >>> invitation = hansa.network.Invitation("https://127.0.0.1:8443", "-----BEGIN CERTIFICATE-----...", "secret")
        >>> hansa.network.Invitation.from_text(invitation.to_text()) == invitation
        True
    """

    url: str
    authority: str
    secret: str
    trust: str | None = None
    signer: str | None = None

    def to_text(self) -> str:
        """It in a line, to be passed on in a way that nobody else reads."""
        proxied = [] if self.trust is None else [self.trust, self.signer]
        text = json.dumps([self.url, self.authority, self.secret, *proxied])
        return _PREFIX + base64.urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Invitation:
        """The invitation of `to_text`.

        Raises:
            InvitationError: if the text is none.
        """
        try:
            if not text.strip().startswith(_PREFIX):
                raise ValueError(f"it does not begin with {_PREFIX}")
            found = json.loads(base64.urlsafe_b64decode(text.strip().removeprefix(_PREFIX)))
            if not isinstance(found, list) or len(found) not in (3, 5):
                raise ValueError("it is of another version of Hansa")
            return cls(*map(str, found))
        except (ValueError, TypeError) as error:
            raise InvitationError(f"this is no invitation of a network: {error}") from None


@boundaries
@dataclass(frozen=True)
class Membership:
    """What a device is in a network.

    Attributes:
        folder: the device's.
        url: of the coordinator.
        authority: see `Invitation`.
        name: what the coordinator calls it.
        client_id: whose data it has.
        trust: see `Invitation`, as for `signer`.

    Examples:
        >>> from hansa.network.durable import Disk
        >>> with hansa.network.serve("coordinator", port=0) as network:
        ...     member = hansa.network.join("ann", network.invite("ann"))
        ...     print(member.client_id, member.context.minimum_version.name)
        ...     print(member.renew(member.link(), Disk()))  # which it need not be yet
        ann TLSv1_3
        False
    """

    folder: Path
    url: str
    authority: str
    name: str
    client_id: ClientId
    trust: str | None = None
    signer: str | None = None

    @property
    def credentials(self) -> Credentials:
        """Its key and its certificate.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     member = hansa.network.join("ann", network.invite("ann"))
            >>> print(member.credentials.why_not())  # it is of use now
            None
        """
        return Credentials(self.folder, DEVICE, self.url, self.authority, self.trust, self.signer)

    @property
    def context(self) -> ssl.SSLContext:
        """TLS with the device's certificate, or to the proxy."""
        return self.credentials.context

    def link(self) -> Link:
        """A link to the coordinator.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     link = hansa.network.join("ann", network.invite("ann")).link()
            ...     print(link.send("GET", "/v1/poll?wait=0").status)  # nobody asks for anything
            ...     link.close()
            204
        """
        return self.credentials.link()

    def renew(self, link: Link, disk: Disk) -> bool:
        """Gets another certificate, if two thirds of the life of this one are over; says whether it did."""
        return self.credentials.renew(link, disk, "/v1/renew")


def membership(folder: Path) -> Membership | None:
    """What the device of a folder is; None if it has not joined.

    Raises:
        InvitationError: if the folder is damaged.
    """
    try:
        found = json.loads((folder / _FILE).read_text())
        more = found.get("trust"), found.get("signer")
        return Membership(folder, found["url"], found["authority"], found["name"], found["client_id"], *more)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvitationError(f"{folder / _FILE} is damaged: {error!r}; join anew in another folder") from None


def join(
    folder: str | os.PathLike[str], invitation: Invitation, client_id: ClientId | None = None, disk: Disk | None = None
) -> Membership:
    """Enrols the device of a folder, unless it is; asking again after a failure is of no harm.

    A device whose certificate has expired is enrolled again by a new invitation, with the key that it has.

    Args:
        folder: the device's; made if it is not there.
        invitation: what the operator has given.
        client_id: whose data the device has, where the invitation does not say it.
        disk: the disk.

    Raises:
        InvitationError: if the coordinator does not take the invitation.
        UnreachableError: if it was not reached.

    Examples:
        >>> with hansa.network.serve("coordinator", port=0) as network:
        ...     member = hansa.network.join("ann", network.invite("ann"))
        >>> hansa.network.join("ann", hansa.network.Invitation("", "", "")) == member  # who has joined needs none
        True
    """
    disk, where = disk or Disk(), Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    found = membership(where)
    if found is not None and (not invitation.secret or found.credentials.why_not() is None):
        return found
    told = enrolled(where, invitation, "device", "/v1/enrol", disk, client_id=client_id)
    made = {
        "url": invitation.url,
        "authority": invitation.authority,
        "name": told["name"],
        "client_id": told["client_id"],
        **({} if invitation.trust is None else {"trust": invitation.trust, "signer": invitation.signer}),
    }
    disk.write(where / _FILE, [json.dumps(made).encode()])
    joined = membership(where)
    assert joined is not None
    return joined


def enrolled(folder: Path, invitation: Invitation, role: str, path: str, disk: Disk, **asked: Any) -> dict[str, Any]:
    """Makes a folder's key, and has the coordinator certify it; asking again after a failure is of no harm.

    Args:
        folder: only its owner may read it from now on.
        invitation: what the coordinator takes.
        role: "device" or "operator": what the files of the key and of the certificate are called.
        path: of the request.
        disk: where files are written.
        asked: what else is asked.

    Returns:
        The answer.

    Raises:
        InvitationError: if the coordinator does not take the invitation.
        UnreachableError: if it was not reached.
    """
    folder.chmod(0o700)
    key = identity.private_key(folder / f"{role}.key", disk, signs=invitation.trust is not None)
    request, token = identity.request(key), hashlib.sha256(invitation.secret.encode()).hexdigest()
    if invitation.trust is None:
        context = tls.device_context(invitation.authority)
        body = {"token": invitation.secret, "request": request, **asked}
    else:  # a proxy reads what is sent, so the secret is not
        context = tls.proxy_context(invitation.trust)
        shown = proof(token, "enrol", request, json.dumps(asked))
        body = {"invitation": token[:16], "proof": shown, "request": request, **asked}
    link = Link(invitation.url, context)
    try:
        answer = link.send("POST", path, body)
    except TurnedAwayError as error:
        raise InvitationError(str(error)) from None
    finally:
        link.close()
    if answer.status != 200:
        raise InvitationError(f"the coordinator does not take the invitation: {answer.body[:200]!r}")
    told: dict[str, Any] = answer.json
    if not identity.is_certified(told["certificate"], invitation.authority, key):
        raise InvitationError("what was answered is no certificate of this network for this key")
    if invitation.trust is not None and told.pop("proof", None) != proof(token, "enrolled", json.dumps(told)):
        raise InvitationError("a proxy has answered, and not the coordinator")
    disk.write(folder / f"{role}.pem", [told["certificate"].encode()])
    return told
