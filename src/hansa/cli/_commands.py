"""The commands: what each takes, and whom it calls. What one needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

import hansa
from hansa.cli import _completion, _help
from hansa.cli._command import FILE, FOLDER, PATH, Commands, end, whole
from hansa.cli._errors import FAILED
from hansa.cli._output import print_json, say
from hansa.cli.network.commands import join, network, serve


@click.group(
    "hansa",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    help=_help.ABOUT,
    epilog=_help.WHERE_NEXT,
)
@click.version_option(hansa.__version__, prog_name="hansa", message="%(prog)s %(version)s", help="Print the version.")
@_completion.options
@click.pass_context
def app(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_config = click.argument("config", metavar="CONFIG", type=PATH, shell_complete=_completion.configs)
_run = click.argument("run", metavar="RUN", type=PATH, shell_complete=_completion.runs)
_json = click.option("--json", is_flag=True, help="Print one JSON object.")
_json_lines = click.option("--json", is_flag=True, help="Print one JSON object a line.")
_set = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    shell_complete=_completion.keys,
    help="Another value for a key of the file, such as training.rounds=20.",
)
_allow_changes = click.option(
    "--allow-changes", is_flag=True, help="Take the run's Python files as they are now, if they have changed."
)


@app.command(epilog=_help.AFTER_DEMO, short_help="Train ten clients, offline, and draw the curves.")
@click.option(
    "--data",
    type=click.Choice(["digits", "mnist"]),
    default="digits",
    help="scikit-learn's 1,797 digits of 8x8 pixels, or MNIST.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=whole(1),
    help="How many rounds to run.",
    show_default="as many as suit the data",
)
@click.option(
    "--run-dir",
    metavar="FOLDER",
    type=FOLDER,
    help="The run's folder.",
    show_default="runs/demo-DATA-TIME",
)
@click.option(
    "--seed",
    metavar="N",
    type=whole(0),
    default=1,
    help="The seed of the model's first weights, and of which images are held out.",
)
@click.option("--json", is_flag=True, help="Print one JSON object a line: begin, each round, end.")
def demo(data: str, rounds: int | None, run_dir: Path | None, seed: int, json: bool) -> None:
    """Train a Keras model on ten clients by federated averaging. Each client has the images of one digit.

    It prints the type of a round, a table of the rounds, and the accuracy on a tenth of the images, which is held out.
    It is a run like any other: resume, evaluate, report and runs work on its folder.
    """
    from hansa.cli import _demo

    end(_demo.demo(data, rounds, run_dir, seed, json))


@app.command(epilog=_help.AFTER_NEW, short_help="Write a small project to begin with.")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--framework",
    type=click.Choice(["keras", "torch"]),
    default="keras",
    show_default=True,
    help="What the model is written in.",
)
@click.option(
    "--algorithm",
    metavar="NAME",
    help="How it trains, such as scaffold or fed_prox.",
    show_default="federated averaging",
    shell_complete=_completion.algorithms,
)
@click.option("--network", is_flag=True, help="Devices train it: a coordinator and three, on this machine.")
@click.option(
    "--task",
    type=click.Choice(["digits", "instruction"]),
    default="digits",
    show_default=True,
    help="What it learns: images, or to answer instructions, by adapters of a language model.",
)
@_json
def new(folder: Path, framework: str, algorithm: str | None, network: bool, task: str, json: bool) -> None:
    """Write a small project to begin with: a model, and a file that says how clients train it.

    It runs as it is, offline, on data that it has itself. Nothing is overwritten.
    """
    from hansa.cli import _new

    files = _new.new(folder, framework, algorithm, network, task)
    if json:
        print_json({"folder": folder, "files": files})
    else:
        how = f"hansa train {folder / 'run.toml'} runs it."
        if network:
            how = f"{folder / 'README.md'} says how it runs, in four terminals."
        elif task == "instruction":
            how = f"python {folder / 'pretrain.py'} makes the base, and {how}"
        say(*files, "", how)


@app.command(epilog=_help.AFTER_TRAIN, short_help="Run what a TOML file says, or go on with it.")
@_config
@_set
@click.option(
    "--rounds",
    metavar="N",
    type=whole(1),
    help="The number of rounds of the run in all.",
    show_default="as many as the file says",
)
@click.option("--fresh", is_flag=True, help="Begin a new run, in the next free folder.")
@click.option("--allow-changes", is_flag=True, help="Go on with the run even if its file or its model has changed.")
@_json_lines
def train(
    config: Path, overrides: tuple[str, ...], rounds: int | None, fresh: bool, allow_changes: bool, json: bool
) -> None:
    """Train a model on clients, as a TOML file says: by federated averaging, or the algorithm that it names.

    CONFIG is a run's TOML file, or a folder with a run.toml. If the run exists, it goes on from its last checkpoint.
    If the file or the model has changed since, nothing is done, and the message says what has changed and what to
    type.
    """
    from hansa.cli import _train

    end(_train.train(config, overrides, json, rounds=rounds, fresh=fresh, allow_changes=allow_changes))


@app.command(epilog=_help.AFTER_RESUME, short_help="Go on with a run that was stopped or killed.")
@_run
@click.option(
    "--rounds",
    metavar="N",
    type=whole(1),
    help="The number of rounds of the run in all.",
    show_default="as many as it had",
)
@_allow_changes
@_json_lines
def resume(run: Path, rounds: int | None, allow_changes: bool, json: bool) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint."""
    from hansa.cli import _train

    end(_train.resume(run, rounds, allow_changes, json))


