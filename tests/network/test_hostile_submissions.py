"""An operator that submits what no operator should: each run fails by itself, and the coordinator goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import time
import zipfile

import pytest

import hansa
from hansa.cli.network.running import Running
from hansa.network.operating import Operator, init
from hansa.network.operations import SIZE
from hansa.network.remote import Remote, login
from hansa.network.settings import Settings
from hansa.network.submissions import FAILED, MOST_OPEN, EvaluationTerms, RunTerms, SubmissionError
from tests.network.test_submitting import PROGRAM, TERMS
from tests.portable.test_linear_algebra import M, calling
from tests.program.digits import averaging, population

PLAN = population(2).plan().to_json()


@pytest.fixture
def network(tmp_path):
    init(tmp_path / "net", Settings(port=0))
    with hansa.network.serve(tmp_path / "net", port=0) as network:
        yield network


@pytest.fixture
def eve(network, tmp_path):
    with Operator(network.folder) as operator:
        login(tmp_path / "eve", operator.invite_operator("eve"))
    with Remote(tmp_path / "eve") as remote:
        yield remote


def asked(name, program, plan=PLAN, evaluation=None):
    return RunTerms(name, 1, 1, 1, 1.0, 2.0, plan, hashlib.sha256(program).hexdigest(), evaluation)


def saved(what):
    file = io.BytesIO()
    hansa.save(what, file, platforms=["cpu", "cuda"])
    return file.getvalue()


def rewritten(program, change):
    """A file with other entries and the manifest of them, with right checksums."""
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(entries.pop("manifest.json"))
    change(manifest, entries)
    manifest["entries"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in entries.items()
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


@hansa.federated_computation("{float32}@CLIENTS")
def mean(readings):
    return hansa.federated_mean(readings)


def calling_the_host(manifest, entries):
    """A stage that calls what it names in the process that runs it, such as Python."""

    data = bytes(calling("xla_ffi_python_cpu_callback", [M], [M], {}).serialize())
    name = f"functions/{hashlib.sha256(data).hexdigest()}.bin"
    manifest["programs"]["next"]["clients"][0]["function"] = {"entry": name, "constants": []}
    entries[name] = data


def elsewhere(manifest, entries):
    """Names that lead out of the folder."""
    for name in list(entries):
        entries[f"../../../{name}"] = entries.pop(name)


@pytest.mark.slow
def test_what_no_operator_should_submit_fails_by_itself(network, eve, tmp_path, monkeypatch):
    monkeypatch.setattr(network._coordinator, "there", lambda: [None])  # so that runs begin
    good, bomb = saved(averaging()), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * 2**26)
    attacks = {
        "empty": (asked, b"", "is empty"),
        "noise": (asked, os.urandom(5000), "no artifact of Hansa"),
        "no-process": (asked, saved(mean), "process must be a process"),
        "bomb": (asked, bomb.getvalue(), "compressed or encrypted"),
        "half": (asked, good[: len(good) // 2], "no artifact of Hansa"),
        "host": (asked, rewritten(good, calling_the_host), "a call of|a function that takes"),
        "elsewhere": (asked, rewritten(good, elsewhere), "damaged"),
        "plan": (lambda *given: asked(*given, plan={"format": 1}), good, "no plan of data"),
        "step": (lambda *given: asked(*given, plan={**PLAN, "steps": [{"step": "x"}]}), good, "there is no such step"),
        "evaluation": (
            lambda *given: asked(*given, evaluation=EvaluationTerms(PLAN, 10**9, 1, True)), good, "begins at byte",
        ),
    }  # fmt: skip
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with Running(network):
        for name, (terms, program, _) in attacks.items():
            eve.submit(terms(name, program), program)
        end = time.monotonic() + 120
        while any(each["status"] != FAILED for each in eve.runs()):
            assert time.monotonic() < end, eve.runs()
            time.sleep(0.2)
    for each in eve.runs():
        pattern = attacks[each["name"]][2]
        assert any(word in each["reason"] for word in pattern.split("|")), (each["name"], each["reason"])
    assert network._coordinator.failed is None and network.there() == [None]
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    allowed = [network.folder / part for part in ("submitted", "logs", "runs", "blobs")]
    known = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "changed")
    assert not [p for p in made if p.name not in known and not any(p.is_relative_to(one) for one in allowed)]


def test_plans_nested_deeply_and_floods_are_refused_before_they_are_kept(network, eve):
    for depth in (60, 800, 5000):
        plan = b'{"a":' * depth + b"1" + b"}" * depth
        terms = json.dumps(TERMS.to_json()).encode().replace(b'"plan": null', b'"plan": ' + plan)
        answer = eve._link.send("PUT", "/v1/runs/first", SIZE.pack(len(terms)) + terms + PROGRAM)
        assert answer.status == 400, answer
    assert eve.runs() == []
    for number in range(MOST_OPEN):
        eve.submit(dataclasses.replace(TERMS, name=f"run-{number}"), PROGRAM)
    with pytest.raises(SubmissionError, match=f"{MOST_OPEN} runs of eve .* have not ended"):
        eve.submit(dataclasses.replace(TERMS, name="one-more"), PROGRAM)
    assert eve.submit(dataclasses.replace(TERMS, name="run-0"), PROGRAM)["status"] == "waiting"  # again, the same
    eve.stop("run-0")
    eve.submit(dataclasses.replace(TERMS, name="one-more"), PROGRAM)


def test_programs_that_no_run_needs_are_removed_after_a_while(network, eve):
    eve.submit(TERMS, PROGRAM)
    eve.stop("first")
    path = network.submissions.program(TERMS)
    other = b"others"
    os.utime(path, (1, 1))
    eve.submit(asked("second", other), other)
    assert not path.exists() and network.submissions.program(asked("second", other)).exists()
    os.utime(network.submissions.program(asked("second", other)), (1, 1))
    eve.submit(TERMS, PROGRAM)
    assert network.submissions.program(asked("second", other)).exists()  # of a run that has not ended
