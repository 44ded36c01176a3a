"""What does not run on devices is said where it is asked for, before any device works."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import hansa
from hansa._lock import InUseError
from hansa.network.device import Device
from hansa.network.device_log import lines_of
from hansa.network.holdings import Holdings
from hansa.network.membership import InvitationError, join
from hansa.network.orders import Order, OrderError


@hansa.federated_computation("{float32}@CLIENTS")
def average(readings):
    return hansa.federated_mean(readings)


@hansa.federated_computation("{int32}@CLIENTS")
def hidden(readings):
    return hansa.federated_secure_sum(readings, 10)


@hansa.federated_computation("{float32}@CLIENTS")
def doubled(readings):
    return hansa.federated_map(hansa.jax_computation(lambda x: 2 * x), readings)


@hansa.federated_computation("{float32}@CLIENTS")
def collected(readings):
    return hansa.federated_collect(readings)


@hansa.federated_computation("{float32}@CLIENTS", "{float32}@CLIENTS")
def difference(a, b):
    return hansa.federated_mean(hansa.federated_map(hansa.jax_computation(lambda a, b: a - b), [a, b]))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with hansa.network.serve(tmp_path_factory.mktemp("coordinator"), port=0) as network, hansa.runtime(network):
        yield network


SOME = hansa.network.Devices(["nobody"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hidden(SOME), TypeError, "nobody is to see a client's contribution .* unprotected=True"),
        (lambda: doubled(SOME), TypeError, "is what each client has, or is collected of them"),
        (lambda: collected(SOME), TypeError, "devices keep what they have: aggregate it"),
        (lambda: difference(SOME, [1.0]), TypeError, "this call runs on devices, which have values of their own"),
        (lambda: difference(SOME, hansa.network.Devices(["other"])), TypeError, "other devices, .* pass the same"),
        (lambda: average(SOME), ValueError, "no device of client 'nobody' is enrolled; 0 others are"),
        (lambda: average(hansa.network.Devices(2, patience=0.1)), hansa.AbandonedError, "0 devices can be asked"),
        (lambda: hansa.network.Devices(2, over_select=0.5), ValueError, "over_select must be a number of 1 or more"),
        (lambda: hansa.network.Devices(2, data="plan"), TypeError, r"data must be a plan, population.plan\(\)"),
        (lambda: hansa.network.Devices(2, deadline=0), ValueError, "deadline must be a positive number of seconds"),
    ],
)
def test_a_call_that_cannot_be_is_refused(call, error, message, network):
    with pytest.raises(error, match=message):
        call()


def test_devices_are_refused_by_a_runtime_in_this_process():
    with hansa.runtime(hansa.InProcessRuntime()), pytest.raises(TypeError, match="whose data is elsewhere"):
        average(SOME)


def test_what_has_no_devices_runs_in_this_process(network):
    assert average([1.0, 2.0]) == 1.5


def test_nobody_is_enrolled_is_said(network):
    with pytest.raises(ValueError, match="no device is enrolled yet"):
        network.devices()


@pytest.mark.parametrize("text", ["", "hansa1.", "hansa1.bm90IGpzb24=", "https://coordinator:8443"])
def test_what_is_no_invitation_is_refused(text):
    with pytest.raises(InvitationError, match="this is no invitation of a network"):
        hansa.network.Invitation.from_text(text)


def test_one_process_is_a_device_and_one_has_a_coordinator(network, tmp_path):
    member = join(tmp_path / "ann", network.invite("ann"))
    device = Device(member, Holdings({}))
    with pytest.raises(InUseError):
        Device(member, Holdings({}))
    device.close()
    Device(member, Holdings({})).close()
    with hansa.network.serve(tmp_path / "other", port=0), pytest.raises(InUseError):
        hansa.network.serve(tmp_path / "other", port=0)
    network.revoke(member.name)


@pytest.mark.parametrize(
    ("arrays", "outcome", "reason"),
    [
        ({"x": np.float32(1), "y": np.float32(2)}, "refused", "there is no 'the argument'; the client has 'x', 'y'"),
        ({"readings": np.zeros(3, np.float32)}, "refused", "the data here is none for 'the argument' of type float32"),
        ({"readings": np.float32(3)}, "counted", None),
    ],
)
def test_a_device_says_why_its_data_does_not_do_and_notes_what_has_left(network, tmp_path, arrays, outcome, reason):
    client = f"client of {sorted(arrays)} {outcome}"
    member = join(tmp_path / "device", network.invite(client))
    device = Device(member, Holdings(arrays), poll_seconds=10.0)
    thread = threading.Thread(target=device.once)
    thread.start()
    if outcome == "counted":
        assert average(network.devices([client])) == 3.0
    else:
        with pytest.raises(hansa.AbandonedError, match="1 refused"):
            average(network.devices([client]))
    thread.join()
    device.close()
    told = network.outcomes()[-1]
    assert told["outcome"] == outcome and (reason is None or reason in told["reason"])
    (line,) = lines_of(member.folder)
    assert (line["outcome"], line["computation"]) == (outcome, "average")
    assert (line["bytes"] > 0) == (outcome == "counted") and line["digest"] == told["digest"]
    network.revoke(member.name)


@pytest.mark.parametrize("value", [None, [], {"format": 2}, {"format": 1}, {"format": 1, "task": "../x"}])
def test_what_is_no_order_is_refused_by_the_device(value):
    with pytest.raises(OrderError):
        Order.from_json(json.loads(json.dumps(value)))
