"""What the handlers of the coordinator's port take of a request: the certificate, the JSON, the bytes as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from hansa.network import tls
from hansa.network.blobs import is_digest
from hansa.network.registry import EnrolmentError

if TYPE_CHECKING:
    from aiohttp import web

LONGEST_SILENCE = 60.0
"""Seconds in which a byte of a body must come."""


def certificate_of(request: web.Request) -> tuple[str, str]:
    """The name in the certificate of whoever asks, and the certificate's fingerprint.

    Raises:
        EnrolmentError: if none was shown.
    """
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
        found = json.loads(await asyncio.wait_for(request.read(), LONGEST_SILENCE))
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
