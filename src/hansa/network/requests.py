"""What the handlers of the coordinator's port take of a request: the certificate, the JSON, the bytes as they come."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from hansa.network import tls
from hansa.network.blobs import is_digest
from hansa.network.proxies import digest_header, proof
from hansa.network.registry import EnrolmentError, token_of

if TYPE_CHECKING:
    from aiohttp import web

LONGEST_SILENCE = 60.0
"""Seconds in which a byte of a body must come."""

CALLER = "caller"
"""Of a request: the name and the fingerprint of who has signed it, where a proxy ends TLS."""


def invited(found: dict[str, Any], token: Callable[[str], str], **asked: Any) -> str:
    """The token of an invitation, of who shows its secret, or proves to have it.

    Args:
        found: what was asked.
        token: gives the token whose digits begin so.
        asked: what is asked with the invitation.

    Raises:
        EnrolmentError: if it is proved wrongly.
        TypeError, KeyError: if there is neither.
    """
    if "token" in found:
        return token_of(text(found, "token"))
    known, request = token(text(found, "invitation")), text(found, "request")
    if not hmac.compare_digest(
        text(found, "proof").encode(), proof(known, "enrol", request, json.dumps(asked)).encode()
    ):
        raise EnrolmentError("the invitation is not proved: what was asked was changed on its way")
    return known


def enrolled(found: dict[str, Any], token: str, told: dict[str, Any]) -> dict[str, Any]:
    """What is answered to who was enrolled, with a proof for who has proved to have the invitation."""
    return told if "token" in found else {**told, "proof": proof(token, "enrolled", json.dumps(told))}


def certificate_of(request: web.Request) -> tuple[str, str]:
    """The name in the certificate of whoever asks, and the certificate's fingerprint.

    Raises:
        EnrolmentError: if none was shown.
    """
    if CALLER in request:  # who has signed it
        return request[CALLER]  # type: ignore[no-any-return]
    transport = request.transport
    connection: Any = None if transport is None else transport.get_extra_info("ssl_object")
    der = None if connection is None else connection.getpeercert(True)
    if der is None:
        raise EnrolmentError("a device shows its certificate; it gets one by enrolling")
    subject = {key: value for part in connection.getpeercert()["subject"] for key, value in part}
    return str(subject.get("commonName")), tls.fingerprint(der)


async def asked(request: web.Request) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ValueError, TypeError: if it is none.
    """
    try:
        body = await asyncio.wait_for(request.read(), LONGEST_SILENCE)
        check_digest(request, hashlib.sha256(body).digest())
        found = json.loads(body)
    except (RecursionError, TimeoutError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, dict):
        raise TypeError("a JSON object is asked for")
    return found


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The bytes of a body, as they come; what was sent before a connection broke is there, too."""
    while True:
        try:
            piece = await asyncio.wait_for(request.content.readany(), LONGEST_SILENCE)
        except (TimeoutError, OSError):
            return
        if not piece:
            return
        yield piece


def check_digest(request: web.Request, digest: bytes) -> None:
    """Looks whether the body of a signed request is the one that was signed.

    Args:
        request: which one.
        digest: SHA-256 of the body that came.

    Raises:
        EnrolmentError: if it is another.
    """
    if CALLER in request and request.headers.get("Content-Digest") != digest_header(digest):
        raise EnrolmentError("the body is not the one that was signed: it was changed on its way")


def text(found: dict[str, Any], name: str) -> str:
    """A text of a JSON object.

    Raises:
        TypeError, KeyError: if there is none.
    """
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text")
    return value


def digest(request: web.Request) -> str:
    """The digest in a path.

    Raises:
        ValueError: if it is none.
    """
    found = request.match_info["digest"]
    if not is_digest(found):
        raise ValueError("a digest is 64 hexadecimal digits")
    return found
