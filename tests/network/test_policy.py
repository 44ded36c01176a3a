"""What the owner of a device allows, and what is refused with its reason."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from hansa.compiler.artifacts.device import Contribution
from hansa.compiler.artifacts.ports import Port
from hansa.network.device import Device
from hansa.network.device_log import DeviceLog, lines_of
from hansa.network.durable import Disk
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.orders import Order, Sent
from hansa.network.policy import Policy, PolicyError
from hansa.network.signing import Signer, is_signed, is_signer
from hansa.network.tasks import PhaseKey
from hansa.types import to_type

PROGRAM = "ab" * 32
KEY = PhaseKey("run", 1, 1, "round", 0, 0)
ORDER = Order(
    "t", KEY, "next", PROGRAM, 1000, (Sent("model", "cd" * 32, 500),), (), "ann", 7, None, 100, 60.0, 60.0, False,
    cohort=3,
)  # fmt: skip
GIVEN = (Port("update", to_type("<w=float32[3]>")), Port("weight", to_type("float32")))
STAGE = SimpleNamespace(contributions=(Contribution("federated_mean", GIVEN),))


def policy(**tables):
    return Policy.of(tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"accept": {"operations": ["federated_sum"]}}, "lets results leave by federated_sum, and .* federated_mean"),
        ({"accept": {"outputs": ["float32"]}}, "lets float32 leave, and 'update' is of type <w=float32\\[3\\]>"),
        ({"accept": {"min_cohort": 4}}, "asks for 4 devices together, and 3 are asked"),
        ({"limits": {"memory": "1549B"}}, "1,549 bytes of memory, and .* have 1,550"),
        ({"accept": {"signers": ["ed25519:" + "A" * 43 + "="]}}, "certain signers, and nobody is none"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_reason(tables, message):
    with pytest.raises(RefusedError, match=message):
        policy(**tables).check_task(ORDER, STAGE, held=50)


def test_what_is_allowed_is_done():
    Policy().check_task(ORDER, STAGE, held=10**12)
    allowed = {"operations": ["federated_mean"], "outputs": ["<w=float32[3]>", "float32"], "min_cohort": 3}
    policy(accept=allowed, limits={"memory": "1550B"}).check_task(ORDER, STAGE, held=50)


def test_only_programs_of_the_signers_are_taken(tmp_path):
    signer, other = (Signer(tmp_path / name, Disk()) for name in ("a.key", "b.key"))
    assert Signer(tmp_path / "a.key", Disk()).name == signer.name != other.name
    assert is_signer(signer.name) and not is_signer(signer.name[:-2]) and not is_signer("ed25519:")
    trusting = policy(accept={"signers": [signer.name]})
    trusting.check_signer(replace(ORDER, signature=(signer.name, signer.sign(PROGRAM.encode()))))
    wrong = [
        (signer.name, other.sign(PROGRAM.encode())),
        (signer.name, signer.sign(b"ef" * 32)),
        (signer.name, "no Base64"),
        (signer.name, ""),
        (other.name, other.sign(PROGRAM.encode())),
    ]
    for signature in wrong:
        with pytest.raises(RefusedError, match=r"signer|signature of the program is not right"):
            trusting.check_signer(replace(ORDER, signature=signature))
    assert not is_signed(PROGRAM.encode(), "nobody", signer.sign(PROGRAM.encode()))
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0


def test_bytes_of_a_day_are_counted_from_the_log_by_the_devices_clock(tmp_path):
    log, now = DeviceLog(tmp_path), time.time()
    for at, size in ((now - 2 * 86400, 1000), (now, 60)):
        log.add({"at": at, "bytes": size, "outcome": "counted"})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"at": 5, "byt')  # a kill
    assert [line["bytes"] for line in lines_of(tmp_path)] == [1000, 60]
    today = DeviceLog(tmp_path).left_today(now)
    assert today == log.left_today(now) == 60
    limited = policy(limits={"bytes_up_per_day": 100})
    limited.check_leaving(40, today)
    with pytest.raises(RefusedError, match=r"lets 100 bytes leave in a day: 60 have left today, and .* has 41"):
        limited.check_leaving(41, today)


def test_what_leaves_is_noted_before_it_does(tmp_path):
    log, now = DeviceLog(tmp_path), time.time()
    log.leaving("a", "da", 100)
    log.leaving("a", "da", 100)  # sent again
    assert log.left_today() == 100
    log.add({"at": now, "task": "a", "digest": "da", "bytes": 100, "outcome": "counted"})
    log.leaving("b", "db", 20)
    again = DeviceLog(tmp_path)  # after a kill
    assert again.left_today() == log.left_today() == 120
    assert [(line["task"], line["outcome"]) for line in lines_of(tmp_path)] == [("a", "counted"), ("b", "not known")]
    again.leaving("b", "db", 20)
    again.add({"at": now, "task": "b", "digest": "db", "bytes": 20, "outcome": "late"})
    assert again.left_today() == DeviceLog(tmp_path).left_today() == 120
    assert [line["outcome"] for line in lines_of(tmp_path)] == ["counted", "late"]


def test_a_device_asks_with_power_and_limits_seconds_of_another_process(tmp_path):
    assert policy(when={"power": "plugged"}).has_power(lambda: True)
    assert not policy(when={"power": "plugged"}).has_power(lambda: False)
    assert Policy().has_power(lambda: False)
    limited = policy(limits={"seconds_per_task": 600})
    assert limited.seconds_per_task == 600.0
    with pytest.raises(ValueError, match="limits a process of its own"):
        Device(None, Holdings({}), policy=limited)


@pytest.mark.parametrize(
    ("hours", "at", "is_open"),
    [
        ("22:00-06:00", "23:30", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("22:00-06:00", "12:00", False),
        ("08:00-18:00", "08:00", True),
        ("08:00-18:00", "18:00", False),
    ],
)
def test_a_device_asks_in_its_hours(hours, at, is_open):
    assert policy(when={"hours": hours}).is_open(datetime.fromisoformat(f"2026-05-05T{at}")) is is_open
    assert Policy().is_open(datetime.fromisoformat(f"2026-05-05T{at}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[accepts]", "there is no table 'accepts'; the tables are accept, limits, when"),
        ("accept = 1", "there is no table 'accept'"),
        ("[accept]\nmin_cohorts = 2", r"no key 'min_cohorts' in \[accept\]; the keys are signers, operations"),
        ("[accept]\nmin_cohort = 0", "accept.min_cohort must be a number of devices, 1 or more; found 0"),
        ("[accept]\nmin_cohort = true", "accept.min_cohort must be"),
        ("[accept]\noutputs = ['floot32']", "accept.outputs"),
        ("[accept]\noperations = []", "accept.operations must be a list of texts"),
        ("[accept]\nsigners = ['ann']", "accept.signers: 'ann' is no signer"),
        ("[limits]\nmemory = '2 apples'", 'limits.memory must be a number of bytes, such as "200MB"'),
        ("[limits]\nmemory = -1", "limits.memory must be a number of bytes"),
        ("[when]\nhours = '25:00-06:00'", 'when.hours must be such as "22:00-06:00"'),
        ("[when]\npower = 'full'", "when.power must be \"plugged\", or not be there; found 'full'"),
        ("[limits]\nseconds_per_task = 0", "limits.seconds_per_task must be a positive number of seconds; found 0"),
        ("[when", "policy.toml"),
    ],
)
def test_a_policy_that_is_none_says_where(tmp_path, text, message):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError, match=message):
        Policy.read(tmp_path / "policy.toml")


def test_units_of_bytes():
    found = [policy(limits={"memory": each}).memory for each in (7, "7", "7B", "7 kB", "7MiB", "2GB")]
    assert found == [7, 7, 7, 7000, 7 * 2**20, 2 * 10**9]
