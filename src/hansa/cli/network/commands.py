"""What each command of real devices takes, and whom it calls. What one needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hansa.cli import _help
from hansa.cli._command import FILE, FOLDER, PATH, Command, Commands, end, whole
from hansa.cli._errors import FAILED
from hansa.cli.network import options

_coordinator = click.argument("folder", metavar="FOLDER", type=FOLDER)
_operators = click.argument("folder", metavar="FOLDER", type=FOLDER)
_SECONDS = click.FloatRange(0, min_open=True)
_devices = click.option("--devices", metavar="N", type=whole(1), default=1, help="Begin when so many are there.")
_least = click.option("--least", metavar="N", type=whole(1), default=1, help="With fewer, a round is tried again.")
_over_select = click.option(
    "--over-select", metavar="X", type=click.FloatRange(1, 100), default=1.0, help="Ask X times as many."
)
_deadline = click.option("--deadline", metavar="S", type=_SECONDS, default=600.0, help="Seconds of a round.")
_json = click.option("--json", is_flag=True, help="Print one JSON object.")
_json_lines = click.option("--json", is_flag=True, help="Print one JSON object a line.")


@click.group(
    "network", cls=Commands, epilog=_help.AFTER_NETWORK, short_help="Make and look after a network of devices."
)
def network() -> None:
    """Make and look after a network of devices: who may join, who is there, and whether all is as it was written.

    FOLDER is the coordinator's. Whoever may write it is the network's operator. All of these work whether a coordinator
    serves from it at the moment or not.
    """


@network.command("init", cls=Command, epilog=_help.AFTER_INIT, short_help="Make a coordinator's folder.")
@_coordinator
@click.option("--host", default="127.0.0.1", help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", metavar="N", type=whole(0), default=8443, help="The port; 0 for any that is free.")
@click.option("--name", "names", metavar="NAME", multiple=True, help="A name or address at which devices reach it.")
@click.option("--proxy", metavar="URL", default="", help="A proxy before it that ends TLS, at which devices reach it.")
@_json
def init(folder: Path, host: str, port: int, names: tuple[str, ...], proxy: str, json: bool) -> None:
    """Make a coordinator's folder: settings, a ledger, and an authority with a key of its own."""
    from hansa.cli.network import operator

    operator.init(folder, host, port, names, proxy, json)


@network.command("invite", cls=Command, epilog=_help.AFTER_INVITE, short_help="Invite a device.")
@_coordinator
@click.option("--client", metavar="ID", help="Whose device alone it is for.", show_default="the device says it")
@click.option("--uses", metavar="N", type=whole(1), default=1, help="For how many devices.")
@click.option("--days", metavar="N", type=click.FloatRange(min=0, min_open=True), default=7.0, help="For how long.")
@click.option("--note", default="", help="For people.")
@click.option("--operator", metavar="NAME", help="Invite an operator in place of a device, who is called so.")
@click.option("--to", metavar="FILE", type=FILE, help="Write it to a file that only you can read.")
@_json
def invite(
    folder: Path,
    client: str | None,
    uses: int,
    days: float,
    note: str,
    operator: str | None,
    to: Path | None,
    json: bool,
) -> None:
    """Print an invitation, with which a device joins. It holds a secret: pass it on in a way that nobody else reads.

    With --operator it is for a person, who may then submit, watch and stop runs from elsewhere.
    """
    from hansa.cli.network import operator as operators

    if operator is not None:
        operators.invite_operator(folder, operator, client, uses, days, to, json)
    else:
        operators.invite(folder, client, uses, days, note, to, json)


@network.command("status", cls=Command, short_help="Show what goes on.")
@_coordinator
@_json
def status(folder: Path, json: bool) -> None:
    """Show whether it serves and where, its devices, its runs with all outcomes, and what goes on."""
    from hansa.cli.network import operator

    operator.status(folder, json)


@network.command("devices", cls=Command, short_help="List the devices.")
@_coordinator
@_json_lines
def devices(folder: Path, json: bool) -> None:
    """List the devices that have joined: whose they are, and when they were heard of last."""
    from hansa.cli.network import operator

    operator.devices(folder, json)


@network.command("revoke", cls=Command, short_help="Shut a device out.")
@_coordinator
@click.argument("device", metavar="DEVICE")
@_json
def revoke(folder: Path, device: str, json: bool) -> None:
    """Shut a device out, for ever and at once. DEVICE is its name, its client's id, or what an operator is called."""
    from hansa.cli.network import operator

    operator.revoke(folder, device, json)


@network.command("release", cls=Command, short_help="Ask a device again that is in quarantine.")
@_coordinator
@click.argument("device", metavar="DEVICE")
@_json
def release(folder: Path, device: str, json: bool) -> None:
    """Ask a device again whose contributions were invalid three times in a row."""
    from hansa.cli.network import operator

    operator.release(folder, device, json)


@network.command("login", cls=Command, epilog=_help.AFTER_LOGIN, short_help="Be an operator from elsewhere.")
@click.argument("invitation", metavar="INVITATION")
@click.option("--folder", metavar="FOLDER", type=FOLDER, default="hansa-operator", help="The operator's own folder.")
@_json
def login(invitation: str, folder: Path, json: bool) -> None:
    """Take an operator's INVITATION, or a file with it: a key and a certificate come to a folder that only you read."""
    from hansa.cli.network import submitting

    submitting.login(invitation, folder, json)


