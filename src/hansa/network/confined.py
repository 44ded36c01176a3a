"""A worker whose programs run in a process of its own, with limits and without network; the device has link and key.

XLA is not made for hostile programs. What such a one may do to its process ends there: what the process tells is read
as bytes of declared types, and nothing else of it is believed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hansa.compiler.artifacts.device import DeviceStage
from hansa.network import wire
from hansa.network.computing import read_frame, write_frame
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.orders import Order
from hansa.network.worker import CrashedError, Done, Worker

_MOST_TOLD = 2**20
"""Bytes of what the process says beside values."""
_UNKNOWN = 2**32
"""Bytes of kept values whose sizes are not declared."""


class ConfinedWorker:
    """Runs stages in another process, one at a time; begun at the first one, and again when it has ended.

    Args:
        memory: bytes that it may have beside what it begins with; None for any number.
        seconds: of a processor, for a task; None for any number.

    Attributes:
        has_network: whether the process could reach the network, where the system lets nobody take it away; None before
            it is begun.
        is_limited: whether the system sees to `memory`, likewise.
    """

    def __init__(self, memory: int | None = None, seconds: float | None = None) -> None:
        self._memory, self._seconds = memory, seconds
        self._reader, self._lock = Worker(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._held: Holdings | None = None
        self._begun = time.monotonic()
        self.has_network: bool | None = None
        self.is_limited: bool | None = None

    def stage(self, order: Order, program: Path) -> DeviceStage:
        """The stage of an order, which was fetched; see `Worker`. It is not compiled here."""
        return self._reader.stage(order, program)

    def seconds(self) -> float:
        """Seconds of a processor that have gone into tasks, for `progress`."""
        process, own = self._process, time.process_time()
        if process is None:
            return own
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return time.monotonic() - self._begun if process.poll() is None else own

    def work(
        self,
        order: Order,
        program: Path,
        sent: Sequence[Path],
        holdings: Holdings,
        kept: Callable[[int, int], Any],
        state: Sequence[Any] = (),
    ) -> Done:
        """What the client gives for an order; see `Worker`.

        Raises:
            RefusedError: if the order asks for what this client does not have, or takes longer than it may.
            CrashedError: if something goes wrong in computing.
        """
        stage = self.stage(order, program)
        needed = {tuple(source[1:3]): kept(*source[1:3]) for source in order.inputs if source[0] == "kept"}
        with self._lock:
            try:
                process = self._started()
                if self._held is not holdings:
                    self._say("hold", id(holdings), holdings)
                    self._held = holdings
                self._say("work", order, program, list(sent), id(holdings), needed, list(state), self._seconds)
                told = self._told()
                if "refused" in told:
                    raise RefusedError(str(told["refused"]))
                if "crashed" in told:
                    raise CrashedError(str(told["crashed"]))
                assert process.stdout is not None
                contribution = read_frame(process.stdout, order.most_bytes)
                keeps = read_frame(process.stdout, wire.most_bytes(wire.declared(stage.kept), _UNKNOWN))
                return Done([contribution], wire.decoded(stage.kept, keeps) if stage.kept else [], stage)
            except (EOFError, BrokenPipeError):
                raise self._ended() from None
            except (ValueError, TypeError, KeyError) as error:  # what it tells is none of what was asked for
                self._end()
                raise CrashedError(f"the process that computes has given what is no result: {error}") from None

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hansa.network.computing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the device
        )
        assert self._process.stdin is not None
        write_frame(self._process.stdin, pickle.dumps({"memory": self._memory}))
        told = self._told()
        self.has_network, self.is_limited = bool(told["has_network"]), bool(told["is_limited"])
        return self._process

    def _say(self, *asked: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        write_frame(self._process.stdin, pickle.dumps(asked, protocol=5))

    def _told(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        found = json.loads(read_frame(self._process.stdout, _MOST_TOLD))
        if not isinstance(found, dict):
            raise TypeError(f"{found!r:.100}")
        return found

    def _ended(self) -> Exception:
        """Why the process has ended in the middle of a task."""
        assert self._process is not None
        code = self._process.wait()
        self._end()
        if code < 0 and signal.Signals(-code) in _OF_TIME and self._seconds is not None:
            return RefusedError(f"the policy of this device gives a task {self._seconds:g} seconds of a processor")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        limit = "" if self._memory is None else f"; it may have {self._memory:,} bytes of memory"
        return CrashedError(f"the process that computes has ended with {name}{limit}")

    def _end(self) -> None:
        process, self._process, self._held = self._process, None, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # of what could not be written any more
                    pipe.close()
        process.kill()
        process.wait()


_OF_TIME = tuple(getattr(signal, name) for name in ("SIGXCPU",) if hasattr(signal, name))
