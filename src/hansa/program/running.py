"""A run under way: its rounds one after another, its records, and what is kept of it in a folder."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hansa._warnings import warn
from hansa.language.counted import Counted, counted_on
from hansa.language.occasions import AbandonedError, Occasion, Part, new_run, part_of
from hansa.privacy import Guarantee
from hansa.program.checkpoints import Checkpoint
from hansa.program.cohorts import Positions
from hansa.program.constants import Begun
from hansa.program.interrupt import BY_USER, StopRequest
from hansa.program.lasting import Lasting
from hansa.program.metrics import flatten
from hansa.program.plan import Plan
from hansa.program.progress import Progress
from hansa.program.records import COUNTED, EVALUATION, LEFT_OUT, Record, Scalar
from hansa.program.run_file import RECORDS, ROUNDS, TABLE, RunError
from hansa.program.run_folder import RunFolder
from hansa.program.sinks import CSV, JsonLines, Sink, read_json_lines
from hansa.program.spending import SPENT, BudgetSpentError, Spending
from hansa.templates.keeping import keeps_at_clients, with_states
from hansa.types import FederatedType, Struct, StructType, Type, is_federated, is_tensor_structure, to_value
from hansa.types.client_states import ClientStates
from hansa.types.values import field_values

_MOST_LISTED = 100
"""So many clients of a round are listed in the run's folder at most; of more, their number is noted."""
_MOST_ATTEMPTS = 100
"""So often a round is tried that the runtime abandons."""

T = TypeVar("T")


class _StoppedError(Exception):
    """The run is to stop, between two attempts at a round."""


