"""Whatever is sent to a handler of the coordinator has an answer: no crash, no error of the server, no growth."""

from __future__ import annotations

import base64
import gc
import hashlib
import http.client
import json
import logging
import socket
import threading
import time
from pathlib import Path
from random import Random
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from aiohttp.http_exceptions import HttpProcessingError

import hansa
from hansa.network import identity, tls, wire
from hansa.network.durable import Disk
from hansa.network.link import Link
from hansa.network.membership import join
from hansa.network.operating import Operator, init
from hansa.network.operations import SIZE
from hansa.network.remote import login
from hansa.network.settings import Settings
from hansa.network.submissions import RunTerms
from hansa.network.verifying import verify
from tests.fuzzing.damages import ODD_TEXTS, damaged_bytes, damaged_json, odd_value

EXPECTED = {200, 202, 204, 206, 400, 401, 403, 404, 405, 409, 411, 413, 414, 416, 417, 422, 431, 501, 503}
MOST_GROWTH = 8 * 2**20


@hansa.federated_computation("{float32[1000]}@CLIENTS")
def total(readings):
    return hansa.federated_sum(readings)


class Fuzzer:
    """A device that has a task, or a stranger, and sends what comes to its mind."""

    def __init__(self, network, folder, random):
        self.random, self.url = random, urlsplit(network.url)
        self.invitation = network.invite("fuzz")
        self.member = join(folder, self.invitation)
        with Operator(network.folder) as operator:
            login(folder / "eve", operator.invite_operator("eve"))
        authority = self.member.authority
        eve = tls.device_context(authority, folder / "eve" / "operator.pem", folder / "eve" / "operator.key")
        self.contexts = [self.member.context, tls.device_context(authority), eve]
        self.csr = identity.request(identity.private_key(folder / "device.key", Disk()))
        self.other_csr = identity.request(identity.private_key(folder / "other.key", Disk()))
        (work,) = network.prepare(total).clients
        self.good = b"".join(wire.encoded(work.boundary.ports, [np.ones(1000, np.float32)]))
        self.program = hashlib.sha256(work.file).hexdigest()
        self.task, self.connections, self.statuses = "", [None, None, None], {}

    def one(self):
        """One request, by the device or by a stranger."""
        who = int(self.random.random() < 0.15)
        if self.random.random() < 0.04:
            self.no_http(who)
            return
        if self.random.random() < 0.2:  # by somebody who may, mostly
            who, (method, path, headers, body) = self.random.choice([2, 2, 2, who]), self.operation()
        else:
            method, path, headers, body = self.request()
        connection = self.connections[who] or http.client.HTTPSConnection(
            self.url.hostname, self.url.port, context=self.contexts[who], timeout=3.0
        )
        self.connections[who] = connection
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            assert response.status in EXPECTED, (response.status, method, path, headers, body)
            if response.will_close:
                raise ConnectionError
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
            UnicodeError,
        ):  # ValueError: what http.client won't send
            connection.close()
            self.connections[who] = None

    def give(self):
        """Its contribution, as it should be."""
        digest = hashlib.sha256(self.good).hexdigest()
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(self.good))}
        link = Link(self.member.url, self.member.context)
        answer = link.send("PUT", f"/v1/tasks/{self.task}/{digest}", self.good, headers)
        assert answer.json["outcome"] in ("counted", "invalid", "refused", "crashed"), answer
        link.close()

    def request(self):
        """A request that may be right but for something."""
        random, digest = self.random, hashlib.sha256(self.good).hexdigest()
        task = random.choice([self.task, self.task, "a" * 32, _quoted(random.choice(ODD_TEXTS))])
        digest = random.choice([digest, digest, "0" * 64, _quoted(random.choice(ODD_TEXTS))])
        headers = {} if random.random() < 0.7 else self.odd_headers()
        kind = random.randrange(9)
        if kind == 0:
            asked = {"token": random.choice([self.invitation.secret, "guessed"]), "request": self.other_csr}
            return "POST", "/v1/enrol", headers, self.damaged(asked)
        if kind == 1:
            return "POST", "/v1/renew", headers, self.damaged({"request": self.csr})
        if kind == 2:
            wait = random.choice(["0", "0.001", "-1", "nan", "soon", "", "0&wait=5", "0x10"])
            return "GET", f"/v1/poll?wait={wait}", headers, None
        if kind == 3:
            name = random.choice([self.program, digest, "..%2f..%2fledger.db", "%00"])
            return random.choice(["GET", "HEAD"]), f"/v1/blobs/{name}", headers, None
        if kind == 4:
            return "POST", f"/v1/tasks/{task}/progress", headers, self.damaged({"figure": random.random()})
        if kind == 5:
            asked = {"outcome": random.choice(["counted", "late", "invalid"]), "reason": "why"}
            return "POST", f"/v1/tasks/{task}/outcome", headers, self.damaged(asked)
        if kind == 6:
            return "HEAD", f"/v1/tasks/{task}/{digest}", headers, None
        if kind == 7:
            body = damaged_bytes(random, self.good)[: random.choice([None, 10, 100])]
            total = random.choice([len(self.good), len(body), len(body) + 7, "-3", "many", "9" * 5000])
            offset = random.choice(["0", "0", "7", "-1", str(10**30), "x"])
            return "PUT", f"/v1/tasks/{task}/{digest}", {
                "Upload-Length": str(total), "Upload-Offset": offset, **headers
            }, body  # fmt: skip
        method = random.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
        return method, "/" + _quoted(random.choice(["v1", "v1/preview", "", *ODD_TEXTS]), "/"), headers, b"x"

    def operation(self):
        """What an operator asks for, that may be right but for something."""
        random = self.random
        headers = {} if random.random() < 0.8 else self.odd_headers()
        name = random.choice(["first", "first", "second", "..", _quoted(random.choice(ODD_TEXTS))])
        kind = random.randrange(5)
        if kind == 0:
            program = b"stages" * random.randrange(3)
            terms = RunTerms("first", 3, 2, 1, 1.0, 60.0, None, hashlib.sha256(program).hexdigest()).to_json()
            head = json.dumps(terms).encode() if random.random() < 0.5 else self.damaged(terms)
            size = SIZE.pack(random.choice([len(head), len(head), 0, 2**40, len(head) + 1]))
            return "PUT", f"/v1/runs/{name}", headers, size + head + program
        if kind == 1:
            asked = {"token": random.choice([self.invitation.secret, "guessed"]), "request": self.other_csr}
            return "POST", "/v1/operators/enrol", headers, self.damaged(asked)
        if kind == 2:
            begin = random.choice(["", "?from=0", "?from=-1", "?from=9" + "9" * 30, "?from=x", "?from=0&from=1"])
            return "GET", f"/v1/runs/{name}/log{begin}", headers, None
        if kind == 3:
            return random.choice(["GET", "HEAD"]), f"/v1/runs/{name}/checkpoint", headers, None
        return random.choice([("POST", f"/v1/runs/{name}/stop", headers, b"{}"), ("GET", "/v1/runs", headers, None)])

    def odd_headers(self):
        random = self.random
        found = {}
        for name in random.sample(["Range", "Content-Type", "Upload-Offset", "Upload-Length", "If-Range", "Expect"], 2):
            found[name] = random.choice(
                ["bytes=0-", "bytes=9999999-", "bytes=5-2", "x" * 9000, "1", "-1", "nan", "\xff"]
            )
        return found

    def damaged(self, asked):
        kind = self.random.random()
        if kind < 0.3:
            return damaged_bytes(self.random, json.dumps(asked).encode())
        value = damaged_json(self.random, asked) if kind < 0.8 else odd_value(self.random)
        return json.dumps(value, default=str).encode("utf-8", "surrogatepass")

    def no_http(self, who):
        """Bytes that are hardly HTTP, or no TLS."""
        random = self.random
        data = damaged_bytes(random, b"GET /v1/poll?wait=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        with socket.create_connection((self.url.hostname, self.url.port), 3.0) as plain:
            plain.settimeout(0.05)
            try:
                if random.random() < 0.3:
                    plain.sendall(data)
                    plain.recv(100)
                    return
                plain.settimeout(3.0)
                with self.contexts[who].wrap_socket(plain, server_hostname=self.url.hostname) as secret:
                    secret.settimeout(0.05)
                    secret.sendall(data)
                    answer = secret.recv(1000)
                    assert b" 500 " not in answer[:20], data
            except OSError:
                return


def _quoted(text, safe=""):
    return quote(text, safe, errors="surrogatepass")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Errors(logging.Filter):
    """Keeps what is logged as text, and nothing else does: records keep the connections that their tracebacks name.

    It is a filter, as pytest keeps the records of all loggers.
    """

    def __init__(self):
        super().__init__()
        self.texts, self._form = [], logging.Formatter()

    def filter(self, record):
        if record.levelno >= logging.ERROR and not _is_of_http(record):
            self.texts.append(self._form.format(record))
        return False


@pytest.fixture
def errors(monkeypatch):
    """What aiohttp and asyncio log as errors, but for requests that are no HTTP."""
    found = Errors()
    for name in ("aiohttp.server", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [found])
    return found.texts


@pytest.fixture
def pythons_collector():
    """Python's collector as it is by itself: in tests it goes through objects less often (`tests/conftest.py`)."""
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.parametrize(
    "requests", [pytest.param(600, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.whole)]
)
def test_whatever_is_sent_has_an_answer(tmp_path, errors, pythons_collector, requests):
    seed = 1
    init(tmp_path / "net", Settings(port=0))
    with hansa.network.serve(tmp_path / "net", port=0) as network:
        fuzzer = Fuzzer(network, tmp_path / "device", Random(seed))
        ended = []
        caller = threading.Thread(target=lambda: ended.append(_called(network)))
        caller.start()
        while not fuzzer.task:  # it has come for its task
            assert caller.is_alive()
            running = list(network._coordinator._running.values())
            fuzzer.task = running[0].key.task_id(fuzzer.member.name) if running else ""
            time.sleep(0.01)
        for number in range(requests):
            if number == requests // 4:
                before = resident()
            fuzzer.one()
        growth = resident() - before
        assert growth < MOST_GROWTH, f"{growth / 2**20:.0f} MiB"
        assert not errors, errors[0]
        assert network._coordinator.failed is None
        assert {200, 400, 401, 403, 404, 409} <= set(fuzzer.statuses), fuzzer.statuses
        # It works as before: the device gives what it should, unless something odd of it has ended the task.
        fuzzer.give()
        caller.join(80)
        assert ended, "the call does not end"
        assert all(each.state == "ok" for each in verify(tmp_path / "net"))


def _is_of_http(record):
    """Whether it tells of a request that was no HTTP, which aiohttp logs and answers itself."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)


def _called(network):
    try:
        with hansa.runtime(network):
            return np.asarray(total(network.devices(["fuzz"], deadline=60.0)))
    except hansa.AbandonedError as error:
        return str(error)


def test_texts_of_invitations_that_were_damaged_are_refused():
    whole = hansa.network.Invitation("https://127.0.0.1:1", "-----BEGIN CERTIFICATE-----", "secret").to_text()
    random = Random(3)
    for _ in range(300):
        text = damaged_bytes(random, whole.encode()).decode("latin-1")
        try:
            found = hansa.network.Invitation.from_text(text)
        except ValueError:
            continue
        assert base64.urlsafe_b64decode(found.to_text().removeprefix("hansa1."))
