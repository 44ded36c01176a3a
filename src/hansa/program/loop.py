"""`train`: the loop of many rounds, which goes on where it was stopped or killed.

All that is random is a function of a seed and the round's number, and a checkpoint holds all that a round takes from
those before it. So a run that goes on from a checkpoint has the numbers of one that was never stopped, to the bit.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import operator
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.program.callbacks import Callback, to_callbacks
from hansa.program.checkpoints import Checkpoint, state_member
from hansa.program.cohorts import Cohorts, Positions, described
from hansa.program.history import History
from hansa.program.interrupt import BY_USER, StopRequest
from hansa.program.metrics import EVALUATION, Record, Scalar, flatten
from hansa.program.progress import Progress, to_progress
from hansa.program.run_folder import RunFolder
from hansa.program.sinks import CSV, JsonLines, Sink, read_json_lines, to_sinks
from hansa.program.step import Step
from hansa.templates import IterativeProcess
from hansa.types import FederatedType, is_tensor_structure, to_value

RECORDS, ROUNDS = "metrics.jsonl", "rounds.jsonl"
_MOST_LISTED = 100
"""So many clients of a round are listed in the run's folder at most; of more, their number is noted."""


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        state: after the last round.
        history: the metrics of all rounds, those before it was resumed included.
        rounds: how many rounds are finished.
        stopped: why the run ended before its last round; None if it did not.
        run_dir: the run's folder, if it has one.
    """

    state: Any
    history: History
    rounds: int
    stopped: str | None
    run_dir: Path | None

    def __repr__(self) -> str:
        ended = "" if self.stopped is None else f", stopped: {self.stopped}"
        return f"TrainingResult({self.rounds} rounds{ended})"


def train(
    process: IterativeProcess,
    data: Any,
    rounds: int,
    *,
    cohort_size: int | None = None,
    sampler: Callable[[int], Any] | None = None,
    seed: int = 0,
    initial_state: Any = None,
    evaluate: Callable[[Any], Any] | None = None,
    evaluate_every: int = 1,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool | str = "auto",
    checkpoint_every: int = 10,
    keep_checkpoints: int = 2,
    sinks: Sequence[Sink | Callable[[int, Record], object]] = (),
    callbacks: Sequence[Callback | Callable[[int, Any, Record], str | None]] = (),
    config: Any = None,
    progress: bool | str | Progress = "auto",
) -> TrainingResult:
    """Run a process for many rounds. Rounds are numbered from 1.

    1. Sample the round's cohort.
    2. Take the state to the next one.
    3. Evaluate it, every few rounds.
    4. Write the metrics to the sinks, and call the callbacks.
    5. Save a checkpoint, every few rounds, and at the end.

    The first Ctrl-C ends the run after the running round, with a checkpoint; the second ends it at once. However it was
    ended, calling `train` again with the same arguments and `run_dir` goes on from the last checkpoint, and gives the
    result of a run that was never stopped, as long as `data`, `sampler` and `evaluate` depend on nothing but their
    arguments.

    Args:
        process: `next` takes the state and the round's data, and returns the state, perhaps with metrics.
        data: a `hansa.simulation.ClientData`, or a function from a round's number to its data.
        rounds: how many rounds the run is to have, those before it was resumed included.
        cohort_size: how many clients to draw in each round, uniformly without replacement; by default all take part.
        sampler: from a round's number to the positions of its clients, int64 [cohort], in place of `cohort_size`.
        seed: of the draw of cohorts.
        initial_state: the state to begin with; by default `process.initialize()`.
        evaluate: from a state to metrics, which are recorded as `evaluation/…`.
        evaluate_every: after which rounds: this one, twice this, and so on.
        run_dir: a folder for checkpoints, metrics (`metrics.csv`, `metrics.jsonl`), what was asked (`run.json`), who
            the clients are (`population.json`), and each round's seconds and clients (`rounds.jsonl`); without one
            nothing is saved.
        resume: "auto" goes on with the run in `run_dir`, if there is one; True demands one; False refuses one.
        checkpoint_every: how many rounds may be lost at most, if the process is killed.
        keep_checkpoints: how many, the newest.
        sinks: where else metrics go; see `hansa.program.Sink`. A function is called with a round's number and metrics.
        callbacks: what else is done after a round; see `hansa.program.Callback`. A function is called with a round's
            number, the state and the metrics; if it returns a string, that is why the run stops.
        config: whatever else the run depends on, such as learning rates: values that JSON has. A run is not resumed
            with another one.
        progress: "auto" shows a table in a terminal or a notebook, and logs a line now and then elsewhere; True always
            shows the table, False nothing. Or a `hansa.program.Progress`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.
        hansa.program.RunError: if `run_dir` cannot be used: another process is at it, or it has another run.
        hansa.program.CheckpointError: if no checkpoint can be read, or the state's type is another.
    """
    seed = _count("seed", seed, 0)
    plan = _Plan(
        Step(process),
        Cohorts(data, cohort_size, sampler, seed),
        _count("rounds", rounds, 0),
        _checked_evaluate(evaluate),
        _count("evaluate_every", evaluate_every, 1),
        to_callbacks(callbacks),
        _count("checkpoint_every", checkpoint_every, 1),
    )
    keep = _count("keep_checkpoints", keep_checkpoints, 1)
    own_sinks, shown, asked = to_sinks(sinks), to_progress(progress), plan.asked(seed, config)
    _check_resume(resume, run_dir)
    with contextlib.ExitStack() as stack:
        folder, run_sinks = None, own_sinks
        if run_dir is not None:
            state_member(process.state_type)
            facts = {"rounds": plan.rounds, "data": repr(data), "versions": _versions()}
            folder = stack.enter_context(RunFolder(Path(run_dir), asked, facts, resume, keep))
            run_sinks = [JsonLines(folder.path / RECORDS), CSV(folder.path / "metrics.csv"), *own_sinks]
        run = _Run(plan, folder, run_sinks)
        run.restore(initial_state)
        stop = stack.enter_context(StopRequest())
        run.start(stack)
        shown.begin(run.done, plan.rounds, lambda: stop.requested)
        ended = ""
        try:
            run.execute(stop, shown)
            if folder is not None:
                folder.end(run.done, run.stopped)
            ended = _ended(run)
        finally:
            shown.end(ended)
        return TrainingResult(
            run.state, History(run.records), run.done, run.stopped, None if folder is None else folder.path
        )


@dataclass(frozen=True)
class _Plan:
    """What is to be done; see `train`."""

    step: Step
    cohorts: Cohorts
    rounds: int
    evaluate: Callable[[Any], Any] | None
    evaluate_every: int
    callbacks: Sequence[Callback]
    checkpoint_every: int

    def asked(self, seed: int, config: Any) -> dict[str, Any]:
        """What a run that goes on must have asked the same.

        Raises:
            TypeError: if `config` holds something that JSON has not.
        """
        try:
            json.dumps(config, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"config must be made of dicts, lists, strings and finite numbers, to be compared later: {error}"
            ) from None
        evaluated = {} if self.evaluate is None else {"evaluate_every": self.evaluate_every}
        return {
            "process": str(self.step.process.next.type_signature),
            **self.cohorts.described(),
            "seed": seed,
            "evaluate": None if self.evaluate is None else described(self.evaluate),
            **evaluated,
            "callbacks": [described(callback) for callback in self.callbacks],
            "config": config,
        }


class _Run:
    """A run under way: the state and the records, what is done with them, and where they are kept.

    Attributes:
        state: after the rounds that are done.
        done: how many rounds are.
        records: theirs.
        stopped: why it ended before its last round, if it did.
    """

    def __init__(self, plan: _Plan, folder: RunFolder | None, sinks: Sequence[Sink]) -> None:
        self._plan, self._folder, self._sinks = plan, folder, sinks
        self._log = None if folder is None else JsonLines(folder.path / ROUNDS)
        self._names = [f"{index}-{type(callback).__name__}" for index, callback in enumerate(plan.callbacks)]
        self.state: Any = None
        self.done = self._saved = 0
        self.records: list[dict[str, Scalar]] = []
        self.stopped: str | None = None

    def restore(self, initial_state: Any) -> None:
        """Begin with the last checkpoint, or with the initial state."""
        found, process = None, self._plan.step.process
        if self._folder is not None and self._folder.resumed:
            found = self._folder.checkpoints.newest(process.state_type)
            done = 0 if found is None else found.round
            if done > self._plan.rounds:
                raise ValueError(
                    f"the run in {self._folder.path} has {done} rounds already; ask for as many, or more, instead of "
                    f"rounds={self._plan.rounds}"
                )
            self._folder.checkpoints.clean(done)
        if found is None:
            self.state = process.initialize() if initial_state is None else _checked_state(initial_state, process)
        else:
            assert self._folder is not None
            self.state, self.done, self.stopped = found.state, found.round, found.stopped
            self._saved = self.done
            self.records = read_json_lines(self._folder.path / RECORDS, self.done)
            if [record["round"] for record in self.records] != list(range(1, self.done + 1)):
                warnings.warn(
                    f"{self._folder.path / RECORDS} does not have the metrics of each of the {self.done} rounds; the "
                    "run goes on, and its history lacks some",
                    stacklevel=3,
                )
        saved = {} if found is None else found.saved
        for name, callback in zip(self._names, self._plan.callbacks, strict=True):
            callback.restore(saved.get(name))

    def start(self, stack: contextlib.ExitStack) -> None:
        """Open the sinks, which are closed with the stack, and note that the run has begun."""
        resumed = self._folder is not None and self._folder.resumed
        for sink in self._all_sinks():
            stack.callback(sink.close)
            sink.start(self.done if resumed else None, None if self._folder is None else self._folder.path)
        if self._folder is not None:
            # Only now, as a sink may drop what it finds in a run that has begun.
            self._folder.begin(self._plan.cohorts.summary)

    def execute(self, stop: StopRequest, shown: Progress) -> None:
        """Run the rounds that are to be run, or those until a stop is asked for."""
        while self.done < self._plan.rounds and self.stopped is None and not stop.requested:
            begin = time.perf_counter()
            record = self._round(self.done + 1)
            shown.add(record, time.perf_counter() - begin)
            if self.done % self._plan.checkpoint_every == 0:
                self._save()
        if self._saved != self.done:
            self._save()
        if self.done < self._plan.rounds and self.stopped is None:
            self.stopped = BY_USER

    def _round(self, number: int) -> Record:
        plan = self._plan
        begin = time.perf_counter()
        data, positions = plan.cohorts(number)
        state, metrics = plan.step(self.state, data)
        trained = time.perf_counter()
        if plan.evaluate is not None and number % plan.evaluate_every == 0:
            metrics = _merged(metrics, flatten(plan.evaluate(state), EVALUATION.rstrip("/")))
        record = _merged({"round": number}, metrics)
        if self._log is not None:
            seconds = {"seconds": trained - begin, "evaluation_seconds": time.perf_counter() - trained}
            self._log.write(number, {**seconds, **_listed(positions)})
        for callback in plan.callbacks:
            self.stopped = callback.after_round(number, state, metrics) or self.stopped
        for sink in self._sinks:
            sink.write(number, metrics)
        self.records.append(record)
        self.state, self.done = state, number
        return record

    def _all_sinks(self) -> list[Sink]:
        return [*self._sinks] if self._log is None else [self._log, *self._sinks]

    def _save(self) -> None:
        """Save a checkpoint, after the metrics of the rounds before it."""
        for sink in self._all_sinks():
            sink.flush()
        if self._folder is not None:
            saved = {name: callback.save() for name, callback in zip(self._names, self._plan.callbacks, strict=True)}
            known = {name: value for name, value in saved.items() if value is not None}
            checkpoint = Checkpoint(self.done, self.state, known, self.stopped)
            self._folder.checkpoints.save(checkpoint, self._plan.step.state_type)
        self._saved = self.done


def _listed(positions: Positions | None) -> dict[str, Scalar]:
    """How many clients took part, and which, if they are few: their positions in a string, by spaces."""
    if positions is None:
        return {}
    if len(positions) > _MOST_LISTED:
        return {"clients": len(positions)}
    return {"clients": len(positions), "positions": " ".join(map(str, positions))}


def _merged(first: Mapping[str, Scalar], second: Mapping[str, Scalar]) -> dict[str, Scalar]:
    twice = first.keys() & second.keys()
    if twice:
        raise ValueError(f"there are two metrics {min(twice)!r}; rename the process's, as the other is `train`'s")
    return {**first, **second}


def _ended(run: _Run) -> str:
    rounds = f"{run.done} round{'' if run.done == 1 else 's'}"
    return f"Finished after {rounds}." if run.stopped is None else f"Stopped after {rounds}: {run.stopped}."


def _checked_state(state: Any, process: IterativeProcess) -> Any:
    kind = process.state_type
    member = kind.member if isinstance(kind, FederatedType) else kind
    return to_value(state, member, "initial_state") if is_tensor_structure(member) else state


def _checked_evaluate(evaluate: Any) -> Any:
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate must be a function from the state to metrics, found {evaluate!r}")
    return evaluate


def _check_resume(resume: Any, run_dir: Any) -> None:
    if resume not in (True, False, "auto"):
        raise ValueError(f"resume must be True, False or 'auto', found {resume!r}")
    if resume is True and run_dir is None:
        raise ValueError("resume=True goes on with the run in a folder; name it, such as run_dir='runs/first'")


def _count(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, found {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, found {number}")
    return number


def _versions() -> dict[str, str]:
    return {name: importlib.import_module(name).__version__ for name in ("hansa", "jax", "numpy")}
