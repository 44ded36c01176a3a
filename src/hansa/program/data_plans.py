"""The plan of a run's data in its folder: what an engine elsewhere makes a client's batches of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hansa.program.run_file import CAPACITY, EXAMPLES, PLAN, RUN, RunError, read_run
from hansa.simulation import DataPlan, PlanError

_APART = (EXAMPLES, CAPACITY)
"""What a run notes of its data whether there is a plan or not."""


def recorded(data: Any) -> dict[str, Any] | None:
    """What a run notes of the plan of a population beside the rest; None if it has none that is data."""
    try:
        plan = data.plan()
    except PlanError:
        return None
    return {name: value for name, value in plan.to_json().items() if name not in _APART}


def read_data_plan(run_dir: str | os.PathLike[str]) -> DataPlan:
    """The plan of a run's data: what is done with a client's examples before a round.

    Args:
        run_dir: the run's folder.

    Raises:
        RunError: if there is no run in it, or the run has no plan that is data: its population calls functions, or its
            data is none of a `ClientData`.

    Examples:
        >>> train = data.scale("x", divide=16).shuffle(seed=1).batch(20)
        >>> result = hansa.program.train(process, train, rounds=1, run_dir="runs/planned", progress=False)
        >>> hansa.program.read_data_plan("runs/planned") == train.plan()
        True
    """
    folder = Path(run_dir)
    asked = read_run(folder)["asked"]
    if asked.get(PLAN) is None:
        raise RunError(
            f"the run in {folder} has no plan of its data: the data is no ClientData, or calls a function in map or "
            "filter, or was begun with an earlier version; data.plan() says which step it is"
        )
    if not isinstance(asked[PLAN], dict):
        raise RunError(f"{folder / RUN} is damaged: its {PLAN} is no object")
    try:
        return DataPlan.from_json({**asked[PLAN], **{name: asked.get(name) for name in _APART}})
    except PlanError as error:
        raise RunError(f"{folder / RUN} is damaged: {error}") from None