@app.command(epilog=_help.AFTER_EVALUATE, short_help="Evaluate a run's model, on all clients and on each.")
@_run
@click.option(
    "--on",
    type=click.Choice(["auto", "evaluation", "training"]),
    default="auto",
    help="Whose examples. auto: what was held out, or the data's test examples; else training.",
)
@click.option(
    "--metric", metavar="NAME", help="The metric that tells which clients are worst.", show_default="the model's first"
)
@click.option("--worst", metavar="N", type=whole(0), default=5, help="How many of the worst clients to show.")
@_allow_changes
@_json
def evaluate(
    run: Path,
    on: Literal["auto", "evaluation", "training"],
    metric: str | None,
    worst: int,
    allow_changes: bool,
    json: bool,
) -> None:
    """Evaluate a run's last model on all clients together and on each by itself, and list the worst clients."""
    from hansa.cli import _evaluate

    _evaluate.evaluate(run, on, metric, worst, allow_changes, json)


@app.command(epilog=_help.AFTER_RUNS, short_help="List runs: how far they are, and their metrics.")
@click.argument("folder", metavar="[FOLDER]", type=PATH, default=".")
@_json_lines
def runs(folder: Path, json: bool) -> None:
    """List the runs in a folder: how far they are, and what they measured last."""
    from hansa.cli import _runs

    _runs.runs(folder, json)


@app.command(epilog=_help.AFTER_REPORT, short_help="Write one HTML page about a run.")
@_run
@click.option(
    "--to", metavar="PAGE", type=FILE, help="The page to write.", show_default="report.html in the run's folder"
)
@_json
def report(run: Path, to: Path | None, json: bool) -> None:
    """Write one HTML page about a run: curves, who took part, how clients differ, and the settings."""
    from hansa.program import write_report

    page = write_report(run, to)
    if json:
        print_json({"page": page})
    else:
        say(page)


@app.group(
    cls=Commands, epilog=_help.AFTER_PRIVACY, short_help="What a private run has spent, and whether that is true."
)
def privacy() -> None:
    """What a private run has spent of its budget, by its ledger, and whether the ledger is sound."""


@privacy.command("status", short_help="Show what a run promises, and what it has spent.")
@_run
@_json
def privacy_status(run: Path, json: bool) -> None:
    """Show what a run promises to its clients, and what it has spent of its budget, counted anew of its ledger."""
    from hansa.cli import _privacy

    _privacy.status(run, json)


@privacy.command("verify", short_help="Check the ledger of a run.")
@_run
@_json
def privacy_verify(run: Path, json: bool) -> None:
    """Check the ledger of a run: that no line was changed, that each round was charged, and each epsilon.

    The exit code is 1 if something is wrong.
    """
    from hansa.cli import _privacy

    if not _privacy.verify(run, json):
        raise click.exceptions.Exit(FAILED)


@app.command(epilog=_help.AFTER_DATA, short_help="Show who the clients are.")
@click.argument("what", metavar="CONFIG|NAME", shell_complete=_completion.configs_and_data_sets)
@click.option("--plot", metavar="PICTURE", type=PATH, help="Draw who has which labels, to a file such as who.png.")
@_set
@_json
def data(what: str, plot: Path | None, overrides: tuple[str, ...], json: bool) -> None:
    """Show who the clients are: how many, of what sizes, with which labels, and the type of a batch.

    CONFIG is a run's TOML file; NAME is a data set.
    """
    from hansa.cli import _data

    _data.show(what, overrides, plot, json)


@app.command(epilog=_help.AFTER_EXPLAIN, short_help="Show a round: its type, stages, bytes and operations.")
@_config
@click.option("--svg", metavar="PICTURE", type=PATH, help="Draw the round, to a file such as round.svg.")
@click.option(
    "--require",
    type=click.Choice(["private", "protected"]),
    multiple=True,
    help="Fail if a result is made of clients' values without noise, or if the server sees what a client gives.",
)
@_set
@_json
def explain(config: Path, svg: Path | None, require: tuple[str, ...], overrides: tuple[str, ...], json: bool) -> None:
    """Show a round of a run: its algorithm, its type, its stages, the bytes that go up and down, and the operations."""
    from hansa.cli import _explain

    _explain.explain(config, overrides, svg, require, json)


@app.command(epilog=_help.AFTER_DOCTOR, short_help="Check whether Hansa works here, and what is missing.")
@click.option("--ray", is_flag=True, help="Start Ray, or join the cluster of RAY_ADDRESS, and look at its workers.")
@_json
def doctor(ray: bool, json: bool) -> None:
    """Check whether Hansa works here: Python, JAX and its devices, Keras, what can be installed, data, and a round."""
    from hansa.cli import _doctor

    if not _doctor.doctor(json, ray):
        raise click.exceptions.Exit(FAILED)


app.add_command(serve)
app.add_command(join)
app.add_command(network)