@network.command("submit", cls=Command, epilog=_help.AFTER_SUBMIT, short_help="Have a run trained.")
@_operators
@click.argument("config", metavar="CONFIG", type=PATH)
@click.option("--name", metavar="NAME", help="Of the run.", show_default="that of its folder, or of the file")
@_devices
@_least
@_over_select
@_deadline
@_json
def submit(
    folder: Path,
    config: Path,
    name: str | None,
    devices: int,
    least: int,
    over_select: float,
    deadline: float,
    json: bool,
) -> None:
    """Have a run trained by the devices of a coordinator, which may have others at the same time.

    FOLDER is an operator's, or the coordinator's own. The model of CONFIG is compiled here. The coordinator gets its
    stages as StableHLO, and no Python.
    """
    from hansa.cli.network import submitting
    from hansa.cli.network.serving import asked_for

    submitting.submit(folder, config, name, asked_for(devices, least, over_select, deadline), json)


@network.command("runs", cls=Command, short_help="List the runs that were submitted.")
@_operators
@_json_lines
def runs(folder: Path, json: bool) -> None:
    """List the runs that were submitted: how far they are, by whom. FOLDER is an operator's, or the coordinator's."""
    from hansa.cli.network import submitting

    submitting.runs(folder, json)


@network.command("stop", cls=Command, short_help="Stop a run.")
@_operators
@click.argument("run", metavar="RUN")
@_json
def stop(folder: Path, run: str, json: bool) -> None:
    """Stop a run that was submitted, at once. What it has is kept. FOLDER is an operator's, or the coordinator's."""
    from hansa.cli.network import submitting

    submitting.stop(folder, run, json)


@network.command("log", cls=Command, epilog=_help.AFTER_LOG, short_help="Show how a run goes on.")
@_operators
@click.argument("run", metavar="RUN")
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--checkpoint", metavar="FILE", type=FILE, help="Copy its newest checkpoint to a file.")
@_json_lines
def log(folder: Path, run: str, follow: bool, checkpoint: Path | None, json: bool) -> None:
    """Show the rounds of a run that was submitted, with what they have measured.

    FOLDER is an operator's, or the coordinator's.
    """
    from hansa.cli.network import submitting

    submitting.log(folder, run, follow, checkpoint, json)


@network.command("verify", cls=Command, epilog=_help.AFTER_VERIFY, short_help="Look whether all is as written.")
@_coordinator
@_json
def verify(folder: Path, json: bool) -> None:
    """Look whether ledger, audit, outcomes, contributions and blobs are what was written. Nothing is changed."""
    from hansa.cli.network import operator

    if not operator.verify(folder, json):
        raise click.exceptions.Exit(FAILED)


@network.command("replay", cls=Command, epilog=_help.AFTER_REPLAY, short_help="Fold contributions again.")
@_coordinator
@click.option("--run", metavar="RUN", help="Of this run alone.")
@click.option("--round", "number", metavar="N", type=whole(0), help="Of this round alone.")
@_json_lines
def replay(folder: Path, run: str | None, number: int | None, json: bool) -> None:
    """Fold the contributions that were counted again, and compare what becomes of them, to the bit."""
    from hansa.cli.network import operator

    if not operator.replay(folder, run, number, json):
        raise click.exceptions.Exit(FAILED)


@network.command("doctor", cls=Command, short_help="Check a coordinator's or a device's folder.")
@click.argument("folder", metavar="[FOLDER]", type=FOLDER, required=False)
@_json
def doctor(folder: Path | None, json: bool) -> None:
    """Check what devices need: libraries, TLS 1.3; of a coordinator's folder its disk, port and keys; of a device's
    folder its certificate, and whether it reaches its coordinator."""
    from hansa.cli.network import checking

    if not checking.doctor(folder, json):
        raise click.exceptions.Exit(FAILED)


@click.command("serve", cls=Command, epilog=_help.AFTER_SERVE, short_help="Serve devices, and train with them.")
@_coordinator
@click.argument("config", metavar="[CONFIG]", type=PATH, required=False)
@_devices
@_least
@_over_select
@_deadline
@click.option("--page-port", metavar="N", type=whole(0), help="The live page's port.", show_default="any that is free")
@click.option("--allow-changes", is_flag=True, help="Go on with the run even if its file or its model has changed.")
@_json_lines
def serve(
    folder: Path,
    config: Path | None,
    devices: int,
    least: int,
    over_select: float,
    deadline: float,
    page_port: int | None,
    allow_changes: bool,
    json: bool,
) -> None:
    """Serve devices from a coordinator's FOLDER, and train with them as CONFIG says.

    CONFIG is a run's TOML file. Its [data] are examples that look like the devices': the coordinator takes their types
    and what is done with them before a round, and evaluates on those that are held out. Without it, devices can join,
    and train what operators submit.
    """
    from hansa.cli.network import serving

    asked = serving.asked_for(devices, least, over_select, deadline)
    end(serving.serve(folder, config, asked, page_port or 0, allow_changes, json))


@click.command(
    "join",
    cls=Command,
    epilog=_help.laid_out(options.AFTER_JOIN),
    help=options.JOIN_ABOUT,
    short_help=options.JOIN_SHORT,
)
@click.argument("invitation", metavar="[INVITATION]", required=False)
def join(invitation: str | None, **asked: Any) -> None:
    """Be a device; its options are added below."""
    from hansa.cli.network import joining

    joining.command(invitation, **asked)


_KINDS = {"path": PATH, "file": FILE, "folder": FOLDER}

for _each in options.JOIN:
    join.params.append(
        click.Option(
            [_each.flag, _each.name],
            metavar=_each.metavar or None,
            type=None if _each.kind == "flag" else _KINDS.get(_each.kind, click.STRING),
            is_flag=_each.kind == "flag",
            multiple=_each.kind == "texts",
            default=False if _each.kind == "flag" else _each.default,
            help=_each.help,
        )
    )
