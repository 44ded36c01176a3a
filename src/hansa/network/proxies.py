"""A proxy that ends TLS between devices and the coordinator: where it is, and what both sides then sign.

Behind it the coordinator sees no certificate of a device, and a device none of the coordinator. So requests are signed
by the device's key, in the form of RFC 9421, over the method, the path, the query, the digest of the body, the time and
a number that is used once; and answers by the network's signer, over the request's signature. A proxy can read what it
passes on, and delay or drop it. It can neither make, change nor repeat a request, nor an answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hansa._tracebacks import boundaries

SYSTEM = "system"
"""The authorities that the device's system believes."""

CERTIFICATE, ANSWER = "Hansa-Certificate", "Hansa-Answer"
"""Headers: the certificate of who asks, and the signature of an answer."""

ALWAYS = ("@method", "@path", "@query", "content-digest")
SOMETIMES = ("upload-length", "upload-offset")
"""What a request's signature is over: the latter where the request has them."""

_OF_ANSWERS = ("content-digest", "upload-offset", "hansa-outcome", "hansa-next", "hansa-checkpoint", "retry-after")


@boundaries
@dataclass(frozen=True)
class Proxy:
    """A proxy that ends TLS before a coordinator.

    Attributes:
        url: at which devices reach it.
        authority: whose certificate it has, PEM; by default one of those that a device's system believes.
        port: on which the coordinator also listens for it, at 127.0.0.1 and without TLS; 0 for none. It may come to the
            coordinator's own port, too, by TLS without a certificate.

    Examples:
        >>> proxy = hansa.network.Proxy("https://fl.example.org")
        >>> with hansa.network.serve("coordinator", port=0, proxy=proxy) as network:
        ...     print(network.invite("ann").url)
        https://fl.example.org
    """

    url: str
    authority: str = SYSTEM
    port: int = 0


def digest_header(digest: bytes) -> str:
    """`Content-Digest` of a body whose SHA-256 this is."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def covered(headers: Iterable[str]) -> tuple[str, ...]:
    """What the signature of a request is over that has these headers."""
    names = {name.lower() for name in headers}
    return (*ALWAYS, *(name for name in SOMETIMES if name in names))


def parameters(names: Iterable[str], created: int, nonce: str, tag: str) -> str:
    """What is said of a signature, beside it."""
    return f'({" ".join(f"{chr(34)}{name}{chr(34)}" for name in names)});created={created};nonce="{nonce}";tag="{tag}"'


def request_base(method: str, target: str, headers: Mapping[str, str], names: Iterable[str], said: str) -> bytes:
    """What is signed of a request.

    Args:
        method: of HTTP.
        target: path and query.
        headers: those that are signed, by their names in lower case.
        names: what is signed, in order.
        said: `parameters`.
    """
    path, _, query = target.partition("?")
    values = {"@method": method, "@path": path, "@query": f"?{query}"}
    lines = [f'"{name}": {values[name] if name in values else headers[name]}' for name in names]
    return "\n".join([*lines, f'"@signature-params": {said}']).encode()


def answer_base(signature: str, status: int, headers: Mapping[str, str]) -> bytes:
    """What is signed of an answer: to which request, how it ends, the digest of its body, and what else is read of it.

    Args:
        signature: of the request.
        status: of HTTP.
        headers: by their names in lower case, with `content-digest`.
    """
    lines = [f"{name}: {headers.get(name, '')}" for name in _OF_ANSWERS]
    return "\n".join([signature, str(status), *lines]).encode()


def proof(token: str, *parts: str) -> str:
    """That somebody has an invitation, which does not travel: a code of some texts.

    Args:
        token: SHA-256 of the invitation's secret, in hexadecimal digits, which both sides know.
        parts: the texts.
    """
    sizes = "".join(f"{len(part.encode())}:{part}" for part in parts)
    return hmac.new(token.encode(), sizes.encode(), hashlib.sha256).hexdigest()
