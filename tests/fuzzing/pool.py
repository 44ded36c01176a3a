"""Tries many inputs in processes of their own, so that a crash, a hang or a growing process is seen, and named.

An *attempt* is a function at the top of a test module, `attempt(random, folder) -> outcome`. It makes one input with
`random` (in `folder`, if it is a file), gives it to Hansa, and says in a word what came: "refused", "read". The errors
that are right it catches itself; whatever it raises is a finding. Input number `n` of a seed is the same in each run,
so `replay` tries a finding again, in this process, under a debugger if you like.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hansa

Attempt = Callable[[random.Random, Path], str]

ROOT = Path(__file__).resolve().parents[2]


def fuzz(
    attempt: Attempt,
    inputs: int,
    *,
    seed: int = 0,
    processes: int = 1,
    seconds: float = 60.0,
    memory: int = 4 << 30,
    growth: int = 128 << 20,
) -> Counter[str]:
    """Tries `inputs` inputs, and counts the outcomes.

    Args:
        attempt: what makes and tries one input.
        inputs: how many.
        seed: of all inputs.
        processes: how many processes share the inputs.
        seconds: the longest that one input may take.
        memory: bytes of address space that a process may take beside what it has at the start.
        growth: bytes that a process may keep, from a third of its inputs to the last.

    Returns:
        How often each outcome came.

    Raises:
        AssertionError: names each input whose attempt raised, ended or stopped its process, and each process that grew.
    """
    parts = [range(first, inputs, processes) for first in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        work = [pool.submit(_part, attempt, part, seed, seconds, memory, growth) for part in parts]
        done = [each.result() for each in work]
    findings = [finding for _, found in done for finding in found]
    name = f"{attempt.__module__}:{attempt.__qualname__}"
    assert not findings, f"{len(findings)} findings in {inputs} inputs of {name}, seed {seed}:\n" + "\n".join(findings)
    return sum((outcomes for outcomes, _ in done), Counter())


def replay(attempt: Attempt, number: int, seed: int = 0) -> str:
    """The outcome of one input, tried in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return attempt(random.Random(f"{seed}/{number}"), Path(folder))


def _part(
    attempt: Attempt, numbers: range, seed: int, seconds: float, memory: int, growth: int
) -> tuple[Counter[str], list[str]]:
    """Tries these inputs in one process after another: a new one for those after a crash."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    remaining = list(numbers)
    while remaining and len(findings) < _ENOUGH:
        child = _Child(attempt, seed, memory)
        sizes = []
        try:
            while remaining and len(findings) < _ENOUGH:
                number = remaining.pop(0)
                answer = child.try_one(number, seconds)
                if "outcome" in answer:
                    outcomes[answer["outcome"]] += 1
                    sizes.append(answer["resident"])
                else:
                    findings.append(f"  input {number}: {answer['finding']}")
                    if child.ended:
                        break
        finally:
            child.close()
        third = len(sizes) // 3
        if third and sizes[-1] - max(sizes[: third + 1]) > growth:
            findings.append(f"  the process grew from {sizes[third] >> 20} to {sizes[-1] >> 20} MiB")
    return outcomes, findings


_ENOUGH = 10
"""After so many findings the rest of the inputs are not tried."""


class _Child:
    """A process that tries the inputs whose numbers it is told."""

    def __init__(self, attempt: Attempt, seed: int, memory: int) -> None:
        search = [str(ROOT), str(Path(hansa.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        command = [sys.executable, __file__, attempt.__module__, attempt.__qualname__, str(seed), str(memory)]
        self._process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._hung = False

    @property
    def ended(self) -> bool:
        """Whether there is nobody to try another input."""
        return self._process.poll() is not None

    def try_one(self, number: int, seconds: float) -> dict[str, Any]:
        """What became of an input: its outcome, or a finding."""
        assert self._process.stdin is not None and self._process.stdout is not None
        timer = threading.Timer(seconds + _START, self._stop)
        timer.start()
        try:
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if line:
            return dict(json.loads(line))
        code = self._process.wait()
        if self._hung:
            return {"finding": f"took more than {seconds + _START:.0f} s"}
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {"finding": f"the process ended, {how}: {self._last_words()}"}

    def _stop(self) -> None:
        self._hung = True
        self._process.kill()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-600:]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._errors.close()


_START = 60.0
"""Seconds for the imports of a process, on a busy machine."""


def _serve(module: str, name: str, seed: str, memory: int) -> None:
    """What a child does: reads numbers, tries their inputs, and writes a line about each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    attempt: Attempt = getattr(importlib.import_module(module), name)
    limited = False
    for line in sys.stdin:
        number = int(line)
        with tempfile.TemporaryDirectory() as folder:
            try:
                answer: dict[str, Any] = {"outcome": attempt(random.Random(f"{seed}/{number}"), Path(folder))}
                answer["resident"] = _resident()
            except BaseException as error:
                answer = {"finding": _told(error)}
        print(json.dumps(answer), file=answers, flush=True)
        if not limited:  # After the first input, when what is imported late is there, and XLA's threads.
            limited = True
            _limit(memory)


def _told(error: BaseException) -> str:
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {str(error)[:300]}\n{''.join(lines)[-1500:]}"


def _limit(memory: int) -> None:
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
    except (ImportError, OSError, ValueError):
        pass  # No such limit on this system; growth is seen there only by the system.


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # which was this folder, whose modules have names of the standard library's
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
