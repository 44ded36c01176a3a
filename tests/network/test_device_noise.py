"""Noise of the devices' own over the network: keys that nobody else has, and charges that each device keeps itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import hansa
from hansa.cli._commands import app
from hansa.network.device import Device
from hansa.network.device_log import lines_of
from hansa.network.device_spending import LEDGER, DeviceSpending, spent_by
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.policy import Policy, PolicyError
from hansa.privacy import LedgerError, dpsgd, local, read_ledger, site_guarantee
from hansa.program import train
from hansa.simulation import ClientData
from tests.privacy.test_dpsgd import MODEL

pytest.importorskip("cryptography", reason="the extra hansa[network]")
pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")

SIZES = (40, 16)
GIVEN = {"steps": 3, "max_examples": 64, "batch_size": 8}
RULE = dpsgd("sgd", 0.5, 2.0, **GIVEN)


def averaging(rule=RULE, **options):
    return hansa.learning.build_federated_averaging_process(
        MODEL, client_optimizer=rule, client_learning_rate=0.1, **options
    )


PROCESS = averaging()


def rows(size):
    rng = np.random.default_rng(5)  # the same beginnings, so that only noise tells two devices apart
    return {"x": rng.standard_normal((size, 4)).astype(np.float32), "y": rng.integers(0, 3, size).astype(np.int32)}


class Site:
    """A coordinator, and devices in threads of this process."""

    def __init__(self, folder: Path, policies=(None, None), sizes=SIZES):
        self.folder, self.context = folder, hansa.network.serve(folder / "coordinator", port=0)
        self.network = self.context.__enter__()
        self.devices, self.threads = [], []
        for number, (size, policy) in enumerate(zip(sizes, policies, strict=True)):
            member = hansa.network.join(folder / f"device-{number}", self.network.invite(number))
            device = Device(member, Holdings(rows(size)), poll_seconds=0.2, policy=policy)
            self.devices.append(device)
            self.threads.append(threading.Thread(target=device.run))
            self.threads[-1].start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for device in self.devices:
            device.stop()
        for thread in self.threads:
            thread.join()
        self.context.__exit__(*error)

    def run(self, process=PROCESS, rounds=2, plan=None, **asked):
        data = ClientData.from_arrays(rows(16), np.zeros(16, np.int64)).batch(8)
        elsewhere = self.network.devices(len(self.devices), data=(plan or (lambda same: same))(data).plan(), **asked)
        with hansa.runtime(self.network):
            if rounds:
                return train(process, elsewhere, rounds, progress=False)
            return process.next(process.initialize(), elsewhere)  # once, where that is abandoned

    def spent(self, number):
        return spent_by(self.folder / f"device-{number}")


@pytest.mark.slow
def test_each_device_draws_noise_of_its_own_and_accounts_for_it(tmp_path):
    with Site(tmp_path) as site:
        result = site.run()
        other = site.run()
        with pytest.raises(ValueError, match="each device draws its own noise"), hansa.runtime(site.network):
            data = ClientData.from_arrays(rows(16), np.zeros(16, np.int64)).batch(8)
            budget = hansa.privacy.Budget(8.0, 1e-5)
            train(PROCESS, site.network.devices(2, data=data.plan()), 1, privacy=budget, progress=False)
    first = PROCESS.initialize().model.trainable.w
    moved = [np.asarray(found.state.model.trainable.w) - first for found in (result, other)]
    assert all(np.isfinite(each).all() and np.any(each) for each in moved)
    assert not np.any(moved[0] == moved[1])  # of the same data, twice
    for number, size in enumerate(SIZES):
        accountant, times = site.spent(number)
        assert times == 4
        assert accountant.exact() == site_guarantee(RULE, num_examples=size, rounds=4, delta=1e-6).epsilon
        path = tmp_path / f"device-{number}" / LEDGER
        assert path.stat().st_mode & 0o777 == 0o600
        said = CliRunner().invoke(app, ["privacy", "status", str(path.parent)])
        assert f"epsilon {accountant.exact():.4g} at delta 1e-06 after 4 rounds: for each example" in said.stdout
        found = json.loads(CliRunner().invoke(app, ["privacy", "status", str(path.parent), "--json"]).stdout)
        assert (found["charged"], found["guarantee"]["unit"]) == (4, "example")
        assert CliRunner().invoke(app, ["privacy", "verify", str(path.parent)]).exit_code == 0
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
        assert CliRunner().invoke(app, ["privacy", "verify", str(path.parent)]).exit_code == 1


@pytest.mark.slow
def test_the_noise_is_as_large_as_the_rule_says_and_independent_at_each_device(tmp_path):
    """The gradients of examples of zero are zero, so an update is noise alone."""
    size, rule, zeros = 3000, dpsgd("sgd", 0.5, 2.0, steps=1, max_examples=16, batch_size=8), np.zeros((16, 4), "f4")

    def forward(weights, batch, training, rng):
        return hansa.learning.BatchOutput(loss=batch.x.mean() * weights["w"].sum())

    model = hansa.learning.functional_model({"w": np.zeros(size, np.float32)}, forward, input_spec="<x=float32[?,4]>")
    process = hansa.learning.build_federated_averaging_process(
        model, client_optimizer=rule, client_learning_rate=1.0, client_weighting="uniform"
    )

    with Site(tmp_path, sizes=(16, 16)) as site:
        for device in site.devices:
            device._holdings = Holdings({"x": zeros})
        data = ClientData.from_arrays({"x": zeros}, np.zeros(16, np.int64)).batch(8)
        found = []
        with hansa.runtime(site.network):
            for _ in range(2):
                state = train(process, site.network.devices(2, data=data.plan()), 1, progress=False).state
                found.append(np.asarray(state.model.trainable.w, np.float64))
    stddev = 2.0 * 0.5 / 8 / np.sqrt(2)  # the mean of two independent reports
    for each in found:
        assert abs(each.std() / stddev - 1) < 4 / np.sqrt(2 * size)
        assert abs(each.mean()) < 4 * stddev / np.sqrt(size)
    assert abs(np.corrcoef(*found)[0, 1]) < 4 / np.sqrt(size)


@pytest.mark.slow
def test_a_policy_with_epsilon_refuses_what_would_spend_more_or_protects_nothing(tmp_path):
    most = site_guarantee(RULE, num_examples=16, rounds=2, delta=1e-6).epsilon + 1e-3
    policies = [Policy.of({"privacy": {"epsilon": epsilon}}) for epsilon in (100.0, most)]
    with Site(tmp_path, policies) as site:
        result = site.run(rounds=2, least=2)
        site.run(rounds=1, least=1)  # without the second
        for process in (averaging("sgd"), averaging(dpsgd("sgd", 0.5, 2.0, metrics="open", **GIVEN))):
            with pytest.raises(hansa.AbandonedError, match="2 refused"):
                site.run(process, rounds=0)
        with pytest.raises(hansa.AbandonedError, match="2 refused"):
            site.run(rounds=0, plan=lambda data: data.repeat(2))
        with pytest.raises(ValueError, match="would give some of them twice"):
            site.run(rounds=1, plan=lambda data: data.repeat(2))
    assert result.rounds == 2
    assert [site.spent(number)[1] for number in range(2)] == [3, 2]
    reasons = [[line["reason"] for line in lines_of(tmp_path / f"device-{number}")] for number in range(2)]
    assert "the task would exceed it" in reasons[1][2]
    assert [sum("does not protect them" in (each or "") for each in found) for found in reasons] == [2, 2]
    assert [sum("more than once" in (each or "") for each in found) for found in reasons] == [1, 1]


@pytest.mark.slow
def test_noise_for_reports_of_the_client_goes_over_the_network_and_shares_of_a_sum_do_not(tmp_path):
    with Site(tmp_path) as site:
        rule = local(0.5, 2.0, 2)
        result = site.run(averaging("sgd", aggregator=rule), rounds=1)
        assert result.rounds == 1
        (entry,) = read_ledger(tmp_path / "device-0" / LEDGER)
        assert entry.charge.mechanisms == (rule.mechanism,)
        with pytest.raises(TypeError, match="each client adds a share of the noise"):
            site.run(averaging("sgd", aggregator=hansa.privacy.distributed(0.5, 1.0, 2, min_cohort=2)), rounds=1)


def test_policies_say_a_positive_epsilon_and_a_delta():
    assert Policy.of({"privacy": {"epsilon": 8, "delta": 1e-5}}).epsilon == 8.0
    for wrong in ({"epsilon": 0}, {"epsilon": "8"}, {"delta": 1.0}, {"rounds": 3}):
        with pytest.raises(ValueError, match=r"privacy|no key"):
            Policy.of({"privacy": wrong})
    assert issubclass(PolicyError, Exception)


def test_a_damaged_ledger_of_a_device_lets_nothing_leave(tmp_path):
    spending = DeviceSpending(tmp_path, Policy.of({"privacy": {"epsilon": 8.0}}))
    (tmp_path / LEDGER).write_text('{"entry": "charge"}\n')
    with pytest.raises(LedgerError):
        spending._opened()
    with pytest.raises(LedgerError):
        spent_by(tmp_path)
    assert issubclass(RefusedError, Exception)
