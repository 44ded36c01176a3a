"""The event loop of a coordinator, in which a connection takes less memory than asyncio's, and leaves none behind.

asyncio gives each TLS connection a buffer of 256 KiB. A connection that has ended is often part of a circle, with an
exception and its traceback, say, which Python frees when its collector comes to the oldest objects. Next to JAX's many
objects that is seldom, and the collector does not see how large the buffers are. So here a buffer is smaller, and ends
with its connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

READ = 2**16
"""Bytes that are read at a time."""
_HANDSHAKE, _SHUTDOWN = 10.0, 5.0
"""Seconds that the other side has to begin, and to say that it ends."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop with lighter TLS connections."""

    def _make_ssl_transport(self, *args: Any, **options: Any) -> Any:
        transport = super()._make_ssl_transport(*args, **options)  # type: ignore[misc]
        _lighten(getattr(transport, "_ssl_protocol", None))
        return transport


async def listening(
    protocol: Callable[[], asyncio.Protocol], host: str, port: int, context: ssl.SSLContext
) -> asyncio.Server:
    """A server of the running loop, whose connections are dropped that do not get past their handshake in time."""
    return await asyncio.get_running_loop().create_server(
        protocol,
        host,
        port,
        ssl=context,
        backlog=2048,
        ssl_handshake_timeout=_HANDSHAKE,
        ssl_shutdown_timeout=_SHUTDOWN,
    )


def _lighten(connection: Any) -> None:
    """Gives asyncio's side of a connection, where it is as in the Pythons that are known, a smaller buffer."""
    if not isinstance(getattr(connection, "_ssl_buffer", None), bytearray):
        return
    connection.max_size = READ
    _hold(connection, READ)
    lost = connection.connection_lost

    def connection_lost(error: BaseException | None) -> None:
        del connection.connection_lost  # it holds the connection
        lost(error)
        _hold(connection, 0)
        connection._sslobj = None
        connection._extra.pop("ssl_object", None)
        connection._incoming = connection._outgoing = ssl.MemoryBIO()

    connection.connection_lost = connection_lost


def _hold(connection: Any, size: int) -> None:
    connection._ssl_buffer = bytearray(size)
    connection._ssl_buffer_view = memoryview(connection._ssl_buffer)
