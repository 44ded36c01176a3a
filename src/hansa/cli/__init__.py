"""The `hansa` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from hansa.cli import _interrupt

    _interrupt.install()
    from hansa.cli._commands import app

    app(prog_name="hansa")
