"""What `train` is asked to do: the arguments, checked before anything is done, and what a run must ask again."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hansa.program.arguments import Arguments
from hansa.program.callbacks import BestModel, Callback, EarlyStopping
from hansa.program.cohorts import Cohorts, described
from hansa.program.metrics import names_of, no_such_metric
from hansa.program.records import EVALUATION
from hansa.program.run_file import MOST_COUNT
from hansa.program.step import Step
from hansa.templates.keeping import keeps_at_clients


@dataclass(frozen=True)
class Plan:
    """What is to be done; see `train`.

    Raises:
        TypeError, ValueError: if `keep_every` and `checkpoint_every` do not go together, there is nothing to evaluate
            by, or a callback looks at a metric that there is not.
    """

    step: Step
    cohorts: Cohorts
    rounds: int
    evaluate: Callable[[Any], Any] | None
    evaluate_every: int
    callbacks: Sequence[Callback]
    checkpoint_every: int
    keep_every: int | None = None
    evaluate_initial: bool = False
    arguments: Arguments = field(default_factory=lambda: Arguments({}, None, None))

    def __post_init__(self) -> None:
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"keep_every={self.keep_every} must be a multiple of checkpoint_every={self.checkpoint_every}, as "
                "other rounds have no checkpoint"
            )
        if not isinstance(self.evaluate_initial, bool):
            raise TypeError(f"evaluate_initial must be True or False, found {self.evaluate_initial!r}")
        if self.evaluate_initial and self.evaluate is None:
            raise ValueError("evaluate_initial=True evaluates the initial state; pass evaluate, which says how")
        if self.evaluate_every != 1 and self.evaluate is None:
            raise ValueError(
                f"evaluate_every={self.evaluate_every} says after which rounds there is an evaluation; pass evaluate, "
                "which says how"
            )
        for callback in self.callbacks:
            if isinstance(callback, EarlyStopping | BestModel):
                self._check_metric(callback)

    def is_evaluated(self, number: int) -> bool:
        """Whether a round is evaluated, be it the last one or not."""
        return self.evaluate is not None and number % self.evaluate_every == 0

    def _check_metric(self, callback: EarlyStopping | BestModel) -> None:
        own, evaluated = self.step.metric_names, evaluated_names(self.evaluate)
        if own is None:
            return
        problem = no_such_metric(
            callback.monitor, [*own, *(evaluated or ())], self.evaluate is not None, evaluated is not None
        )
        if problem is not None:
            raise ValueError(f"{callback!r}: {problem}")

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
        evaluated: dict[str, Any] = {} if self.evaluate is None else {"evaluate_every": self.evaluate_every}
        if self.evaluate_initial:
            evaluated["evaluate_initial"] = True
        return {
            "process": self.step.process.next.type_signature.compact(),
            **self.cohorts.described(by_id=keeps_at_clients(self.step.process.state_type)),
            **self.arguments.described(),
            "seed": seed,
            "evaluate": None if self.evaluate is None else described(self.evaluate),
            **evaluated,
            "callbacks": [described(callback) for callback in self.callbacks],
            "config": config,
        }


def evaluated_names(evaluate: Any) -> list[str] | None:
    """The names of an evaluation's metrics, as they are recorded; None where they are not known before it is called.

    They are known of a computation with a type, and of an object that lists them as its `metric_names`.
    """
    if evaluate is None:
        return []
    signature, names = getattr(evaluate, "type_signature", None), getattr(evaluate, "metric_names", None)
    if signature is not None and hasattr(signature, "result"):
        return names_of(signature.result, EVALUATION.rstrip("/"))
    return [EVALUATION + name for name in names] if isinstance(names, list | tuple) else None


def check_resume(resume: Any, run_dir: Any, allow_changes: Any) -> None:
    """Checks that `resume` and `allow_changes` have one of their values, and that there is a path to resume from.

    Raises:
        TypeError, ValueError: if not.
    """
    if not isinstance(allow_changes, bool):
        raise TypeError(f"allow_changes must be True or False, found {allow_changes!r}")
    if not isinstance(resume, bool) and (not isinstance(resume, str) or resume != "auto"):
        raise ValueError(f"resume must be True, False or 'auto', found {resume!r}")
    if not isinstance(run_dir, str | os.PathLike | None):
        raise TypeError(f"run_dir must be a path, such as 'runs/first', found {run_dir!r}")
    if resume is True and run_dir is None:
        raise ValueError("resume=True goes on with the run in a folder; name it, such as run_dir='runs/first'")


def count(name: str, value: Any, least: int) -> int:
    """An integer that is an argument.

    Raises:
        TypeError, ValueError: if it is none, or less than `least`, or, but for a seed, more than there can be.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, found {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, found {number}")
    if number >= MOST_COUNT and name != "seed":  # which a run's folder could not be read with
        raise ValueError(f"{name} must be less than {MOST_COUNT:,}, found {number:,}")
    return number
