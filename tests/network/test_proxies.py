"""A proxy that ends TLS: rounds go through it with the same bits, and it can make, change and repeat nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest

import hansa
from hansa.network import Proxy, tls
from hansa.network.authority import Authority
from hansa.network.durable import Disk
from hansa.network.holdings import Holdings
from hansa.network.link import TurnedAwayError, UnreachableError
from hansa.network.membership import Invitation, InvitationError, join
from hansa.network.operating import Operator, init
from hansa.network.remote import Remote, login
from hansa.network.settings import Settings
from hansa.network.submissions import RunTerms
from tests.network.test_kills import free_port
from tests.network.test_submitting import PROGRAM, TERMS


@dataclass
class Request:
    """What goes through the proxy."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Ending:
    """A proxy with a certificate of its own, which reads and may change what goes through it."""

    folder: object
    target: tuple[str, object] = ("", None)
    seen: list[Request] = field(default_factory=list)

    def __post_init__(self):
        authority = Authority(self.folder, Disk())
        certificate, key = authority.coordinator(["127.0.0.1"])
        self.authority, ending = authority.pem, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    raise AssertionError("bodies have a length")
                asked = ending.change(Request(self.command, self.path, dict(self.headers), body))
                ending.seen.append(asked)
                status, headers, body = ending.answered(asked, *ending.pass_on(asked))
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST = do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = tls.server_context(certificate, key, authority.path)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def change(self, asked):
        """A request, as it is passed on."""
        return asked

    def answered(self, asked, status, headers, body):
        """An answer, as it is given back."""
        return status, headers, body

    def pass_on(self, asked):
        """Asks the coordinator, and gives what it answers."""
        url, context = self.target
        place = urlsplit(url)
        with contextlib.closing(
            http.client.HTTPConnection(place.hostname, place.port, timeout=60)
            if context is None
            else http.client.HTTPSConnection(place.hostname, place.port, timeout=60, context=context)
        ) as connection:
            headers = {k: v for k, v in asked.headers.items() if k not in ("Host", "Content-Length")}
            body = asked.body or (b"" if asked.method in ("PUT", "POST") else None)
            connection.request(asked.method, asked.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


@pytest.fixture
def proxy(tmp_path):
    made = Ending(tmp_path / "proxy")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def network(proxy, tmp_path):
    """A coordinator to which the proxy comes by TLS, without a certificate."""
    init(tmp_path / "net", Settings(port=0, proxy=proxy.url, proxy_authority="proxy.pem"))
    (tmp_path / "net" / "proxy.pem").write_text(proxy.authority)
    before = Settings.read(tmp_path / "net").before(tmp_path / "net")
    with hansa.network.serve(tmp_path / "net", port=0, proxy=before) as network:
        proxy.target = network.url, tls.device_context(network._authority.pem)
        yield network


@pytest.fixture
def member(network, tmp_path):
    return join(tmp_path / "ann", Invitation.from_text(network.invite("ann").to_text()))


@hansa.federated_computation("{float32[30000]}@CLIENTS")
def average(readings):
    return hansa.federated_mean(readings)


def computed(network, member, value):
    """The mean of what the device has, computed by it."""
    values = np.random.default_rng(value).normal(size=30000).astype(np.float32)
    device = hansa.network.Device(member, Holdings({"readings": values}), poll_seconds=2.0)
    running = threading.Thread(target=device.run, daemon=True)
    running.start()
    try:
        with hansa.runtime(network):
            return np.asarray(average(network.devices(["ann"], deadline=60.0))), values
    finally:
        device.stop()
        running.join()


def test_rounds_go_through_it_by_keys_of_ed25519_and_it_reads_no_secret(network, member, proxy, tmp_path):
    found, values = computed(network, member, 1)
    assert found.tobytes() == values.tobytes()
    assert b"ED25519" not in (member.folder / "device.pem").read_bytes()
    assert type(member.credentials._signer()._key).__name__.startswith("Ed25519")
    invitation = network.invite("bo")
    join(tmp_path / "bo", invitation)
    assert not any(invitation.secret.encode() in asked.body for asked in proxy.seen)
    (enrolment,) = [asked for asked in proxy.seen if asked.path == "/v1/enrol" and b"bo" not in asked.body][-1:]
    assert set(json.loads(enrolment.body)) == {"invitation", "proof", "request", "client_id"}


def test_what_it_changes_repeats_or_makes_up_is_turned_away(network, member, proxy):
    link = member.link()
    assert link.send("GET", "/v1/poll?wait=0").status == 204
    good = proxy.seen[-1]
    assert proxy.pass_on(good)[0] == 401  # once more, as it was
    assert b"was made before" in proxy.pass_on(good)[2]
    said = good.headers["Signature-Input"]
    for change, why in (
        ({"path": "/v1/preview"}, b"changed on its way"),
        ({"path": "/v1/poll?wait=1"}, b"changed on its way"),
        ({"method": "POST"}, b"changed on its way"),
        ({"headers": {**good.headers, "Content-Digest": "sha-256=:AAAA:"}}, b"changed on its way"),
        ({"headers": {**good.headers, "Upload-Offset": "0"}}, b"signed over"),
        (
            {"headers": {**good.headers, "Signature-Input": said.replace("created=1", "created=2")}},
            b"changed on its way",
        ),
        ({"headers": {**good.headers, "Hansa-Certificate": "AAAA"}}, b"no certificate of this network"),
        ({"headers": {**good.headers, "Signature": "sig=::"}}, b"is signed by the device"),
    ):
        status, _, body = proxy.pass_on(Request(**{**vars(good), **change}))
        assert status == 401 and why in body, (change, body)
    bare = {k: v for k, v in good.headers.items() if not k.startswith(("Signature", "Hansa"))}
    assert b"shows its certificate" in proxy.pass_on(Request("GET", "/v1/poll?wait=0", bare, b""))[2]
    # A body that is not the one that was signed.
    proxy.change = lambda asked: Request(asked.method, asked.path, asked.headers, asked.body + b" ")
    with pytest.raises(TurnedAwayError, match="the body is not the one that was signed"):
        link.send("POST", "/v1/renew", {"request": "any"})


def test_an_upload_that_it_changes_is_asked_for_again_and_is_no_fault_of_the_device(network, member, proxy):
    changed = []

    def change(asked):
        if asked.method == "PUT" and len(changed) < 3:
            changed.append(asked)
            body = bytearray(asked.body)
            if len(changed) == 1:
                return Request("PUT", asked.path, {**asked.headers, "Upload-Length": "7"}, asked.body)
            if len(changed) == 2:
                body[-1] ^= 1
            else:
                body += b"more"  # of which no more is taken than was signed
            return Request("PUT", asked.path, asked.headers, bytes(body))
        return asked

    proxy.change = change
    found, values = computed(network, member, 2)
    assert found.tobytes() == values.tobytes() and len(changed) == 3
    (outcome,) = network.outcomes()
    assert outcome["outcome"] == "counted" and network.enrolled()[0].strikes == 0


def test_a_device_believes_no_answer_that_it_makes_up(network, member, proxy):
    link = member.link()
    link.send("GET", "/v1/poll?wait=0")
    for answer in (
        lambda asked, status, headers, body: (200, [("Content-Length", "13")], b'{"task": "x"}'),
        lambda asked, status, headers, body: (401, [("Content-Length", "2")], b"{}"),
        lambda asked, status, headers, body: (204, [], b""),
    ):
        proxy.answered = answer
        for _ in range(2):
            with pytest.raises(UnreachableError, match=r"a proxy answers|signed requests|something else than"):
                link.send("GET", "/v1/preview")
    proxy.answered = lambda asked, status, headers, body: (status, headers, body)
    assert link.send("GET", "/v1/preview").status == 204
    network.revoke(member.name)
    with pytest.raises(TurnedAwayError, match="was revoked"):
        link.send("GET", "/v1/preview")


def test_it_can_neither_enrol_with_an_invitation_that_it_has_seen_nor_change_whose_it_is(network, proxy, tmp_path):
    invitation = network.invite()
    proxy.change = lambda asked: Request(
        asked.method, asked.path, asked.headers, asked.body.replace(b'"client_id": "ann"', b'"client_id": "eve"')
    )
    with pytest.raises(InvitationError, match="changed on its way"):
        join(tmp_path / "ann", invitation, "ann")
    proxy.change = lambda asked: asked
    proxy.answered = lambda asked, status, headers, body: (status, headers, body.replace(b'"ann"', b'"eve"'))
    with pytest.raises(InvitationError, match="a proxy has answered"):
        join(tmp_path / "ann", invitation, "ann")
    proxy.answered = lambda asked, status, headers, body: (status, headers, body)
    assert join(tmp_path / "ann", invitation, "ann").client_id == "ann"


def test_clocks_that_are_apart_and_a_coordinator_that_begins_again(network, member, proxy, tmp_path, monkeypatch):
    link = member.link()
    assert link.send("GET", "/v1/poll?wait=0").status == 204
    before = proxy.seen[-1]
    with monkeypatch.context() as patched, pytest.raises(UnreachableError, match=r"-30\d s off the coordinator's"):
        now = datetime.now(UTC)
        patched.setattr("hansa.network.signed_link.time.time", lambda: (now - timedelta(seconds=300)).timestamp())
        link.send("GET", "/v1/poll?wait=0")
    network.close()
    proxied = Proxy(proxy.url, proxy.authority, free_port())
    with hansa.network.serve(tmp_path / "net", port=0, proxy=proxied) as again:
        proxy.target = f"http://127.0.0.1:{proxied.port}", None  # by this machine, without TLS
        assert b"begun again" in proxy.pass_on(before)[2]
        link = member.link()
        link._signer.tag = "before"
        with pytest.raises(UnreachableError, match="begun again"):
            link.send("GET", "/v1/poll?wait=0")
        assert link.send("GET", "/v1/poll?wait=0").status == 204
        found, values = computed(again, member, 3)
        assert found.tobytes() == values.tobytes()
        bare = {k: v for k, v in before.headers.items() if not k.startswith(("Signature", "Hansa"))}
        assert proxy.pass_on(Request("GET", "/v1/poll?wait=0", bare, b""))[0] == 401


def test_operators_submit_through_it_and_it_submits_nothing(network, proxy, tmp_path):
    with Operator(network.folder) as operator:
        login(tmp_path / "eve", operator.invite_operator("eve"))
    with Remote(tmp_path / "eve") as eve:
        proxy.change = lambda asked: Request(
            asked.method, asked.path, asked.headers, asked.body.replace(b'"rounds": 3', b'"rounds": 9')
        )
        with pytest.raises(TurnedAwayError, match="changed on its way"):
            eve.submit(TERMS, PROGRAM)
        proxy.change = lambda asked: asked
        assert eve.runs() == []
        assert eve.submit(TERMS, PROGRAM)["rounds"] == 3
        folder = network.submissions.run_dir("first") / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "round-1.hansa").write_bytes(b"a model")
        assert eve.checkpoint("first", tmp_path / "model") == "round-1.hansa"
        proxy.answered = lambda asked, status, headers, body: (status, headers, body.replace(b"model", b"trojan"[:5]))
        with pytest.raises(UnreachableError, match="changed on its way"):
            eve.checkpoint("first", tmp_path / "model")
        assert (tmp_path / "model").read_bytes() == b"a model"
    assert isinstance(network.submissions.find("first").terms, RunTerms)


def test_without_a_proxy_signatures_are_of_no_use(tmp_path, proxy):
    with hansa.network.serve(tmp_path / "other", port=0) as network:
        proxy.target = network.url, tls.device_context(network._authority.pem)
        member = join(tmp_path / "ann", network.invite("ann"))
        signed = hansa.network.Membership(
            member.folder,
            proxy.url,
            member.authority,
            member.name,
            "ann",
            proxy.authority,
            network._authority.signer.name,
        )
        with pytest.raises(UnreachableError, match="takes no signed requests"):
            signed.link().send("GET", "/v1/poll?wait=0")
