"""The runs that operators have submitted, as `hansa serve` has devices work for them: a thread for each."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import hansa
from hansa.language.computation import Computation
from hansa.language.counted import Counted
from hansa.language.occasions import Occasion, current_occasion
from hansa.network.network import Network
from hansa.network.phases import CoordinatorError
from hansa.network.submissions import DONE, ENDED, FAILED, RUNNING, STOPPED, STOPPING, Submission, Submissions
from hansa.simulation.data_plan import DataPlan

_PATIENCE = 30.0
"""Seconds for which a round waits for as many devices as were asked for."""
_EVERY = 0.5
"""Seconds between looks at what was submitted."""


class StoppedError(Exception):
    """An operator has stopped the run."""


class Running:
    """Trains what was submitted, each run in a thread of its own, until it is closed.

    Args:
        network: whose devices work.
        told: called with each line of a run's log, and the run's name.
    """

    def __init__(self, network: Network, told: Callable[[str, Mapping[str, Any]], None] | None = None) -> None:
        self._network, self._told = network, told
        self._submissions: Submissions = network.submissions
        self._runs: dict[str, _Run] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="hansa-runs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops all; they go on when somebody serves the folder again."""
        self._closed.set()
        self._thread.join()
        for run in self._runs.values():
            run.stop("the coordinator ends", for_ever=False)
        for run in self._runs.values():
            run.thread.join()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _look(self) -> None:
        while not self._closed.is_set():
            for submission in self._submissions.all():
                name = submission.terms.name
                if name not in self._runs and submission.status not in ENDED:
                    self._runs[name] = _Run(self._network, self._submissions, submission, self._closed, self._told)
                if name in self._runs and submission.status in (STOPPING, STOPPED):
                    self._runs[name].stop(f"stopped {submission.reason}")
            self._closed.wait(_EVERY)


class _Run:
    """One run: a runtime that has devices work for it, until it is stopped."""

    reaches_elsewhere = True
    sums = "exact"

    def __init__(
        self,
        network: Network,
        submissions: Submissions,
        submission: Submission,
        closed: threading.Event,
        told: Callable[[str, Mapping[str, Any]], None] | None,
    ) -> None:
        self._network, self._submissions, self._terms = network, submissions, submission.terms
        self._closed, self._told, self._run_id = closed, told, None  # type: Any, Any, str | None
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._go, name=f"hansa-run-{self._terms.name}", daemon=True)
        self.thread.start()

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Runs a computation; see `hansa.language.context.Runtime`."""
        occasion = current_occasion()
        self._run_id = self._run_id if occasion is None else occasion.run
        try:
            if self._stopped.is_set():
                raise StoppedError
            return self._network.invoke(computation, argument)
        except (hansa.AbandonedError, CoordinatorError) as error:
            if self._stopped.is_set():
                raise StoppedError from None
            self._say("abandoned", round=None if occasion is None else occasion.round, reason=str(error))
            raise

    def counted(self, occasion: Occasion) -> Counted | None:
        """Who was counted in the last call; see `hansa.language.context.Runtime`."""
        return self._network.counted(occasion)

    def stop(self, reason: str, for_ever: bool = True) -> None:
        """It ends at once, with what it has; called from any thread, and again until it has ended."""
        self._stopped.set()
        if self._run_id is not None and self.thread.is_alive():
            self._network.end_run(self._run_id, reason, for_ever=for_ever)

    def _go(self) -> None:
        name = self._terms.name
        try:
            self._train()
            status, reason = DONE, None
        except StoppedError:
            if self._closed.is_set():
                return  # it goes on when somebody serves the folder again
            status, reason = STOPPED, self._submissions.find(name).reason
        except Exception as error:
            status, reason = FAILED, f"{type(error).__name__}: {error}"[:2000]
            self._say("traceback", text=traceback.format_exc()[-10_000:])
        self._say(status, reason=reason)
        self._submissions.become(name, status, reason)

    def _train(self) -> None:
        terms = self._terms
        stages, evaluating = self._submissions.parts(terms)
        process = hansa.load(stages)
        while len(self._network.there()) < terms.devices:
            if self._stopped.wait(0.1):
                raise StoppedError
        self._submissions.become(terms.name, RUNNING)
        self._say("begun", rounds=terms.rounds)
        asked = terms.evaluation
        evaluate: Any = None
        if asked is not None and evaluating is not None:
            evaluation, held_out = hansa.load(evaluating), self._devices(asked.plan)

            def evaluate(state: Any) -> Any:
                return evaluation(state.model, held_out)

        with hansa.runtime(self):
            hansa.program.train(
                process,
                self._devices(terms.plan),
                terms.rounds,
                run_dir=self._submissions.run_dir(terms.name),
                config=terms.to_json(),
                evaluate=evaluate,
                evaluate_every=1 if asked is None else asked.every,
                evaluate_initial=asked is not None and asked.initial,
                sinks=[
                    lambda number, metrics: self._say("round", round=number, metrics=_numbers(metrics)),
                    self._network.monitor.of(terms.name),
                ],
                progress=False,
            )

    def _devices(self, plan: Mapping[str, Any] | None) -> Any:
        terms = self._terms
        return self._network.devices(
            terms.devices,
            data=None if plan is None else DataPlan.from_json(plan),
            over_select=terms.over_select,
            least=terms.least,
            deadline=terms.deadline,
            patience=_PATIENCE,
        )

    def _say(self, event: str, **more: Any) -> None:
        line = {"event": event, **more}
        self._submissions.add_line(self._terms.name, line)
        if self._told is not None:
            self._told(self._terms.name, line)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
