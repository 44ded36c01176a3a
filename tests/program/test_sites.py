"""Runs whose clients train by DP-SGD: what each site's examples have spent, by a ledger, within a budget."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import hansa
from hansa.cli import _private
from hansa.cli._commands import app
from hansa.cli._experiment import Experiment
from hansa.cli.config import read_config
from hansa.privacy import Accountant, Budget, Charge, Gaussian, Sites, dpsgd, read_ledger, site_guarantee
from hansa.program import RunError, read_privacy, train, verify_privacy
from hansa.simulation import ClientData
from tests.privacy.test_dpsgd import MODEL

dp = pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
DELTA = 1e-3
RULE = dpsgd("sgd", 0.5, 1.5, steps=4, max_examples=64, batch_size=8)
PROCESS = hansa.learning.build_federated_averaging_process(MODEL, client_optimizer=RULE, client_learning_rate=0.1)
SIZES = {"ann": 60, "bo": 60, "cy": 30}


def population(seed=0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(list(SIZES), list(SIZES.values()))
    x = rng.standard_normal((len(owners), 4)).astype(np.float32)
    return ClientData.from_arrays({"x": x, "y": rng.integers(0, 3, len(x)).astype(np.int32)}, owners).batch(8)


DATA = population()


def run(folder, rounds=4, budget=10.0, process=PROCESS, **options):
    given = {"data": DATA, "cohort_size": 2, "seed": 3, "progress": False, "checkpoint_every": 2} | options
    return train(process, given.pop("data"), rounds, privacy=Budget(budget, DELTA), run_dir=folder, **given)


def oracle(steps, number):
    """dp-accounting's epsilon of so many steps at a site with so many examples."""
    accountant = dp.pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp.PoissonSampledDpEvent(8 / number, dp.GaussianDpEvent(1.5)), steps)
    return accountant.get_epsilon(DELTA)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run(folder), folder


def test_each_site_has_the_epsilon_of_the_rounds_in_which_it_was(ran):
    result, folder = ran
    entries = read_ledger(folder / "private" / "ledger.jsonl")
    assert [len(entry.clients) for entry in entries] == [2] * 4
    spent = read_privacy(folder)
    for site, number in SIZES.items():
        rounds = sum(site in entry.clients for entry in entries)
        expected = oracle(4 * rounds, number) if rounds else None
        assert spent.sites.get(site) == (None if expected is None else pytest.approx(expected, rel=2e-3))
    assert result.privacy.epsilon == pytest.approx(max(spent.sites.values()))
    assert (result.privacy.unit, result.privacy.against) == ("example", "the server")
    told = json.loads((folder / "run.json").read_text())["ended"]
    assert str(result.privacy) == str(spent.guarantee) == told["privacy"]
    assert told["sites"] == spent.sites
    assert result.history["privacy/epsilon"][-1] >= result.privacy.epsilon
    assert verify_privacy(folder) == []


def test_the_command_line_and_the_page_tell_each_site(ran):
    folder = ran[1]
    said = CliRunner().invoke(app, ["privacy", "status", str(folder)]).stdout
    epsilon = read_privacy(folder).sites["cy"]
    assert f"site      cy: epsilon {epsilon:.4g}, 30 examples, charged" in said
    found = json.loads(CliRunner().invoke(app, ["privacy", "status", str(folder), "--json"]).stdout)
    assert found["sites"]["cy"] == pytest.approx(epsilon)
    assert CliRunner().invoke(app, ["report", str(folder)]).exit_code == 0
    page = (folder / "report.html").read_text()
    assert "Epsilon of each client&#39;s examples" in page or "Epsilon of each client's examples" in page


def begun_again(folder, copy):
    """A copy of a run as a kill before its first checkpoint leaves it: nothing is done, and all is charged."""
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "checkpoints")
    for name in ("metrics.jsonl", "metrics.csv", "rounds.jsonl"):
        (copy / name).unlink(missing_ok=True)
    return copy


