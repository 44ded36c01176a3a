"""Runs that an operator submits from elsewhere: by role, several on one coordinator, stopped, with the same bits."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import hansa
from hansa.cli._commands import app
from hansa.cli._experiment import Experiment
from hansa.cli.config import read_config
from hansa.network import tls
from hansa.network.link import Link, TurnedAwayError
from hansa.network.membership import InvitationError, join
from hansa.network.operating import Operator, init
from hansa.network.operations import SIZE
from hansa.network.remote import Remote, login
from hansa.network.settings import Settings
from hansa.network.submissions import STOPPED, STOPPING, WAITING, EvaluationTerms, RunTerms, SubmissionError
from hansa.program import load_checkpoint
from tests.network.test_kills import free_port
from tests.program.digits import assert_same_bits, averaging, population

HANSA = [sys.executable, "-m", "hansa.cli"]
PROGRAM = b"stages"
EVALUATION = {"plan": {}, "begins": 3, "every": 2, "initial": False}
TERMS = RunTerms("first", 3, 2, 1, 1.0, 60.0, None, hashlib.sha256(PROGRAM).hexdigest())


@pytest.fixture
def network(tmp_path):
    init(tmp_path / "net", Settings(port=0))
    with hansa.network.serve(tmp_path / "net", port=0) as network:
        yield network


@pytest.fixture
def eve(network, tmp_path):
    """An operator from elsewhere."""
    with Operator(network.folder) as operator:
        invitation = operator.invite_operator("eve")
    login(tmp_path / "eve", invitation)
    with Remote(tmp_path / "eve") as remote:
        yield remote


def test_an_operator_submits_looks_and_stops_and_nobody_else_does(network, eve, tmp_path):
    assert eve.runs() == []
    told = eve.submit(TERMS, PROGRAM)
    assert (told["name"], told["status"], told["by"][:5]) == ("first", WAITING, "eve (")
    assert eve.submit(TERMS, PROGRAM) == told  # again, as if the answer had been lost
    with pytest.raises(SubmissionError, match="there is another run called 'first'"):
        eve.submit(replace(TERMS, rounds=4), PROGRAM)
    with pytest.raises(SubmissionError, match="was changed on its way"):
        eve.submit(replace(TERMS, name="other"), b"other stages")
    assert [each["name"] for each in eve.runs()] == ["first"]
    network.submissions.add_line("first", {"event": "round", "round": 1})
    lines, after = eve.log("first")
    assert [line["round"] for line in lines] == [1] and eve.log("first", after) == ([], after)
    with pytest.raises(SubmissionError, match="no run called 'second'"):
        eve.log("second")
    with pytest.raises(SubmissionError, match="no checkpoint yet"):
        eve.checkpoint("first", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert eve.stop("first")["status"] == STOPPED
    with pytest.raises(SubmissionError, match="has ended: stopped"):
        eve.stop("first")
    # A device is no operator, an operator is no device, and a stranger is neither.
    member = join(tmp_path / "ann", network.invite("ann"))
    device, stranger = Link(network.url, member.context), Link(network.url, tls.device_context(member.authority))
    for link, why in ((device, "no operator's"), (stranger, "shows its certificate")):
        for method, path in (("GET", ""), ("PUT", "/x"), ("POST", "/first/stop"), ("GET", "/first/log")):
            with pytest.raises(TurnedAwayError, match=why):
                link.send(method, f"/v1/runs{path}", b"")
    with pytest.raises(TurnedAwayError, match="no device's"):
        eve._link.send("GET", "/v1/poll?wait=0")


def test_invitations_are_of_one_role_and_operators_are_revoked(network, tmp_path):
    with Operator(network.folder) as operator:
        invitation = operator.invite_operator("eve")
        with pytest.raises(InvitationError, match="unknown, or was used"):
            join(tmp_path / "ann", invitation)
        with pytest.raises(InvitationError, match="no operator's, or was used"):
            login(tmp_path / "ann", network.invite("ann"))
        made = login(tmp_path / "eve", invitation)
        assert login(tmp_path / "eve", invitation) == made  # with the same key
        with pytest.raises(InvitationError, match="no operator's, or was used"):
            login(tmp_path / "other", invitation)
        assert operator.status()["operators"] == ["eve"]
        with Remote(tmp_path / "eve") as eve:
            assert eve.runs() == []
            assert operator.revoke_operator("eve").name == made["name"]
            with pytest.raises(TurnedAwayError, match="was revoked"):
                eve.runs()
        assert operator.status()["operators"] == [] and operator.revoke_operator("eve") is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "ends before the terms"),
        (SIZE.pack(2**40), "terms have 1048576 bytes at most"),
        (SIZE.pack(2) + b"{}", "what is asked for of a run has the keys"),
        (SIZE.pack(5000) + b"[" * 5000, "no such request"),
        (json.dumps(TERMS.to_json()).encode(), "terms have"),
    ],
    ids=["nothing", "too many", "no terms", "no JSON", "no size"],
)
def test_what_is_no_submission_is_refused(eve, body, message):
    answer = eve._link.send("PUT", "/v1/runs/first", body)
    assert answer.status == 400 and message in answer.json["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "name must be of letters"),
        ({"name": ".x"}, "name must be of letters"),
        ({"rounds": 0}, "rounds must be an integer, 1 or more; found 0"),
        ({"devices": True}, "devices must be an integer"),
        ({"least": 3}, "least is 3, more than the 2 devices"),
        ({"over_select": 0.5}, "over_select must be a number from 1 to 100"),
        ({"deadline": float("nan")}, "deadline must be a number"),
        ({"plan": 1}, "plan must be that of a population"),
        ({"program": "x"}, "program must be a digest"),
        ({"evaluation": {**EVALUATION, "plan": 1}}, "evaluation.plan must be that of a population"),
        ({"evaluation": {**EVALUATION, "begins": 0}}, "evaluation.begins must be an integer"),
        ({"evaluation": {**EVALUATION, "every": True}}, "evaluation.every must be an integer"),
        ({"evaluation": {**EVALUATION, "initial": 1}}, "evaluation.initial must be true or false"),
        ({"evaluation": {}}, "evaluation has the keys"),
    ],
)
def test_terms_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RunTerms.from_json({**TERMS.to_json(), **change})
    for terms in (TERMS, replace(TERMS, evaluation=EvaluationTerms({}, 3, 2, False))):
        assert RunTerms.from_json(json.loads(json.dumps(terms.to_json()))) == terms


def test_what_an_operator_types_says_what_is_wrong(tmp_path):
    def run(*words, code):
        done = CliRunner().invoke(app, ["network", *map(str, words), "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.splitlines()[-1])["error"]

    (tmp_path / "run.toml").write_text("[privacy]\nepsilon = 1.0\n")
    assert "neither an operator's folder" in run("runs", tmp_path, code=1)
    assert "no invitation" in run("login", "hello", "--folder", tmp_path / "eve", code=1)
    assert "--least 2 is more than --devices 1" in run("submit", tmp_path, "run.toml", "--least", 2, code=2)
    (tmp_path / "operator.json").write_text("{")
    assert "is damaged" in run("stop", tmp_path, "first", code=1)


MODEL = """from tests.program.digits import softmax


