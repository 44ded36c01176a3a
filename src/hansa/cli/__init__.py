"""The `hansa` command. What it needs beyond its own words is imported when a command runs, so that help is quick."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_ABOUT = """
[bold]Hansa[/bold]: federated learning. Clients keep their data, a server keeps the model, and a typed program says
what moves between them.
"""

_WHERE_NEXT = """
[bold]Begin here[/bold]
  hansa demo                         ten clients train a model, offline
  hansa demo --data mnist            the same with MNIST
  hansa new first                    a project of your own, in a folder
  hansa train first/run.toml         train it; run.toml says what and how
  hansa runs first                   how far runs are
  hansa report RUN                   a page about one
  hansa COMMAND --help               what a command takes and leaves

[bold]Or[/bold], in Python
  import hansa
  hansa.federated_computation(lambda: 'Hello, World!')()

[bold]Exit codes[/bold]
  0 done; 1 an error in the run; 2 a mistake in what was asked for;
  130 Ctrl-C. HANSA_TRACEBACK=1 shows where an error came from.
"""

_AFTER_DEMO = """
[bold]Examples[/bold]
  hansa demo --rounds 10 --run-dir first    choose where the files go
  hansa demo --data mnist                   MNIST, downloaded if need be
  hansa demo --json | tail -n 1             the result for a program

MNIST is looked for in the folder HANSA_DATA_DIR names, then in the cache.

[bold]It leaves[/bold] metrics.csv (every round), curves.png (with Matplotlib) and
model.keras, which keras.models.load_model reads. Ctrl-C stops after the running
round and keeps what was made; the exit code is then 130.
"""

_AFTER_NEW = """
[bold]Examples[/bold]
  hansa new first              writes model.py, run.toml, data.py, README.md
  hansa train first/run.toml   runs it at once, offline
"""

_AFTER_TRAIN = """
[bold]Examples[/bold]
  hansa train run.toml
  hansa train run.toml --set training.rounds=50 --set output.folder=runs/long
  hansa train run.toml --json | tail -n 1    the result for a program

[bold]It leaves[/bold], in the run's folder, metrics.csv and metrics.jsonl (every round),
curves.png (with Matplotlib), model.keras, and checkpoints. Ctrl-C stops after
the running round. Stopped or killed, `hansa resume FOLDER`, or the same command
again, goes on with it, and ends with the same model, to the bit.
"""

_AFTER_RESUME = """
[bold]Examples[/bold]
  hansa resume runs/first                 go on to the last round
  hansa resume runs/first --rounds 100    and then further

The folder says all that is needed. A run whose model.py has changed is
refused, with what has changed; --allow-changes takes it as it is now.

[bold]It runs the Python files that the folder names[/bold], which are printed. A folder from
somebody else is a program from somebody else.
"""

_AFTER_EVALUATE = """
[bold]Examples[/bold]
  hansa evaluate runs/first
  hansa evaluate runs/first --metric loss --worst 3
  hansa evaluate runs/first --on training --json

[bold]It runs the Python files that the folder names[/bold], which are printed. A folder from
somebody else is a program from somebody else.
"""

_AFTER_RUNS = """
[bold]Examples[/bold]
  hansa runs                 those in this folder, three levels deep
  hansa runs experiments --json

[bold]States[/bold]
  running    a process is at it
  finished   all its rounds are done
  stopped    by Ctrl-C, or early for the reason that is shown
  killed     it did not come to its end: hansa resume goes on with it
  damaged    run.json or metrics.jsonl is; hansa resume sets that aside, and
             goes on from the last good checkpoint

Runs are only looked at: nothing in their folders is changed or locked.
"""

_AFTER_REPORT = """
[bold]Examples[/bold]
  hansa report runs/first                 writes runs/first/report.html
  hansa report runs/first --to page.html

The page loads nothing, so it can be opened and sent anywhere. It can be
written while the run is under way. How a model does at each client is in it
once hansa evaluate has been run.
"""

_AFTER_DATA = """
[bold]Examples[/bold]
  hansa data mnist                       a data set, dealt out to ten clients
  hansa data run.toml --plot who.png     the clients of a run, with a picture
  hansa data run.toml --set data.partition.alpha=0.1
"""

_AFTER_EXPLAIN = """
[bold]Examples[/bold]
  hansa explain run.toml
  hansa explain run.toml --svg round.svg
"""

_AFTER_DOCTOR = """
[bold]States[/bold]
  ok         there, and works
  missing    something that only some need; the line says how to have it
  broken     nothing works without it; the exit code is then 1
"""

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


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        print(f"hansa {metadata.version('hansa')}")
    except metadata.PackageNotFoundError:
        print("hansa (not installed)")
    raise typer.Exit


@app.callback(invoke_without_command=True, help=_ABOUT, epilog=_WHERE_NEXT)
def _hansa(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=_AFTER_DEMO)
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


@app.command(epilog=_AFTER_NEW)
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


@app.command(epilog=_AFTER_TRAIN)
def train(config: _Config, overrides: _Set = None, json: _JsonLines = False) -> None:
    """Train a model on clients, as a TOML file says, by federated averaging.

    If the run's folder has the run already, it goes on from its last checkpoint.
    """
    from hansa.cli import _output, _train

    with _output.errors_of("train", json):
        finished = _train.train(config, overrides or [], json)
    if not finished:
        raise typer.Exit(_output.INTERRUPTED)


@app.command(epilog=_AFTER_RESUME)
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


@app.command(epilog=_AFTER_EVALUATE)
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


@app.command(epilog=_AFTER_RUNS)
def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("."),
    json: _JsonLines = False,
) -> None:
    """List the runs in a folder: how far they are, and what they measured last."""
    from hansa.cli import _output, _runs

    with _output.errors_of("runs", json):
        _runs.runs(folder, json)


@app.command(epilog=_AFTER_REPORT)
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


@app.command(epilog=_AFTER_DATA)
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


@app.command(epilog=_AFTER_EXPLAIN)
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


@app.command(epilog=_AFTER_DOCTOR)
def doctor(json: _Json = False) -> None:
    """Look whether Hansa works here: Python, JAX and its devices, Keras, what can be installed, data, and a round."""
    from hansa.cli import _doctor, _output

    with _output.errors_of("doctor", json):
        works = _doctor.doctor(json)
    if not works:
        raise typer.Exit(_output.FAILED)