def test_another_run_with_the_same_secret_has_the_same_noise_and_a_resumed_one_is_charged_once(ran, tmp_path):
    folder = begun_again(ran[1], tmp_path / "run")
    again = run(folder)
    np.testing.assert_array_equal(again.state.model.trainable.w, ran[0].state.model.trainable.w)
    assert again.privacy.epsilon == ran[0].privacy.epsilon
    assert len(read_ledger(folder / "private" / "ledger.jsonl")) == 4
    # Of other data it is another attempt, with other noise, and both are charged.
    other = begun_again(ran[1], tmp_path / "other")
    run(other, data=population(1), rounds=1, budget=30.0, allow_changes=True)
    entries = read_ledger(other / "private" / "ledger.jsonl")
    assert [entry.round for entry in entries] == [1, 2, 3, 4, 1]
    assert len({entry.salt for entry in entries}) == 5
    assert read_privacy(other).guarantee.epsilon > again.privacy.epsilon


def test_a_run_stops_before_a_site_exceeds_the_budget():
    budget = oracle(3 * 4, 30) + 1e-4
    result = run(None, 9, budget, cohort_size=None)
    assert (result.rounds, result.privacy.epsilon) == (3, pytest.approx(oracle(12, 30), rel=2e-3))
    assert result.stopped.startswith("the next round would exceed the privacy budget")
    assert max(result.history["privacy/epsilon"]) <= budget
    none = run(None, 2, 0.01)
    assert (none.rounds, none.privacy.epsilon, none.privacy.unit) == (0, 0.0, "example")


def test_laws_of_the_sites():
    charge = Charge(Sites((60, 30, 0)), [RULE])
    assert Charge.from_json(json.loads(json.dumps(charge.to_json()))) == charge
    once, twice = Accountant(DELTA), Accountant(DELTA)
    once.add(charge, "abc", times=2)
    for earlier in ([], [charge]):
        twice.add(charge, "abc", earlier=earlier)
    assert once.exact() == twice.exact() == pytest.approx(oracle(8, 30), rel=2e-3)
    assert set(once.by_site()) == {"a", "b"}
    assert once.by_site()["a"] < once.by_site()["b"] <= once.epsilon
    assert once.by_site()["a"] == site_guarantee(RULE, num_examples=60, rounds=2, delta=DELTA).epsilon
    with pytest.raises(ValueError, match="who they are is not known"):
        once.add(charge)
    with pytest.raises(ValueError, match="2 took part"):
        once.add(charge, "ab")
    with pytest.raises(ValueError, match="only if their cohorts are drawn in one way"):
        once.add(Charge(hansa.privacy.Poisson(0.5), [Gaussian(1.0)]))
    with pytest.raises(ValueError, match="DP-SGD is charged by how many examples"):
        Charge(hansa.privacy.Poisson(0.5), [RULE])
    with pytest.raises(ValueError, match="a round has one of the two"):
        Charge(Sites((3,)), [RULE, Gaussian(1.0)])
    assert once.has_room(charge, 10.0, "abc") and not once.has_room(charge, once.exact(), "abc")


def test_data_that_gives_an_example_twice_and_data_of_which_nothing_is_known_are_refused():
    for twice in (DATA.repeat(2), DATA.batch(8, steps=3)):
        for budget in (None, Budget(8.0, DELTA)):
            with pytest.raises(ValueError, match="would give some of them twice"):
                train(PROCESS, twice, 1, privacy=budget, progress=False)
    with pytest.raises(ValueError, match="data is a function"):
        run(None, data=lambda number: DATA.cohort([0]), cohort_size=None)
    open_metrics = dpsgd("sgd", 0.5, 1.5, steps=4, max_examples=64, batch_size=8, metrics="open")
    process = hansa.learning.build_federated_averaging_process(
        MODEL, client_optimizer=open_metrics, client_learning_rate=0.1
    )
    with pytest.raises(ValueError, match=r"metrics\.loss"):
        run(None, process=process)


def test_a_ledger_without_a_line_or_with_another_number_of_examples_is_found(ran, tmp_path):
    for place, (old, new) in enumerate((('"examples": [60, 30]', '"examples": [60, 60]'), ("", ""))):
        folder = tmp_path / str(place)
        shutil.copytree(ran[1], folder)
        path = folder / "private" / "ledger.jsonl"
        lines = path.read_text().splitlines()
        kept = [lines[0], *lines[2:]] if not old else [line.replace(old, new) for line in lines]
        path.write_text("".join(f"{line}\n" for line in kept))
        assert verify_privacy(folder)
        with pytest.raises((hansa.privacy.LedgerError, RunError)):
            run(folder, 6)


