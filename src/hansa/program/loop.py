"""`train`: the loop of many rounds, which goes on where it was stopped or killed.

All that is random is a function of a seed and the round's number, and a checkpoint holds all that a round takes from
those before it. So a run that goes on from a checkpoint has the numbers of one that was never stopped, to the bit.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa._instead import instead
from hansa.language.context import current_runtime
from hansa.language.occasions import new_run
from hansa.privacy import Budget, Guarantee
from hansa.program.arguments import Arguments
from hansa.program.callbacks import Callback, to_callbacks
from hansa.program.checkpoints import state_member
from hansa.program.cohorts import Cohorts
from hansa.program.evaluating import to_evaluation
from hansa.program.facts import facts
from hansa.program.history import History
from hansa.program.interrupt import StopRequest
from hansa.program.plan import Plan, check_resume, count
from hansa.program.progress import Progress, to_progress
from hansa.program.records import Record
from hansa.program.run_folder import RunFolder
from hansa.program.running import Run
from hansa.program.sinks import Sink, to_sinks
from hansa.program.spending import PrivateProcess, check_evaluation, protects_examples
from hansa.program.step import Step
from hansa.templates import IterativeProcess
from hansa.templates.keeping import keeps_at_clients
from hansa.types.elsewhere import Elsewhere
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    from hansa.simulation import ClientData

_BATCHES = "data has its batches already: data.batch(20, epochs=2); hansa.fit takes batch_size= and epochs="

_MOST_SHOWN = 6
"""Metrics of the last round that a result prints."""


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        state: after the last round.
        history: the metrics of all rounds, those before it was resumed included.
        rounds: how many rounds are finished.
        stopped: why the run ended before its last round; None if it did not.
        run_dir: the run's folder, if it has one.
        process: what was run.
        privacy: what a private run promises, as a `hansa.privacy.Guarantee`; else None.

    Examples:
        >>> result = hansa.program.train(process, data, rounds=2, progress=False)
        >>> result.rounds, result.stopped, result.run_dir
        (2, None, None)
        >>> result.history.names[:3]
        ('round', 'accuracy', 'loss')
        >>> result.state.model.trainable[0].shape
        (10,)
        >>> result.model
        <Sequential name=sequential..., built=True>
    """

    state: Any
    history: History
    rounds: int
    stopped: str | None
    run_dir: Path | None
    process: IterativeProcess = field(repr=False, compare=False)
    privacy: Guarantee | None = field(default=None, kw_only=True)

    @cached_property
    def model(self) -> Any:
        """The model after the last round, as its users know it; made when it is first asked for.

        Of a Keras model, a `keras.Model` like it, compiled in the same way, that has the trained weights; the one that
        the process was made of stays as it was. Of other models the `hansa.learning.ModelWeights`, which are
        `result.state.model`: their method `to_pytree` gives the weights of a model in plain JAX.

        Raises:
            TypeError: if the state has no field `model`, or Keras cannot make the model again.
        """
        return self.process.model_of(self.state)

    def __repr__(self) -> str:
        said = [f"{self.rounds} round{'' if self.rounds == 1 else 's'}"]
        last = self.history[-1] if len(self.history) else {}
        floats = [(name, value) for name, value in last.items() if isinstance(value, float)]
        said += [f"{name} {value:.4g}" for name, value in floats[:_MOST_SHOWN]]
        said += [f"stopped: {self.stopped}"] if self.stopped is not None else []
        said += [f"epsilon {self.privacy.epsilon:.4g}"] if self.privacy is not None else []
        said += [f"in {self.run_dir}"] if self.run_dir is not None else []
        return f"TrainingResult({', '.join(said)})"


