"""`hansa network …`: what an operator does with a coordinator's folder, and how it is printed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hansa._printing import in_a_line
from hansa.cli._errors import Misuse
from hansa.cli._output import print_json, say
from hansa.network.authority import Authority
from hansa.network.durable import Disk
from hansa.network.identity import write_private
from hansa.network.membership import Invitation
from hansa.network.network import AUTHORITY
from hansa.network.operating import Operator
from hansa.network.operating import init as make
from hansa.network.registry import Device
from hansa.network.replaying import replay as folded_again
from hansa.network.settings import Settings
from hansa.network.verifying import verify as looked_at
from hansa.types.identities import ClientId


def init(folder: Path, host: str, port: int, names: Sequence[str], proxy: str, as_json: bool) -> None:
    """Make a coordinator's folder, and say what is in it."""
    try:
        settings = Settings(host, port, tuple(names), proxy=proxy)
    except ValueError as error:
        raise Misuse(str(error)) from None
    authority = make(folder, settings)
    if as_json:
        print_json({"folder": folder, "signer": authority.signer.name})
        return
    say(
        f"{folder} is a coordinator's folder now. In it:",
        "  network.toml   where it listens, and what it keeps",
        "  ledger.db      who has joined, and how each task has ended",
        "  authority      the keys of the network: nobody else may read them, and whoever has them is the network",
        f"Programs are signed by {authority.signer.name}.",
        "",
        f"hansa network invite {folder} invites a device; hansa serve {folder} serves it.",
    )


def invite(folder: Path, client: str | None, uses: int, days: float, note: str, to: Path | None, as_json: bool) -> None:
    """Print an invitation, or write it to a file."""
    if client is not None and uses > 1:
        raise Misuse("a token for one client enrols one device: leave out --uses, or leave out --client")
    with Operator(folder) as operator:
        invitation = operator.invite(None if client is None else client_of(client), uses, days, note)
    _given(invitation, {"client_id": client, "uses": uses, "days": days}, to, as_json)


def invite_operator(
    folder: Path, who: str, client: str | None, uses: int, days: float, to: Path | None, as_json: bool
) -> None:
    """Print an invitation of an operator, or write it to a file."""
    if client is not None or uses > 1:
        raise Misuse("--operator invites one person: leave out --client and --uses")
    with Operator(folder) as operator:
        invitation = operator.invite_operator(who, days)
    _given(invitation, {"operator": who, "days": days}, to, as_json)


def _given(invitation: Invitation, facts: dict[str, Any], to: Path | None, as_json: bool) -> None:
    text = invitation.to_text()
    if to is not None:
        write_private(to, (text + "\n").encode(), Disk())
    facts = {"url": invitation.url, **facts}
    if as_json:
        print_json({**facts, "invitation": text if to is None else None, "file": to})
    else:
        say(text if to is None else to)


def status(folder: Path, as_json: bool) -> None:
    """Print how the network is."""
    with Operator(folder) as operator:
        found = operator.status()
    found["signer"] = Authority(folder / AUTHORITY, Disk()).signer.name
    if as_json:
        print_json(found)
        return
    devices = found["devices"]
    say(
        f"serving      {found['url'] or 'somewhere' if found['serving'] else 'nobody does'}",
        *([f"page         {found['page']}"] if found["page"] else []),
        f"signer       {found['signer']}",
        f"devices      {devices['enrolled']} enrolled, {devices['heard_of_in_the_last_minute']} heard of in the last "
        f"minute, {devices['quarantined']} in quarantine, {devices['revoked']} revoked",
        f"invitations  {len(found['invitations'])} can still be used",
        *([f"operators    {in_a_line(', '.join(found['operators']))}"] if found["operators"] else []),
        *(f"submitted    {each['name']}, {each['status']}" for each in found["submitted"]),
    )
    for run in found["runs"]:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in run["outcomes"].items() if count)
        say(f"run          {in_a_line(run['run'])}, round {run['round']}, {_ago(run['at'])}: {outcomes}")
    for phase in found["open"]:
        say(
            f"now          round {phase['round']} of {in_a_line(phase['run'])}: {phase['asked']} asked, "
            f"{phase['taken']} have it, {phase['ended']} have ended, {phase['counted']} counted of "
            f"{phase['target']}; {phase['elapsed']:.0f} s of {phase['deadline']:.0f} s"
        )


def devices(folder: Path, as_json: bool) -> None:
    """List the devices."""
    with Operator(folder) as operator:
        found = operator.devices()
    if as_json:
        for device in found:
            print_json({**asdict(device), "state": _state(device)})
        return
    for device in found:
        seen = "never heard of" if device.seen is None else f"heard of {_ago(device.seen)}"
        say(f"{device.name}  {_state(device):11}  {in_a_line(device.client_id)}, {seen}")
    if not found:
        say("no device has joined")


def revoke(folder: Path, text: str, as_json: bool) -> None:
    """Shut a device out, or an operator."""
    with Operator(folder) as operator:
        person = operator.revoke_operator(text)
        if person is not None:
            if as_json:
                print_json({"operator": person.name, "who": person.who, "state": "revoked"})
            else:
                say(f"the operator {in_a_line(person.who)} is revoked")
            return
        device = operator.named(text)
        operator.revoke(device)
    _told(device, "revoked", as_json)


def release(folder: Path, text: str, as_json: bool) -> None:
    """Ask a device again."""
    with Operator(folder) as operator:
        device = operator.named(text)
        operator.release(device)
    _told(device, "released", as_json)


def verify(folder: Path, as_json: bool) -> bool:
    """Print what was looked at, and say whether it is all as it should be."""
    found = looked_at(folder)
    is_good = all(finding.state == "ok" for finding in found)
    if as_json:
        print_json({"is_good": is_good, "findings": [asdict(finding) for finding in found]})
        return is_good
    for finding in found:
        say(f"{finding.state:7} {finding.what:14} {in_a_line(finding.detail)}")
    say("", "All is as it was written." if is_good else "Something is not as it was written; see above.")
    return is_good


def replay(folder: Path, run: str | None, number: int | None, as_json: bool) -> bool:
    """Fold again what is kept, print what becomes of it, and say whether it is the same."""
    found = []
    for each in folded_again(folder, run, number):
        found.append(each)
        if as_json:
            print_json({**asdict(each), "phase": each.key.text, "is_same": each.is_same})
            continue
        told = "the same" if each.is_same else each.problem or f"ANOTHER: {each.now}"
        say(f"{each.key.text}  {each.counted} contributions  {each.before[:16]}…  {in_a_line(told)}")
    if not found and not as_json:
        say("nothing is kept that could be folded again")
    return all(each.is_same for each in found)


def client_of(text: str) -> ClientId:
    """A client's id of what was typed: an integer as Python writes it is one, and all else a text."""
    try:
        return int(text) if str(int(text)) == text else text
    except ValueError:
        return text


def _told(device: Device, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"device": device.name, "client_id": device.client_id, "state": what})
    else:
        say(f"{device.name}, of client {in_a_line(device.client_id)}, is {what}")


def _state(device: Device) -> str:
    return "revoked" if device.revoked else "quarantine" if device.quarantined else "enrolled"


def _ago(at: float) -> str:
    seconds: Any = max(0.0, time.time() - at)
    for size, name in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' * (count > 1)} ago"
    return f"{seconds:.0f} s ago"
