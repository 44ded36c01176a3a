"""What is seen of a run: a table where it is live, lines in the log elsewhere, or nothing."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import hansa
from hansa.program.progress import LogProgress, NoProgress, TableProgress, caption, to_progress


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
    assert caption(5, 5, stopping=True, finishing="Writing ...") == "Writing ..."


def test_a_line_now_and_then_in_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "hansa.program"):
        train(40, "auto")
    lines = [record.getMessage() for record in caplog.records if record.name == "hansa.program"]
    assert len(lines) == 1 + 15 + 1
    assert lines[1].startswith("round 1 of 40: total 2, ")
    assert lines[-1] == "Finished after 40 rounds."
    assert capsys.readouterr().out == ""


def test_what_progress_may_be() -> None:
    assert isinstance(to_progress(False), NoProgress)
    assert isinstance(to_progress("auto"), LogProgress)
    own = NoProgress()
    assert to_progress(own) is own
    with pytest.raises(TypeError, match="progress must be 'auto', True, False, or an object"):
        to_progress("loud")
