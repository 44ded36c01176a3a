"""What an operator does by commands: while a coordinator serves, and while none does."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading

import numpy as np
import pytest
from click.testing import CliRunner

import hansa
from hansa.cli._commands import app
from hansa.language.occasions import part_of
from hansa.network.device import Device
from hansa.network.holdings import Holdings
from hansa.network.link import TurnedAwayError
from hansa.network.policy import Policy
from hansa.network.replaying import replay
from hansa.network.settings import NetworkError, Settings
from hansa.network.verifying import verify


def run(*words, code=0):
    done = CliRunner().invoke(app, ["network", *map(str, words), "--json"])
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_folder_is_made_and_looked_at_without_a_coordinator(tmp_path):
    folder = tmp_path / "net"
    (made,) = run("init", folder, "--port", 7443, "--name", "fl.example.org")
    assert made["signer"].startswith("ed25519:") and folder.stat().st_mode & 0o777 == 0o700
    assert Settings.read(folder) == Settings(port=7443, names=("fl.example.org",))
    assert "a coordinator's folder already" in run("init", folder, code=1)[0]["error"]
    (invited,) = run("invite", folder, "--client", 7, "--note", "the clinic", "--to", tmp_path / "ann.txt")
    invitation = hansa.network.Invitation.from_text((tmp_path / "ann.txt").read_text())
    assert invited["invitation"] is None and invitation.url == "https://fl.example.org:7443"
    assert (tmp_path / "ann.txt").stat().st_mode & 0o077 == 0
    (status,) = run("status", folder)
    assert status["serving"] is False and status["signer"] == made["signer"]
    assert [(each["client_id"], each["note"]) for each in status["invitations"]] == [(7, "the clinic")]
    assert run("devices", folder) == []
    assert run("verify", folder)[0]["is_good"] is True
    assert run("replay", folder) == []
    assert "there are 0 devices called 'ann'" in run("revoke", folder, "ann", code=1)[0]["error"]
    assert (
        "a token for one client enrols one device"
        in run("invite", folder, "--client", "a", "--uses", 2, code=2)[0]["error"]
    )
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute("UPDATE audit SET what='invite eve' WHERE id=1")
    database.close()
    (found,) = run("verify", folder, code=1)
    assert [each["what"] for each in found["findings"] if each["state"] == "broken"] == ["audit"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "there is no key 'prot'; the keys are host, port"),
        ("port = '1'", "port must be an integer from 0 to 65535; found '1'"),
        ("names = 'a'", "names must be a list of names and addresses"),
        ("names = [1]", "names must be a list of names and addresses"),
        ("unprotected = 1", "unprotected must be true or false"),
        ("keep_rounds = -1", "keep_rounds must be an integer"),
        ("host = ''", "host must be an address to listen at"),
        ("host", "network.toml"),
    ],
)
def test_settings_that_are_none_say_where(tmp_path, text, message):
    (tmp_path / "network.toml").write_text(text)
    with pytest.raises(NetworkError, match=message):
        Settings.read(tmp_path)


def test_a_folder_that_is_none_is_said(tmp_path):
    for words in (("status",), ("invite",), ("verify",), ("replay",)):
        assert f"hansa network init {tmp_path} makes one" in run(*words, tmp_path, code=1)[0]["error"]
    assert run("doctor", tmp_path, code=1)[0]["findings"][-1]["name"] == "folder"


@hansa.federated_computation("{float32[20000]}@CLIENTS", "float32@SERVER")
def shifted(readings, shift):
    moved = hansa.jax_computation(lambda reading, shift: reading - shift, "float32[20000]", "float32")
    fading = hansa.jax_computation(lambda state, x: 0.7 * state + x, "float32", "float32")
    first = hansa.jax_computation(lambda reading: reading[0], "float32[20000]")
    same = hansa.jax_computation(lambda state: state, "float32")
    away = hansa.federated_map(moved, [readings, hansa.federated_broadcast(shift)])
    last = hansa.federated_aggregate(hansa.federated_map(first, away), np.float32(0), fading, fading, same)
    return hansa.federated_mean(away), last


def until_turned_away(device):
    with contextlib.suppress(TurnedAwayError):
        device.run()


@pytest.mark.slow
def test_an_operator_beside_a_coordinator_that_serves(tmp_path):
    """Invitations and revocations are taken over at once; what was counted is verified, and folds to the same."""
    folder = tmp_path / "net"
    run("init", folder, "--port", 0)
    assert "port = 0" in run("invite", folder, code=1)[0]["error"]
    with hansa.network.serve(folder, port=0, keep_rounds=1) as network, hansa.runtime(network):
        devices, threads = [], []
        for number, name in enumerate(["ann", "bo"]):
            (invited,) = run("invite", folder, "--client", name)
            member = hansa.network.join(tmp_path / name, hansa.network.Invitation.from_text(invited["invitation"]))
            own = {"readings": np.full(20000, 10.0 + 20 * number, np.float32)}
            policy = Policy.of({"accept": {"signers": [run("status", folder)[0]["signer"]], "min_cohort": 2}})
            devices.append(Device(member, Holdings(own), policy=policy, poll_seconds=1.0))
            threads.append(threading.Thread(target=until_turned_away, args=(devices[-1],)))
            threads[-1].start()
        rounds = {}
        for number in (1, 2, 3):
            with part_of("a run", number, 1, "round"):
                rounds[number] = shifted(network.devices(), np.float32(number))
        assert np.asarray(rounds[3][0])[0] == 17.0
        # A small and a large contribution each are looked at while it serves; those of round 1 are not kept.
        assert [(each.key.round, each.is_same, each.counted) for each in replay(folder)] == [(2, True, 2), (3, True, 2)]
        assert all(each.state == "ok" for each in verify(folder))
        (status,) = run("status", folder)
        assert status["url"] == network.url and status["runs"][0]["outcomes"]["counted"] == 6
        run("revoke", folder, "bo")
        threads[1].join(20)
        assert not threads[1].is_alive()
        assert [each.revoked for each in network.enrolled()] == [False, True]
        with pytest.raises(hansa.AbandonedError), part_of("a run", 4, 1, "round"):
            shifted(network.devices(1, least=1, deadline=20.0), np.float32(0))  # ann wants two together
        assert "asks for 2 devices together, and 1 are asked" in network.outcomes()[-1]["reason"]
        devices[0].stop()
        threads[0].join(20)
    (large,) = [path for path in (folder / "spool").rglob("d-*") if path.is_file()][:1]
    data = bytearray(large.read_bytes())
    data[-1] ^= 1
    large.write_bytes(data)
    broken = [each for each in verify(folder) if each.state != "ok"]
    assert [each.what for each in broken] == ["contributions"] and "other bytes than those" in broken[0].detail
    assert False in [each.is_same for each in replay(folder)]
