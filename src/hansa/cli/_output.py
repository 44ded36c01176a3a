"""What the commands print: JSON for programs, and errors; and which error has which exit code."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import click

from hansa._printing import in_a_line, printable

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: an error in the run, in what was asked for, and Ctrl-C."""


NO_PICTURE = "curves.png was not drawn, for which matplotlib is needed: pip install 'hansa[plots]'"


def can_draw() -> bool:
    """Whether Matplotlib is installed, which `hansa[plots]` installs."""
    return importlib.util.find_spec("matplotlib") is not None


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object in a line, in ASCII; what JSON has not, NaN and infinity, is null."""
    sys.stdout.write(json.dumps(_plain(values)) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def say(*lines: object) -> None:
    """Print lines. What a terminal would act on in them is escaped, as names in files and folders may hold anything."""
    for line in lines:
        print(printable(line))


@contextlib.contextmanager
def _told_warnings(command: str) -> Iterator[None]:
    """Warnings are printed in a line, as errors are."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: click.echo(
            f"hansa {command}: warning: {in_a_line(message)}", err=True
        )
        yield


@contextlib.contextmanager
def errors_of(command: str, as_json: bool) -> Iterator[None]:
    """Errors that a user can cause are printed in a line or a few, without a traceback, and end the command.

    Args:
        command: its name.
        as_json: whether an object `{"error": …}` is printed, too, to standard output.
    """
    from hansa.cli._models import ModelError
    from hansa.cli._populations import DataError
    from hansa.cli._user_code import UserCodeError
    from hansa.cli.config import ConfigError
    from hansa.program import CheckpointError, RunError
    from hansa.simulation import DatasetError

    misuse = (ConfigError, DataError, ModelError, UserCodeError)
    try:
        with _told_warnings(command):
            yield
    except (*misuse, CheckpointError, RunError, DatasetError, ImportError, OSError) as error:
        if os.environ.get("HANSA_TRACEBACK"):
            raise
        code = MISUSED if isinstance(error, misuse) else FAILED
        click.echo(f"hansa {command}: {printable(error)}", err=True)
        if as_json:
            print_json({"error": str(error), "exit_code": code})
        raise click.exceptions.Exit(code) from None
    except KeyboardInterrupt:
        click.echo(f"hansa {command}: interrupted", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
