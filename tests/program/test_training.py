"""`train` is a plain loop over `process.next`, that may be stopped and goes on."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import hansa
from hansa.program import BestModel, CheckpointError, EarlyStopping, RunError, load_checkpoint, train
from hansa.program.metrics import flatten
from tests.program.digits import Evaluation, assert_same_bits, averaging, population


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own answer to Ctrl-C, which a process that was started in the background may not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def process() -> hansa.templates.IterativeProcess:
    return averaging()


@pytest.fixture(scope="module")
def data() -> hansa.simulation.ClientData:
    return population()


def sampler(round_number: int) -> Any:
    return np.array([round_number % 10, (3 * round_number + 1) % 10])[: 1 + round_number % 2]


def plain_loop(process: Any, data: Any, rounds: int, last: Sequence[int] = ()) -> tuple[Any, list[dict[str, Any]]]:
    """The states after each round, and the records, with nothing of `hansa.program`.

    Every second round is evaluated, and those that were the last ones for a while.
    """
    state, states, records, evaluation = process.initialize(), [], [], Evaluation()
    for number in range(1, rounds + 1):
        state, metrics = process.next(state, data.cohort(sampler(number), number))
        record = {"round": number, **{name: value.item() for name, value in metrics._asdict().items()}}
        if number % 2 == 0 or number in (rounds, *last):
            found = evaluation(state)
            record["evaluation/accuracy"] = float(found["accuracy"])
            for digit, errors in enumerate(found["errors"]["by_digit"].tolist()):
                record[f"evaluation/errors/by_digit/{digit}"] = errors
        states.append(state)
        records.append(record)
    return states, records


def test_it_is_the_plain_loop(process: Any, data: Any) -> None:
    states, records = plain_loop(process, data, 5)
    found = train(process, data, 5, sampler=sampler, evaluate=Evaluation(), evaluate_every=2, progress=False)
    assert_same_bits(found.state, states[-1])
    assert list(found.history) == records
    assert (found.rounds, found.stopped, found.run_dir) == (5, None, None)


def test_a_run_in_parts_is_the_run_in_one_and_its_files_say_so(process: Any, data: Any, tmp_path: Path) -> None:
    states, records = plain_loop(process, data, 6, last=[5])
    for rounds in (2, 5, 6):
        found = train(
            process, data, rounds, sampler=sampler, evaluate=Evaluation(), evaluate_every=2, run_dir=tmp_path / "run",
            checkpoint_every=4, progress=False,
        )  # fmt: skip
        assert_same_bits(found.state, states[rounds - 1])
        assert jax.tree.map(type, found.state) == jax.tree.map(type, states[rounds - 1])
        assert list(found.history) == records[:rounds]
        assert [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()] == records[:rounds]
    table = found.history.to_pandas()
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert table["loss"].tolist() == [record["loss"] for record in records]
    assert math.isnan(table["evaluation/accuracy"][1])
    newest = load_checkpoint(tmp_path / "run")
    assert newest.round == 6
    assert_same_bits(newest.state, states[-1])
    assert type(newest.state.model) is hansa.learning.ModelWeights
    again = train(
        process, data, 6, sampler=sampler, evaluate=Evaluation(), evaluate_every=2, run_dir=tmp_path / "run",
        resume=True, progress=False,
    )  # fmt: skip
    assert again.history == found.history
    with pytest.raises(ValueError, match=r"has 6 rounds already; .* instead of rounds=5"):
        train(process, data, 5, sampler=sampler, evaluate=Evaluation(), evaluate_every=2, run_dir=tmp_path / "run")


def test_cohorts_are_drawn_by_the_seed_and_the_round(process: Any, data: Any) -> None:
    class Watched:
        def __init__(self) -> None:
            self.seen: list[tuple[int, ...]] = []

        def __len__(self) -> int:
            return len(data)

        def cohort(self, positions: Any, round_number: int) -> Any:
            self.seen.append((round_number, *positions))
            return data.cohort(positions, round_number)

    first, again, other = Watched(), Watched(), Watched()
    for watched, seed in ((first, 1), (again, 1), (other, 2)):
        train(process, watched, 3, cohort_size=4, seed=seed, progress=False)
    assert first.seen == again.seen != other.seen
    assert [positions[0] for positions in first.seen] == [1, 2, 3]
    assert all(len(set(positions[1:])) == 4 for positions in first.seen)
    everyone = Watched()
    train(process, everyone, 1, progress=False)
    assert everyone.seen == [(1, *range(10))]


def test_any_process_and_data_from_a_function() -> None:
    start = hansa.jax_computation(lambda: np.float32(1))
    add = hansa.jax_computation(lambda x, y: x + y, np.float32, np.float32)
    alone = train(hansa.templates.IterativeProcess(start, add), lambda number: np.float32(number), 4, progress=False)
    assert alone.state == 11
    assert list(alone.history) == [{"round": number} for number in range(1, 5)]
    both = hansa.jax_computation(lambda x, y: {"x": x + y, "sum": x + y, "two": [y, y]}, np.float32, np.float32)
    found = train(hansa.templates.IterativeProcess(start, both), lambda number: np.float32(number), 2, progress=False)
    assert found.history[1] == {"round": 2, "sum": 4.0, "two/0": 2.0, "two/1": 2.0}
    begun = train(
        hansa.templates.IterativeProcess(start, add), lambda number: np.float32(1), 1, initial_state=7.0, progress=False
    )
    assert begun.state == 8


def test_another_run_is_refused_and_the_error_says_what_differs(process: Any, data: Any, tmp_path: Path) -> None:
    def run(process: Any = process, data: Any = data, **options: Any) -> Any:
        asked = {"cohort_size": 2, "seed": 1, "config": {"rate": 0.5}, "run_dir": tmp_path, "progress": False}
        return train(process, data, 1, **(asked | options))

    run()
    before = load_checkpoint(tmp_path)
    for options, message in (
        ({"seed": 2}, r"seed was 1, and is now 2"),
        ({"cohort_size": 3}, r"sampler was UniformSampler\(2 of .* and is now UniformSampler\(3 of "),
        ({"config": {"rate": 0.1}}, r"config\.rate was 0\.5, and is now 0\.1"),
        ({"data": population(12)}, r"clients was 10, and is now 12(.|\n)*Ask for the same, or name another folder\.$"),
        ({"callbacks": [BestModel("loss")]}, r"callbacks was \[\], and is now .*BestModel"),
        ({"process": averaging(features=63)}, r"process was \(<state=.*\[64,10\].*and is now \(<state=.*\[63,10\]"),
        ({"resume": False}, "has a run already"),
    ):
        with pytest.raises(RunError, match=message):
            run(**options)
    with pytest.raises(RunError) as raised:
        run(seed=2)
    again = pickle.loads(pickle.dumps(raised.value))  # as a pool of processes does
    assert str(again) == str(raised.value) and again.changes == raised.value.changes and again.changes["seed"] == (1, 2)
    assert_same_bits(load_checkpoint(tmp_path).state, before.state)
    with pytest.raises(CheckpointError, match=r"has the type <model=.*\[64,10\].*this process is <model=.*\[63,10\]"):
        load_checkpoint(tmp_path, averaging(features=63).state_type)


def test_folders_that_cannot_be_a_runs(process: Any, data: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no run to resume"):
        train(process, data, 1, run_dir=tmp_path / "none", resume=True, progress=False)
    assert not (tmp_path / "none").exists()
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"is not empty: it has thesis\.tex"):
        train(process, data, 1, run_dir=tmp_path, progress=False)


def test_two_processes_do_not_write_one_run(process: Any, data: Any, tmp_path: Path) -> None:
    def meanwhile(round_number: int, state: Any, metrics: Any) -> None:
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on"):
            train(process, data, 1, run_dir=tmp_path, progress=False)

    train(process, data, 1, run_dir=tmp_path, callbacks=[meanwhile], progress=False)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(process: Any, data: Any, tmp_path: Path) -> None:
    states, records = plain_loop(process, data, 5)
    options = {"sampler": sampler, "run_dir": tmp_path, "checkpoint_every": 2, "progress": False}
    train(process, data, 4, **options)
    newest = tmp_path / "checkpoints" / "round-00000004.hansa"
    whole = newest.read_bytes()
    for damaged in (whole[:-100], whole[: len(whole) // 2] + b"\x01" + whole[len(whole) // 2 + 1 :], b""):
        newest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"round-00000004.hansa .*; the checkpoint before it is used"):
            found = train(process, data, 4, **options)
        assert_same_bits(found.state, states[3])
        assert [record["loss"] for record in found.history] == [record["loss"] for record in records[:4]]
        assert newest.read_bytes() == whole
    for path in newest.parent.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .* can be read, the newest bec"):
        train(process, data, 5, **options)


def test_early_stopping_is_the_loop_that_looks_at_the_losses(process: Any, data: Any, tmp_path: Path) -> None:
    states, records = plain_loop(process, data, 8)
    losses = [record["loss"] for record in records]
    best, waited, expected = math.inf, 0, None
    for number, loss in enumerate(losses, 1):
        best, waited = (loss, 0) if loss < best - 0.05 else (best, waited + 1)
        if waited > 1 and expected is None:
            expected = number
    assert expected is not None, losses
    for part in (2, 3, 8, 8):
        stopping, keeping = EarlyStopping("loss", 2, min_delta=0.05), BestModel("loss", mode="max")
        found = train(
            process, data, part, sampler=sampler, callbacks=[stopping, keeping], run_dir=tmp_path, progress=False
        )
    assert found.rounds == expected
    assert found.stopped is not None
    assert "loss has not improved since round" in found.stopped
    worst = int(np.argmax(losses[:expected]))
    assert (keeping.round, keeping.value) == (worst + 1, losses[worst])
    assert_same_bits(keeping.state, states[worst])


def test_evaluations_are_what_patience_counts() -> None:
    stopping = EarlyStopping("evaluation/accuracy", patience=2)
    found = [
        stopping.after_round(number, None, {"loss": 1.0} if value is None else {"evaluation/accuracy": value})
        for number, value in enumerate([None, 0.5, None, 0.6, math.nan, None, 0.6], 1)
    ]
    assert found[:-1] == [None] * 6
    assert found[-1] == "evaluation/accuracy has not improved since round 4, when it was 0.6"
    with pytest.raises(KeyError, match="loss"):
        EarlyStopping("los", mode="min").after_round(1, None, {"loss": 1.0})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping(metric="loss"), TypeError, "no argument 'metric': write monitor= in its place"),
        (lambda: EarlyStopping("loss", restore_best_weights=True), TypeError, r"add hansa\.program\.BestModel\("),
        (
            lambda: BestModel("gain"),
            ValueError,
            "the name 'gain' does not say whether .* write mode='min' or mode='max'",
        ),
        (lambda: BestModel("loss", mode="less"), ValueError, "mode must be 'auto', 'min' or 'max', found 'less'"),
        (lambda: BestModel(3), TypeError, "monitor must be the name of a metric, such as 'evaluation/loss'; found 3"),
    ],
)
def test_callbacks_say_what_to_write(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
    assert repr(BestModel("evaluation/accuracy")) == "BestModel('evaluation/accuracy', mode='max')"


def test_a_learning_rate_by_the_round_goes_on_where_it_was(data: Any, tmp_path: Path) -> None:
    schedule = optax.exponential_decay(1.0, transition_steps=1, decay_rate=0.25)
    process = averaging(server_optimizer=optax.sgd(schedule))
    whole = train(process, data, 3, progress=False)
    for rounds in (1, 3):
        found = train(process, data, rounds, run_dir=tmp_path, progress=False)
    assert_same_bits(found.state, whole.state)
    assert int(found.state.optimizer_state.count) == 3
    # From round 2 on the rate is another than without the schedule.
    constant = train(averaging(server_optimizer=optax.sgd(1.0)), data, 3, progress=False)
    assert constant.history[1] == whole.history[1]
    assert constant.history[2] != whole.history[2]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_finishes_the_round_and_saves(process: Any, data: Any, tmp_path: Path) -> None:
    states, _ = plain_loop(process, data, 4)

    def interrupt(round_number: int, metrics: Any) -> None:
        if round_number == 3 and len(pressed) < 1:
            pressed.append(round_number)
            os.kill(os.getpid(), signal.SIGINT)

    pressed: list[int] = []
    options = {"sampler": sampler, "run_dir": tmp_path, "checkpoint_every": 100, "progress": False}
    found = train(process, data, 4, sinks=[interrupt], **options)
    assert (found.rounds, found.stopped) == (3, "by Ctrl-C")
    assert_same_bits(found.state, states[2])
    assert load_checkpoint(tmp_path).round == 3
    found = train(process, data, 4, sinks=[interrupt], **options)
    assert (found.rounds, found.stopped) == (4, None)
    assert_same_bits(found.state, states[3])


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_stops_at_once_and_damages_nothing(process: Any, data: Any, tmp_path: Path) -> None:
    states, _ = plain_loop(process, data, 5)

    def interrupt(round_number: int, metrics: Any) -> None:
        if round_number == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    options = {"sampler": sampler, "run_dir": tmp_path, "checkpoint_every": 2, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        train(process, data, 5, sinks=[interrupt], **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_checkpoint(tmp_path).round == 2
    found = train(process, data, 5, **options)
    assert_same_bits(found.state, states[4])
    assert [record["round"] for record in found.history] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rounds": 1.5}, TypeError, "rounds must be an integer, found 1.5"),
        ({"rounds": True}, TypeError, "rounds must be an integer, found True"),
        ({"seed": False}, TypeError, "seed must be an integer, found False"),
        ({"rounds": 2**60}, ValueError, "rounds must be less than 9,007,199,254,740,992, found 1,152,"),
        ({"rounds": -1}, ValueError, "rounds must be at least 0, found -1"),
        ({"cohort_size": 11}, ValueError, "cohort_size must be from 1 to the number of clients, 10; found 11"),
        (
            {"cohort_size": "all"},
            TypeError,
            "cohort_size must be a number of clients, such as 10, or a fraction of them",
        ),
        ({"cohort_size": 2, "sampler": sampler}, ValueError, "leave out cohort_size"),
        ({"data": [1, 2]}, TypeError, "data must be a hansa.simulation.ClientData, or a function"),
        ({"data": lambda n: [], "cohort_size": 2}, ValueError, "leave out cohort_size"),
        ({"process": 3}, TypeError, "process must be a process of hansa.templates, found the int 3"),
        (
            {"evaluate": 3},
            TypeError,
            "evaluate must be a federated evaluation with .* or a function of the state, .*; found the int 3",
        ),
        ({"resume": "yes"}, ValueError, "resume must be True, False or 'auto', found 'yes'"),
        ({"resume": 0}, ValueError, "resume must be True, False or 'auto', found 0"),
        ({"run_dir": 3}, TypeError, "run_dir must be a path, such as 'runs/first', found 3"),
        ({"run_dir": b"run"}, TypeError, "run_dir must be a path, .*, found b'run'"),
        ({"resume": True}, ValueError, "name it, such as run_dir="),
        ({"sinks": [3]}, TypeError, "a sink has the methods start, write, flush and close, or is a function"),
        ({"callbacks": [3]}, TypeError, "a callback has the methods after_round, save and restore, or is a function"),
        ({"callbacks": [EarlyStopping]}, TypeError, r"make an object of it: EarlyStopping\(…\)"),
        ({"sinks": EarlyStopping}, TypeError, r"sinks must be a list, .* write sinks=\[…\]"),
        ({"config": {"rate": np.float32(1)}, "run_dir": "x"}, TypeError, "config must be made of dicts, lists"),
        ({"evaluate": lambda state: {"round": object()}}, TypeError, "the metric 'evaluation/round' must be numbers"),
        ({"callbacks": [lambda number, state, metrics: True]}, TypeError, "returned True"),
        ({"initial_state": 3}, TypeError, "initial_state: expected <model="),
    ],
)
def test_wrong_arguments_are_refused(
    process: Any, data: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(**({"process": process, "data": data, "rounds": 1, "progress": False} | options))


def test_metrics_become_numbers_by_their_path() -> None:
    with jax.enable_x64(True):
        value = {"a": jax.numpy.bfloat16(0.5), "b": [np.int64(2**60), True, "text"], "c": np.eye(2, dtype=np.uint8)}
    assert flatten(value) == {
        "a": 0.5, "b/0": 2**60, "b/1": True, "b/2": "text", "c/0/0": 1, "c/0/1": 0, "c/1/0": 0, "c/1/1": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the metric 'x' has 1,001 elements"):
        flatten({"x": np.zeros(1001)})


def test_the_history_is_drawn(tmp_path: Path) -> None:
    history = hansa.program.History([{"round": 1, "loss": 2.0}, {"round": 2, "loss": 1.0, "evaluation/loss": 1.5}])
    assert history.columns == {"round": [1, 2], "loss": [2.0, 1.0], "evaluation/loss": [None, 1.5]}
    figure = history.plot(path=tmp_path / "curves.png")
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 2], [2, 1]], [[2, 1.5]]]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(KeyError, match="loss"):
        history.plot("los")


def test_without_matplotlib_a_history_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"History.plot needs matplotlib.*pip install 'hansa\[plots\]'"):
        hansa.program.History([{"round": 1, "loss": 2.0}]).plot()
