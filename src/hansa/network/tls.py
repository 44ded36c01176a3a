"""TLS as both sides have it: version 1.3 alone, and certificates of one authority."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from hansa.network.proxies import SYSTEM


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """What the coordinator answers with. A device shows its certificate, but for enrolment, at which it has none.

    Args:
        certificate: of the coordinator, PEM.
        key: its private key, PEM.
        authority: whose certificates are believed, PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def device_context(authority: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """What a device calls with: it believes the coordinator that has a certificate of this authority, for its name.

    Args:
        authority: PEM, as a text.
        certificate: of the device; it has none before it is enrolled.
        key: its private key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def proxy_context(trust: str) -> ssl.SSLContext:
    """What a device calls a proxy with that ends TLS, to which it shows no certificate.

    Args:
        trust: whose certificate the proxy has: PEM, or "system" for those that this system believes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if trust == SYSTEM:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=trust)
    return context


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate, in hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()
