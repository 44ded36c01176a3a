"""A process with one or several devices: `python -m hansa.network.hosting SETTINGS.json`.

It imports what a device needs, and nothing of models, Keras or the command line. The settings are a list of devices,
each with its folder, an invitation, and the file of its client's arrays. Programs run in one more process, with limits
and without network, unless all say `"confined": false`.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.network.confined import ConfinedWorker
from hansa.network.device import Device
from hansa.network.holdings import Holdings
from hansa.network.link import UnreachableError, waiting
from hansa.network.membership import Invitation, Membership, join, membership
from hansa.network.worker import Worker

_WITH_PARENT = "--with-parent"


def joined(folder: Path, invitation: str, stopped: threading.Event) -> Membership | None:
    """The membership of a device, which asks until the coordinator is there; None if it is stopped before."""
    failed = 0
    if (member := membership(folder)) is not None:
        return member
    while not stopped.is_set():
        try:
            return join(folder, Invitation.from_text(invitation))
        except UnreachableError as error:
            stopped.wait(waiting(failed, error.seconds))
            failed += 1
    return None


def host(settings: Sequence[Mapping[str, Any]], stopped: threading.Event) -> None:
    """Runs devices until `stopped` is set, each in a thread of its own; one worker computes for all.

    Raises:
        Exception: what ends a device, of the first one.
    """
    is_confined = any(each.get("confined", True) for each in settings)
    worker, errors = ConfinedWorker() if is_confined else Worker(), []  # type: ConfinedWorker | Worker, list[BaseException]

    def run(each: Mapping[str, Any]) -> None:
        try:
            member = joined(Path(each["folder"]), each["invitation"], stopped)
            if member is not None:
                holdings = Holdings.read(Path(each["data"]))
                Device(member, holdings, worker, bool(each["unprotected"]), stopped=stopped).run()
        except BaseException as error:
            errors.append(error)
            stopped.set()

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in settings]
    for thread in threads:
        thread.start()
    stopped.wait()
    for thread in threads:
        thread.join(1.0)
    worker.close()
    if errors:
        raise errors[0]


def _end_with_input(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


def main(arguments: Sequence[str]) -> int:
    """Runs the devices of a file of settings until the process is told to end."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    if _WITH_PARENT in arguments:  # whose end is that of our standard input
        threading.Thread(target=_end_with_input, args=(stopped,), daemon=True).start()
    host(json.loads(Path(arguments[0]).read_text()), stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
