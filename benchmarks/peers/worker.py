"""The harness's end of a worker: a process that is told what to do, and how long it took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Unsupported

PROCESSES = Path("/proc")


class Failed(Exception):
    """A worker has stopped, or does not answer."""


class Worker:
    """A process that holds one peer.

    Args:
        command: starts it.
        log: a file for what it prints.
        environment: its environment variables.
        timeout: seconds that it may take to answer a command.
    """

    def __init__(self, command: list[str], log: Path, environment: dict[str, str], timeout: float) -> None:
        self._timeout, self._log = timeout, log
        self.started = time.perf_counter()
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def command(self, do: str, **arguments: Any) -> tuple[dict[str, Any], float]:
        """The answer to a command, and the seconds it took.

        Raises:
            Unsupported: if the peer says that it does not do this task.
            Failed: if it fails, or does not answer in time.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        start = time.perf_counter()
        watch = threading.Timer(self._timeout, self._kill)
        watch.start()
        with suppress(BrokenPipeError):  # It has ended, and may have said why.
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        watch.cancel()
        took = time.perf_counter() - start
        if not line:
            late = took >= self._timeout
            why = f"no answer within {self._timeout:.0f} s" if late else f"stopped: {last_line(self._log)}"
            raise Failed(why)
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise Failed(answer["error"])
        return answer, took

    def round(self, number: int) -> tuple[float, float]:
        """The loss of a round, and its seconds."""
        answer, took = self.command("round", number=number)
        return answer["loss"], took

    def evaluate(self) -> tuple[float, float]:
        """The loss on the test set, and the seconds it took."""
        answer, took = self.command("evaluate")
        return answer["loss"], took

    def peak_memory(self) -> float | None:
        """MB: the peaks of the process and of all that it has started and that still run, added up; None where there is
        no /proc."""
        if not (PROCESSES / "self").exists():
            return None
        return sum(_status(pid).get("VmHWM", 0) for pid in family(self._process.pid)) / 1000

    def cpu_seconds(self) -> float:
        """The CPU time of the process so far, of all its threads.

        Raises:
            OSError: if there is no /proc.
        """
        fields = (PROCESSES / str(self._process.pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Ends the process: it has half a minute to stop by itself."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(30)
        self._kill()
        self._process.wait()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROCESSES.iterdir():
        if entry.name.isdigit():
            children.setdefault(_status(int(entry.name)).get("PPid", 0), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _status(pid: int) -> dict[str, int]:
    """Numbers of /proc/PID/status; none of a process that has ended."""
    try:
        lines = (PROCESSES / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) for name, _, value in fields if name in ("PPid", "VmHWM")}


def last_line(log: Path) -> str:
    """The last line of a file that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"nothing in {log.name}"
