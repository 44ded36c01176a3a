"""`hansa` where a device is installed and no more (`hansa-core`): `hansa join`, read by the standard library."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import hansa
from hansa.cli._output import errors_of
from hansa.cli.network.options import AFTER_JOIN, JOIN, JOIN_ABOUT, JOIN_SHORT

_ABOUT = """A device of a network: it keeps its data, and computes on it what a coordinator asks for.

All other commands are Hansa's, and not this distribution's: pip install hansa, in another environment.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line of a device."""
    asked = vars(_parser().parse_args(arguments))
    del asked["command"]
    with errors_of("join", asked["json"]):
        from hansa.cli.network import joining

        joining.command(**asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hansa", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"hansa {hansa.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    join = commands.add_parser(
        "join",
        help=JOIN_SHORT,
        description=JOIN_ABOUT,
        epilog=AFTER_JOIN.replace("*", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    join.add_argument("invitation", metavar="INVITATION", nargs="?")
    for option in JOIN:
        if option.kind == "flag":
            join.add_argument(option.flag, dest=option.name, action="store_true", help=option.help)
        elif option.kind == "texts":
            join.add_argument(
                option.flag, dest=option.name, action="append", default=[], metavar=option.metavar, help=option.help
            )
        else:
            join.add_argument(
                option.flag,
                dest=option.name,
                type=str if option.kind == "text" else Path,
                default=option.default,
                metavar=option.metavar,
                help=option.help if option.default is None else f"{option.help} [default: {option.default}]",
            )
    return parser
