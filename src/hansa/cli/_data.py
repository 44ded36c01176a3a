"""`hansa data`: who the clients of a run or of a data set are, and what they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hansa import simulation
from hansa._extras import require
from hansa._printing import in_a_line
from hansa.cli import _populations
from hansa.cli._output import print_json, say
from hansa.cli.config import ConfigError, read_config
from hansa.cli.config.rules import WITH_CLIENTS
from hansa.cli.config.schema import DataName, DataTable, PartitionTable
from hansa.simulation import ClientData
from hansa.types import names

_LABELS_LISTED = 20


def show(what: str, overrides: Sequence[str], plot: Path | None, as_json: bool) -> None:
    """Print who the clients are.

    Args:
        what: a run's TOML file, or the name of a data set; those without clients are dealt out to ten.
        overrides: of the file.
        plot: a picture to draw of who has which labels.
        as_json: whether to print JSON.
    """
    if plot is not None:
        require("matplotlib", "plots", "--plot")
    table = _table(what, overrides)
    populations = _populations.load(table)
    data = populations.examples
    sizes = data.sizes
    facts: dict[str, Any] = {
        "clients": len(data),
        "examples": int(sizes.sum()),
        "sizes": {"least": sizes.min(), "median": float(np.median(sizes)), "mean": sizes.mean(), "most": sizes.max()},
        "example_type": str(data.example_type),
        "batch_size": table.batch_size,
        "epochs": table.epochs,
        "steps": table.steps,
        "labels": _labels(data, table.label),
        "evaluation": None,
    }
    if populations.evaluation is not None:
        evaluated = populations.evaluation
        facts["evaluation"] = {"on": populations.what, "examples": int(evaluated.sizes.sum())}
    if plot is not None:
        simulation.plot_clients(data, table.label, title=Path(what).resolve().stem).savefig(plot)
        facts["plot"] = plot
    if as_json:
        print_json(facts)
        return
    say(f"{len(data):,} clients with {facts['examples']:,} examples in all")
    say("sizes     {least} to {most}, half of them at most {median:g}".format(**facts["sizes"]))
    count, unit = (table.epochs, "epoch") if table.steps is None else (table.steps, "batch")
    length = f"{count} {unit}" if count == 1 else f"{count} {unit}{'es' if unit == 'batch' else 's'}"
    say(f"a batch   {facts['example_type']}, of {table.batch_size} examples; {length} in a round")
    if facts["labels"] is not None:
        counts = facts["labels"]["examples"]
        listed = "  ".join(f"{label}: {count:,}" for label, count in list(counts.items())[:_LABELS_LISTED])
        say(f"labels    {in_a_line(listed)}{' …' if len(counts) > _LABELS_LISTED else ''}")
        say(f"          a client has {facts['labels']['per_client']:.1f} of {len(counts)} on average")
    if facts["evaluation"] is not None:
        say(f"evaluated on {facts['evaluation']['on']}: {facts['evaluation']['examples']:,} examples")
    if plot is not None:
        say(f"picture   {plot}")


def _table(what: str, overrides: Sequence[str]) -> DataTable:
    known = get_args(DataName)
    if what in known:
        if overrides:
            raise ConfigError(what, ["--set is of a file; write one, with data.name in it"])
        partition = None if what in WITH_CLIENTS else PartitionTable(method="iid", clients=10)
        return DataTable(name=what, partition=partition)  # type: ignore[arg-type]  # one of the known
    path = Path(what)
    if not path.suffix and not path.exists():
        hint = names.suggestion(what, known) or ";"
        raise ConfigError(what, [f"it is neither a file nor a data set{hint} the data sets are {', '.join(known)}"])
    return read_config(path, overrides).data


def _labels(data: ClientData, label: str) -> dict[str, Any] | None:
    """How many examples there are of each label, and how many labels a client has; None without labels."""
    try:
        labels, counts = simulation.count_labels(data, label)
    except (KeyError, TypeError):
        return None
    called = data.label_names if label == "y" and data.label_names is not None else ()
    names = [called[number] if 0 <= number < len(called) else str(number) for number in labels.tolist()]
    each = dict(zip(names, counts.sum(0).tolist(), strict=True))
    return {"examples": each, "per_client": float((counts > 0).sum(1).mean())}
