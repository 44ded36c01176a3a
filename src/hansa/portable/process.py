"""Has modules looked at by a process of its own, in which MLIR may crash, hang or take memory, and harms nobody."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hansa.portable import child
from hansa.portable.check import Signature
from hansa.portable.tensors import Refused, tensor

_PATIENCE, _BYTES_A_SECOND = 300.0, 2_000
"""Seconds for the process to end, and one more for so many bytes; where the system can, it limits itself to fewer."""

_KNOWN: dict[bytes, Signature] = {}
_MOST_KNOWN = 10_000
"""Modules by digest that this process has written or had looked at, which need not be looked at again."""


def remember(module: bytes, signature: Signature) -> None:
    """Takes a module as looked at."""
    if len(_KNOWN) < _MOST_KNOWN:
        _KNOWN[_digest(module)] = signature


class Inspection:
    """Modules that are being looked at.

    Args:
        modules: in StableHLO's portable bytecode.
    """

    def __init__(self, modules: Sequence[bytes]) -> None:
        self._modules = modules
        self._new = list({_digest(module): module for module in modules if _digest(module) not in _KNOWN}.values())
        self._answers: Future[subprocess.CompletedProcess[bytes]] | None = None
        if self._new:
            pool = ThreadPoolExecutor(1)
            self._answers = pool.submit(_ask, self._new)
            pool.shutdown(wait=False)

    def signatures(self) -> list[Signature]:
        """What each module takes and gives.

        Raises:
            Refused: if one of them is damaged or has what no file may have; the message names it.
            OSError: if no process can be started.
        """
        if self._answers is not None:
            done = self._answers.result()
            lines = done.stdout.splitlines()
            for module, line in zip(self._new, lines, strict=False):
                remember(module, _signature(json.loads(line)))
            if len(lines) < len(self._new):
                raise Refused(f"a function that MLIR cannot read: {_ending(done)}")
            self._answers = None
        return [_KNOWN[_digest(module)] for module in self._modules]


def _ask(modules: Sequence[bytes]) -> subprocess.CompletedProcess[bytes]:
    told = json.dumps({"path": sys.path, "lengths": [len(module) for module in modules]})
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("there is no interpreter of Python by itself")
    command = [sys.executable, "-I", "-S", str(Path(child.__file__))]
    given = told.encode() + b"\n" + b"".join(modules)
    seconds = _PATIENCE + len(given) // _BYTES_A_SECOND
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, error.stdout or b"", b"it takes too long")


def _signature(found: dict[str, Any]) -> Signature:
    if "refused" in found:
        raise Refused(found["refused"])
    if "damaged" in found:
        raise Refused(f"a function that MLIR cannot read: {found['damaged']}")
    arguments, results = (tuple(map(tensor, found[name])) for name in ("arguments", "results"))
    return Signature(arguments, results, found["is_open"])


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return "it takes too long" if name in ("SIGXCPU", "SIGKILL") else f"it ends the process with {name}"
    last = done.stderr.decode(errors="replace").strip().splitlines()
    return last[-1][:300] if last else "it says nothing"


def _digest(module: bytes) -> bytes:
    return hashlib.sha256(module).digest()
