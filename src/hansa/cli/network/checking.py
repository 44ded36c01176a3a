"""`hansa network doctor`: whether what devices need is here, and whether a folder of either side can be used."""

from __future__ import annotations

import importlib.util
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa._lock import is_locked
from hansa._printing import in_a_line
from hansa.cli._doctor import Finding
from hansa.cli._output import print_json, say


def doctor(folder: Path | None, as_json: bool) -> bool:
    """Look at everything, print it, and say whether what is essential works."""
    found = [*_libraries(), _tls(), _confinement(), *([] if folder is None else _of_folder(folder))]
    works = all(finding.state != "broken" for finding in found)
    if as_json:
        print_json({"works": works, "findings": [asdict(finding) for finding in found]})
        return works
    for finding in found:
        say(f"{finding.state:8} {finding.name:14} {in_a_line(finding.detail)}")
    return works


def _libraries() -> Iterator[Finding]:
    for name, who in (("cryptography", "both sides"), ("aiohttp", "the coordinator")):
        if importlib.util.find_spec(name) is None:
            yield Finding(name, "broken", f"{who} cannot do without: pip install 'hansa[network]'")
        else:
            yield Finding(name, "ok", importlib.import_module(name).__version__)


def _tls() -> Finding:
    if not ssl.HAS_TLSv1_3:
        return Finding("tls", "broken", f"{ssl.OPENSSL_VERSION} does not have TLS 1.3")
    return Finding("tls", "ok", f"1.3, by {ssl.OPENSSL_VERSION}")


def _confinement() -> Finding:
    """Whether the system takes the network from a process; tried in one."""
    code = "from hansa.network import confinement as c; print(c.without_network(), c.limit_memory(2**30))"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("confinement", "missing", f"a device computes in a process of its own, and none begins: {error}")
    if done.stdout.split() == ["True", "True"]:
        return Finding("confinement", "ok", "programs run in a process without network, with limits")
    return Finding("confinement", "missing", "this system does not take the network from a process, or has no limits")


def _of_folder(folder: Path) -> Iterator[Finding]:
    from hansa.network.membership import membership
    from hansa.network.settings import SETTINGS

    if (folder / SETTINGS).exists():
        yield from _of_coordinator(folder)
    elif (member := membership(folder)) is not None:
        yield from _of_device(member)
    else:
        yield Finding("folder", "broken", f"{folder} is neither a coordinator's folder nor a device's")


def _of_coordinator(folder: Path) -> Iterator[Finding]:
    from hansa.network.durable import file_system, refuse_network_disks
    from hansa.network.network import AUTHORITY
    from hansa.network.settings import Settings, serving

    settings = Settings.read(folder)
    yield Finding("settings", "ok", f"devices reach it at {settings.url}")
    try:
        refuse_network_disks(folder)
        yield Finding("disk", "ok", f"{file_system(folder) or 'of this machine'}")
    except OSError as error:
        yield Finding("disk", "broken", str(error))
    if (folder / AUTHORITY / "authority.pem").exists():
        yield _certificate(folder / AUTHORITY / "authority.pem", "authority")
    if is_locked(folder):
        facts = serving(folder) or {}
        yield Finding("port", "ok", f"a coordinator serves at {facts.get('url', 'an address that it has not noted')}")
        return
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
            yield Finding("port", "ok", f"{settings.port} is free")
        except OSError as error:
            yield Finding("port", "broken", f"{settings.host}:{settings.port}: {error.strerror}")


def _of_device(member: Any) -> Iterator[Finding]:
    from hansa.network.link import TurnedAwayError, UnreachableError

    yield Finding("member", "ok", f"{member.name}, of client {member.client_id!r}, at {member.url}")
    yield _certificate(member.folder / "device.pem", "certificate")
    link = member.link()
    try:
        answer = link.send("GET", "/v1/preview", seconds=10.0)
        going_on = "nothing goes on there" if answer.status == 204 else "something goes on there"
        yield Finding("coordinator", "ok", f"it is reached, and knows this device; {going_on}")
    except (UnreachableError, TurnedAwayError) as error:
        yield Finding("coordinator", "broken", f"{error}")
    finally:
        link.close()


def _certificate(path: Path, name: str) -> Finding:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(path.read_bytes())
    left = (found.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400.0
    if left <= 0:
        return Finding(name, "broken", f"it has expired {-left:.0f} days ago, or the clock is wrong")
    return Finding(name, "ok", f"valid for {left:.0f} days more")
