"""`run.json`: what a run's folder says the run is. And how JSON is read that anybody may have written or damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from hansa._errors import UserError
from hansa._files import open_regular
from hansa._warnings import warn

RUN, POPULATION, CHECKPOINTS = "run.json", "population.json", "checkpoints"
RECORDS, TABLE, ROUNDS = "metrics.jsonl", "metrics.csv", "rounds.jsonl"
"""The files of a run's folder: what was asked, who the clients are, checkpoints, the metrics twice, and the rounds."""

CAPACITY = "batch_capacity"
"""The key of what was asked that says with how many rows every batch is computed."""

PLAN, EXAMPLES = "data_plan", "examples"
"""The keys of what was asked that say what is done with a client's examples, and the type of a batch of them."""

_ABOUT: Mapping[str, type] = {
    "began": str, "machine": str, "parameters": int, "bytes_down": int, "bytes_up": int, "bytes_exact": bool,
    "bytes_once": int, "settings": dict,
}  # fmt: skip
"""The fields of `about`, as `hansa.program.facts.facts` gives them; any may be missing."""

_MOST_BYTES = 1 << 28
_DEEPEST = 50
MOST_COUNT = 1 << 53
"""Numbers of rounds and clients are less, which floats hold exactly."""


class RunError(UserError):
    """A run's folder cannot be used: it is in use, is of another run, has something else in it, or is damaged.

    Examples:
        >>> result = hansa.program.train(process, data, rounds=1, run_dir="runs/first", progress=False)
        >>> result = hansa.program.train(process, data, rounds=1, run_dir="runs/first", resume=False, progress=False)
        Traceback (most recent call last):
            ...
        hansa.program.run_file.RunError: runs/first has a run already, and resume=False begins a new one; ...
    """


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        RunError: if it cannot be read, or is no object of JSON.
    """
    try:
        with open_regular(path) as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is no object of JSON")
        if _depth(found, _DEEPEST) > _DEEPEST:
            raise ValueError(f"its values are nested more than {_DEEPEST} deep")
    except FileNotFoundError:
        if path.is_symlink():
            raise RunError(f"{path} cannot be read: it is a link to nothing") from None
        raise
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    return found


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` in a run's folder says.

    Its fields: `asked`, what the run is, an object; `rounds`, how many it is to have; `ended`,
    `{"rounds": …, "stopped": …}`, and of a private run `privacy`, what it promises, in words, and `sites`, the epsilon
    of each client whose examples are protected; or None if the run has not come to an end: it is under way, or was
    killed. And, for people, `data`, text; `versions` of packages; `about`,
    see `hansa.program.facts`; and `devices`, its last ones. `id` is what it is called, unless it is of an earlier
    version.

    Raises:
        RunError: if there is no run in it, or the file is damaged.
    """
    path = folder / RUN
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        below = f", or one that `hansa runs {folder}` lists" if folder.is_dir() else ""
        raise RunError(
            f"{folder} has no run: there is no {RUN} in it; name the run_dir that was passed to train{below}"
        ) from None
    problem = _problem(found)
    if problem is not None:
        raise RunError(f"{path} is damaged: {problem}")
    return {"ended": None, "data": "", "versions": {}, "about": {}, "devices": None, **found}


def recovered_run(folder: Path) -> dict[str, Any] | None:
    """What `read_run` gives; if the file is damaged, with a warning, what the newest checkpoint says of the run.

    Returns:
        None if the file is damaged, and there is no checkpoint that says it.

    Raises:
        RunError: if there is no run in the folder.
    """
    try:
        return read_run(folder)
    except RunError as error:
        if not has_run(folder):
            raise
        damage = error
    from hansa.program.checkpoints import CheckpointError, Checkpoints  # which need JAX

    try:
        checkpoint = Checkpoints(folder / CHECKPOINTS).newest(None)
    except CheckpointError:
        checkpoint = None
    if checkpoint is None or checkpoint.run is None or _problem(checkpoint.run) is not None:
        return None
    warn(f"{damage}; the newest checkpoint says what the run is, and that is used")
    return {"ended": None, "data": "", "versions": {}, "about": {}, "devices": None, **checkpoint.run}


def has_run(folder: Path) -> bool:
    """Whether a run has begun in a folder, though its `run.json` may be damaged, or set aside for being so."""
    return any(os.path.lexists(folder / name) for name in (RUN, f"{RUN}.damaged"))


def _problem(run: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a run, in a few words."""
    if not isinstance(run.get("asked"), dict):
        return "it has no object `asked`"
    if not is_count(run.get("rounds")):
        return "`rounds` is no number of rounds"
    every = run["asked"].get("evaluate_every", 1)
    if not is_count(every) or not every:
        return "`evaluate_every` is no number of rounds"
    if not isinstance(run.get("data", ""), str):
        return "`data` is no text"
    if not isinstance(run.get("id", ""), str):
        return "`id` is no text"
    versions = run.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        return "`versions` are not those of packages"
    told = _about_problem(run.get("about", {}))
    if told is not None:
        return told
    if not isinstance(run.get("devices"), str | None):
        return "`devices` is no text"
    if not isinstance(run.get("sums"), str | None):
        return "`sums` is no text"
    if not isinstance(run.get("changes", []), list):
        return "`changes` is no list"
    ended = run.get("ended")
    if ended is None:
        return None
    if (
        not isinstance(ended, dict)
        or not is_count(ended.get("rounds"))
        or not isinstance(ended.get("stopped", 0), str | None)
        or not isinstance(ended.get("privacy", ""), str)
        or not _are_numbers(ended.get("sites", {}))
    ):
        return "`ended` does not say after how many rounds, and why"
    return None


def _are_numbers(found: Any) -> bool:
    return isinstance(found, dict) and all(type(each) in (int, float) for each in found.values())


def _about_problem(about: Any) -> str | None:
    if not isinstance(about, dict):
        return "`about` is no object"
    wrong = [name for name, kind in _ABOUT.items() if name in about and type(about[name]) is not kind]
    if wrong or not all(isinstance(value, str) for value in about.get("settings", {}).values()):
        return f"`{(wrong or ['settings'])[0]}` of `about` is not what a run writes"
    return None


def _depth(value: Any, most: int) -> int:
    """How deep a value is nested; of one that is nested deeper than `most`, more than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 0 if most < 0 or not inner else 1 + max(_depth(each, most - 1) for each in inner)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value is a number of rounds, or of clients: an integer from 0, of a size that there are."""
    return type(value) is int and 0 <= value < MOST_COUNT