class Run:
    """A run under way: the state and the records, what is done with them, and where they are kept.

    Attributes:
        state: after the rounds that are done.
        done: how many rounds are.
        records: theirs.
        stopped: why it ended before its last round, if it did.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder | None, sinks: Sequence[Sink], spending: Spending | None = None
    ) -> None:
        self._plan, self._folder, self._sinks, self._spending = plan, folder, sinks, spending
        self._name = new_run() if folder is None else folder.run_id
        self._log = None if folder is None else JsonLines(folder.path / ROUNDS)
        self._tables: list[Sink] = (
            [] if folder is None else [JsonLines(folder.path / RECORDS), CSV(folder.path / TABLE)]
        )
        self._names = [f"{index}-{type(callback).__name__}" for index, callback in enumerate(plan.callbacks)]
        self.state: Any = None
        self._begun = Begun(None)
        self.done = self._saved = 0
        self.records: list[dict[str, Scalar]] = []
        self.stopped: str | None = None
        self._stop = StopRequest()

    def restore(self, initial_state: Any) -> None:
        """Begin with the last checkpoint, or with the initial state."""
        found, kind = None, self._plan.step.state_type
        if self._folder is not None and self._folder.resumed:
            found = self._folder.checkpoints.newest(kind)
            found = None if found is None else self._with_what_lasts(found, initial_state, self._folder.path)
            done = 0 if found is None else found.round
            if done > self._plan.rounds:
                raise ValueError(
                    f"the run in {self._folder.path} has {done} round{'' if done == 1 else 's'} already; ask for as "
                    f"many, or more, instead of rounds={self._plan.rounds}"
                )
            with self._writing():
                self._folder.checkpoints.clean(done)
        if found is None:
            self.state = with_states(kind, self._first_state(initial_state), "initial_state")
        else:
            assert self._folder is not None
            self.state, self.done, self.stopped = found.state, found.round, found.stopped
            self._saved = self.done
            self.records = read_json_lines(self._folder.path / RECORDS, self.done)
            first = 0 if self._plan.evaluate_initial else 1
            if [record["round"] for record in self.records] != list(range(first, self.done + 1)):
                warn(
                    f"{self._folder.path / RECORDS} does not have the metrics of each of the {self.done} rounds; the "
                    "run goes on, and its history lacks some",
                )
        if self._spending is not None:
            self._spending.check_done(self.done)
            if self.stopped is not None and self.stopped.startswith(SPENT):
                self.stopped = None  # which is looked at again
        self._begun = Begun(self.state)
        saved = {} if found is None else found.saved
        for name, callback in zip(self._names, self._plan.callbacks, strict=True):
            callback.restore(saved.get(name))

    def _first_state(self, initial_state: Any) -> Any:
        """What a new run begins with."""
        with part_of(self._name, 0, 1, "initialize"):
            if initial_state is None:
                return self._plan.step.process.initialize()
            return _checked_state(initial_state, self._plan.step.state_type)

    def _with_what_lasts(self, found: Checkpoint, initial_state: Any, folder: Path) -> Checkpoint:
        """The checkpoint, with what no round changes in the process's own memory. Warns if it is other there."""
        lasting = Lasting(self._plan.step)
        if not lasting.parts:
            return found
        begins = self._first_state(initial_state)
        lasting.warn_of_changes(folder, found.state, begins)
        return lasting.in_one_place(found, begins)

    def start(self, stack: contextlib.ExitStack) -> None:
        """Open the sinks, which are closed with the stack, and note that the run has begun."""
        last_round = self.done if self._folder is not None and self._folder.resumed else None
        if last_round == 0 and self._plan.evaluate_initial:
            last_round = -1  # The initial state is evaluated again, too.
        run_dir = None if self._folder is None else self._folder.path
        with self._writing():
            for sink in self._own_sinks():
                stack.callback(sink.close)
                sink.start(last_round, run_dir)
        for sink in self._sinks:
            stack.callback(sink.close)
            sink.start(last_round, run_dir)
        if self._folder is not None:
            # Only now, as a sink may drop what it finds in a run that has begun.
            with self._writing():
                begin = self._plan.cohorts.summary if self._spending is None else self._plan.cohorts.number
                self._folder.begin(begin, self.done)

    def execute(self, stop: StopRequest, shown: Progress) -> None:
        """Run the rounds that are to be run, or those until a stop is asked for."""
        self._stop = stop
        self._check_budget(self.done + 1)
        with contextlib.suppress(_StoppedError):
            self._execute(shown)
        if self._saved != self.done:
            self._save()
        if self.done < self._plan.rounds and self.stopped is None:
            self.stopped = BY_USER
        if self._folder is not None:
            with self._writing():
                said = None if self.guarantee is None else str(self.guarantee)
                sites = None if self._spending is None else self._spending.by_site()
                self._folder.end(self.done, self.stopped, said, sites)

    @cached_property
    def guarantee(self) -> Guarantee | None:
        """What the run promises, once it has ended; None of one that is not private."""
        return None if self._spending is None else self._spending.guarantee(self.done)

    def _check_budget(self, number: int) -> None:
        """Stop before a round that would exceed the privacy budget."""
        if self._spending is not None and self.stopped is None:
            self.stopped = self._spending.why_not(number, self._plan.rounds)

    def _execute(self, shown: Progress) -> None:
        if self._plan.evaluate_initial and not self.done:
            begin = time.perf_counter()
            record = self._evaluate_initial()
            shown.add(record, time.perf_counter() - begin)
        while self.done < self._plan.rounds and self.stopped is None and not self._stop.requested:
            begin = time.perf_counter()
            record = self._round(self.done + 1)
            shown.add(record, time.perf_counter() - begin)
            if self.done % self._plan.checkpoint_every == 0:
                self._save()

    def _evaluate_initial(self) -> Record:
        metrics = self._measured(self.state, 0)
        self._write(0, metrics)
        record = _merged({"round": 0}, metrics)
        self.records.append(record)
        return record

    def _round(self, number: int) -> Record:
        plan = self._plan
        begin = time.perf_counter()
        data, positions = plan.cohorts(number)
        arguments = plan.arguments(number, positions)

        def step(occasion: Occasion) -> tuple[Any, dict[str, Scalar], Counted | None]:
            if self._spending is None:
                return *plan.step(self.state, data, arguments), counted_on(occasion)
            with self._spending.round(occasion, self.state, data, positions, arguments):
                found = plan.step(self.state, data, arguments)
            self._spending.note(occasion, counted_on(occasion))  # which is not for those who read the metrics
            return *found, None

        try:
            state, metrics, counted = self._attempted(number, "round", step)
        except BudgetSpentError as error:
            self.stopped = str(error)
            raise _StoppedError from error
        if counted is not None:
            metrics = _merged(metrics, {COUNTED: counted.number, LEFT_OUT: counted.to_text()})
        if self._spending is not None:
            metrics = _merged(metrics, self._spending.metrics)
        seconds = {"seconds": time.perf_counter() - begin, "evaluation_seconds": 0.0}
        if plan.is_evaluated(number):
            metrics = self._evaluated(number, state, metrics, seconds)
        for callback in plan.callbacks:
            self.stopped = callback.after_round(number, state, metrics) or self.stopped
        self._check_budget(number + 1)
        if plan.evaluate is not None and not plan.is_evaluated(number) and self._is_last(number):
            metrics = self._evaluated(number, state, metrics, seconds)
            for callback in plan.callbacks:
                getattr(callback, "after_last_evaluation", _nothing)(number, state, metrics)
        record = _merged({"round": number}, metrics)
        if self._log is not None:
            with self._writing():
                # Of a private run, who takes part is in its ledger.
                self._log.write(number, {**seconds, **_listed(None if self._spending is not None else positions)})
        self._write(number, metrics)
        self.records.append(record)
        self.state, self.done = state, number
        return record

    def _is_last(self, number: int) -> bool:
        """Whether a round is the last one of all, or the one that a callback stops after; it is evaluated, too."""
        return number == self._plan.rounds or self.stopped is not None

    def _evaluated(self, number: int, state: Any, metrics: Record, seconds: dict[str, float]) -> dict[str, Scalar]:
        """The metrics of a round with those of its evaluation, whose seconds are noted."""
        begin = time.perf_counter()
        found = _merged(metrics, self._measured(state, number))
        seconds["evaluation_seconds"] = time.perf_counter() - begin
        return found

    def _measured(self, state: Any, number: int) -> dict[str, Scalar]:
        evaluate = self._plan.evaluate
        assert evaluate is not None
        return self._attempted(number, "evaluation", lambda _: flatten(evaluate(state), EVALUATION.rstrip("/")))

    def _attempted(self, number: int, part: Part, work: Callable[[Occasion], T]) -> T:
        """What comes of a part of a round, at the first attempt that the runtime does not abandon."""
        for attempt in itertools.count(1):
            try:
                with part_of(self._name, number, attempt, part) as occasion:
                    return work(occasion)
            except AbandonedError as error:
                if attempt == _MOST_ATTEMPTS:
                    error.add_note(f"That was attempt {attempt} at round {number}, and is the last one.")
                    raise
                if self._stop.requested:
                    if part == "round":
                        raise _StoppedError from error
                    raise  # Callbacks may know of a round that is evaluated, so it cannot be taken back.
        raise AssertionError

    def _write(self, number: int, metrics: Record) -> None:
        with self._writing():
            for sink in self._tables:
                sink.write(number, metrics)
        for sink in self._sinks:
            sink.write(number, metrics)

    def _own_sinks(self) -> list[Sink]:
        return self._tables if self._log is None else [self._log, *self._tables]

    def _save(self) -> None:
        """Save a checkpoint, after the metrics of the rounds before it."""
        with self._writing():
            for sink in self._own_sinks():
                sink.flush()
        for sink in self._sinks:
            sink.flush()
        if self._folder is not None:
            saved = {name: callback.save() for name, callback in zip(self._names, self._plan.callbacks, strict=True)}
            known = {name: value for name, value in saved.items() if value is not None}
            checkpoint = Checkpoint(self.done, self.state, known, self.stopped, self._folder.run)
            with self._writing():
                fixed = self._begun.still_in(self.state)
                self._folder.checkpoints.save(checkpoint, self._plan.step.state_type, fixed)
        self._saved = self.done

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What cannot be written of the run's folder, as on a disk without room, becomes an error that says so."""
        try:
            yield
        except OSError as error:
            if self._folder is None:
                raise
            raise RunError(
                f"{self._folder.path} cannot be written: {error}. Round {self._saved} is the last one that is "
                "saved; the run goes on from there once the folder can be written"
            ) from error


def _nothing(*_: object) -> None:
    """What a callback without a method does."""


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


def _checked_state(state: Any, kind: Type, what: str = "initial_state") -> Any:
    if isinstance(kind, StructType) and is_federated(kind):
        parts = zip(kind.fields, field_values(state, kind, what), strict=True)
        return Struct((name, _checked_state(part, field, f"{what}.{name}")) for (name, field), part in parts)
    member = kind.member if isinstance(kind, FederatedType) else kind
    if isinstance(state, ClientStates) and keeps_at_clients(kind):
        member.check_assignable_from(state.type_signature, what=what)
        return state
    return to_value(state, member, what) if is_tensor_structure(member) else state
