"""The plan of a run's data in its folder: what an engine elsewhere makes a client's batches of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hansa.program.run_file import CAPACITY, EXAMPLES, PLAN, RUN, RunError, read_run
from hansa.simulation import DataPlan, PlanError

_APART = (EXAMPLES, CAPACITY)
"""What a run notes of its data whether there is a plan or not."""


_NO_PLAN = "no_plan"


def recorded(data: Any) -> dict[str, Any]:
    """What a run notes of the plan of a population beside the rest; if it has none that is data, why."""
    try:
        plan = data.plan()
    except PlanError as error:
        return {_NO_PLAN: error.why}
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
    found = asked.get(PLAN, {_NO_PLAN: "its data is no ClientData, or it was begun with an earlier version"})
    if not isinstance(found, dict):
        raise RunError(f"{folder / RUN} is damaged: its {PLAN} is no object")
    if _NO_PLAN in found:
        raise RunError(f"the run in {folder} has no plan of its data that is data itself: {found[_NO_PLAN]!s:.200}")
    try:
        return DataPlan.from_json({**found, **{name: asked.get(name) for name in _APART}})
    except PlanError as error:
        raise RunError(f"{folder / RUN} is damaged: {error}") from None
