"""`hansa train` and `hansa resume`: run the rounds of a run, show them, and leave curves and the model."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from hansa import learning
from hansa._files import replacing
from hansa._printing import in_a_line
from hansa.cli import _changes, _code, _places
from hansa.cli._changes import ChangedError, command
from hansa.cli._code import Code
from hansa.cli._experiment import Experiment, identity
from hansa.cli._output import NO_PICTURE, can_draw, print_json, say
from hansa.cli._places import short
from hansa.cli.config import ConfigError, RunConfig, config_file, read_config, restore_config
from hansa.cli.config.algorithms import told as told_algorithm
from hansa.cli.config.choices import OF_TABLES
from hansa.program import BestModel, CheckpointError, RunError, TrainingResult
from hansa.program.changes import ChangedRunError, told
from hansa.program.checkpoints import Checkpoints
from hansa.program.interrupt import BY_USER
from hansa.program.progress.lines import to_file
from hansa.program.progress.tables import TableProgress
from hansa.program.records import EVALUATION, Record
from hansa.program.run_file import CHECKPOINTS, recovered_run
from hansa.program.run_folder import check_no_others
from hansa.simulation._values import cohort_size_of


def train(
    path: Path,
    overrides: Sequence[str],
    as_json: bool,
    *,
    rounds: int | None = None,
    fresh: bool = False,
    allow_changes: bool = False,
) -> bool:
    """Run what a TOML file says, or go on with it, if its folder has it already.

    Args:
        path: the file, or a folder that has a `run.toml`.
        overrides: of the file.
        as_json: whether to print JSON.
        rounds: how many rounds, in place of the file's.
        fresh: whether to begin a new run, in a folder of its own, in any case.
        allow_changes: whether the newest run goes on though it was asked for something else.

    Returns:
        Whether it came to its end; not if the user pressed Ctrl-C.

    Raises:
        ChangedError: if there is a run, and it is another one.
    """
    file = config_file(path)
    config = read_config(file, [*overrides, *([] if rounds is None else [f"training.rounds={rounds}"])])
    typed: list[object] = ["train", path, *(word for override in overrides for word in ("--set", override))]
    typed += [] if rounds is None else ["--rounds", rounds]
    now = identity(config)
    folder = None if config.output.folder is None else _places.named(config.output.folder)
    place: contextlib.AbstractContextManager[Path]
    known = None
    if folder is None:
        place = _places.claimed(_places.timed(file.resolve().parent / "runs", file.stem))
    elif fresh:
        place = _places.claimed(folder)
    else:
        found, known = _known_run(folder, config, now, typed, allow_changes)
        place = contextlib.nullcontext(found)
    with place as found:
        if not as_json and (fresh or found != folder):
            say(f"A new run, in {short(found)}." if known is None else f"The run is in {short(found)}.", "")
        job = Job(config, found, now if known is None else known, config.training.rounds, typed)
        return execute(job, as_json, allow_changes)


def _known_run(
    folder: Path, config: RunConfig, now: dict[str, Any], typed: Sequence[object], allow_changes: bool
) -> tuple[Path, dict[str, Any] | None]:
    """The newest run of a folder's name that is the one asked for, and what it is to be known as; or a new run's.

    Raises:
        ChangedError: if there are runs, and none is the one asked for; the newest is compared.
    """
    runs = _places.runs_of(folder)
    if not runs:
        return folder, None
    newest: list[str] = []
    for found in reversed(runs):
        run = recovered_run(found)
        if run is None:  # which is told when it is taken up
            return found, now
        before = run["asked"].get("config")
        if not is_of_train(before):
            lines = ["it was not begun by `hansa train`"]
        else:
            lines = _changes.changes(found, config, before, now)
            if not lines or (allow_changes and not newest):
                return found, now if lines else before
        newest = newest or lines
    raise ChangedError(
        runs[-1],
        newest,
        {
            command(*typed, "--fresh"): f"begins a new run, in {short(_places.next_of(folder))}",
            command(*typed, "--allow-changes"): "goes on with the old one, as is asked for now",
        },
    )


def resume(folder: Path, rounds: int | None, allow_changes: bool, as_json: bool) -> bool:
    """Go on with a run.

    Args:
        folder: its folder.
        rounds: how many it is to have; by default as many as it was to have.
        allow_changes: whether it may go on though the user's files have changed.
        as_json: whether to print JSON.
    """
    config, known, asked = restored(folder)
    typed = ["resume", folder, *([] if rounds is None else ["--rounds", rounds])]
    codes = _changes.check_files(folder, config, known, allow_changes, may_type(typed))
    if not as_json:
        say(*(f"Code      {code}" for code in codes))
    if any(code.changed for code in codes):
        known = {**known, "files": _code.kept(config)}
    return execute(Job(config, folder, known, rounds or asked, typed, codes), as_json, allow_changes)


def may_type(typed: Sequence[object]) -> dict[str, str]:
    """What may be typed where the files of a run have changed that is taken up from its folder."""
    return {
        command(*typed, "--allow-changes"): "takes the files as they are now",
        "hansa train CONFIG --fresh": "begins a new run with them",
    }


def restored(folder: Path) -> tuple[RunConfig, dict[str, Any], int]:
    """The configuration of a run, what `identity` said of it when it began, and how many rounds it was to have.

    Raises:
        RunError: if there is no run in the folder.
        ConfigError: if it was not begun by `hansa train`, or its files are not there.
    """
    run = _recovered(folder)
    known = run["asked"].get("config")
    if not is_of_train(known):
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


def is_of_train(known: Any) -> bool:
    """Whether what a run says of its configuration is what `identity` gave."""
    return isinstance(known, dict) and isinstance(known.get("training"), dict) and isinstance(known.get("files"), dict)


@dataclass(frozen=True)
class Job:
    """A run that is to be begun, or to go on.

    Attributes:
        config: its configuration.
        folder: its folder.
        known: what `identity` gives, or gave when it began.
        rounds: how many rounds it is to have.
        typed: the words of the command.
        codes: its Python files, if it is taken up from its folder.
        head: what is said of it at the beginning; by default, whose data, and how long.
        facts: what is said besides to programs, with `--json`.
        title: above its curves; by default its folder's name.
        next_steps: what may be typed when it is done.
        made: makes the run of its configuration.
    """

    config: RunConfig
    folder: Path
    known: dict[str, Any]
    rounds: int
    typed: Sequence[object]
    codes: Sequence[Code] = ()
    head: Callable[[Experiment], str] | None = None
    facts: Callable[[Experiment], Mapping[str, Any]] | None = None
    title: str | None = None
    next_steps: Mapping[str, str] = field(default_factory=dict)
    made: Callable[[RunConfig], Experiment] = Experiment


def execute(job: Job, as_json: bool, allow_changes: bool = False) -> bool:
    """Run the rounds that are to be run, show them, and leave curves and the model.

    Returns:
        Whether it came to its end; not if the user pressed Ctrl-C.
    """
    begin = time.perf_counter()
    with _told_how_to_begin(job):
        done = _done(job)
    experiment = job.made(job.config)
    progress: Any
    if as_json:
        progress = JsonProgress(job.folder, job.codes, {} if job.facts is None else job.facts(experiment))
    else:
        console = Console(highlight=False)
        say(_summary(experiment, job.rounds) if job.head is None else job.head(experiment))
        progress = TableProgress(console) if console.is_terminal else to_file(sys.stdout, closing=False)
    try:
        with _told_how_to_begin(job):
            result = experiment.train(job.folder, job.known, job.rounds, progress, allow_changes)
    except ChangedRunError as error:  # of what no key says, such as a file of data that has others in it
        may_change = not allow_changes and "clients" not in error.changes
        raise ChangedError(job.folder, told(error.changes), _instead(job, may_change)) from None
    files = _leave(experiment, result, job.title)
    if as_json:
        print_json(
            {
                "event": "end",
                "rounds": result.rounds,
                "stopped": result.stopped,
                "metrics": result.history[-1] if len(result.history) else {},
                "seconds": round(time.perf_counter() - begin, 3),
                "folder": job.folder,
                "files": {file.name: file for file in files},
            }
        )
    else:
        _tell(job, result, files, done, time.perf_counter() - begin)
    return not _by_user(result)


@contextlib.contextmanager
def _told_how_to_begin(job: Job) -> Iterator[None]:
    """Where a run's folder cannot be used, its checkpoints cannot be read, or do not fit what is asked for, what to
    type for a new run is said, too."""
    try:
        yield
    except ChangedRunError:
        raise
    except (CheckpointError, RunError) as error:
        error.args = (f"{error}\n{command(*_train_words(job), '--fresh')} begins a new run.",)
        raise


def _done(job: Job) -> int:
    """How many rounds the run has.

    Raises:
        ConfigError: if they are more than it is to have.
        RunError: if something else is in its folder.
    """
    check_no_others(job.folder)
    found = Checkpoints(job.folder / CHECKPOINTS).newest(None)
    done = 0 if found is None else found.round
    if done > job.rounds:
        told = f"the run has {_rounds(done)} already; ask for as many, or more, instead of {job.rounds}"
        if job.typed[0] == "train":
            told += f"; `{command(*job.typed, '--fresh')}` begins a new run"
        raise ConfigError(short(job.folder), [told])
    return done


def _instead(job: Job, may_change: bool) -> dict[str, str]:
    """What may be typed where a run is another one."""
    allowed = {command(*job.typed, "--allow-changes"): "goes on with the old one, as is asked for now"}
    return {command(*_train_words(job), "--fresh"): "begins a new run", **(allowed if may_change else {})}


def _train_words(job: Job) -> Sequence[object]:
    return job.typed if job.typed[0] == "train" else ["train", "CONFIG"]


def _tell(job: Job, result: TrainingResult, files: Sequence[Path], done: int, seconds: float) -> None:
    """Say what came of a run, and what to type next."""
    folder = short(job.folder)
    stopped = "" if result.stopped is None else f"; stopped: {result.stopped}"
    last = result.history[-1] if len(result.history) else {}
    found = {name.removeprefix(EVALUATION): value for name, value in last.items() if name.startswith(EVALUATION)}
    values = [f"{in_a_line(name)} {value:.4g}" for name, value in found.items() if isinstance(value, float)]
    say("", f"Done after {_rounds(result.rounds)}, in {seconds:.1f} s{stopped}.")
    if values:
        say(f"Evaluated: {', '.join(values)}.")
    say(f"In {folder}:", *(f"  {file.name}" for file in files))
    if _by_user(result):
        say(f"{command('resume', folder)} goes on with it.")
    elif done == result.rounds and result.stopped is None:
        say(
            "All of it was done before.",
            f"{command('resume', folder, '--rounds', 2 * done)} makes it longer.",
            f"{command(*_train_words(job), '--fresh')} begins a new run.",
        )
    elif job.next_steps:
        widest = max(map(len, job.next_steps))
        say("Next", *(f"  {typed:{widest}}   {what}" for typed, what in job.next_steps.items()))


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"


def _by_user(result: TrainingResult) -> bool:
    return result.stopped == BY_USER


def _summary(experiment: Experiment, rounds: int) -> str:
    populations, training = experiment.populations, experiment.config.training
    size, clients = training.cohort_size, len(populations.training)
    each = "all" if size is None else str(cohort_size_of(size, clients, replace=True))
    lines = [f"Data      {populations.training!r}"]
    if populations.evaluation is not None:
        lines.append(f"Evaluated on {populations.what}: {int(populations.evaluation.sizes.sum()):,} examples")
    config = experiment.config
    if any(getattr(config, name) is not None for name in ("algorithm", *OF_TABLES)):
        lines += told_algorithm(config)
    return "\n".join([*lines, f"Training  {_rounds(rounds)}, {each} of {clients} clients in each", ""])


def _leave(experiment: Experiment, result: TrainingResult, title: str | None) -> list[Path]:
    """Draw the curves and write the model; what else is in the folder is there already."""
    assert result.run_dir is not None
    folder = result.run_dir
    files = [folder / "metrics.csv"]
    if len(result.history) and not can_draw():
        sys.stderr.write(NO_PICTURE + "\n")
    elif len(result.history):
        result.history.plot(path=folder / "curves.png", title=title or folder.name)
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


class JsonProgress:
    """Prints an object a line: `begin`, and each `round`.

    Args:
        folder: of the run.
        codes: its Python files, if it is taken up again.
        facts: what else is said at the beginning.
    """

    def __init__(
        self, folder: Path, codes: Sequence[Code] = (), facts: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._folder, self._codes, self._facts = folder, codes, facts

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Print how far the run is."""
        begin: dict[str, Any] = {"event": "begin", "done": done, "rounds": rounds, "folder": self._folder}
        print_json(
            begin | dict(self._facts) | ({"code": [code.facts() for code in self._codes]} if self._codes else {})
        )

    def add(self, record: Record, seconds: float) -> None:
        """Print a round."""
        print_json({"event": "round", **record, "seconds": round(seconds, 4)})

    def end(self, message: str) -> None:
        """What came of it is printed by the command."""
