"""`hansa evaluate`: the model of a run on held-out or test data, on all clients together and on each by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hansa import learning
from hansa._printing import in_a_line
from hansa._warnings import warn
from hansa.cli import _changes
from hansa.cli._experiment import Experiment, everyone
from hansa.cli._output import print_json, say
from hansa.cli._populations import DataError
from hansa.cli._train import may_type, restored
from hansa.learning import ClientMetrics, Distribution
from hansa.program import load_checkpoint
from hansa.program.evaluating import FederatedEvaluation
from hansa.program.metrics import flatten
from hansa.program.report.reading import CLIENT_METRICS
from hansa.types import names

Whose = Literal["auto", "evaluation", "training"]


def evaluate(folder: Path, on: Whose, metric: str | None, worst: int, allow_changes: bool, as_json: bool) -> None:
    """Evaluate the newest checkpoint of a run, and leave each client's metrics in its folder.

    Args:
        folder: the run's.
        on: what the run is evaluated on, or what it is trained on; "auto" for the first, if there is any.
        metric: the one by which the worst clients are found; by default the first of the model's.
        worst: how many of them are shown.
        allow_changes: whether the user's files may have changed since the run began.
        as_json: whether to print JSON.
    """
    config, known, _ = restored(folder)
    codes = _changes.check_files(folder, config, known, allow_changes, may_type(["evaluate", folder]))
    if not as_json:
        say(*(f"Code      {code}" for code in codes))
    experiment = Experiment(config)
    populations = experiment.populations
    if on == "evaluation" and populations.evaluation is None:
        raise DataError(
            "nothing was held out from this run, and its data has no test examples; evaluate it --on training, or hold "
            "some out: data.held_out = 0.1"
        )
    held_out = populations.evaluation if on != "training" else None
    population = populations.examples if held_out is None else held_out
    what = "the examples that it was trained on" if held_out is None else populations.what
    checkpoint = load_checkpoint(folder, experiment.process.state_type)
    together = FederatedEvaluation(learning.build_federated_evaluation(experiment.source.model_fn), population)
    metrics = flatten(together(checkpoint.state))
    each = _each(experiment, checkpoint.state, population) if held_out is None or populations.by_client else None
    if each is not None:
        metric = _metric(metric, each)
        try:
            each.to_csv(folder / CLIENT_METRICS)
        except OSError as error:  # as of a run of somebody else, which can be read only
            warn(f"{folder / CLIENT_METRICS} cannot be written: {error.strerror or error}")
    if as_json:
        result: dict[str, Any] = {"run": folder, "round": checkpoint.round, "on": what, "metrics": metrics}
        if each is not None and _known(each):
            result["clients"] = {name: _facts(each.distribution(name)) for name in _known(each)}
            result["worst"] = [found._asdict() for found in each.worst(metric, worst)] if metric else []
            result["worst_by"] = metric
        if codes:
            result["code"] = [code.facts() for code in codes]
        print_json(result)
        return
    say(f"{in_a_line(folder)} after round {checkpoint.round}, on {what}:", "")
    for name, value in metrics.items():
        say(f"  {name:24} {value:.4f}" if isinstance(value, float) else f"  {name:24} {value}")
    if each is not None and _known(each):
        say("")
        Console(highlight=False).print(_distributions(each))
    if each is not None and metric is not None:
        say("", f"The worst clients by {in_a_line(metric)}:")
        for client in each.worst(metric, worst):
            say(f"  {in_a_line(client.client_id):24} {client.value:.4f}  {client.num_examples} examples")


def _each(experiment: Experiment, state: Any, population: Any) -> ClientMetrics:
    """Each client by itself, with weights of its own where the algorithm has such."""
    per_client = learning.build_per_client_evaluation(experiment.process)
    return ClientMetrics.of(per_client(state, everyone(population)), population.client_ids)


def _known(each: ClientMetrics) -> list[str]:
    """The metrics that some client has a finite value of."""
    return [
        name
        for name, values in each.values.items()
        if not name.startswith("num_")
        and any(math.isfinite(value) and count for value, count in zip(values, each.num_examples, strict=True))
    ]


def _metric(metric: str | None, each: ClientMetrics) -> str | None:
    """The metric by which clients are worst, of those whose names say which way they are worse."""
    known = _known(each)
    clear = [name for name in known if name in each.lower_is_better | each.higher_is_better]
    if metric is None:
        return clear[0] if clear else None
    if metric not in known:
        hint = names.suggestion(metric, known) or ";"
        raise DataError(f"--metric {metric}: there is no such metric of clients{hint} there are {', '.join(known)}")
    if metric not in clear:
        raise DataError(
            f"--metric {metric}: nothing says whether more or less of it is worse; name another, or evaluate in Python "
            f"with hansa.learning.ClientMetrics, whose worst({metric!r}, largest=True) is told"
        )
    return metric


def _facts(found: Distribution) -> dict[str, Any]:
    return {
        "clients": found.num_clients,
        "mean": found.mean,
        "standard_deviation": found.standard_deviation,
        "deciles": found.deciles,
        "worst_tenth": None if found.lower_is_better is None else found.worst_tenth,
        "best_tenth": None if found.lower_is_better is None else found.best_tenth,
    }


def _distributions(each: ClientMetrics) -> Table:
    table = Table(title=f"Each of {len(each)} clients by itself", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for title in ("mean", "± ", "worst tenth", "median", "best tenth"):
        table.add_column(title, justify="right")
    for name in _known(each):
        found = each.distribution(name)
        facts = _facts(found)
        values = (found.mean, found.standard_deviation, facts["worst_tenth"], found.median, facts["best_tenth"])
        table.add_row(Text(in_a_line(name)), *("" if value is None else f"{value:.4f}" for value in values))
    return table
