"""What is seen of a run: a table where it is live, lines as time passes elsewhere, or nothing."""

from __future__ import annotations

import io
import itertools
import logging
import time
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import hansa
from hansa.program.progress import NoProgress, to_progress
from hansa.program.progress.cells import fitting
from hansa.program.progress.lines import LineProgress
from hansa.program.progress.pace import Pace, about
from hansa.program.progress.tables import TableProgress, caption


def train(rounds: int, progress: Any) -> None:
    start = hansa.jax_computation(lambda: np.float32(1))
    step = hansa.jax_computation(lambda x, y: (x + y, {"total": x + y}), np.float32, np.float32)
    process = hansa.templates.IterativeProcess(start, step)
    hansa.program.train(process, lambda number: np.float32(number), rounds, progress=progress)


def test_a_table_in_a_terminal() -> None:
    text = io.StringIO()
    train(3, TableProgress(Console(file=text, force_terminal=True, width=80, color_system=None)))
    shown = text.getvalue()
    assert [line.split()[0::2] for line in shown.splitlines() if "." in line][-4:-1] == [
        ["1", "2"],
        ["2", "4"],
        ["3", "7"],
    ]
    assert "Finished after 3 rounds." in shown


def test_what_is_going_on_in_a_line() -> None:
    assert caption(0, 5, stopping=False) == "Compiling the first round ..."
    assert caption(2, 5, stopping=False) == "Round 2 of 5; Ctrl-C stops and keeps what there is."
    assert caption(2, 5, stopping=True) == "Stopping after this round; Ctrl-C again stops at once."
    assert caption(5, 5, stopping=True) == ""


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_is_judged_by_the_rounds_but_the_first_one() -> None:
    clock = Clock()
    pace = Pace(10, 110, clock)
    for number, now in [(11, 60.0), (12, 62.0), (13, 64.0), (14, 90.0), (15, 92.0)]:
        clock.now = now
        pace.add(number)
        assert pace.left is None or number > 11
    assert pace.left == pytest.approx(95 * 2)
    assert caption(15, 110, False, pace=pace) == (
        "Round 15 of 110, about 3 min left; Ctrl-C stops and keeps what there is."
    )
    clock.now += 90
    assert pace.left == pytest.approx(100)
    assert [about(seconds) for seconds in (0.2, 7.4, 43, 58, 95, 3590, 7800, 90_000, 200_000)] == [
        *("0 s", "7 s", "45 s", "1 min", "2 min", "1 h 0 min", "2 h 10 min", "1 day 1 h", "2 days 8 h")
    ]


@pytest.mark.parametrize(
    ("each", "rounds", "fewest", "most"), [(0.01, 1000, 8, 12), (1, 1000, 90, 130), (60, 500, 60, 500)]
)
def test_how_many_lines_there_are_depends_on_time(each: float, rounds: int, fewest: int, most: int) -> None:
    clock, lines, said = Clock(), 0, [0.0]
    pace = Pace(0, rounds, clock)
    for _ in range(rounds):
        clock.now += each
        if pace.is_due():
            pace.said()
            lines += 1
            said.append(clock.now)
    assert fewest <= lines <= most
    silences = [(after - before, before) for before, after in itertools.pairwise(said)]
    assert all(silence <= max(10, before / 50) + each for silence, before in silences)


class Steps:
    """Rounds by hand: so many are done when `begin` is called."""

    def __init__(self, done: int, rounds: int, **options: Any) -> None:
        self.lines: list[str] = []
        self.shown, self.stopping = LineProgress(self.lines.append, **options), False
        self.shown.begin(done, rounds, lambda: self.stopping)

    def wait(self, text: str) -> None:
        end = time.monotonic() + 20
        while not any(text in line for line in self.lines):
            assert time.monotonic() < end, self.lines
            time.sleep(0.01)


def test_the_last_round_is_told_though_nobody_knew_that_it_was() -> None:
    run = Steps(4, 100)
    run.shown.add({"round": 5, "loss": 2.0, "num_examples": 7}, 0.1)
    run.shown.add({"round": 6, "loss": 1.5, "evaluation/loss": 0.25}, 0.1)
    run.shown.end("Stopped after 6 rounds: no better.")
    assert [line.split("  about")[0] for line in run.lines] == [
        "The run goes on after round 4.",
        "round   5 of 100  loss 2  0.100 s",
        "round   6 of 100  loss 1.5  evaluation/loss 0.25  0.100 s",
        "Stopped after 6 rounds: no better.",
    ]


def test_a_round_that_takes_long_is_mentioned_and_so_is_ctrl_c() -> None:
    run = Steps(0, 2, patience=0.1)
    run.wait("round 1 of 2: compiling and running, 0 s so far")
    run.shown.add({"round": 1}, 0.3)
    run.wait("round 2 of 2: running, 0 s so far")
    run.stopping = True
    run.wait("Stopping after this round")
    run.shown.end("")
    assert run.lines.count("Stopping after this round; Ctrl-C again stops at once.") == 1
    length = len(run.lines)
    time.sleep(0.3)
    assert len(run.lines) == length


def test_of_many_metrics_some_of_training_and_some_of_the_evaluation_are_shown() -> None:
    training, evaluation = [f"m{i}" for i in range(9)], [f"evaluation/m{i}" for i in range(9)]
    assert fitting(training) == training[:5] and fitting(evaluation) == evaluation[:5]
    assert fitting(training[:4] + evaluation[:1]) == training[:4] + evaluation[:1]
    assert fitting(training + evaluation) == training[:2] + evaluation[:3]


def test_a_script_prints_its_lines_and_one_that_logs_logs_them(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    train(40, "auto")
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == "Compiling round 1 of 40 ..." and lines[-1] == "Finished after 40 rounds."
    assert lines[1].startswith("round  1 of 40  total 2  ") and lines[-2].startswith("round 40 of 40  total 821  ")
    assert len(lines) < 10 and printed.out == "" and not caplog.records
    with caplog.at_level(logging.INFO, "hansa.program"):
        train(2, "auto")
    assert [record.getMessage() for record in caplog.records][::3] == [
        lines[0].replace("40", "2"),
        "Finished after 2 rounds.",
    ]
    with caplog.at_level(logging.ERROR, "hansa"):  # the log is not to be seen
        train(2, "auto")
        assert capsys.readouterr().err == ""
        train(2, True)
    train(2, False)
    assert len(capsys.readouterr().err.splitlines()) == 4 and len(caplog.records) == 4


def test_what_progress_may_be() -> None:
    assert isinstance(to_progress(False), NoProgress)
    own = NoProgress()
    assert to_progress(own) is own
    with pytest.raises(TypeError, match="progress must be 'auto', True, False, or an object"):
        to_progress("loud")
