"""`hansa network login | submit | runs | stop | log`: runs on a coordinator that is elsewhere, or in a folder here."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hansa
from hansa._printing import in_a_line
from hansa.cli._experiment import Experiment
from hansa.cli._output import print_json, say
from hansa.cli.config import ConfigError, RunConfig, config_file, read_config
from hansa.cli.network.serving import Asked, no_simulation
from hansa.network.link import TurnedAwayError, UnreachableError
from hansa.network.membership import Invitation, InvitationError
from hansa.network.operating import Operator
from hansa.network.remote import Remote
from hansa.network.remote import login as enrol
from hansa.network.settings import SETTINGS, NetworkError
from hansa.network.submissions import ENDED, EvaluationTerms, RunTerms
from hansa.simulation import PlanError

_PLATFORMS = ("cpu", "cuda")
"""For which stages are saved; the coordinator takes them apart for these."""
_EVERY = 0.5
"""Seconds between looks at a log that is followed."""


def login(invitation: str, folder: Path, as_json: bool) -> None:
    """Make a folder an operator's."""
    text = invitation
    with contextlib.suppress(OSError):
        text = Path(invitation).read_text("utf-8")
    with _told_errors():
        made = enrol(folder, Invitation.from_text(text))
    if as_json:
        print_json({"folder": folder, "url": made["url"], "name": made["name"], "who": made["who"]})
    else:
        say(f"{folder} is the folder of the operator {in_a_line(made['who'])} at {made['url']} now.")


def submit(folder: Path, path: Path, name: str | None, asked: Asked, as_json: bool) -> None:
    """Have a run trained.

    Raises:
        ConfigError: if it cannot be trained by devices of a coordinator elsewhere.
        SubmissionError: if the coordinator does not take it.
    """
    config = _config(path)
    experiment = Experiment(config)
    try:
        plan = experiment.populations.training.plan()
    except PlanError as error:
        raise ConfigError("data", [str(error)]) from None
    program = _saved(experiment.process)
    evaluation = _evaluation(experiment, begins=len(program))
    if evaluation is not None and experiment.evaluation is not None:
        program += _saved(experiment.evaluation.computation)
    try:
        terms = RunTerms(
            name or (config_file(path).stem if config.output.folder is None else Path(config.output.folder).name),
            config.training.rounds,
            asked.devices,
            asked.least,
            asked.over_select,
            asked.deadline,
            plan.to_json(),
            hashlib.sha256(program).hexdigest(),
            evaluation,
        )
    except ValueError as error:
        raise NetworkError(str(error)) from None
    with _told_errors(), _coordinator(folder) as coordinator:
        found = coordinator.submit(terms, program)
    if as_json:
        print_json({**found, "bytes": len(program)})
        return
    say(
        f"{found['name']} is {found['status']}: {found['rounds']} rounds, {found['devices']} devices in each, "
        f"{len(program):,} bytes of stages",
        *_told_of_evaluation(experiment, evaluation),
        f"hansa network log {folder} {found['name']} --follow shows how it goes on.",
    )


def _saved(what: Any) -> bytes:
    file = io.BytesIO()
    hansa.save(what, file, platforms=_PLATFORMS)
    return file.getvalue()


def _evaluation(experiment: Experiment, begins: int) -> EvaluationTerms | None:
    """How devices evaluate: on the examples that each holds out. What only this machine has is not sent."""
    data, training = experiment.config.data, experiment.config.training
    if not data.held_out or data.held_out_by != "examples" or experiment.populations.evaluation is None:
        return None
    plan = experiment.populations.evaluation.plan()
    return EvaluationTerms(plan.to_json(), begins, training.evaluate_every, training.evaluate_initial)


def _told_of_evaluation(experiment: Experiment, evaluation: EvaluationTerms | None) -> list[str]:
    if evaluation is not None:
        share = experiment.config.data.held_out
        return [f"Each device holds {share:g} of its examples out, and the model is evaluated on these."]
    if experiment.populations.evaluation is not None:
        return [
            f"It is not evaluated: {experiment.populations.what} are here, and examples are not sent. "
            "data.held_out = 0.1 has each device hold some of its own out."
        ]
    return []


def runs(folder: Path, as_json: bool) -> None:
    """List the runs that were submitted."""
    with _told_errors(), _coordinator(folder) as coordinator:
        found = coordinator.runs()
    for each in found:
        if as_json:
            print_json(each)
            continue
        why = "" if each["reason"] is None else f": {in_a_line(each['reason'])[:300]}"
        say(f"{each['name']}  {each['status']}{why}; {each['rounds']} rounds, by {in_a_line(each['by'])}")
    if not found and not as_json:
        say("no run was submitted")


def stop(folder: Path, name: str, as_json: bool) -> None:
    """Stop a run."""
    with _told_errors(), _coordinator(folder) as coordinator:
        found = coordinator.stop(name)
    print_json(found) if as_json else say(f"{found['name']} is {found['status']}")


def log(folder: Path, name: str, follow: bool, checkpoint: Path | None, as_json: bool) -> None:
    """Print how a run has gone on, and copy its newest checkpoint."""
    with _told_errors(), _coordinator(folder) as coordinator:
        for line in _lines(coordinator, name, follow):
            print_json(line) if as_json else say(_told(line))
        if checkpoint is not None:
            found = coordinator.checkpoint(name, checkpoint)
            if as_json:
                print_json({"event": "checkpoint", "name": found, "file": checkpoint})
            else:
                say(f"{found} is in {checkpoint}")


def _lines(coordinator: Any, name: str, follow: bool) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        ended = any(each["name"] == name and each["status"] in ENDED for each in coordinator.runs())
        lines, after = coordinator.log(name, offset)
        yield from lines
        if not lines and (ended or not follow):
            return
        if not lines:
            time.sleep(_EVERY)
        offset = after


def _told(line: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line["at"]))
    if line["event"] == "round":
        values = ", ".join(
            f"{in_a_line(key)} {value:.4g}" for key, value in line["metrics"].items() if isinstance(value, float)
        )
        return f"{at}  round {line['round']}  {values}"
    rest = ", ".join(
        f"{key} {value}" for key, value in line.items() if key not in ("at", "event") and value is not None
    )
    return f"{at}  {line['event']}" + (f"  {in_a_line(rest)[:1000]}" if rest else "")


def _config(path: Path) -> RunConfig:
    file = config_file(path)
    config = read_config(file, [])
    training, problems = config.training, no_simulation(config)
    if config.privacy is not None:
        problems.append("[privacy] is not for runs that are submitted: hansa serve keeps the ledger of what was spent")
    if training.early_stopping is not None or training.best_model is not None:
        problems.append("training.early_stopping and best_model are not for runs that are submitted")
    if problems:
        raise ConfigError(file, problems)
    return config


def _coordinator(folder: Path) -> Any:
    """The coordinator that an operator's folder is of, or whose folder it is."""
    return Operator(folder) if (folder / SETTINGS).exists() else Remote(folder)


@contextlib.contextmanager
def _told_errors() -> Iterator[None]:
    """What keeps an operator from the coordinator is told in a line."""
    try:
        yield
    except (InvitationError, TurnedAwayError, UnreachableError) as error:
        raise NetworkError(str(error)) from error
