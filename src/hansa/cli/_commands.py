"""The commands: what each takes, and whom it calls. What one needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli import _help

app = typer.Typer(
    name="hansa",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Config = Annotated[Path, typer.Argument(help="A run's TOML file.", show_default=False)]
_Run = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the file, such as training.rounds=20."),
]
_AllowChanges = Annotated[
    bool, typer.Option("--allow-changes", help="Take the run's Python files as they are now, if they have changed.")
]


class DemoDataset(StrEnum):
    """The datasets that the demo can run on."""

    DIGITS = "digits"
    MNIST = "mnist"


class EvaluatedOn(StrEnum):
    """What a run can be evaluated on."""

    AUTO = "auto"
    EVALUATION = "evaluation"
    TRAINING = "training"


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        print(f"hansa {metadata.version('hansa')}")
    except metadata.PackageNotFoundError:
        print("hansa (not installed)")
    raise typer.Exit


@app.callback(invoke_without_command=True, help=_help.ABOUT, epilog=_help.WHERE_NEXT)
def _hansa(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=_help.AFTER_DEMO)
def demo(
    data: Annotated[
        DemoDataset, typer.Option(help="scikit-learn's 1,797 digits of 8x8 pixels, or MNIST.")
    ] = DemoDataset.DIGITS,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How many rounds to run.", show_default="as many as suit the data")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="A new or empty folder for what the run leaves.", show_default="runs/demo-DATA-TIME", file_okay=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the model's first weights and of the held-out images.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line: begin, each round, end.")] = False,
) -> None:
    """Train a Keras model on ten clients, each holding the images of one digit, by federated averaging.

    A tenth of each client's images is held out.

    The type of a round, a table of the rounds and the held-out accuracy are printed.
    """
    from hansa._printing import printable
    from hansa.cli import _demo, _report, _run_folder
    from hansa.simulation import datasets

    options = _demo.Options(data.value, rounds, run_dir, seed)
    try:
        finished = _demo.run(options, _report.reporter(json))
    except (datasets.DatasetError, _run_folder.RunFolderError) as error:
        typer.echo(f"hansa demo: {printable(error)}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("hansa demo: stopped before the first round was finished; nothing is left behind.", err=True)
        raise typer.Exit(130) from None
    if not finished:
        raise typer.Exit(130)


@app.command(epilog=_help.AFTER_NEW)
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.", show_default=False)],
    json: _Json = False,
) -> None:
    """Write a small project to begin with: a Keras model, and a file that says how clients train it.

    It runs as it is, offline, on the digits that come with Hansa. Nothing is overwritten.
    """
    from hansa.cli import _new, _output

    with _output.errors_of("new", json):
        files = _new.new(folder)
    if json:
        _output.print_json({"folder": folder, "files": files})
    else:
        _output.say(*files, "", f"hansa train {folder / 'run.toml'} runs it.")


@app.command(epilog=_help.AFTER_TRAIN)
def train(config: _Config, overrides: _Set = None, json: _JsonLines = False) -> None:
    """Train a model on clients, as a TOML file says, by federated averaging.

    If the run's folder has the run already, it goes on from its last checkpoint.
    """
    from hansa.cli import _output, _train

    with _output.errors_of("train", json):
        finished = _train.train(config, overrides or [], json)
    if not finished:
        raise typer.Exit(_output.INTERRUPTED)


@app.command(epilog=_help.AFTER_RESUME)
def resume(
    run: _Run,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="How many rounds the run is to have in all.", show_default="as many as it had"),
    ] = None,
    allow_changes: _AllowChanges = False,
    json: _JsonLines = False,
) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint."""
    from hansa.cli import _output, _train

    with _output.errors_of("resume", json):
        finished = _train.resume(run, rounds, allow_changes, json)
    if not finished:
        raise typer.Exit(_output.INTERRUPTED)


@app.command(epilog=_help.AFTER_EVALUATE)
def evaluate(
    run: _Run,
    on: Annotated[
        EvaluatedOn,
        typer.Option(help="What was held out, or else the data's test examples; or what was trained on."),
    ] = EvaluatedOn.AUTO,
    metric: Annotated[
        str | None, typer.Option(help="By which to find the worst clients.", show_default="the model's first")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst clients to show.")] = 5,
    allow_changes: _AllowChanges = False,
    json: _Json = False,
) -> None:
    """Evaluate a run's last model: on all clients together, on each by itself, and which clients it is worst for."""
    from hansa.cli import _evaluate, _output

    with _output.errors_of("evaluate", json):
        _evaluate.evaluate(run, on.value, metric, worst, allow_changes, json)


@app.command(epilog=_help.AFTER_RUNS)
def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("."),
    json: _JsonLines = False,
) -> None:
    """List the runs in a folder: how far they are, and what they measured last."""
    from hansa.cli import _output, _runs

    with _output.errors_of("runs", json):
        _runs.runs(folder, json)


@app.command(epilog=_help.AFTER_REPORT)
def report(
    run: _Run,
    to: Annotated[
        Path | None,
        typer.Option(help="The page to write.", show_default="report.html in the run's folder", dir_okay=False),
    ] = None,
    json: _Json = False,
) -> None:
    """Write one HTML page about a run: curves, who took part, how clients differ, and what was asked."""
    from hansa.cli import _output

    with _output.errors_of("report", json):
        from hansa.program import write_report

        page = write_report(run, to)
    if json:
        _output.print_json({"page": page})
    else:
        _output.say(page)


@app.command(epilog=_help.AFTER_DATA)
def data(
    what: Annotated[str, typer.Argument(metavar="CONFIG|NAME", help="A run's TOML file, or a data set.")],
    plot: Annotated[
        Path | None,
        typer.Option(help="A picture to draw of who has which labels, such as who.png.", show_default=False),
    ] = None,
    overrides: _Set = None,
    json: _Json = False,
) -> None:
    """Show who the clients are: how many, of what sizes, with which labels, and the type of a batch."""
    from hansa.cli import _data, _output

    with _output.errors_of("data", json):
        _data.show(what, overrides or [], plot, json)


@app.command(epilog=_help.AFTER_EXPLAIN)
def explain(
    config: _Config,
    svg: Annotated[Path | None, typer.Option(help="A picture to draw, such as round.svg.", show_default=False)] = None,
    overrides: _Set = None,
    json: _Json = False,
) -> None:
    """Explain a round of a run: its type, its stages, the bytes that go up and down, and the operations."""
    from hansa.cli import _explain, _output

    with _output.errors_of("explain", json):
        _explain.explain(config, overrides or [], svg, json)


@app.command(epilog=_help.AFTER_DOCTOR)
def doctor(json: _Json = False) -> None:
    """Look whether Hansa works here: Python, JAX and its devices, Keras, what can be installed, data, and a round."""
    from hansa.cli import _doctor, _output

    with _output.errors_of("doctor", json):
        works = _doctor.doctor(json)
    if not works:
        raise typer.Exit(_output.FAILED)
