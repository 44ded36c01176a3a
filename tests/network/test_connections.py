"""What a connection to the coordinator may take: memory, and time before it has said who it is."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import pytest

import hansa
from hansa.network import connections
from hansa.network.link import Link, TurnedAwayError
from hansa.network.membership import join


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(connections, "_HANDSHAKE", 0.3)
        with hansa.network.serve(tmp_path_factory.mktemp("coordinator"), port=0) as network:
            yield network


def test_a_connection_reads_into_as_much_as_comes_and_holds_nothing_once_it_has_ended(network, tmp_path, monkeypatch):
    member = join(tmp_path / "ann", network.invite("ann"))
    link = Link(member.url, member.context)
    assert link.send("GET", "/v1/poll?wait=0").status == 204
    (handler,) = network._server._runner.server.connections
    connection = handler.transport._ssl_protocol
    assert len(connection._ssl_buffer) == connections.READ == 2**14
    sizes, hold = [], connections._hold
    monkeypatch.setattr(connections, "_hold", lambda held, size: (sizes.append(size), hold(held, size)))
    with pytest.raises(TurnedAwayError, match="no request for a certificate"):
        link.send("POST", "/v1/renew", {"request": "x" * 900_000})
    assert link.send("GET", "/v1/poll?wait=0").status == 204
    assert 2**15 <= max(sizes) <= 2**18 and len(connection._ssl_buffer) == connections.READ, sizes
    link.close()
    until = time.monotonic() + 10
    while connection._sslobj is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(connection._ssl_buffer) == 0 and connection._incoming.pending == 0


def test_who_says_nothing_is_not_waited_for(network):
    address = urlsplit(network.url)
    with socket.create_connection((address.hostname, address.port), 10.0) as silent:
        assert silent.recv(1) == b""  # closed by the other side
