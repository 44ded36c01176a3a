"""`hansa join`: a device of one client, in this process, and what it prints."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._lock import InUseError
from hansa._printing import in_a_line
from hansa.cli._errors import Misuse
from hansa.cli._output import print_json, say
from hansa.cli.network.operator import client_of
from hansa.network.confined import ConfinedWorker
from hansa.network.device import Device, Preview
from hansa.network.device_log import lines_of
from hansa.network.link import TurnedAwayError, UnreachableError
from hansa.network.membership import Invitation, InvitationError, Membership, membership
from hansa.network.membership import join as enrol
from hansa.network.policy import Policy
from hansa.network.settings import NetworkError
from hansa.network.sources import Source


@dataclass(frozen=True)
class Joining:
    """What was asked for.

    Attributes:
        invitation: its text, or a file with it; None for a device that has joined.
        source: the data.
        folder: the device's.
        client: whose data it is, where the invitation does not say it.
        policy: the file of what is allowed.
        unprotected: whether the coordinator may see what nobody else is to see.
    """

    invitation: str | None
    source: Source
    folder: Path
    client: str | None
    policy: Path | None
    unprotected: bool


def command(
    invitation: str | None,
    *,
    data: Path | None,
    query: str | None,
    features: Sequence[str],
    types: Sequence[str],
    image_size: str | None,
    grey: bool,
    labels: str | None,
    folder: Path | str,
    client: str | None,
    policy: Path | None,
    unprotected: bool,
    dry_run: bool,
    log: bool,
    json: bool,
) -> None:
    """What is typed: see `hansa.cli.network.options.JOIN`."""
    where = Path(folder)
    if log:
        show_log(where, json)
        return
    read = source(data, query, features, types, image_size, grey, labels)
    join(Joining(invitation, read, where, client, policy, unprotected), dry_run, json)


def source(
    data: Path | None,
    query: str | None,
    features: Sequence[str],
    types: Sequence[str],
    image_size: str | None,
    greyscale: bool,
    labels: str | None,
) -> Source:
    """The data of the options.

    Raises:
        Misuse: if they are not as they should be.
    """
    if data is None:
        raise Misuse("say what the data is: --data PATH")
    columns: dict[str, Any] = {}
    for name, value in (_pair(each, "--feature x=height,weight") for each in features):
        columns[name] = value.split(",") if "," in value else value
    size = None
    if image_size is not None:
        height, _, width = image_size.partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
            raise Misuse(f"--image-size is such as 28x28; found {image_size!r}")
        size = int(height), int(width)
    return Source(
        data,
        columns,
        dict(_pair(each, "--type x=float32") for each in types),
        query,
        size,
        greyscale,
        None if labels is None else labels.split(","),
    )


def join(asked: Joining, dry_run: bool, as_json: bool) -> None:
    """Be a device, until Ctrl-C; or show what is asked for.

    Raises:
        NetworkError: if the coordinator does not take the device, or the device would refuse what goes on.
        SourceError, PolicyError: if the data or the policy is not as it should be.
    """
    policy = Policy() if asked.policy is None else Policy.read(asked.policy)
    holdings = asked.source.read()
    with _told_errors():
        member, worker = _member(asked), ConfinedWorker(policy.memory, policy.seconds_per_task)
        device = Device(
            member,
            holdings,
            worker,
            unprotected=asked.unprotected,
            policy=policy,
            told=(lambda line: print_json({"event": "task", **line})) if as_json else _tell,
        )
        try:
            preview = device.preview()
            if dry_run:
                _show(member, preview, as_json)
                return
            if preview is not None and preview.refused is not None:
                raise NetworkError(f"this device would refuse what goes on: {preview.refused}")
            if as_json:
                facts = {"name": member.name, "client_id": member.client_id, "url": member.url, "folder": asked.folder}
                print_json({"event": "joined", **facts})
            else:
                say(f"{member.name}, of client {in_a_line(member.client_id)}, asks {member.url} for tasks.")
        except BaseException:
            device.close()
            raise
        try:
            device.run()
        finally:
            worker.close()


def show_log(folder: Path, as_json: bool) -> None:
    """Print what a device has done, and what has left it."""
    if membership(folder) is None:
        raise NetworkError(f"{folder} is no device's folder; --folder says which is")
    lines = lines_of(folder)
    for line in lines:
        print_json(line) if as_json else _tell(line)
    if not as_json:
        say(f"{sum(line['bytes'] for line in lines):,} bytes have left in {len(lines)} tasks")


def _member(asked: Joining) -> Membership:
    found = membership(asked.folder)
    if found is not None:
        return found
    if asked.invitation is None:
        raise Misuse(f"{asked.folder} has not joined a network: an invitation is needed, as the operator gives it")
    text = asked.invitation
    if text.startswith("https://"):
        raise Misuse(
            "a URL does not say whom to believe: the invitation does, which `hansa network invite` prints; a device "
            "that has joined needs neither"
        )
    with contextlib.suppress(OSError):
        text = Path(text).read_text("utf-8")
    return enrol(asked.folder, Invitation.from_text(text), None if asked.client is None else client_of(asked.client))


@contextlib.contextmanager
def _told_errors() -> Any:
    """What keeps a device from its network is told in a line."""
    try:
        yield
    except (InvitationError, TurnedAwayError, UnreachableError) as error:
        raise NetworkError(str(error)) from error
    except InUseError as error:
        raise NetworkError(f"another process is this device: {error}") from error


def _show(member: Membership, preview: Preview | None, as_json: bool) -> None:
    if preview is None:
        if as_json:
            print_json({"task": None})
        else:
            say(f"{member.url} asks for nothing at the moment.")
        return
    order, stage = preview.order, preview.stage
    if as_json:
        print_json(
            {
                "task": {
                    "computation": order.computation,
                    "phase": order.key.text,
                    "program": order.program,
                    "signer": None if order.signature is None else order.signature[0],
                    "sent": [{"name": port.name, "type": port.type.compact()} for port in stage.broadcasts],
                    "own": [{"name": port.name, "type": port.type.compact()} for port in stage.inputs],
                    "gives": [
                        {"operation": part.operation, "name": port.name, "type": port.type.compact()}
                        for part in stage.contributions
                        for port in part.values
                    ],
                    "keeps": [{"name": port.name, "type": port.type.compact()} for port in stage.kept],
                    "bytes_down": order.program_size + sum(each.size for each in order.sent),
                    "bytes_up_at_most": order.most_bytes,
                    "cohort": order.cohort,
                    "plan": order.plan,
                },
                "refused": preview.refused,
            }
        )
        return
    signer = "nobody" if order.signature is None else order.signature[0]
    say(
        f"asked for   round {order.key.round} of {order.computation!r}, of {order.cohort} devices together",
        f"program     {order.program_size:,} bytes of StableHLO, {order.program[:16]}…, signed by {signer}",
    )
    for title, ports in (("it is sent", stage.broadcasts), ("it takes", stage.inputs), ("it keeps", stage.kept)):
        for port in ports:
            say(f"{title:11} {in_a_line(port.name)}: {port.type.compact()}")
    for part in stage.contributions:
        for port in part.values:
            say(f"{'it gives':11} {in_a_line(port.name)}: {port.type.compact()}, to a {part.operation}")
    say(f"at most     {order.most_bytes:,} bytes leave")
    say("It would be done." if preview.refused is None else f"It would be refused: {preview.refused}")


def _tell(line: dict[str, Any]) -> None:
    why = "" if line["reason"] is None else f": {in_a_line(line['reason'])[:300]}"
    say(
        f"{in_a_line(line['phase'])}  {in_a_line(line['computation'])}  {line['outcome']}{why}; {line['bytes']:,} "
        f"bytes left, {line['seconds']:.1f} s"
    )


def _pair(text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Misuse(f"{example} is how it is written; found {text!r}")
    return name, value