CONFIG = """
[model]
name = "linear"
[data]
name = "digits"
partition = { method = "dirichlet", clients = 5, alpha = 0.5 }
batch_size = 32
[training]
rounds = 5
client_optimizer = "sgd"
client_learning_rate = 0.2
[privacy]
unit = "example"
epsilon = 8.0
delta = 1e-4
clip = 1.0
steps = 10
"""


def configured(tmp_path: Path, overrides=(), text=CONFIG):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return read_config(path, list(overrides))


def test_a_table_of_examples_is_dp_sgd_with_the_noise_that_the_smallest_site_needs(tmp_path):
    config = configured(tmp_path)
    sizes = Experiment(config).populations.training.sizes
    rule = _private.steps(config.privacy, config.data, config.training, "sgd", sizes)
    assert (rule.clip, rule.steps, rule.batch_size, rule.max_examples) == (1.0, 10, 32.0, int(sizes.max()))
    spent = [
        site_guarantee(rule, num_examples=int(n), rounds=5, delta=1e-4).epsilon for n in (sizes.min(), sizes.max())
    ]
    assert spent[1] < spent[0] <= 8.0
    assert spent[0] > 7.99


REFUSED = [
    ("data.epochs=2", "data.epochs: DP-SGD draws examples itself"),
    ("data.steps=2", "data.steps: DP-SGD draws examples itself"),
    ("privacy.per_layer=true", "privacy.per_layer is of clients' updates"),
    ("privacy.metric_ranges={loss=[0,1]}", "privacy.metric_ranges is of noise in sums over clients"),
    ('training.weighting="sample_weight"', "tells of the examples without noise"),
    ('privacy.unit="client"', "privacy.steps is of DP-SGD at each client"),
    ("data.held_out=0.1", "holds out examples of the clients who train"),
]


@pytest.mark.parametrize(("override", "says"), REFUSED)
def test_what_does_not_go_with_examples_is_said(tmp_path, override, says):
    with pytest.raises(hansa.cli.config.ConfigError, match=says):
        configured(tmp_path, [override])


def test_metrics_with_noise_are_within_the_budget_and_both_figures_are_said(tmp_path):
    text = CONFIG.split("[privacy]")[0] + "[privacy]\nepsilon = 8.0\ndelta = 1e-3\nclip = 1.0\n"
    config = configured(tmp_path, ["privacy.metric_ranges={accuracy=[0,1],loss=[0,5]}"], text)
    rule = _private.rule(config.privacy, config.training, 5, True)
    joint = hansa.privacy.joint_noise_multiplier([rule.mechanism.noise_multiplier, rule.metrics.noise_multiplier])
    whole = hansa.privacy.calibrate(8.0, 1e-3, 5, hansa.privacy.Poisson(1.0))
    assert rule.metrics.noise_multiplier == pytest.approx(5 * whole, rel=1e-5)
    assert whole <= joint < whole + 2e-6
    for override, says in (
        ("privacy.metric_ranges={loss=[1,0]}", "must be the least and greatest value"),
        ("privacy.metrics_noise_multiplier=3", "of privacy.metric_ranges, which are not there"),
    ):
        with pytest.raises(hansa.cli.config.ConfigError, match=says):
            configured(tmp_path, [override], text)
    with pytest.raises(hansa.cli.config.ConfigError, match="leave one out"):
        configured(tmp_path, ['privacy.metrics="open"', "privacy.metric_ranges={loss=[0,1]}"], text)
    process = hansa.learning.build_federated_averaging_process(
        MODEL,
        client_learning_rate=0.1,
        client_optimizer="sgd",
        aggregator=hansa.privacy.gaussian(1.0, 2.0, 2, metrics=hansa.privacy.noised_metrics(4.0, loss=(0, 5))),
    )
    result = train(
        process, DATA, 2, cohort_size=2, privacy=Budget(30.0, DELTA), run_dir=tmp_path / "run", progress=False
    )
    claim = hansa.privacy.Poisson(2 / 3)
    model, both = Accountant(DELTA), Accountant(DELTA)
    model.add(Charge(claim, [Gaussian(2.0)]), times=2)
    both.add(Charge(claim, [Gaussian(2.0), Gaussian(4.0)]), times=2)
    assert result.privacy.of_model == pytest.approx(model.exact())
    assert result.privacy.epsilon == pytest.approx(both.exact()) and both.exact() > model.exact()
    assert str(result.privacy).endswith(f"; of the model alone {model.exact():.4g}")
    assert read_privacy(tmp_path / "run").guarantee == result.privacy
