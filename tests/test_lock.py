"""One process writes a run, others can look, and the lock ends with its process, whatever that has forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import hansa
from hansa._lock import InUseError, Lock, is_locked


def test_a_lock_is_seen_and_kept_from_others_until_it_is_released(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    lock = Lock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(InUseError, match=f"process {os.getpid()} on "):
        Lock(tmp_path)
    assert is_locked(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
    Lock(tmp_path).release()


def test_a_look_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    """Thousands of looks beside hundreds of runs that begin, none of which finds the lock taken."""
    Lock(tmp_path).release()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_locked(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            Lock(tmp_path).release()
    finally:
        done.set()
        for looker in lookers:
            looker.join()


def test_a_look_changes_nothing_and_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("somebody")
    before = (tmp_path / "lock").stat().st_mtime_ns
    assert not is_locked(tmp_path)
    assert (tmp_path / "lock").read_text() == "somebody" and (tmp_path / "lock").stat().st_mtime_ns == before
    (tmp_path / "lock").unlink()
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        make(tmp_path / "lock")
        assert not is_locked(tmp_path)
        os.rename(tmp_path / "lock", tmp_path / f"was-{make}".replace("/", "_"))


def test_a_link_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "precious")
    with pytest.warns(UserWarning, match=r"lock was no file; it is lock\.damaged now"):
        Lock(tmp_path / "run").release()
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_a_file_says_of_its_owner_is_not_printed_as_it_is(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    (tmp_path / "lock").write_text("\x1b]0;a title\x07" + "x" * 10_000)
    with pytest.raises(InUseError, match=r"^another process$"):
        Lock(tmp_path)
    lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked")
def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from hansa._lock import Lock
lock = Lock(Path({str(tmp_path)!r}))
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(hansa.__file__).resolve().parents[1])}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert is_locked(tmp_path)
            with pytest.raises(InUseError, match=f"process {parent.pid} on"):
                Lock(tmp_path)
            parent.kill()
            parent.wait()
            os.kill(child, 0)  # it lives
            begin = time.monotonic()
            while is_locked(tmp_path) and time.monotonic() - begin < 5:
                time.sleep(0.01)
            Lock(tmp_path).release()
        finally:
            os.kill(child, signal.SIGKILL)
