"""The process that computes for a device: it has no network, its limits hold, and its end is its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
import hansa.network.wire
from hansa.network.confined import ConfinedWorker
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.orders import Order
from hansa.network.power import is_plugged
from hansa.network.programs import NetworkProgram, described
from hansa.network.tasks import PhaseKey
from hansa.network.worker import CrashedError, Worker

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system has no such limits")

TRIES = """
import ctypes, os, socket, threading
from hansa.network import confinement

assert confinement.without_network()

def refused(call):
    try:
        call()
    except PermissionError:
        return True
    return False

def tries():
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
        assert refused(lambda: socket.socket(family)), family

tries()
thread = threading.Thread(target=tries)
thread.start()
thread.join()
libc = ctypes.CDLL(None, use_errno=True)
for number in (425, 438):  # io_uring_setup, pidfd_getfd
    assert libc.syscall(number, 0, 0, 0) == -1 and ctypes.get_errno() == 1, number
assert libc.ptrace(0, 0, 0, 0) == -1 and ctypes.get_errno() == 1
child = os.fork()  # what it starts has none, either
if not child:
    tries()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
with open(__import__("sys").executable, "rb") as file:  # files are as they were
    assert file.read(1)
print("all refused")
"""


def ran(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)


@linux
def test_the_kernel_refuses_sockets_and_other_processes_to_it_and_all_that_it_starts():
    done = ran(TRIES)
    assert done.stdout == "all refused\n", done.stderr


@linux
def test_limits_of_memory_and_seconds_hold():
    begin = "from hansa.network import confinement as c\n"
    done = ran(begin + "assert c.limit_memory(10**8)\nbytearray(5 * 10**7)\nbytearray(3 * 10**8)")
    assert done.stderr.strip().endswith("MemoryError"), done.stderr
    done = ran(
        begin + "assert c.limit_seconds(1)\nc.limit_seconds(None)\nassert c.limit_seconds(0.5)\nwhile True: pass"
    )
    assert done.returncode == -signal.SIGXCPU


@hansa.federated_computation("{float32[4]}@CLIENTS", "float32@SERVER")
def shifted(readings, shift):
    moved = hansa.jax_computation(lambda reading, shift: jnp.sin(reading) - shift, "float32[4]", "float32")
    return hansa.federated_mean(hansa.federated_map(moved, [readings, hansa.federated_broadcast(shift)]))


@hansa.federated_computation("{int32}@CLIENTS")
def endless(start):
    turning = hansa.jax_computation(
        lambda start: jax.lax.while_loop(lambda x: x >= 0, lambda x: (x * 3 + 1) & 0xFFFF, start), "int32"
    )
    return hansa.federated_sum(hansa.federated_map(turning, start))


@hansa.federated_computation("{int32}@CLIENTS")
def greedy(start):
    def most(start):
        wide = jnp.arange(2**28, dtype=jnp.int32) + start
        return jnp.sort(wide)[start]

    return hansa.federated_sum(hansa.federated_map(hansa.jax_computation(most, "int32"), start))


def asked(folder, computation, *values):
    """An order for the first stage of a computation, its program, and the files of what is sent."""
    (work,) = NetworkProgram(computation).clients
    program, files = folder / f"{computation.name}.hansa", []
    program.write_bytes(work.file)
    for (port, _), value in zip(work.sent, values, strict=True):
        files.append(folder / f"{computation.name}-{len(files)}.st")
        files[-1].write_bytes(b"".join(hansa.network.wire.encoded([port], [value])))
    order = Order(
        "t", PhaseKey("run", 1, 1, "round", 0, 0), computation.name, computation.name, len(work.file),
        tuple((port.name, "", 0) for port, _ in work.sent), tuple(map(tuple, described(work.inputs))), "ann", 7, None,
        work.boundary.most_bytes, 60.0, 60.0, False, cohort=1,
    )  # fmt: skip
    return order, program, files


def nothing(stage, index):
    raise AssertionError


@linux
@pytest.mark.slow
def test_it_gives_the_bits_that_this_process_gives_and_what_it_does_to_itself_stays_there(tmp_path):
    held = Holdings({"readings": np.array([1, 2, 3, 4], np.float32)})
    wanted = asked(tmp_path, shifted, np.float32(0.25))
    worker = ConfinedWorker(memory=2**29, seconds=3.0)
    try:
        expected = Worker().work(*wanted, held, nothing)
        found = worker.work(*wanted, held, nothing)
        assert b"".join(map(bytes, found.contribution)) == b"".join(map(bytes, expected.contribution))
        assert (worker.has_network, worker.is_limited) == (False, True) and worker.seconds() > 0.1
        process = worker._process
        with pytest.raises(RefusedError, match="there is no 'readings'"):
            worker.work(*wanted, Holdings({"x": np.float32(1), "y": np.float32(1)}), nothing)
        number = Holdings({"start": np.int32(5)})
        with pytest.raises(CrashedError, match=r"(?i)memory|SIGABRT|SIGSEGV"):
            worker.work(*asked(tmp_path, greedy), number, nothing)
        with pytest.raises(RefusedError, match="gives a task 3 seconds of a processor"):
            worker.work(*asked(tmp_path, endless), number, nothing)
        assert worker._process is not process  # begun again, with the data
        again = worker.work(*wanted, held, nothing)
        assert again.contribution == found.contribution
        worker._process.kill()
        worker._process.wait()
        assert worker.work(*wanted, held, nothing).contribution == found.contribution
    finally:
        worker.close()
    assert not Path(f"/proc/{process.pid}").exists()


class Liar(ConfinedWorker):
    """One whose process has been taken over. Of frames of five bytes or more it says that they are ever longer."""

    def __init__(self, *frames: bytes) -> None:
        super().__init__()
        code = f"import sys\nfor frame in {frames!r}:\n    size = len(frame) if len(frame) < 5 else 10 ** len(frame)\n"
        code += "    sys.stdout.buffer.write(size.to_bytes(8, 'little') + frame)\nsys.stdout.flush()\nsys.stdin.read()"
        self._liar = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)

    def _started(self):
        self._process = self._liar
        return self._liar


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ((b"what",), "has given what is no result"),
        ((b"[]",), "has given what is no result"),
        ((b"much more",), "has given what is no result: 1000000000 bytes are more than"),
        ((b"{}", b"much more"), "1000000000 bytes are more than"),
        ((b"{}", b"x", b"kept"), None),
    ],
)
def test_what_a_process_says_that_was_taken_over_is_not_believed(tmp_path, frames, message):
    """Nothing of it is unpickled; a contribution of its choice is the coordinator's to look at."""
    wanted = asked(tmp_path, shifted, np.float32(0.25))
    liar = Liar(*frames)
    try:
        if message is None:
            assert liar.work(*wanted, Holdings({}), nothing).contribution == [b"x"]
        else:
            with pytest.raises(CrashedError, match=message):
                liar.work(*wanted, Holdings({}), nothing)
    finally:
        liar.close()


def test_power_is_what_the_system_says_of_its_supplies(tmp_path):
    def supply(name, **files):
        (tmp_path / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (tmp_path / name / file).write_text(f"{text}\n")

    if sys.platform in ("darwin", "win32"):
        pytest.skip("the system says it in another way")
    assert is_plugged(tmp_path)  # no battery
    supply("hidpp_battery_0", type="Battery", scope="Device")  # of a mouse
    assert is_plugged(tmp_path)
    supply("BAT0", type="Battery")
    assert not is_plugged(tmp_path)
    supply("AC", type="Mains", online=0)
    assert not is_plugged(tmp_path)
    supply("AC", type="Mains", online=1)
    assert is_plugged(tmp_path)
