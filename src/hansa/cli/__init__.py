"""The `hansa` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line: all of it, or a device's where no more is installed."""
    from importlib.util import find_spec

    from hansa.cli import _interrupt

    _interrupt.install()
    if find_spec("click") is None:
        from hansa.cli import light

        light.main()
    else:
        from hansa.cli._commands import app

        app(prog_name="hansa")
