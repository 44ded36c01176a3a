"""The ledger and the spool: what was acknowledged is there after a death at any durable step, once."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from dataclasses import dataclass

import pytest

from hansa._lock import InUseError
from hansa.network import rounds
from hansa.network.durable import Disk, file_system, refuse_network_disks
from hansa.network.ledger import LEDGER, Ledger, broken_audit
from hansa.network.registry import EnrolmentError, Registry, token_of
from hansa.network.schema import VERSION, NewerLedgerError
from hansa.network.spool import Spool
from hansa.network.tasks import Outcome, PhaseKey, RoundTerms, Selected, Status

D0, D1, D2 = (f"d-{i}" * 1 + f"{i}" * 15 for i in range(3))
KEY = PhaseKey("run", 1, 1, "round", 0, 0)
TERMS = RoundTerms(2, 1, 100.0, 10.0)


class Dead(Exception):
    pass


class DyingDisk(Disk):
    """A disk at whose n-th step everything ends."""

    def __init__(self, steps: int) -> None:
        self.left, self.steps = steps, 0

    def reached(self, point):
        self.steps += 1
        self.left -= 1
        if self.left < 0:
            raise Dead(point)


@dataclass
class Certificate:
    fingerprint: str


def enrol(registry, secret, client_id, key):
    return registry.enrol(token_of(secret), client_id, key, lambda name: Certificate(f"of {name}"))[0]


def enrolled(ledger, *clients):
    registry = Registry(ledger)
    return [enrol(registry, registry.invite(client), None, f"{i}" * 16) for i, client in enumerate(clients)]


def cohort_of(devices):
    return [Selected(each.name, i, each.client_id, each.number) for i, each in enumerate(devices)]


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


def test_a_phase_is_found_as_far_as_it_has_got(ledger):
    cohort = cohort_of(enrolled(ledger, "ann", 7, "bo"))
    assert ledger.find_phase(KEY) is None
    opened = ledger.open_phase(KEY, "program", ["sent"], TERMS, cohort).result()
    phase = opened.phase
    for event in (rounds.Asked(D0), rounds.Stored(D1, "abc", 3), rounds.Ended(D2, Outcome.CRASHED, "why")):
        phase, actions = rounds.step(phase, event)
        for action in actions:
            if (done := ledger.carry_out(opened.id, action, b"xyz")) is not None:
                done.result()
    found = ledger.find_phase(KEY)
    assert (found.program, found.sent, found.phase.status) == ("program", ("sent",), Status.OPEN)
    assert [task.outcome for task in found.phase.tasks.values()] == [None, Outcome.COUNTED, Outcome.CRASHED]
    assert [task.taken for task in found.phase.tasks.values()] == [True, True, True]
    assert [task.selected for task in found.phase.tasks.values()] == cohort
    assert ledger.contribution(opened.id, D1) == b"xyz"
    assert ledger.find_task(KEY.task_id(D2), D2).reason == "why"
    assert ledger.find_task(KEY.task_id(D2), D1) is None


def test_an_outcome_is_never_written_over(ledger):
    opened = ledger.open_phase(KEY, "p", [], TERMS, cohort_of(enrolled(ledger, "ann"))).result()
    _, (save, *_) = rounds.step(opened.phase, rounds.Stored(D0, "abc", 3))
    ledger.carry_out(opened.id, save).result()
    _, (other, *_) = rounds.step(opened.phase, rounds.Ended(D0, Outcome.CRASHED, "late"))
    with pytest.raises(RuntimeError, match=r"the task of 'd-0+' has ended before"):
        ledger.carry_out(opened.id, other).result()
    assert ledger.find_phase(KEY).phase.tasks[D0].outcome is Outcome.COUNTED


def test_a_phase_is_begun_once(ledger):
    cohort = cohort_of(enrolled(ledger, "ann"))
    ledger.open_phase(KEY, "p", [], TERMS, cohort).result()
    with pytest.raises(sqlite3.IntegrityError):
        ledger.open_phase(KEY, "p", [], TERMS, cohort).result()


def test_one_process_has_a_ledger(ledger, tmp_path):
    with pytest.raises(InUseError):
        Ledger(tmp_path / "ledger")


def test_a_ledger_of_a_newer_hansa_is_refused_and_given_up(tmp_path):
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / LEDGER) as database:
        database.execute("PRAGMA user_version=99")
    for _ in range(2):  # the lock is free again
        with pytest.raises(NewerLedgerError, match=f"version 99, and this Hansa knows up to {VERSION}"):
            Ledger(tmp_path)


def test_disks_of_the_network_are_refused(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:40 / /data\\040here rw shared:1 - nfs4 server:/x rw\n"
        "3 2 8:2 / /data\\040here/local rw - xfs /dev/sdb rw\n"
    )
    kinds = {"/data here/run": "nfs4", "/data here/local/run": "xfs", "/tmp": "ext4"}
    assert {path: file_system(tmp_path.__class__(path), mounts) for path in kinds} == kinds
    monkeypatch.setattr("hansa.network.durable.file_system", lambda folder: "nfs4")
    with pytest.raises(OSError, match="it is on nfs4, where a ledger is not safe"):
        refuse_network_disks(tmp_path)


def test_tokens_are_used_up_expire_and_may_be_of_one_client(ledger):
    now = [1000.0]
    registry = Registry(ledger, clock=lambda: now[0])
    mine, any_two = registry.invite("ann"), registry.invite(uses=2, seconds=60.0)
    assert enrol(registry, mine, "somebody else", "a" * 16).client_id == "ann"
    with pytest.raises(EnrolmentError, match="was used"):
        enrol(registry, mine, None, "b" * 16)
    with pytest.raises(EnrolmentError, match="unknown"):
        enrol(registry, "guessed", "bo", "b" * 16)
    with pytest.raises(EnrolmentError, match="does not say whose device"):
        enrol(registry, any_two, None, "b" * 16)
    with pytest.raises(EnrolmentError, match="client 'ann' has a device already, 'd-aaaa"):
        enrol(registry, any_two, "ann", "b" * 16)
    assert enrol(registry, any_two, 7, "b" * 16).number == 7
    now[0] += 61
    with pytest.raises(EnrolmentError, match="has expired"):
        enrol(registry, any_two, "7", "c" * 16)
    assert [device.name for device in registry.devices()] == [f"d-{letter * 16}" for letter in "ab"]


def test_three_invalid_contributions_one_after_another_put_a_device_in_quarantine(ledger):
    cohort, registry = cohort_of(enrolled(ledger, "ann")), Registry(ledger)
    outcomes = ["bad", "good", "bad", "bad", "bad"]
    for number, kind in enumerate(outcomes):
        key = PhaseKey("run", number, 1, "round", 0, 0)
        opened = ledger.open_phase(key, "p", [], TERMS, cohort).result()
        event = rounds.Stored(D0, "x", 1) if kind == "good" else rounds.Ended(D0, Outcome.INVALID, "NaN")
        assert not registry.devices()[0].quarantined
        ledger.carry_out(opened.id, rounds.step(opened.phase, event)[1][0]).result()
    assert registry.devices()[0].quarantined


def test_contributions_are_kept_until_a_checkpoint_has_what_became_of_them(ledger):
    """A checkpoint is written after each round and its evaluation, and none between round 0 and the end of round 1."""
    cohort = cohort_of(enrolled(ledger, "ann"))

    def begun(number, attempt, part):
        key = PhaseKey("run", number, attempt, part, 0, 0)
        dropped = [(each.round, each.attempt, each.part) for each in ledger.forget_before(key)]
        ledger.open_phase(key, "p", [], TERMS, cohort).result()
        return dropped

    assert begun(0, 1, "evaluation") == begun(1, 1, "round") == []
    assert begun(1, 2, "round") == [(1, 1, "round")]
    assert begun(1, 1, "evaluation") == []
    assert begun(1, 2, "evaluation") == [(1, 1, "evaluation")]  # and not round 1, which no checkpoint has
    assert sorted(begun(2, 1, "round")) == [(0, 1, "evaluation"), (1, 2, "evaluation"), (1, 2, "round")]


def test_the_audit_tells_when_a_line_was_changed(ledger):
    for i in range(3):
        ledger.note("operator", f"stopped {i}").result()
    assert ledger.ask(broken_audit) is None
    ledger.ask(lambda database: database.execute("UPDATE audit SET what='nothing' WHERE id=2"))
    assert ledger.ask(broken_audit) == 2


def test_writes_of_a_moment_are_one_transaction(ledger):
    before = ledger.writer.commits
    for done in [ledger.note("operator", str(i)) for i in range(200)]:
        done.result()
    assert ledger.writer.commits - before < 50


def test_a_disk_that_fails_fails_all_that_follows(tmp_path):
    disk = DyingDisk(10**9)
    ledger = Ledger(tmp_path, disk)
    ledger.note("operator", "first").result()
    disk.left = 0
    for _ in range(2):
        with pytest.raises(Dead):
            ledger.note("operator", "second").result()
    ledger.close()


def contribute(folder, disk, acknowledged):
    """What a coordinator does with three contributions, of which two are large; gives what it has."""
    ledger = Ledger(folder, disk)
    try:
        spool = Spool(folder / "spool", disk)
        found = ledger.find_phase(KEY)
        if found is None:
            devices = Registry(ledger).devices()
            found = ledger.open_phase(KEY, "p", [], TERMS, cohort_of(devices)).result()
        spool.open_phase(KEY)
        phase, _ = rounds.step(found.phase, rounds.Passed(0))
        for device, data in ((D0, b"large" * 1000), (D1, b"small"), (D2, b"other" * 1000)):
            digest = hashlib.sha256(data).hexdigest()
            small = len(data) < 100
            if phase.tasks[device].outcome is None and not small:
                offset = spool.offset(KEY, device, digest)
                with spool.writing(KEY, device, digest, offset) as file:
                    file.write(data[offset:])
                spool.finish(KEY, device, digest)
            phase, actions = rounds.step(phase, rounds.Stored(device, digest, len(data)))
            for action in actions:
                if (done := ledger.carry_out(found.id, action, data if small else None)) is not None:
                    done.result()
                if isinstance(action, rounds.Answer):
                    assert acknowledged.setdefault(device, action.outcome) == action.outcome
        return {
            each.device: ledger.contribution(found.id, each.device) or spool.path(KEY, each.device).read_bytes()
            for each in phase.counted
        }, phase
    finally:
        ledger.close()


def test_a_death_at_any_durable_step_loses_and_repeats_nothing(tmp_path):
    whole = tmp_path / "whole"
    ledger = Ledger(whole)
    enrolled(ledger, "ann", "bo", "cy")
    ledger.close()
    disk = DyingDisk(10**9)
    shutil.copytree(whole, tmp_path / "undisturbed")
    expected, phase = contribute(tmp_path / "undisturbed", disk, {})
    assert phase.status is Status.CLOSING and sorted(expected) == [D0, D1]
    steps = disk.steps
    assert steps >= 15
    for step in range(steps):
        folder, acknowledged = tmp_path / f"at {step}", {}
        shutil.copytree(whole, folder)
        with pytest.raises(Dead):
            contribute(folder, DyingDisk(step), acknowledged)
        found, phase = contribute(folder, Disk(), acknowledged)
        assert found == expected
        assert {device: task.outcome for device, task in phase.tasks.items()} == {
            D0: Outcome.COUNTED, D1: Outcome.COUNTED, D2: Outcome.OFFLINE
        }  # fmt: skip


def test_a_change_of_which_nobody_waits_for_the_result_any_more_is_made(tmp_path):
    ledger = Ledger(tmp_path)
    assert not ledger.note("operator", "begun").cancel()
    ledger.note("operator", "and went on").result(10)
    assert [what for (what,) in ledger.ask(lambda d: d.execute("SELECT what FROM audit").fetchall())] == [
        "begun",
        "and went on",
    ]
    ledger.close()
