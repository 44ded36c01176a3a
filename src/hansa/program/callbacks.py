"""What is done after each round: stop early, keep the best state, or a function of one's own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np

from hansa._directions import less_is_better
from hansa._instead import instead
from hansa._tracebacks import boundaries
from hansa.program._adapting import adapted
from hansa.program.checkpoints import CheckpointError
from hansa.program.metrics import metric_value
from hansa.program.records import Record
from hansa.types import Struct

Mode = Literal["auto", "min", "max"]

_BEST = (
    "add hansa.program.BestModel('evaluation/loss') to the callbacks; its attribute `state` is that of the best round"
)
_SHOWN = "what is shown of a run is said by progress= of hansa.fit or hansa.program.train"


class Callback(Protocol):
    """Called after each round. What it remembers is part of each checkpoint, so a run that goes on has it again.

    A callback may also have the method `after_last_evaluation(round_number, state, metrics)`. It is called when a run's
    last round is evaluated only because it is the last: `after_round` has not seen that evaluation, so that a run which
    is made longer later stops where one in one go would.

    Examples:
        >>> class Few:
        ...     "Stops a run after so many rounds of its process."
        ...
        ...     def __init__(self, most):
        ...         self.most, self.seen = most, 0
        ...
        ...     def after_round(self, round_number, state, metrics):
        ...         self.seen += 1
        ...         return f"{self.seen} rounds were enough" if self.seen == self.most else None
        ...
        ...     def save(self):
        ...         return {"seen": self.seen}
        ...
        ...     def restore(self, saved):
        ...         self.seen = 0 if saved is None else int(saved.seen)
        >>> hansa.program.train(process, data, rounds=9, callbacks=[Few(2)], progress=False).stopped
        '2 rounds were enough'
    """

    def after_round(self, round_number: int, state: Any, metrics: Record) -> str | None:
        """Called after each round, numbered from 1; gives the reason to stop, if there is one."""

    def save(self) -> Any:
        """What it remembers: numbers and arrays, or a container of them; None if nothing."""

    def restore(self, saved: Any) -> None:
        """Called at the beginning with what it remembered, as a `Struct` of arrays; with None if nothing."""


@boundaries
class EarlyStopping:
    """Stops a run when a metric has not improved for some rounds.

    Only rounds that have the metric count: with `evaluate_every=5`, a patience of 2 is that of two evaluations. NaN is
    no improvement. That the run has the metric is checked before its first round.

    Args:
        monitor: the name of the metric, such as `evaluation/loss`.
        patience: after how many rounds without improvement, one after another, the run stops. As in Keras, 0 stops at
            the first of them, and so does 1.
        min_delta: how much is an improvement: more than this.
        mode: "min" if less of the metric is better, "max" if more is. "auto" goes by the metric's name: less is better
            of losses and errors, more of accuracies and the like; a name that does not say it is an error.

    Attributes:
        monitor: the name of the metric.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> stopping = hansa.program.EarlyStopping(monitor="evaluation/loss", patience=2)
        >>> stopping
        EarlyStopping('evaluation/loss', 2, min_delta=0.0, mode='min')
        >>> stopping.after_round(1, state, {"evaluation/loss": 0.5})
        >>> stopping.after_round(2, state, {"evaluation/loss": 0.6})
        >>> stopping.after_round(3, state, {"evaluation/loss": 0.5})
        'evaluation/loss has not improved since round 1, when it was 0.5'
        >>> other = hansa.program.EarlyStopping(monitor="evaluation/loss", patience=2)
        >>> other.restore(stopping.save())
    """

    @instead(metric="monitor", restore_best=_BEST, restore_best_weights=_BEST, verbose=_SHOWN)
    def __init__(self, monitor: str, patience: int = 0, *, min_delta: float = 0.0, mode: Mode = "auto") -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
            raise ValueError(f"patience must be a number of rounds, 0 or more; found {patience!r}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be 0 or more, found {min_delta!r}")
        self.monitor, self._mode = monitor, _mode(mode, monitor)
        self._patience, self._min_delta = patience, min_delta
        self._best, self._best_round, self._waited = _worst(self._mode), 0, 0

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitor!r}, {self._patience}, min_delta={self._min_delta}, mode={self._mode!r})"

    def after_round(self, round_number: int, state: Any, metrics: Record) -> str | None:
        """Look at the metric."""
        value = metric_value(metrics, self.monitor)
        if value is None:
            return None
        if _improves(value, self._best, self._mode, self._min_delta):
            self._best, self._best_round, self._waited = value, round_number, 0
            return None
        self._waited += 1
        if self._waited < self._patience:
            return None
        return f"{self.monitor} has not improved since round {self._best_round}, when it was {self._best:.6g}"

    def save(self) -> Any:
        """The best value, its round, and for how many rounds it has been the best."""
        return Struct.of(
            best=np.float64(self._best), best_round=np.int64(self._best_round), waited=np.int64(self._waited)
        )

    def restore(self, saved: Any) -> None:
        """Begin with what was remembered."""
        self._best, self._best_round, self._waited = _worst(self._mode), 0, 0
        if saved is not None:
            with _of(self):
                self._best, self._best_round, self._waited = float(saved.best), int(saved.best_round), int(saved.waited)


@boundaries
class BestModel:
    """Keeps the state of the round with the best value of a metric; the earliest, if several have it.

    Args:
        monitor: the name of the metric, such as `evaluation/accuracy`; rounds without it are not considered.
        mode: whether less or more of it is better; as for `EarlyStopping`.

    Attributes:
        monitor: the name of the metric.
        state: the best state so far; None before there is one.
        round: its round.
        value: the metric's value in it.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> best = hansa.program.BestModel(monitor="evaluation/loss")
        >>> best
        BestModel('evaluation/loss', mode='min')
        >>> best.after_round(1, state, {"evaluation/loss": 0.5})
        >>> best.after_round(2, state, {"evaluation/loss": 0.6})
        >>> best.after_last_evaluation(3, state, {"evaluation/loss": 0.7})
        >>> best.round, best.value, best.state is state
        (1, 0.5, True)
        >>> other = hansa.program.BestModel(monitor="evaluation/loss")
        >>> other.restore(best.save())
    """

    @instead(metric="monitor", verbose=_SHOWN, save_best_only="it keeps the best round only; leave it out")
    def __init__(self, monitor: str, *, mode: Mode = "auto") -> None:
        self.monitor, self._mode = monitor, _mode(mode, monitor)
        self.state: Any = None
        self.round: int | None = None
        self.value = _worst(self._mode)

    def __repr__(self) -> str:
        return f"BestModel({self.monitor!r}, mode={self._mode!r})"

    def after_round(self, round_number: int, state: Any, metrics: Record) -> str | None:
        """Look at the metric."""
        value = metric_value(metrics, self.monitor)
        if value is not None and _improves(value, self.value, self._mode):
            self.state, self.round, self.value = state, round_number, value
        return None

    def after_last_evaluation(self, round_number: int, state: Any, metrics: Record) -> None:
        """Look at the metric of a last round, too."""
        self.after_round(round_number, state, metrics)

    def save(self) -> Any:
        """The best state, its round and its value."""
        if self.round is None:
            return None
        return Struct.of(state=self.state, round=np.int64(self.round), value=np.float64(self.value))

    def restore(self, saved: Any) -> None:
        """Begin with what was remembered."""
        self.state, self.round, self.value = None, None, _worst(self._mode)
        if saved is not None:
            with _of(self):
                self.state, self.round, self.value = saved.state, int(saved.round), float(saved.value)


class FunctionCallback:
    """A function `(round_number, state, metrics)` of one's own; what it returns, if a string, is a reason to stop.

    Args:
        function: called after each round.
    """

    def __init__(self, function: Any) -> None:
        self.function = function

    def after_round(self, round_number: int, state: Any, metrics: Record) -> str | None:
        """Call the function."""
        reason = self.function(round_number, state, metrics)
        if reason is None or isinstance(reason, str):
            return reason
        raise TypeError(
            f"a callback returns None, or a string that says why the run is to stop; {self.function!r} returned "
            f"{reason!r}"
        )

    def save(self) -> Any:
        """A function remembers nothing."""

    def restore(self, saved: Any) -> None:
        """A function remembers nothing."""


def to_callbacks(values: Any) -> list[Callback]:
    """Callbacks, of which functions are made some.

    Raises:
        TypeError: if one is neither, or takes other arguments.
    """
    expected = "a callback has the methods {}, or is a function of a round's number, the state and the metrics"
    after = ("round_number", "state", "metrics")
    methods = {"after_round": after, "save": (), "restore": ("saved",)}
    for value in values if isinstance(values, list | tuple) else ():
        _refuse_keras(value)
    return adapted("callbacks", values, methods, after, FunctionCallback, expected)


def _refuse_keras(value: Any) -> None:
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__.partition(".")[0] == "keras":
        here = {
            "EarlyStopping": "hansa.program.EarlyStopping(monitor=…, patience=…)",
            "ModelCheckpoint": "hansa.program.BestModel(monitor=…), or run_dir=…, where checkpoints are kept",
            "TensorBoard": "sinks=[hansa.program.TensorBoard(…)]",
            "CSVLogger": "run_dir=…, where metrics.csv is written",
        }.get(kind.__name__, "a function of a round's number, the state and the metrics")
        raise TypeError(f"{kind.__name__} is a callback of Keras, which goes by epochs; write {here}")


@contextlib.contextmanager
def _of(callback: Callback) -> Iterator[None]:
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"a checkpoint does not hold what {callback!r} remembers: {error}") from error


def _mode(mode: str, monitor: Any) -> str:
    """Whether less or more of a metric is better, as "min" or "max"."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a metric, such as 'evaluation/loss'; found {monitor!r}")
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be 'auto', 'min' or 'max', found {mode!r}")
    if mode != "auto":
        return mode
    less = less_is_better(monitor)
    if less is None:
        raise ValueError(
            f"the name {monitor!r} does not say whether less or more of the metric is better; correct it if it is "
            "misspelt, or write mode='min' or mode='max'"
        )
    return "min" if less else "max"


def _worst(mode: str) -> float:
    return math.inf if mode == "min" else -math.inf


def _improves(value: float, best: float, mode: str, by: float = 0.0) -> bool:
    return value < best - by if mode == "min" else value > best + by
