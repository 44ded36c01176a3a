"""Private runs: what is charged, when they stop, what they keep to themselves, and what becomes of those that go on."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.privacy import Budget, Charge, Gaussian, LedgerError, Matrix, Poisson, losses, read_ledger
from hansa.program import RunError, verify_privacy
from hansa.program.cohorts import Cohorts
from hansa.program.evaluating import FederatedEvaluation
from hansa.program.spending import check_evaluation
from hansa.simulation import AtMostSampler, CyclicSampler, EveryClient, PoissonSampler, UniformSampler
from tests.program.private_run import BUDGET, CLIENTS, NOISE, PROCESS, averaging, population, run, seeded_like

pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")


class Killed(Exception):
    """What a test's callback ends a run with."""


def dying(at: int):
    """A callback that ends a run after a round, before its checkpoint."""

    def die(round_number, state, metrics):
        if round_number == at:
            raise Killed

    return die


def ledger_of(folder: Path):
    return read_ledger(folder / "private" / "ledger.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six rounds that nothing disturbs."""
    folder = tmp_path_factory.mktemp("private") / "whole"
    run(folder)
    return folder


def test_epsilon_is_in_each_record_and_in_the_result(whole: Path) -> None:
    result = run(whole)  # which is done
    epsilons = result.history["privacy/epsilon"]
    assert len(epsilons) == 6
    assert all(a < b for a, b in itertools.pairwise(epsilons))
    exact = losses.epsilon({(Poisson(0.25), NOISE): 6}, 1e-5)
    assert result.privacy.epsilon == pytest.approx(exact)
    assert exact < epsilons[-1] < 1.5 * exact
    assert (result.privacy.delta, result.privacy.rounds, result.privacy.unit) == (1e-5, 6, "client")
    assert str(result.privacy) == json.loads((whole / "run.json").read_text())["ended"]["privacy"]
    assert f"epsilon {exact:.4g}" in repr(result)


def test_each_round_is_charged_once_with_who_took_part(whole: Path) -> None:
    entries = ledger_of(whole)
    assert [(entry.round, entry.attempt) for entry in entries] == [(number, 1) for number in range(1, 7)]
    assert {entry.charge for entry in entries} == {Charge(Poisson(0.25), [Gaussian(NOISE)])}
    secret = int(json.loads((whole / "private" / "secrets.json").read_text())["cohorts"], 16)
    sampler = PoissonSampler(CLIENTS, 0.25, secret)
    assert [entry.clients for entry in entries] == [tuple(sampler(entry.round).tolist()) for entry in entries]
    line = json.loads((whole / "private" / "ledger.jsonl").read_text().splitlines()[0])
    assert line["nominal_cohort"] == 10


def test_who_takes_part_is_told_to_nobody_else(whole: Path) -> None:
    for path in (whole / "private", *(whole / "private").iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    for record in map(json.loads, (whole / "rounds.jsonl").read_text().splitlines()):
        assert set(record) == {"round", "seconds", "evaluation_seconds"}
    assert json.loads((whole / "population.json").read_text()) == {"clients": CLIENTS}
    secrets = json.loads((whole / "private" / "secrets.json").read_text())
    for path in whole.rglob("*"):
        if path.is_file() and path.parent.name != "private":
            text = path.read_bytes()
            assert secrets["noise"].encode() not in text
            assert str(int(secrets["cohorts"], 16)).encode() not in text
    assert "secret seed" in (whole / "run.json").read_text()


def test_two_runs_draw_other_cohorts_and_other_noise(whole: Path) -> None:
    other = run(None)
    assert not np.array_equal(np.asarray(other.state), np.asarray(run(whole).state))


def test_a_round_that_is_made_again_has_the_same_noise_and_costs_nothing(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    seeded_like(folder, whole)
    with pytest.raises(Killed):
        run(folder, callbacks=[dying(5)], config=None)
    assert [entry.round for entry in ledger_of(folder)] == [1, 2, 3, 4, 5]
    # The callbacks are a part of what a run is.
    result = run(folder, callbacks=[dying(99)])
    assert [entry.round for entry in ledger_of(folder)] == [1, 2, 3, 4, 5, 6]
    undisturbed = run(whole)
    np.testing.assert_array_equal(np.asarray(result.state), np.asarray(undisturbed.state))
    assert result.privacy == undisturbed.privacy
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


@pytest.mark.parametrize("change", ["data", pytest.param("program", marks=pytest.mark.slow)])
def test_a_round_of_other_inputs_has_other_noise_and_both_are_charged(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(folder, callbacks=[dying(5)])
    changed = {"data": population(0.5)} if change == "data" else {"process": averaging(rate=0.25)}
    result = run(folder, callbacks=[dying(99)], **changed)
    entries = ledger_of(folder)
    assert [entry.round for entry in entries] == [1, 2, 3, 4, 5, 5, 6]
    assert len({entry.salt for entry in entries}) == 7
    # The cohort of round 5 was drawn once, so its two sums are one of less noise.
    assert result.privacy.epsilon == pytest.approx(
        losses.epsilon({(Poisson(0.25), NOISE): 5, (Poisson(0.25), NOISE * 2**-0.5): 1}, 1e-5)
    )


@pytest.mark.slow
def test_data_that_cannot_be_compared_is_charged_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    clients = population()

    def data(round_number):  # a function, whose clients are not known
        return [iter_again(clients.cohort([i], 1)[0]) for i in range(10)]

    asked = {"data": data, "cohort_size": None, "privacy": Budget(math.inf, 1e-5)}
    with pytest.raises(Killed):
        run(folder, 4, callbacks=[dying(3)], **asked)
    result = run(folder, 4, callbacks=[dying(99)], **asked)
    assert [entry.round for entry in ledger_of(folder)] == [1, 2, 3, 3, 4]
    assert result.privacy.epsilon == pytest.approx(losses.gaussian_epsilon(NOISE * 5**-0.5, 1e-5))
    assert result.privacy.neighbours == "one takes part or sends zeros"


class iter_again:
    """Batches that are no arrays."""

    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return iter(list(self._batches))


@pytest.mark.slow
def test_a_run_stops_before_the_round_that_would_exceed_its_budget(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    budget = Budget(losses.epsilon({(Poisson(0.25), NOISE): 3}, 1e-5) + 1e-6, 1e-5)
    evaluated = []
    result = run(folder, 6, privacy=budget, evaluate=lambda state: evaluated.append(state) or 1.0, evaluate_every=7)
    assert (result.rounds, len(evaluated)) == (3, 1)
    assert result.stopped.startswith("the next round would exceed the privacy budget: epsilon ")
    assert result.privacy.epsilon <= budget.epsilon
    assert max(result.history["privacy/epsilon"]) <= budget.epsilon + 1e-9
    assert [entry.round for entry in ledger_of(folder)] == [1, 2, 3]
    # It does not go on, but with more.
    again = {"evaluate": lambda state: 1.0, "evaluate_every": 7, "allow_changes": True}
    assert run(folder, 6, privacy=budget, **again).rounds == 3
    assert run(folder, 5, privacy=BUDGET, **again).rounds == 5
    nothing = run(None, 6, privacy=Budget(0.01, 1e-5))
    assert (nothing.rounds, nothing.privacy.epsilon) == (0, 0.0)


class Abandoning:
    """A runtime that gives up rounds, after the noise was drawn."""

    def __init__(self, times: int) -> None:
        self.times, self._runtime = times, hansa.InProcessRuntime()

    def invoke(self, computation, argument):
        occasion = hansa.current_occasion()
        found = self._runtime.invoke(computation, argument)
        if occasion.part == "round" and occasion.attempt <= self.times:
            raise hansa.AbandonedError("too few clients")
        return found


@pytest.mark.slow
def test_attempts_are_charged(tmp_path: Path) -> None:
    with hansa.runtime(Abandoning(2)):
        result = run(tmp_path / "run", 2)
    entries = ledger_of(tmp_path / "run")
    assert [(entry.round, entry.attempt) for entry in entries] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert result.privacy.rounds == 2
    assert result.privacy.epsilon == pytest.approx(losses.epsilon({(Poisson(0.25), NOISE * 3**-0.5): 2}, 1e-5))
    assert verify_privacy(tmp_path / "run") == []
    with hansa.runtime(Abandoning(2)):
        stopped = run(None, 2, privacy=Budget(0.35, 1e-5))  # one attempt or two
    assert stopped.rounds == 0
    assert "after" in stopped.stopped and "attempts at round 1" in stopped.stopped


# What may be claimed of samplers.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "epsilon"),
    [
        (None, losses.gaussian_epsilon),
        (EveryClient(CLIENTS), losses.gaussian_epsilon),
        (UniformSampler(CLIENTS, 10), None),
        (AtMostSampler(CLIENTS, 10, 2), losses.gaussian_epsilon),
        (lambda round_number: [3, round_number], losses.gaussian_epsilon),
    ],
    ids=["all", "everyone", "fixed", "at most", "own"],
)
def test_each_sampler_is_charged_for_what_may_be_claimed_of_it(sampler, epsilon) -> None:
    result = run(None, 2, cohort_size=None, sampler=sampler, privacy=Budget(1000.0, 1e-5))
    if epsilon is not None:
        times = 1 if isinstance(sampler, AtMostSampler) else 2
        assert result.privacy.epsilon == pytest.approx(losses.gaussian_epsilon(NOISE * times**-0.5, 1e-5))
    else:
        assert result.privacy.neighbours == "replace one"
        assert result.privacy.epsilon > losses.epsilon({(Poisson(0.25), NOISE): 2}, 1e-5)


@pytest.mark.slow
def test_correlated_noise_is_one_charge_and_is_never_drawn_for_two_sums(tmp_path: Path) -> None:
    mechanism = Matrix(1.0, terms=3, power=0.5, separation=4, rounds=6)
    process, sampler = averaging(mechanism), CyclicSampler(CLIENTS, 4)
    asked = {"process": process, "cohort_size": None, "sampler": sampler, "privacy": Budget(6.0, 1e-5)}
    result = run(tmp_path / "run", 6, **asked)
    assert result.history["privacy/epsilon"] == pytest.approx([losses.gaussian_epsilon(1.0, 1e-5)] * 6)
    with pytest.raises(ValueError, match="the correlated noise is for 6 rounds, and rounds=7 are asked for"):
        run(None, 7, **asked)
    with pytest.raises(ValueError, match=r"4 rounds apart.*CyclicSampler\(len\(data\), separation=4\)"):
        run(None, 6, **{**asked, "sampler": None, "cohort_size": 10})
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        run(folder, 6, callbacks=[dying(5)], **asked)
    with pytest.raises(LedgerError, match="round 5 was begun with other data or another program"):
        run(folder, 6, callbacks=[dying(99)], data=population(0.5), **asked)
    assert run(folder, 6, callbacks=[dying(99)], **asked).rounds == 6


# What is refused.


def test_a_public_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed=3 would tell who takes part"):
        run(None, seed=3)
    for sampler in (PoissonSampler(CLIENTS, 0.25, seed=0), CyclicSampler(CLIENTS, 4, seed=5)):
        with pytest.raises(ValueError, match=r"the seed of .*Sampler\(.* would tell who takes part; leave it out"):
            run(None, cohort_size=None, sampler=sampler)


@pytest.mark.slow
def test_a_process_that_leaks_is_refused_and_open_metrics_are_said_to_be() -> None:
    leaking = averaging(leak=True)
    with pytest.raises(ValueError, match=r"is not private: .*metrics.sum is made of federated_sum"):
        run(None, process=leaking)
    result = run(None, 1, process=leaking, privacy=Budget(30.0, 1e-5, metrics="open"))
    assert "sum" in " ".join(result.history.names)
    assert result.privacy.epsilon < result.privacy.epsilon_of_everything == math.inf
    assert str(result.privacy).endswith("; of the model alone: with its open metrics, infinite")
    from tests.program.counting import ADDING

    with pytest.raises((ValueError, TypeError), match=r"no sum of this process has noise|local"):
        run(None, process=ADDING, data=lambda number: np.float32(number), cohort_size=None)


def test_metrics_without_noise_of_clients_that_are_protected_are_refused() -> None:
    everybody = population()
    training, others = everybody.split(0.25, by="clients", seed=0)
    cohorts = Cohorts(training, 10, None, 0, private=True)
    check_evaluation(FederatedEvaluation(None, others), cohorts, BUDGET)
    check_evaluation(FederatedEvaluation(None, everybody), cohorts, Budget(30.0, 1e-5, metrics="open"))
    with pytest.raises(ValueError, match=rf"of {len(training)} clients whose data the run protects: \d+, \d+, \d+, …;"):
        check_evaluation(FederatedEvaluation(None, everybody), cohorts, BUDGET)
    like_theirs, _ = everybody.split(0.25, by="examples", seed=0)
    with pytest.raises(ValueError, match=r"evaluate on clients that take part in no round"):
        run(None, data=training, evaluate=FederatedEvaluation(None, like_theirs))


def test_a_budget_is_a_budget() -> None:
    with pytest.raises(TypeError, match=r"privacy must be hansa.privacy.Budget\(epsilon=…, delta=…\); found"):
        run(None, privacy=8.0)
    for made, message in (
        (lambda: Budget(-1, 1e-5), "epsilon must be more than 0"),
        (lambda: Budget(1.0, 1.0), "delta must be between 0 and 1"),
        (lambda: Budget(1.0, 1e-5, metrics="all"), "metrics must be 'private' or 'open'"),
    ):
        with pytest.raises(ValueError, match=message):
            made()
    assert Budget(math.inf, 1e-5).epsilon == math.inf


def test_a_run_without_its_ledger_or_its_secrets_does_not_go_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    ledger, secrets = folder / "private" / "ledger.jsonl", folder / "private" / "secrets.json"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(LedgerError, match="the ledger has no entry of round 6, which is done"):
        run(folder, 7)
    ledger.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(LedgerError, match=r"line 3 .* is damaged"):
        run(folder, 7)
    ledger.write_bytes(b"".join(lines))
    folder.joinpath("private").chmod(0o755)
    with pytest.raises(RunError, match=r"may be read or written by others .mode 755.: chmod go="):
        run(folder, 7)
    folder.joinpath("private").chmod(0o700)
    secrets.write_text("{}")
    with pytest.raises(RunError, match=r"secrets.json is damaged"):
        run(folder, 7)
    secrets.unlink()
    with pytest.raises(RunError, match=r"secrets.json is lost"):
        run(folder, 7)


@pytest.mark.slow
def test_a_run_stays_private_or_not(tmp_path: Path, whole: Path) -> None:
    for first, second in ((None, BUDGET), (BUDGET, None)):
        folder = tmp_path / str(first is None)
        run(folder, 1, privacy=first)
        for allow in (False, True):
            with pytest.raises(RunError, match="cannot go on otherwise"):
                run(folder, 2, privacy=second, allow_changes=allow)


def test_without_dp_accounting_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hansa import _extras

    def missing(name: str):
        raise ModuleNotFoundError("no", name="dp_accounting")

    monkeypatch.setattr(_extras.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"needs dp_accounting, .*pip install 'hansa\[privacy\]'"):
        run(None, process=PROCESS)
