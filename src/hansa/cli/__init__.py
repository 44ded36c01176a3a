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
  hansa demo --rounds 20 --seed 7    another run, another split
  hansa COMMAND --help               what a command takes and leaves

[bold]Then[/bold], in Python
  import hansa
  hansa.federated_computation(lambda: 'Hello, World!')()

The README has a program of 20 lines to begin from, docs/ the tutorial.
"""

_AFTER_DEMO = """
[bold]Examples[/bold]
  hansa demo --rounds 10 --run-dir first    choose where the files go
  hansa demo --data mnist                   MNIST, downloaded if need be
  hansa demo --json | tail -n 1             the result for a program

MNIST is looked for in the folder that HANSA_DATA_DIR names, then in the cache.

[bold]It leaves[/bold] metrics.csv (every round), curves.png and model.keras, which
keras.models.load_model reads. Ctrl-C stops after the running round and keeps
what was made; the exit code is then 130.
"""

app = typer.Typer(
    name="hansa",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DemoDataset(StrEnum):
    """The datasets that the demo can run on."""

    DIGITS = "digits"
    MNIST = "mnist"


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
    from hansa.cli import _demo, _report, _run_folder
    from hansa.simulation import datasets

    options = _demo.Options(data.value, rounds, run_dir, seed)
    try:
        finished = _demo.run(options, _report.reporter(json))
    except (datasets.DatasetError, _run_folder.RunFolderError) as error:
        typer.echo(f"hansa demo: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("hansa demo: stopped before the first round was finished; nothing is left behind.", err=True)
        raise typer.Exit(130) from None
    if not finished:
        raise typer.Exit(130)
