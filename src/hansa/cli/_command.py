"""What all commands have: how errors are told, kinds of arguments, and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hansa.cli._errors import INTERRUPTED
from hansa.cli._output import errors_of

PATH, FILE, FOLDER = (
    click.Path(path_type=Path),
    click.Path(path_type=Path, dir_okay=False),
    click.Path(path_type=Path, file_okay=False),
)


class Command(click.Command):
    """A command whose errors are told in a line or a few, and as JSON where that is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with errors_of(ctx.command_path.partition(" ")[2], ctx.params.get("json", False)):
            return super().invoke(ctx)


class Commands(click.Group):
    """Commands, in the order in which they are written."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(self.commands)


class _Whole(click.IntRange):
    name = "integer"


def whole(least: int) -> click.IntRange:
    """An integer of at least so much."""
    return _Whole(min=least)


def end(finished: bool) -> None:
    """Ends a command: with the exit code of Ctrl-C, if it has not come to its end."""
    if not finished:
        raise click.exceptions.Exit(INTERRUPTED)