@instead(
    batch_size=_BATCHES,
    clients_per_round="cohort_size",
    epochs=_BATCHES,
    folder="run_dir",
    fraction_fit="cohort_size",
    num_rounds="rounds",
    verbose="progress",
)
def train(
    process: IterativeProcess,
    data: ClientData | Callable[[int], Any],
    rounds: int,
    *,
    cohort_size: int | float | None = None,
    sampler: Callable[[int], Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    privacy: Budget | None = None,
    initial_state: Any = None,
    evaluate: Callable[[Any], Any] | tuple[Any, Any] | None = None,
    evaluate_every: int = 1,
    evaluate_initial: bool = False,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool | str = "auto",
    allow_changes: bool = False,
    checkpoint_every: int = 10,
    keep_checkpoints: int = 2,
    keep_every: int | None = None,
    sinks: Sequence[Sink | Callable[[int, Record], object]] = (),
    callbacks: Sequence[Callback | Callable[[int, Any, Record], str | None]] = (),
    config: Any = None,
    progress: bool | str | Progress = "auto",
) -> TrainingResult:
    """Run a process for many rounds. Rounds are numbered from 1.

    1. Sample the round's cohort.
    2. Take the state to the next one.
    3. Evaluate it, every few rounds, and after the last one.
    4. Write the metrics to the sinks, and call the callbacks.
    5. Save a checkpoint, every few rounds, and at the end.

    The first Ctrl-C ends the run after the running round, with a checkpoint; the second ends it at once. However it was
    ended, calling `train` again with the same arguments and `run_dir` goes on from the last checkpoint, and gives the
    result of a run that was never stopped, as long as `data`, `sampler` and `evaluate` depend on nothing but their
    arguments.

    Args:
        process: `next` takes the state and the round's data, and perhaps more by name, and returns the state, perhaps
            with metrics.
        data: a `hansa.simulation.ClientData`, a `hansa.Elsewhere`, or a function from a round's number to its data.
        rounds: how many rounds the run is to have, those before it was resumed included.
        cohort_size: how many clients to draw in each round, uniformly without replacement: an integer, or a fraction of
            the population as a float, such as 0.1; by default all take part.
        sampler: from a round's number to the positions of its clients, int64 [cohort], in place of `cohort_size`.
        arguments: what else `next` takes, by name. At the server it is a value, or a function from a round's number to
            one. Of what clients have it is a list or an array with an entry for each client of `data`, or a function
            from a round's number and the positions of its clients, int64 [cohort], to a list in their order. A run that
            is resumed must be given the same.
        seed: of the draw of cohorts.
        privacy: what may be spent of differential privacy, of a process whose aggregator adds noise. The run stops
            before the round that would exceed it. Each round's record has `privacy/epsilon`, and `result.privacy` says
            what is promised. Cohorts and noise are then drawn by secrets of the system: with `cohort_size` each client
            takes part by itself with this share of the clients as the probability (Poisson sampling).
            Secrets, the ledger of what was spent and who took part are in the folder `private` of `run_dir`. Of a
            process whose clients train by `hansa.privacy.dpsgd`, examples are what is protected: each client has an
            epsilon of its own, the largest is what the record says, and cohorts are drawn by `seed` as ever.
        initial_state: the state to begin with; by default `process.initialize()`.
        evaluate: what is measured of the model, and recorded as `evaluation/…`. One of

            - `(evaluation, held_out)`: what `hansa.learning.build_federated_evaluation` gives, and clients, in one of
              the forms that `hansa.fit` takes, all of which it is evaluated on;
            - `(keras_model, data)`: a compiled Keras model, which has the weights of the model afterwards, and
              `(x, y)`, `(x, y, sample_weight)`, a `hansa.Batches`, a `ClientData`, of which all examples are taken, or
              a `tf.data.Dataset`: what its method `evaluate` says;
            - `(function, data)`: a function of the weights, `state.model`, and of the data;
            - a function of the state.
        evaluate_every: after which rounds: this one, twice this, and so on. The last round is always evaluated, also if
            a callback stops the run after it.
        evaluate_initial: whether the state that a run begins with is evaluated, too, and recorded as round 0. Callbacks
            are not called for it.
        run_dir: a folder for checkpoints, metrics (`metrics.csv`, `metrics.jsonl`), what was asked (`run.json`), who
            the clients are (`population.json`), and each round's seconds and clients (`rounds.jsonl`); without one
            nothing is saved.
        resume: "auto" goes on with the run in `run_dir`, if there is one; True demands one; False refuses one.
        allow_changes: whether a run goes on though it is asked for something else than it was, such as another seed or
            `config`. It is then the run that it was up to its last checkpoint, and goes on as another; `run.json` notes
            what has changed, and after which round. The number of clients and the type of the state must be the same.
        checkpoint_every: how many rounds may be lost at most, if the process is killed. Where clients are elsewhere
            (`hansa.Elsewhere`) there is a checkpoint after each round: what they have given is not asked for again.
        keep_checkpoints: how many, the newest.
        keep_every: the checkpoints of rounds that are multiples of this are kept, too; a multiple of
            `checkpoint_every`.
        sinks: where else metrics go; see `hansa.program.Sink`. A function is called with a round's number and metrics.
        callbacks: what else is done after a round; see `hansa.program.Callback`. A function is called with a round's
            number, the state and the metrics; if it returns a string, that is why the run stops.
        config: whatever else the run depends on, such as learning rates: values that JSON has. A run is not resumed
            with another one, but with `allow_changes`.
        progress: "auto" shows a table in a terminal or a notebook. Elsewhere it prints lines to the standard error as
            time passes, or writes them to the log `hansa.program`, where logging is configured. True never writes to
            the log, and False shows nothing. Or a `hansa.program.Progress`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.
        hansa.privacy.LedgerError: if what was spent before is not known, or cannot go together with this run.
        hansa.program.RunError: if `run_dir` cannot be used: another process is at it, it has another run, or it cannot
            be written, at the beginning or later. What was saved before stays as it is.
        hansa.program.CheckpointError: if no checkpoint can be read, or the state's type is another.

    Examples:
        >>> evaluation = hansa.learning.build_federated_evaluation(model)
        >>> held_out = [{"x": x[:50], "y": y[:50]}, {"x": x[50:80], "y": y[50:80]}]
        >>> result = hansa.program.train(
        ...     process,
        ...     data,
        ...     rounds=4,
        ...     cohort_size=5,
        ...     evaluate=(evaluation, held_out),
        ...     evaluate_every=2,
        ...     run_dir="runs/first",
        ...     callbacks=[hansa.program.EarlyStopping(monitor="evaluation/loss", patience=3)],
        ...     progress=False,
        ... )
        >>> result.rounds, result.stopped
        (4, None)
        >>> result.history["evaluation/accuracy"]
        [None, 0..., None, 0...]
    """
    seed = count("seed", seed, 0)
    step = Step(process)
    if privacy is not None and not isinstance(privacy, Budget):
        raise TypeError(f"privacy must be hansa.privacy.Budget(epsilon=…, delta=…); found {describe(privacy)}")
    of_examples = protects_examples(process)
    cohorts = Cohorts(data, cohort_size, sampler, seed, private=privacy is not None and not of_examples)
    if of_examples:
        cohorts.check_once()
    plan = Plan(
        step,
        cohorts,
        count("rounds", rounds, 0),
        to_evaluation(evaluate, step.state_type),
        count("evaluate_every", evaluate_every, 1),
        to_callbacks(callbacks),
        1 if isinstance(data, Elsewhere) else count("checkpoint_every", checkpoint_every, 1),
        None if keep_every is None else count("keep_every", keep_every, 1),
        evaluate_initial,
        Arguments(step.arguments, arguments, cohorts.clients),
    )
    if keeps_at_clients(process.state_type):
        plan.cohorts.check_identities()
    keep = count("keep_checkpoints", keep_checkpoints, 1)
    private = None if privacy is None else PrivateProcess(process, cohorts, privacy, plan.rounds)
    if privacy is not None:
        check_evaluation(plan.evaluate, cohorts, privacy)
    own_sinks, shown = to_sinks(sinks), to_progress(progress)
    asked = {**plan.asked(seed, config), **({} if private is None else private.described())}
    check_resume(resume, run_dir, allow_changes)
    with contextlib.ExitStack() as stack:
        folder = None
        if run_dir is not None:
            state_member(process.state_type)
            noted = {"rounds": plan.rounds, "data": repr(data), "versions": _versions(), **_machine()}
            noted["id"] = new_run()
            noted["about"] = facts(process)
            folder = stack.enter_context(
                RunFolder(Path(run_dir), asked, noted, resume, keep, plan.keep_every, allow_changes)
            )
        run = Run(plan, folder, own_sinks, None if private is None else private.spending(cohorts, folder))
        run.restore(initial_state)
        stop = stack.enter_context(StopRequest())
        run.start(stack)
        shown.begin(run.done, plan.rounds, lambda: stop.requested)
        ended = ""
        try:
            run.execute(stop, shown)
            ended = _ended(run)
        finally:
            shown.end(ended)
        return TrainingResult(
            run.state,
            History(run.records),
            run.done,
            run.stopped,
            None if folder is None else folder.path,
            process,
            privacy=run.guarantee,
        )


def _ended(run: Run) -> str:
    rounds = f"{run.done} round{'' if run.done == 1 else 's'}"
    return f"Finished after {rounds}." if run.stopped is None else f"Stopped after {rounds}: {run.stopped}."


def _versions() -> dict[str, str]:
    return {name: importlib.import_module(name).__version__ for name in ("hansa", "jax", "numpy")}


def _machine() -> dict[str, str | None]:
    """What the runtime computes on, and how it adds up, which is in the last bits; None where it does not say."""
    devices: Any = getattr(current_runtime(), "devices", ())
    if callable(devices):  # as those of clients are
        devices = ()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind}" if devices else None,
        "sums": getattr(current_runtime(), "sums", None),
    }
