"""`hansa demo`: ten clients, each with the images of one digit. A run of `hansa train`, whose configuration is here.

It can be resumed, evaluated and looked at from its folder, as any run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.cli import _changes, _places
from hansa.cli._changes import ChangedError, command
from hansa.cli._experiment import Experiment, identity
from hansa.cli._places import short
from hansa.cli._train import Job, execute, is_of_train
from hansa.cli.config import RunConfig, restore_config
from hansa.program.run_file import has_run, recovered_run

_TITLES = {"digits": "scikit-learn's digits", "mnist": "MNIST"}
_DATA = {"partition": {"method": "by_label"}, "held_out": 0.1}
# Each client sees one digit only, so large steps make the average unstable.
_CONFIGS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": {"name": "mlp", "options": {"hidden": 128}},
        "data": {**_DATA, "name": "digits", "batch_size": 20},
        "training": {"rounds": 120, "client_optimizer": "sgd", "client_learning_rate": 0.5},
    },
    "mnist": {
        "model": {"name": "mlp", "options": {"hidden": 512}},
        "data": {**_DATA, "name": "mnist", "batch_size": 100, "examples_per_client": 900},
        "training": {
            "rounds": 40,
            "client_optimizer": "sgd",
            "client_learning_rate": 0.02,
            "server_optimizer": "adam",
            "server_learning_rate": 0.01,
        },
    },
}


def demo(data: str, rounds: int | None, run_dir: Path | None, seed: int, as_json: bool) -> bool:
    """Run the demo, or go on with it.

    Args:
        data: the data set, `digits` or `mnist`.
        rounds: how many rounds; by default as many as suit the data.
        run_dir: the run's folder; by default a new one.
        seed: of the model's first weights, the order of examples, and the choice of those that are held out.
        as_json: whether to print JSON.

    Returns:
        Whether it came to its end; not if the user pressed Ctrl-C.
    """
    config = configuration(data, rounds, seed)
    known, typed = identity(config), ["demo", *([] if data == "digits" else ["--data", data])]
    place: contextlib.AbstractContextManager[Path]
    if run_dir is None:
        place = _places.claimed(_places.timed(Path("runs"), f"demo-{data}"))
    else:
        place = contextlib.nullcontext(run_dir)
        if has_run(run_dir):
            known = _known(run_dir, config, known)
    with place as folder:
        steps = {
            command("report", short(folder)): "writes a page about it",
            command("evaluate", short(folder)): "tells how good the model is for each client",
            command("new", "first"): "begins a project of your own",
        }
        title = f"Federated averaging on {_TITLES[data]}"
        job = Job(
            config, folder, known, config.training.rounds, typed,
            head=lambda experiment: _head(experiment, title), facts=_facts, title=title, next_steps=steps,
        )  # fmt: skip
        return execute(job, as_json)


def configuration(data: str, rounds: int | None = None, seed: int = 1) -> RunConfig:
    """The demo's configuration, as a TOML file would say it."""
    values = _CONFIGS[data]
    training = {**values["training"], "seed": seed}
    if rounds is not None:
        training["rounds"] = rounds
    return restore_config({**values, "data": {**values["data"], "seed": seed}, "training": training}, "hansa demo")


def _known(folder: Path, config: RunConfig, now: dict[str, Any]) -> dict[str, Any]:
    """What the run in a folder is known as, if it is this one.

    Raises:
        ChangedError: if it is another.
    """
    run = recovered_run(folder)
    if run is None:  # which is told when it is taken up
        return now
    before: dict[str, Any] = run["asked"].get("config")
    changes = ["it is no run of the demo"]
    if is_of_train(before):
        changes = _changes.changes(folder, config, before, now)
        if not changes:
            return before
    steps = {
        "hansa demo": "begins a new run, in a folder of its own",
        command("resume", folder): "goes on with this one",
    }
    raise ChangedError(folder, changes, steps)


def _facts(experiment: Experiment) -> Mapping[str, Any]:
    populations, training = experiment.populations, experiment.config.training
    return {
        "clients": len(populations.training),
        "examples": int(populations.examples.sizes.sum()),
        "seed": training.seed,
        "next_type": experiment.process.next.type_signature.compact(),
    }


def _head(experiment: Experiment, title: str) -> str:
    config, populations = experiment.config, experiment.populations
    assert populations.evaluation is not None
    optimizers = f"SGD {config.training.client_learning_rate:g}"
    if config.training.server_optimizer is not None:
        optimizers += f", at the server Adam {config.training.server_learning_rate:g}"
    pixels = int(populations.examples.client(0)["x"][0].size)
    return "\n".join(
        [
            f"{title}: ten clients, each holding the images of one digit",
            f"{populations.examples.sizes.sum():,} images to train on, {populations.evaluation.sizes.sum():,} held out"
            f". Model {pixels}-{config.model.options['hidden']}-10, batches of {config.data.batch_size}, {optimizers}, "
            f"{config.training.rounds} rounds.",
            "",
            "One round has the type",
            "",
            str(experiment.process.next.type_signature),
            "",
        ]
    )
