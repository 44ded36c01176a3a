"""Devices that are not what they should be: each is told why, and the result is the good one's alone."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hansa
from hansa.network import identity, tls, wire
from hansa.network.authority import Authority
from hansa.network.device import Device
from hansa.network.durable import Disk
from hansa.network.holdings import Holdings
from hansa.network.link import Link, TurnedAwayError, UnreachableError
from hansa.network.membership import Invitation, InvitationError, join


@hansa.federated_computation("{float32[3]}@CLIENTS", "{float32}@CLIENTS")
def average(update, weight):
    return hansa.federated_mean(update, weight, max_norm=100.0, max_weight=50.0)


def bytes_of(ports, update=(1, 2, 3), weight=2.0):
    values = [np.array(update, np.float32), np.float32(weight)]
    kinds = [np.asarray(value).dtype for value in values]
    assert [str(port.type.dtype) for port in ports[:2]] == list(map(str, kinds)), ports
    return b"".join(wire.encoded(ports, values))


class Caller:
    """A device that says what it is told to say."""

    def __init__(self, network, folder, client_id):
        self.member = join(folder, network.invite(client_id))
        self.link = Link(self.member.url, self.member.context)

    def order(self):
        answer = self.link.send("GET", "/v1/poll?wait=20")
        assert answer.status == 200, answer
        return answer.json

    def put(self, task, data, digest=None, offset=0, total=None):
        digest = digest or hashlib.sha256(data).hexdigest()
        headers = {"Upload-Offset": str(offset), "Upload-Length": str(len(data) if total is None else total)}
        return self.link.send("PUT", f"/v1/tasks/{task}/{digest}", data[offset:] if total is None else data, headers)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with hansa.network.serve(tmp_path_factory.mktemp("coordinator"), port=0) as network:
        yield network


@pytest.fixture(scope="module")
def ports(network):
    (work,) = network.prepare(average).clients
    return work.boundary.ports


@pytest.fixture(scope="module")
def good(network, tmp_path_factory):
    """A device that works as it should, in a thread of its own."""
    member = join(tmp_path_factory.mktemp("good"), network.invite("good"))
    device = Device(
        member, Holdings({"update": np.array([1, 2, 3], np.float32), "weight": np.float32(2)}), poll_seconds=1.0
    )
    thread = threading.Thread(target=device.run)
    thread.start()
    yield member
    device.stop()
    thread.join(60)


@pytest.fixture
def caller(network, tmp_path, request):
    return Caller(network, tmp_path / "caller", f"bad {request.node.name}")


def called(network, caller, act, clients=None, **options):
    """What a call gives in which a device does something to its task, and the answer that it has last."""
    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(lambda: act(caller.order()["task"]))
        with hansa.runtime(network):
            chosen = clients or ["good", caller.member.client_id]
            result = average(*[network.devices(chosen, deadline=60.0, **options)] * 2)
        return result, acting.result(), network.outcomes()[-1]


BAD = {
    "NaN": (lambda c, p, t: c.put(t, bytes_of(p, (1, np.nan, 0))), "not all finite"),
    "a weight below zero": (lambda c, p, t: c.put(t, bytes_of(p, weight=-1)), "a weight is 0 or more"),
    "a weight too large": (lambda c, p, t: c.put(t, bytes_of(p, weight=51)), "more than max_weight=50"),
    "a norm too large": (lambda c, p, t: c.put(t, bytes_of(p, (1e30, 0, 0))), "more than max_norm=100"),
    "another layout": (lambda c, p, t: c.put(t, bytes_of(p)[:-4]), "the header says"),
    "too many bytes": (lambda c, p, t: c.put(t, bytes(10**6)), "more than the"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_invalid_is_told_why_and_never_in_the_result(kind, network, good, ports, caller):
    act, reason = BAD[kind]
    result, answer, outcome = called(network, caller, lambda task: act(caller, ports, task))
    assert np.asarray(result).tolist() == [1, 2, 3]
    assert answer.status == 200 and answer.json["outcome"] == "invalid" and reason in answer.json["reason"]
    assert (outcome["outcome"], outcome["reason"]) == ("invalid", answer.json["reason"])


def test_damage_on_the_way_is_asked_for_again_and_is_no_outcome(network, good, ports, caller):
    def act(task):
        data = bytes_of(ports, (3, 2, 1))
        first = caller.put(task, b"\0" + data[1:], hashlib.sha256(data).hexdigest())
        assert (first.status, first.json["again"]) == (422, True)
        return caller.put(task, data)

    result, answer, outcome = called(network, caller, act)
    assert answer.json["outcome"] == outcome["outcome"] == "counted"
    assert np.asarray(result).tolist() == [2, 2, 2]


def test_repeats_have_the_same_answer_and_other_bytes_are_refused(network, good, ports, caller):
    def act(task):
        data = bytes_of(ports, (3, 2, 1))
        answers = [caller.put(task, data), caller.put(task, data), caller.put(task, bytes_of(ports, (9, 9, 9)))]
        return [answer.json for answer in answers], task

    result, (told, task), _ = called(network, caller, act)
    assert [each["outcome"] for each in told] == ["counted", "counted", "refused"]
    assert np.asarray(result).tolist() == [2, 2, 2]
    assert caller.put(task, bytes_of(ports, (3, 2, 1))).json["outcome"] == "counted"  # long after
    assert caller.put(task, bytes_of(ports, (9, 9, 9))).json["outcome"] == "refused"


def test_half_an_upload_is_gone_on_with(network, tmp_path):
    @hansa.federated_computation("{float32[50000]}@CLIENTS")
    def total(large):
        return hansa.federated_sum(large)

    (work,) = network.prepare(total).clients
    data = b"".join(wire.encoded(work.boundary.ports, [np.arange(50000, dtype=np.float32)]))
    digest, half = hashlib.sha256(data).hexdigest(), 70_001
    caller = Caller(network, tmp_path, "in parts")
    with ThreadPoolExecutor(1) as pool, hansa.runtime(network):
        acting = pool.submit(lambda: _in_parts(caller, data, digest, half))
        result = total(network.devices(["in parts"], deadline=60.0))
    assert acting.result() == "counted"
    assert np.asarray(result).tolist() == list(range(50000))


def _in_parts(caller, data, digest, half):
    task = caller.order()["task"]
    assert caller.put(task, data[:half], digest, total=len(data)).json == {"offset": half}
    head = caller.link.send("HEAD", f"/v1/tasks/{task}/{digest}")
    assert head.headers["upload-offset"] == str(half)
    assert caller.put(task, data, digest, half + 1).status == 409
    return caller.put(task, data, digest, half).json["outcome"]


def test_a_task_of_another_device_is_none_of_this_one(network, good, ports, caller, tmp_path):
    other = Caller(network, tmp_path / "other", f"other than {caller.member.client_id}")

    def act(task):
        assert other.put(task, bytes_of(ports)).status == 403
        assert other.link.send("POST", f"/v1/tasks/{task}/outcome", {"outcome": "crashed", "reason": ""}).status == 403
        return caller.link.send("POST", f"/v1/tasks/{task}/outcome", {"outcome": "refused", "reason": "not at night"})

    _, answer, outcome = called(network, caller, act)
    assert (outcome["outcome"], outcome["reason"]) == ("refused", "not at night")
    assert answer.json["outcome"] == "refused"


def test_too_few_abandon_the_call_and_say_how_each_ended(network, good, caller):
    def act(task):
        return caller.link.send("POST", f"/v1/tasks/{task}/outcome", {"outcome": "crashed", "reason": "Traceback"})

    with pytest.raises(hansa.AbandonedError, match=r"1 of 2 devices were counted, and 2 are needed: 1 c.*1 crashed"):
        called(network, caller, act, least=2)


def test_what_is_no_request_has_an_answer_and_no_error_of_the_server(network, caller):
    send = caller.link.send
    assert send("PUT", f"/v1/tasks/{'a' * 32}/{'0' * 64}", b"x", {"Upload-Length": "1"}).status == 403
    assert send("GET", "/v1/poll?wait=soon").status == 400
    assert send("GET", "/v1/blobs/..%2f..%2fledger.db").status == 404
    assert send("GET", f"/v1/blobs/{'0' * 64}").status == 404
    with pytest.raises(TurnedAwayError, match="no request for a certificate"):
        send("POST", "/v1/renew", {"request": "no request"})
    assert send("POST", "/v1/renew", b"[" * 5000).status == 400
    assert send("GET", "/v2/nothing").status == 404


def test_without_a_certificate_there_is_no_answer_but_to_enrolment(network, caller):
    stranger = Link(network.url, tls.device_context(caller.member.authority))
    with pytest.raises(TurnedAwayError, match="a device shows its certificate"):
        stranger.send("GET", "/v1/poll?wait=0")
    with pytest.raises(TurnedAwayError, match="a device shows its certificate"):
        stranger.send("GET", f"/v1/blobs/{'0' * 64}")
    with pytest.raises(TurnedAwayError, match="unknown, or was used"):
        stranger.send("POST", "/v1/enrol", {"token": "guessed", "request": _request(caller)})


def _request(caller):
    return identity.request(identity.private_key(caller.member.folder / "device.key", Disk()))


def test_certificates_of_others_are_not_believed_on_either_side(network, caller, tmp_path):
    foreign = Authority(tmp_path / "foreign", Disk())
    made = foreign.device(_request(caller), caller.member.name)
    (tmp_path / "foreign.pem").write_text(made.pem)
    context = tls.device_context(caller.member.authority, tmp_path / "foreign.pem", caller.member.folder / "device.key")
    with pytest.raises(UnreachableError):
        Link(network.url, context).send("GET", "/v1/poll?wait=0")
    with pytest.raises(TurnedAwayError, match="not the coordinator of this network"):
        Link(network.url, tls.device_context(foreign.pem)).send("GET", "/v1/poll?wait=0")


def test_an_invitation_is_for_one_and_may_be_used_again_by_the_same_key(network, tmp_path):
    invitation = Invitation.from_text(network.invite("once").to_text())
    first = join(tmp_path / "first", invitation)
    (tmp_path / "first" / "device.json").unlink()  # as if the answer had been lost
    assert join(tmp_path / "first", invitation).name == first.name
    with pytest.raises(InvitationError, match="unknown, or was used"):
        join(tmp_path / "second", invitation)


def test_a_new_certificate_replaces_the_one_before_once_it_is_used(network, caller, monkeypatch):
    before = caller.member.context
    monkeypatch.setattr("hansa.network.identity.is_to_be_renewed", lambda certificate: True)
    assert caller.member.renew(caller.link, Disk())
    old = Link(network.url, before)
    assert old.send("GET", "/v1/poll?wait=0").status == 204
    assert caller.link.send("GET", "/v1/poll?wait=0").status == 204
    with pytest.raises(TurnedAwayError):
        old.send("GET", "/v1/poll?wait=0")


def test_ten_gigabytes_that_are_announced_are_not_waited_for(network, good, caller):
    def act(task):
        target = f"/v1/tasks/{task}/{'0' * 64}"
        return caller.link.send("PUT", target, b"", {"Upload-Length": str(10**10), "Upload-Offset": "0"})

    _, answer, outcome = called(network, caller, act)
    assert answer.json["outcome"] == outcome["outcome"] == "invalid"
    assert json.dumps(outcome["reason"]).count("10000000000 bytes are more than") == 1
