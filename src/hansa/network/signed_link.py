"""A device's side of requests through a proxy that ends TLS: it signs what it asks, and believes what is signed."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa._extras import require
from hansa.network import proxies
from hansa.network.signing import ABOUT_ANSWERS, is_signed

_WHAT = "a device behind a proxy"


class RequestSigner:
    """Signs the requests of one device, or operator.

    Args:
        certificate: its certificate, PEM.
        key: its private key, of Ed25519 or P-256.
        signer: who signs answers.

    Attributes:
        tag: what the coordinator calls itself since it began; None until it is asked. Signatures are of one such time.
    """

    def __init__(self, certificate: Path, key: Path, signer: str) -> None:
        serialization = require("cryptography.hazmat.primitives.serialization", "network", _WHAT)
        x509 = require("cryptography.x509", "network", _WHAT)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        self._certificate = base64.b64encode(found.public_bytes(serialization.Encoding.DER)).decode()
        self._key: Any = serialization.load_pem_private_key(key.read_bytes(), None)
        self._signer = signer
        self.tag: str | None = None

    def headers(self, method: str, target: str, digest: str, headers: Mapping[str, str]) -> dict[str, str]:
        """What a request is sent with beside its headers.

        Args:
            method: of HTTP.
            target: path and query.
            digest: `Content-Digest` of its body.
            headers: of the request.
        """
        all_headers = {**{name.lower(): value for name, value in headers.items()}, "content-digest": digest}
        names = proxies.covered(all_headers)
        said = proxies.parameters(names, int(time.time()), secrets.token_urlsafe(18), str(self.tag))
        signature = self._signed(proxies.request_base(method, target, all_headers, names, said))
        return {
            "Content-Digest": digest,
            proxies.CERTIFICATE: self._certificate,
            "Signature-Input": f"sig={said}",
            "Signature": f"sig=:{base64.b64encode(signature).decode()}:",
        }

    def is_answered(self, signature: str, status: int, headers: Mapping[str, str], body: bytes | None) -> bool:
        """Whether an answer is the coordinator's, to the request with this signature.

        Args:
            signature: the request's.
            status: of HTTP.
            headers: of the answer, by their names in lower case.
            body: of the answer; None where it is looked at elsewhere, by the answer's `Content-Digest`.
        """
        found = dict(headers)
        if body is not None:
            found["content-digest"] = proxies.digest_header(hashlib.sha256(body).digest())
        base = proxies.answer_base(signature, status, found)
        return is_signed(base, self._signer, headers.get(proxies.ANSWER.lower(), ""), ABOUT_ANSWERS)

    def _signed(self, base: bytes) -> bytes:
        ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "network", _WHAT)
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return bytes(self._key.sign(base))
        ec = require("cryptography.hazmat.primitives.asymmetric.ec", "network", _WHAT)
        hashes = require("cryptography.hazmat.primitives.hashes", "network", _WHAT)
        return bytes(self._key.sign(base, ec.ECDSA(hashes.SHA256())))
