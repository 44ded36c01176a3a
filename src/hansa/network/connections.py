"""The event loop of a coordinator, in which a connection takes less memory than asyncio's, and leaves none behind.

asyncio gives each TLS connection a buffer of 256 KiB. A connection that has ended is often part of a circle, with an
exception and its traceback, say, which Python frees when its collector comes to the oldest objects. Next to JAX's many
objects that is seldom, and the collector does not see how large the buffers are. So here a buffer is as large as what
comes, and ends with its connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

READ, _MOST_READ = 2**14, 2**18
"""Bytes that are read at a time: as many as TLS encrypts at once, and of who sends more, up to so many."""
_HANDSHAKE, _SHUTDOWN = 10.0, 5.0
"""Seconds that the other side has to begin, and to say that it ends."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop with lighter TLS connections."""

    def _make_ssl_transport(self, *args: Any, **options: Any) -> Any:
        transport = super()._make_ssl_transport(*args, **options)  # type: ignore[misc]
        _lighten(getattr(transport, "_ssl_protocol", None))
        return transport


async def listening(
    protocol: Callable[[], asyncio.Protocol], host: str, port: int, context: ssl.SSLContext | None
) -> asyncio.Server:
    """A server of the running loop, whose connections are dropped that do not get past their handshake in time."""
    return await asyncio.get_running_loop().create_server(
        protocol,
        host,
        port,
        ssl=context,
        backlog=2048,
        ssl_handshake_timeout=None if context is None else _HANDSHAKE,
        ssl_shutdown_timeout=None if context is None else _SHUTDOWN,
    )


def _lighten(connection: Any) -> None:
    """Has asyncio's side of a connection, where it is as in the Pythons that are known, read into less memory."""
    if not isinstance(getattr(connection, "_ssl_buffer", None), bytearray):
        return
    connection.max_size = READ  # of what is decrypted at a time
    _hold(connection, READ)
    updated, lost = connection.buffer_updated, connection.connection_lost

    def buffer_updated(count: int) -> None:
        size = len(connection._ssl_buffer)
        updated(count)
        if count == size and 0 < len(connection._ssl_buffer) < _MOST_READ:
            _hold(connection, 2 * size)
        elif count <= READ < size and len(connection._ssl_buffer):
            _hold(connection, READ)

    def connection_lost(error: BaseException | None) -> None:
        # These three hold the connection.
        del connection.connection_lost, connection.buffer_updated, connection.get_buffer
        lost(error)
        _hold(connection, 0)
        connection._sslobj = None
        connection._extra.pop("ssl_object", None)
        connection._incoming = connection._outgoing = ssl.MemoryBIO()

    connection.get_buffer = lambda size: connection._ssl_buffer_view
    connection.buffer_updated, connection.connection_lost = buffer_updated, connection_lost


def _hold(connection: Any, size: int) -> None:
    connection._ssl_buffer = bytearray(size)
    connection._ssl_buffer_view = memoryview(connection._ssl_buffer)
