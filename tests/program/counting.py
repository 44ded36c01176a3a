"""A run that costs nothing: it adds up numbers, and says what it has added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import hansa
from hansa.program import TrainingResult, train


def adding() -> hansa.templates.IterativeProcess:
    """From a sum and a number to the next sum; the sum of squares beside it is a metric."""
    start = hansa.jax_computation(lambda: {"sum": np.float32(0), "squares": np.float32(0)})

    def add(state: Any, x: Any) -> Any:
        state = {"sum": state.sum + x, "squares": state.squares + x * x}
        return {"state": state, "loss": state["sum"] / 2, "squares": state["squares"]}

    step = hansa.jax_computation(add, start.type_signature.result, np.float32)
    return hansa.templates.IterativeProcess(start, step)


ADDING = adding()


def number_of(round_number: int) -> Any:
    """A round's data."""
    return np.float32(round_number)


def run(folder: Path | None, rounds: int, **options: Any) -> TrainingResult:
    """The run, or its next rounds: the state after n of them is 1 + … + n, and its loss half of that."""
    asked = {"run_dir": folder, "checkpoint_every": 2, "progress": False}
    return train(ADDING, number_of, rounds, **(asked | options))


def losses(rounds: int) -> list[float]:
    """The losses of so many rounds."""
    return [n * (n + 1) / 4 for n in range(1, rounds + 1)]
