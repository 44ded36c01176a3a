"""`hansa train` and `hansa resume`: run the rounds of a run, show them, and leave curves and the model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hansa import learning
from hansa._files import replacing
from hansa._printing import in_a_line
from hansa.cli import _code
from hansa.cli._code import Code
from hansa.cli._experiment import Experiment, identity
from hansa.cli._output import NO_PICTURE, can_draw, print_json, say
from hansa.cli.config import ConfigError, RunConfig, differences, read_config, restore_config
from hansa.program import BestModel, RunError, TrainingResult
from hansa.program.checkpoints import Checkpoints
from hansa.program.interrupt import BY_USER
from hansa.program.progress import TableProgress, is_shown
from hansa.program.records import Record
from hansa.program.run_file import CHECKPOINTS, has_run, recovered_run
from hansa.simulation._values import cohort_size_of


def train(path: Path, overrides: Sequence[str], as_json: bool) -> bool:
    """Run what a TOML file says, or go on with it, if its folder has it already.

    Returns:
        Whether it came to its end; not if the user pressed Ctrl-C.
    """
    config = read_config(path, overrides)
    folder = config.output.folder or path.resolve().parent / "runs" / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    now = identity(config)
    if has_run(folder):
        _refuse_another(folder, config, now)
    return _run(config, folder, now, config.training.rounds, as_json)


def resume(folder: Path, rounds: int | None, allow_changes: bool, as_json: bool) -> bool:
    """Go on with a run.

    Args:
        folder: its folder.
        rounds: how many it is to have; by default as many as it was to have.
        allow_changes: whether it may go on though the user's files have changed.
        as_json: whether to print JSON.
    """
    config, known, asked = restored(folder)
    codes = _code.checked(folder, config, known["files"], allow_changes)
    if not as_json:
        say(*(f"Code      {code}" for code in codes))
    return _run(config, folder, known, rounds or asked, as_json, codes)


def restored(folder: Path) -> tuple[RunConfig, dict[str, Any], int]:
    """The configuration of a run, what `identity` said of it when it began, and how many rounds it was to have.

    Raises:
        RunError: if there is no run in the folder.
        ConfigError: if it was not begun by `hansa train`, or its files are not there.
    """
    run = _recovered(folder)
    known = run["asked"].get("config")
    if not _is_of_train(known):
        raise ConfigError(folder, ["this run was begun in Python and not by `hansa train`; go on with it there"])
    rounds: int = run["rounds"]
    values = {name: value for name, value in known.items() if name != "files"}
    values["training"] = {**values["training"], "rounds": rounds}
    return restore_config(values, folder / "run.json"), known, rounds


def _recovered(folder: Path) -> dict[str, Any]:
    run = recovered_run(folder)
    if run is None:
        raise RunError(
            f"{folder / 'run.json'} is damaged, and no checkpoint says what the run is: `hansa train CONFIG` goes on "
            "with it, where the file has its folder"
        )
    return run


def _is_of_train(known: Any) -> bool:
    """Whether what a run says of its configuration is what `identity` gave."""
    return isinstance(known, dict) and isinstance(known.get("training"), dict) and isinstance(known.get("files"), dict)


def _refuse_another(folder: Path, config: RunConfig, now: dict[str, Any]) -> None:
    run = recovered_run(folder)
    if run is None:  # which is told when it is taken up
        return
    before = run["asked"].get("config")
    if not _is_of_train(before):
        raise RunError(f"{folder} has a run that was not begun by `hansa train`; name another folder")
    if before["files"].keys() == now["files"].keys():
        _code.checked(folder, config, before["files"], False)
    changes = differences(before, now)
    if changes:
        listed = "".join(f"\n  {change}" for change in changes)
        raise RunError(
            f"the run in {folder} is another one:{listed}\nName another folder, such as --set output.folder=runs/second"
        )


def _refuse_fewer(folder: Path, rounds: int) -> None:
    """Refuse to take a run to fewer rounds than it has."""
    found = Checkpoints(folder / CHECKPOINTS).newest(None)
    if found is not None and found.round > rounds:
        raise ConfigError(
            folder, [f"the run has {found.round} rounds already; ask for as many, or more, instead of {rounds}"]
        )


def _run(
    config: RunConfig, folder: Path, known: dict[str, Any], rounds: int, as_json: bool, codes: Sequence[Code] = ()
) -> bool:
    _refuse_fewer(folder, rounds)
    experiment = Experiment(config)
    progress: Any
    if as_json:
        progress = JsonProgress(folder, codes)
    else:
        console = Console(highlight=False)
        say(_summary(experiment, rounds))
        progress = TableProgress(console) if console.is_terminal else PlainProgress()
    result = experiment.train(folder, known, rounds, progress)
    files = _leave(experiment, result)
    if as_json:
        print_json(
            {
                "event": "end",
                "rounds": result.rounds,
                "stopped": result.stopped,
                "metrics": result.history[-1] if len(result.history) else {},
                "folder": folder,
                "files": {file.name: file for file in files},
            }
        )
    else:
        ended = f"after {result.rounds} rounds" + ("" if result.stopped is None else f", stopped: {result.stopped}")
        say("", f"Done {ended}. In {folder}:", *(f"  {file.name}" for file in files))
        if result.rounds < rounds:
            say(f"hansa resume {folder} goes on with it." if _by_user(result) else "")
    return not _by_user(result)


def _by_user(result: TrainingResult) -> bool:
    return result.stopped == BY_USER


def _summary(experiment: Experiment, rounds: int) -> str:
    populations, training = experiment.populations, experiment.config.training
    size, clients = training.cohort_size, len(populations.training)
    each = "all" if size is None else str(cohort_size_of(size, clients, replace=True))
    lines = [f"Data      {populations.training!r}"]
    if populations.evaluation is not None:
        lines.append(f"Evaluated on {populations.what}: {int(populations.evaluation.sizes.sum()):,} examples")
    return "\n".join([*lines, f"Training  {rounds} rounds, {each} of {clients} clients in each", ""])


def _leave(experiment: Experiment, result: TrainingResult) -> list[Path]:
    """Draw the curves and write the model; what else is in the folder is there already."""
    assert result.run_dir is not None
    folder = result.run_dir
    files = [folder / "metrics.csv"]
    if len(result.history) and not can_draw():
        sys.stderr.write(NO_PICTURE + "\n")
    elif len(result.history):
        result.history.plot(path=folder / "curves.png", title=folder.name)
        files.append(folder / "curves.png")
    models = [("model", result.state)]
    models += [
        ("best_model", callback.state)
        for callback in experiment.callbacks
        if isinstance(callback, BestModel) and callback.state is not None
    ]
    return files + [file for name, state in models for file in _write_model(experiment, state, folder / name)]


def _write_model(experiment: Experiment, state: Any, path: Path) -> list[Path]:
    model = experiment.source.make()
    if hasattr(model, "stateless_call"):
        # To save a model, Keras imports TensorFlow where it is installed; its greetings are not for here.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        target = path.with_name(path.name + ".keras")
        with replacing(target) as part:
            state.model.save_keras(model, part)
        return [target]
    target = path.with_name(path.name + ".safetensors")
    try:
        learning.save_weights(state.model, target)
    except ImportError as error:
        sys.stderr.write(f"the weights are in the checkpoints only: {error}\n")
        return []
    return [target]


class PlainProgress:
    """Prints a line for a few of the rounds, for logs and pipes."""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Say how far the run is."""
        self._rounds = rounds
        if done:
            print(f"The run goes on after round {done}.", flush=True)

    def add(self, record: Record, seconds: float) -> None:
        """Print a round, if it is one of the few."""
        number = int(record["round"])
        if is_shown(number, self._rounds):
            floats = [(name, value) for name, value in record.items() if isinstance(value, float)]
            values = "".join(f"  {in_a_line(name)} {value:.4g}" for name, value in floats)
            print(f"round {number:>{len(str(self._rounds))}}{values}  {seconds:.3f} s", flush=True)

    def end(self, message: str) -> None:
        """What came of it is printed by the command."""


class JsonProgress:
    """Prints an object a line: `begin`, and each `round`.

    Args:
        folder: of the run.
        codes: its Python files, if it is taken up again.
    """

    def __init__(self, folder: Path, codes: Sequence[Code] = ()) -> None:
        self._folder, self._codes = folder, codes

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Print how far the run is."""
        begin: dict[str, Any] = {"event": "begin", "done": done, "rounds": rounds, "folder": self._folder}
        print_json(begin | ({"code": [code.facts() for code in self._codes]} if self._codes else {}))

    def add(self, record: Record, seconds: float) -> None:
        """Print a round."""
        print_json({"event": "round", **record, "seconds": round(seconds, 4)})

    def end(self, message: str) -> None:
        """What came of it is printed by the command."""
