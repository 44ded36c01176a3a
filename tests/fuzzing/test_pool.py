"""The pool sees what it is there to see."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.fuzzing.pool import fuzz, replay

KEPT: list[bytes] = []


def harmless(random: Random, folder: Path) -> str:
    print("what is printed disturbs nobody")
    (folder / "input").write_bytes(random.randbytes(8))
    return "even" if random.randrange(2) else "odd"


def dying(random: Random, folder: Path) -> str:
    if random.randrange(4) == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "alive"


def raising(random: Random, folder: Path) -> str:
    if random.randrange(4) == 0:
        raise KeyError("of the reader")
    return "alive"


def hanging(random: Random, folder: Path) -> str:
    time.sleep(600)
    return "awake"


def growing(random: Random, folder: Path) -> str:
    KEPT.append(random.randbytes(8 << 20))
    return "kept"


def greedy(random: Random, folder: Path) -> str:
    return "had" if random.randrange(9) < 7 or bytes(3 << 30) else ""


def test_outcomes_are_counted_and_the_same_in_every_run() -> None:
    first, again = fuzz(harmless, 40), fuzz(harmless, 40, processes=2)
    assert first == again and first.total() == 40 and set(first) == {"even", "odd"}
    assert replay(harmless, 3) in first


@pytest.mark.parametrize(("attempt", "told"), [(dying, "SIGSEGV"), (raising, "KeyError: 'of the reader'")])
def test_what_ends_an_attempt_is_found_and_the_rest_is_tried(attempt, told: str) -> None:
    with pytest.raises(AssertionError, match=told) as caught:
        fuzz(attempt, 30)
    assert str(caught.value).count("  input ") >= 2


def test_a_process_that_grows_is_found() -> None:
    with pytest.raises(AssertionError, match="the process grew from"):
        fuzz(growing, 12, growth=32 << 20)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit needs Linux")
def test_an_attempt_that_asks_for_too_much_memory_is_found() -> None:
    with pytest.raises(AssertionError, match="MemoryError"):
        fuzz(greedy, 12, memory=1 << 30)


def test_an_attempt_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzzing.pool._START", 1.0)
    with pytest.raises(AssertionError, match="took more than 2 s"):
        fuzz(hanging, 1, seconds=1.0)
