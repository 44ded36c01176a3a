"""The coordinator's side of requests through a proxy that ends TLS: whose they are, and that none comes twice."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa.network import proxies, tls
from hansa.network.registry import EnrolmentError
from hansa.network.signing import ABOUT_ANSWERS, Signer

if TYPE_CHECKING:
    from aiohttp import web

_WHAT = "requests through a proxy"
_APART = 120.0
"""Seconds that the clocks of both sides may be apart, and for which a number may not be used again."""
_MOST_REMEMBERED = 2**20
_MOST_CERTIFICATES = 2**16
_MOST_HEADER = 4096
_INPUT = re.compile(
    r'sig=(\(("[a-z@-]+"(?: "[a-z@-]+")*)\);created=(\d{1,12});nonce="([\w-]{16,64})";tag="([\w-]{1,64})")'
)
_SIGNATURE = re.compile(r"sig=:([A-Za-z0-9+/=]{1,200}):")


class SignedRequests:
    """Knows who has signed a request.

    Args:
        authority: the certificate of the network's authority, PEM.
        signer: who signs answers.
        clock: seconds since 1970.

    Attributes:
        tag: what this coordinator calls itself, from its beginning to its end.
    """

    def __init__(self, authority: bytes, signer: Signer, clock: Callable[[], float] = time.time) -> None:
        self._x509: Any = require("cryptography.x509", "network", _WHAT)
        self._authority = self._x509.load_pem_x509_certificate(authority)
        self._signer, self._clock, self.tag = signer, clock, secrets.token_urlsafe(12)
        self._certificates: dict[str, tuple[Any, str]] = {}
        self._seen: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def verify(self, request: web.Request) -> tuple[str, str]:
        """The name in the certificate of who has signed a request, and the certificate's fingerprint.

        What is left to the caller is that the body has the `Content-Digest` of the request.

        Raises:
            EnrolmentError: if it is not signed as it should be, or came before, or is of before this coordinator began.
        """
        said = _INPUT.fullmatch(request.headers.get("Signature-Input", "")[:_MOST_HEADER])
        given = _SIGNATURE.fullmatch(request.headers.get("Signature", "")[:_MOST_HEADER])
        if said is None or given is None:
            raise EnrolmentError("a request through a proxy is signed by the device, in the form of RFC 9421")
        headers = {name.lower(): value for name, value in request.headers.items()}
        names, created, nonce, tag = tuple(re.findall(r'"([^"]+)"', said[2])), int(said[3]), said[4], said[5]
        if names != proxies.covered(headers) or "content-digest" not in headers:
            raise EnrolmentError("a request is signed over its method, path, query, body, and the offset of uploads")
        certificate, fingerprint = self._certificate(headers.get(proxies.CERTIFICATE.lower(), ""))
        base = proxies.request_base(request.method, request.raw_path, headers, names, said[1])
        if not self._is_signed(certificate.public_key(), base, given[1]):
            raise EnrolmentError("the signature is not that of the request: it was changed on its way")
        if tag != self.tag:
            raise EnrolmentError("the coordinator has begun again: ask for its tag, and sign with that")
        now = self._clock()
        if abs(now - created) > _APART:
            raise EnrolmentError(
                f"the device's clock is {created - now:+.0f} s off the coordinator's, more than {_APART:.0f} s: set it"
            )
        self._once(f"{fingerprint} {nonce}", now)
        common = certificate.subject.get_attributes_for_oid(self._x509.NameOID.COMMON_NAME)
        return str(common[0].value), fingerprint

    def sign(self, request: web.Request, response: web.StreamResponse, digest: str) -> None:
        """Signs the answer to a request that was verified.

        Args:
            request: which one.
            response: the answer, which is changed.
            digest: `Content-Digest` of its body.
        """
        headers = {**{name.lower(): value for name, value in response.headers.items()}, "content-digest": digest}
        base = proxies.answer_base(request.headers["Signature"], response.status, headers)
        response.headers[proxies.ANSWER] = self._signer.sign(base, ABOUT_ANSWERS)

    def _certificate(self, text: str) -> tuple[Any, str]:
        if len(text) > _MOST_HEADER:
            raise EnrolmentError("this is no certificate")
        found = self._certificates.get(text)
        if found is None:
            try:
                der = base64.b64decode(text, validate=True)
                certificate = self._x509.load_der_x509_certificate(der)
                certificate.verify_directly_issued_by(self._authority)
                usage = certificate.extensions.get_extension_for_class(self._x509.ExtendedKeyUsage).value
                if self._x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
                    raise ValueError("it is not a device's")
            except Exception as error:  # whatever the library makes of what is none
                raise EnrolmentError(f"this is no certificate of this network: {error!r:.100}") from None
            if len(self._certificates) >= _MOST_CERTIFICATES:
                self._certificates.clear()
            found = self._certificates[text] = certificate, tls.fingerprint(der)
        now = self._clock()
        if not found[0].not_valid_before_utc.timestamp() <= now <= found[0].not_valid_after_utc.timestamp():
            raise EnrolmentError(f"the certificate is valid until {found[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        return found

    def _is_signed(self, key: Any, base: bytes, signature: str) -> bool:
        ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT)
        ec = require("cryptography.hazmat.primitives.asymmetric.ec", "network", _WHAT)
        hashes = require("cryptography.hazmat.primitives.hashes", "network", _WHAT)
        exceptions = require("cryptography.exceptions", "network", _WHAT)
        try:
            given = base64.b64decode(signature, validate=True)
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(given, base)
            else:
                key.verify(given, base, ec.ECDSA(hashes.SHA256()))
        except (exceptions.InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    def _once(self, number: str, now: float) -> None:
        while self._order and self._order[0][0] < now - 2 * _APART:
            self._seen.discard(self._order.popleft()[1])
        if number in self._seen:
            raise EnrolmentError("this request was made before: each is made once, and a repeated one is signed anew")
        if len(self._seen) >= _MOST_REMEMBERED:
            raise OSError("too many requests at once")
        self._seen.add(number)
        self._order.append((now, number))