def model_fn():
    return softmax(0.1)
"""

DATA = """import numpy as np

from hansa.simulation import ClientData
from tests.program.digits import population


def load():
    arrays = [population(2).own_arrays(client) for client in (0, 1)]
    ids = np.repeat([0, 1], [len(each["y"]) for each in arrays])
    return ClientData.from_arrays({name: np.concatenate([each[name] for each in arrays]) for name in "xy"}, ids)
"""

RUN = """[model]
function = "model.py:model_fn"

[data]
function = "data.py:load"
batch_size = 30
held_out = 0.25

[training]
rounds = 2
seed = 4
evaluate_initial = true

[output]
folder = "runs/fast"
"""


@pytest.fixture
def written(tmp_path):
    """A run as its files say it."""
    for name, text in (("model.py", MODEL), ("data.py", DATA), ("run.toml", RUN)):
        (tmp_path / name).write_text(text)
    return tmp_path / "run.toml"


@pytest.mark.slow
def test_two_runs_at_once_have_the_bits_of_simulations_and_a_third_is_stopped(tmp_path, written):
    """The coordinator and two devices are processes of their own, and the coordinator is killed and serves again.

    One run is submitted as its files say it.
    """
    net, eve, running = tmp_path / "net", tmp_path / "eve", []

    def begin(*words):
        with (tmp_path / f"{len(running)}.log").open("wb") as log:
            command = [*HANSA, *map(str, words)]
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def said(number):
        return (tmp_path / f"{number}.log").read_text()

    def hansa_(*words):
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def until(met, seconds=200):
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, [said(number) for number in range(len(running))]
            time.sleep(0.2)

    data = population(2).shuffle(seed=5)
    try:
        hansa_("network", "init", net, "--port", free_port())
        begin("serve", net, "--json")
        until(lambda: said(0).startswith("{"))
        for client in (0, 1):
            np.savez(tmp_path / f"{client}.npz", **data.own_arrays(client))
            to = tmp_path / f"{client}.txt"
            hansa_("network", "invite", net, "--client", client, "--to", to)
            begin("join", to, "--data", tmp_path / f"{client}.npz", "--folder", tmp_path / f"d{client}")
        hansa_("network", "invite", net, "--operator", "eve", "--to", tmp_path / "eve.txt")
        hansa_("network", "login", tmp_path / "eve.txt", "--folder", eve)
        (submitted,) = hansa_("network", "submit", eve, written, "--devices", 2, "--least", 2)
        assert (submitted["name"], submitted["rounds"]) == ("fast", 2)
        with Remote(eve) as operator:
            for name, rounds in (("slow", 6), ("endless", 10**6)):
                hansa.save(averaging(), tmp_path / "program.hansa", platforms=["cpu", "cuda"])
                program = (tmp_path / "program.hansa").read_bytes()
                digest = hashlib.sha256(program).hexdigest()
                operator.submit(RunTerms(name, rounds, 2, 2, 1.0, 100.0, data.plan().to_json(), digest), program)

            until(lambda: any(line["event"] == "round" for line in operator.log("slow")[0]))
        running[0].kill()
        running[0].wait()
        begin("serve", net, "--json")
        until(lambda: said(len(running) - 1).startswith("{"))
        with Remote(eve) as operator:

            def statuses():
                found = {each["name"]: each["status"] for each in operator.runs()}
                assert "failed" not in found.values(), said(len(running) - 1)
                return found["slow"], found["fast"]

            until(lambda: statuses() == ("done", "done"))
            until(lambda: any(line["event"] == "round" for line in operator.log("endless")[0]))
        assert hansa_("network", "stop", eve, "endless")[0]["status"] in (STOPPING, STOPPED)
        followed = hansa_("network", "log", eve, "endless", "--follow")
        assert followed[0]["event"] == "begun" and followed[-1]["event"] == "stopped"
        shown = {each["name"]: each["status"] for each in hansa_("network", "runs", eve)}
        assert shown == {"slow": "done", "fast": "done", "endless": "stopped"}
        fast = Experiment(read_config(written, []))
        simulated = {"slow": (averaging(), data, 6), "fast": (fast.process, fast.populations.training, 2)}
        for name, (process, clients, rounds) in simulated.items():
            target = tmp_path / f"{name}.checkpoint"
            lines = hansa_("network", "log", eve, name, "--checkpoint", target)
            told = {line["round"] for line in lines if line["event"] == "round"}
            assert told == set(range(name != "fast", rounds + 1))
            assert [line["event"] for line in lines[-2:]] == ["done", "checkpoint"] and lines[0]["event"] == "begun"
            found = load_checkpoint(target, process.state_type)
            expected = hansa.program.train(process, clients, rounds, progress=False)
            assert found.round == rounds
            assert_same_bits(found.state, expected.state)
            if name == "fast":  # evaluated by the devices, on what each of them holds out
                evaluated = {line["round"]: line["metrics"]["evaluation/loss"] for line in lines if "metrics" in line}
                assert list(evaluated) == [0, 1, 2] and evaluated[2] == fast.evaluation(expected.state)["loss"]
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(60)
