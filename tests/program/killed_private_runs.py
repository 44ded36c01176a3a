"""A program that makes a private run in child processes, each of which kills itself (SIGKILL) at another moment:

    python killed_private_runs.py FOLDER

The run `undisturbed` is left alone. The run `killed` has its secrets. Its processes die before a charge is written, in
the middle of that, after it and before noise is drawn, and after the round, before its checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hansa.privacy.ledger import Ledger
from tests.program.private_run import averaging, run, seeded_like

ROUNDS, KILLED = 6, 3
MOMENTS = ("before", "within", "after", "round")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(number: int, moment: str) -> list[Callable[..., Any]]:
    """Makes this process kill itself at a moment of a round; gives the callbacks of the run."""
    write, system = Ledger._write, os.write

    def half(descriptor: int, data: bytes) -> int:
        system(descriptor, data[: len(data) // 2])
        die()
        return 0

    def written(ledger: Ledger, fields: Any) -> None:
        if fields["round"] == number and moment == "before":
            die()
        if fields["round"] == number and moment == "within":
            os.write = half
        write(ledger, fields)
        if fields["round"] == number and moment == "after":
            die()

    Ledger._write = written  # type: ignore[method-assign]
    return [lambda done, state, metrics: die() if done == number and moment == "round" else None]


def killed(folder: Path, number: int, moment: str | None) -> bool:
    """Begins the run, or goes on with it, in a child; whether the child was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            callbacks = [lambda done, state, metrics: None] if moment is None else die_at(number, moment)
            run(folder, ROUNDS, averaging(), callbacks=callbacks)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "a child failed"
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    assert not killed(root / "undisturbed", 0, None)
    seeded_like(root / "killed", root / "undisturbed")
    for moment in MOMENTS:
        print(moment, killed(root / "killed", KILLED, moment), flush=True)
    assert not killed(root / "killed", 0, None)
