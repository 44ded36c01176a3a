"""Certificates out of their time, of another name or use, and older versions of TLS: refused on both sides."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import hansa
from hansa.network import identity, tls
from hansa.network.authority import Authority
from hansa.network.durable import Disk
from hansa.network.holdings import Holdings
from hansa.network.link import Link, TurnedAwayError, UnreachableError
from hansa.network.membership import InvitationError, join
from hansa.network.network import AUTHORITY
from hansa.network.operating import Operator, init
from hansa.network.remote import Remote, login
from hansa.network.settings import NetworkError, Settings

DAY = timedelta(days=1)
OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with hansa.network.serve(tmp_path_factory.mktemp("coordinator"), port=0) as network:
        yield network


@pytest.fixture
def member(network, tmp_path, request):
    return join(tmp_path / "device", network.invite(request.node.name))


def certificate(network, path, like, key, begin, end):
    """A certificate like another one, signed by the network's authority, for a time from now on."""
    authority = Authority(network.folder / AUTHORITY, Disk())
    before, now = x509.load_pem_x509_certificate(like.read_bytes()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(before.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
    )
    for extension in before.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(authority._key, hashes.SHA256())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return tls.fingerprint(made.public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize(
    ("begin", "end", "is_let_in"), [(-DAY, DAY, True), (-2 * DAY, -DAY, False), (DAY, 2 * DAY, False)]
)
def test_a_device_comes_with_a_certificate_that_is_valid_now(network, member, tmp_path, begin, end, is_let_in):
    key = identity.private_key(member.folder / "device.key", Disk())
    made = certificate(network, tmp_path / "other.pem", member.folder / "device.pem", key, begin, end)
    network._coordinator.registry.renew(member.name, made)  # the ledger has it, so only its time is wrong
    network._coordinator.refresh()
    link = Link(network.url, tls.device_context(member.authority, tmp_path / "other.pem", member.folder / "device.key"))
    if is_let_in:
        assert link.send("GET", "/v1/poll?wait=0").status == 204
        return
    with pytest.raises(UnreachableError):  # there is no connection
        link.send("GET", "/v1/poll?wait=0")


def expire(network, folder, role):
    """Puts an expired certificate in the place of a member's own."""
    key, path = identity.private_key(folder / f"{role}.key", Disk()), folder / f"{role}.pem"
    return certificate(network, path, path, key, -2 * DAY, -DAY)


def test_a_device_whose_certificate_has_expired_says_so_and_is_invited_again(network, member, request):
    expire(network, member.folder, "device")
    device = hansa.network.Device(member, Holdings({"x": 1.0}), poll_seconds=0.1)
    with pytest.raises(TurnedAwayError, match=r"has expired, at .* ask the operator for a new invitation"):
        device.run()
    assert join(member.folder, hansa.network.Invitation("", "", "")) == member  # without an invitation nothing changes
    mine, other = network.invite(request.node.name), network.invite("another client")
    assert join(member.folder, mine) == member
    assert member.link().send("GET", "/v1/poll?wait=0").status == 204
    expire(network, member.folder, "device")
    with pytest.raises(InvitationError, match="a device with this key is enrolled"):
        join(member.folder, other)
    network.revoke(member.name)
    with pytest.raises(InvitationError, match="has a device already"):
        join(member.folder, network.invite(request.node.name))


def test_the_certificate_of_an_operator_is_renewed_and_an_expired_one_is_replaced_by_an_invitation(
    tmp_path, monkeypatch
):
    init(tmp_path / "net", Settings(port=0))
    with hansa.network.serve(tmp_path / "net", port=0) as network, Operator(tmp_path / "net") as operator:
        folder = tmp_path / "eve"
        made = login(folder, operator.invite_operator("eve"))
        before = tls.device_context(made["authority"], folder / "operator.pem", folder / "operator.key")
        with monkeypatch.context() as patched:
            patched.setattr("hansa.network.identity.is_to_be_renewed", lambda certificate: True)
            renewed = Remote(folder)
        old = Link(network.url, before)
        assert old.send("GET", "/v1/runs").status == 200  # until it comes with the new one
        assert renewed.runs() == []
        with pytest.raises(TurnedAwayError):
            old.send("GET", "/v1/runs")
        expire(network, folder, "operator")
        with pytest.raises(NetworkError, match=r"certificate of this operator has expired.*hansa network login"):
            Remote(folder)
        again = login(folder, operator.invite_operator("eve"))
        assert again == made and Remote(folder).runs() == []
        operator.revoke_operator("eve")
        with pytest.raises(InvitationError, match="was revoked"):
            login(folder, operator.invite_operator("eve"))


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_device_that_is_revoked_is_let_in_no_more(network, member, when):
    link = Link(network.url, member.context)
    if when == "while":
        assert link.send("GET", "/v1/poll?wait=0").status == 204
    network.revoke(member.name)
    with pytest.raises(TurnedAwayError, match="was revoked"):
        link.send("GET", "/v1/poll?wait=0")
    with pytest.raises(TurnedAwayError, match="was revoked"):
        link.send("POST", "/v1/renew", {"request": "any"})


@contextlib.contextmanager
def posing(context):
    """A server that poses as the coordinator, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10.0)

        def answer():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection, context.wrap_socket(connection, server_side=True) as secret:
                    secret.recv(1000)
                    secret.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("good", None),
        ("expired", "certificate has expired"),
        ("not yet", "certificate is not yet valid"),
        ("another name", "mismatch|doesn't match"),
        ("a device's", "unsuitable certificate purpose|unsupported certificate purpose|mismatch|doesn't match"),
    ],
)
def test_a_device_believes_the_coordinators_certificate_alone(network, member, tmp_path, what, message):
    folder = network.folder / AUTHORITY
    key_path, like, span = folder / "coordinator.key", folder / "coordinator.pem", (-DAY, DAY)
    if what == "expired":
        span = (-2 * DAY, -DAY)
    elif what == "not yet":
        span = (DAY, 2 * DAY)
    elif what == "another name":
        authority = Authority(folder, Disk())
        made = authority._made("coordinator", identity.private_key(key_path, Disk()).public_key(), DAY, hosts=["other"])
        like = tmp_path / "like.pem"
        like.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    elif what == "a device's":
        key_path, like = member.folder / "device.key", member.folder / "device.pem"
    certificate(network, tmp_path / "posing.pem", like, identity.private_key(key_path, Disk()), *span)
    with posing(tls.server_context(tmp_path / "posing.pem", key_path, folder / "authority.pem")) as url:
        link = Link(url, member.context)
        if message is None:
            assert link.send("GET", "/v1/poll").status == 204
        else:
            with pytest.raises(TurnedAwayError, match=message):
                link.send("GET", "/v1/poll")


def of_version(context, version):
    """A context that speaks this version alone, with whatever ciphers there are."""
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    context.minimum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", OLD, ids=lambda version: version.name)
def test_nothing_older_than_tls_1_3_is_spoken_by_either_side(network, member, version):
    address = urlsplit(network.url)
    connection = http.client.HTTPSConnection(
        address.hostname, address.port, context=of_version(member.context, version), timeout=10.0
    )
    with pytest.raises(ssl.SSLError):
        connection.request("GET", "/v1/poll?wait=0")
    folder = network.folder / AUTHORITY
    server = tls.server_context(folder / "coordinator.pem", folder / "coordinator.key", folder / "authority.pem")
    with posing(of_version(server, version)) as url, pytest.raises(UnreachableError, match=r"(?i)version|handshake"):
        Link(url, member.context).send("GET", "/v1/poll")


def test_what_is_spoken_is_tls_1_3_with_ciphers_of_that(network, member):
    address = urlsplit(network.url)
    with (
        socket.create_connection((address.hostname, address.port), 10.0) as plain,
        member.context.wrap_socket(plain, server_hostname=address.hostname) as secret,
    ):
        assert secret.version() == "TLSv1.3" and secret.cipher()[1] == "TLSv1.3" and secret.compression() is None
