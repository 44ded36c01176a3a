"""Measures the CPU seconds of each test and of the processes that it starts, which do not depend on what else runs.

    python -m pytest -n 2 --dist loadgroup -m 'not slow and not whole' -p tests.times

writes them to `test_times.txt`, the longest first. What takes more than 1.2 seconds goes into `tests/slow.txt`, unless
it is the one test of its part that `make test` should not be without, or into `tests/whole.txt`, if a test like it
with other values is in `make test` or `make test-slow`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

TIMES = Path("test_times.txt")


def cpu_seconds() -> float:
    """What this process and those that it waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def pytest_sessionstart() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        TIMES.unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    start = cpu_seconds()
    result = yield
    with TIMES.open("a", encoding="utf-8") as file:  # one line at once, so that workers may share the file
        file.write(f"{cpu_seconds() - start:8.3f} {item.nodeid.partition('@')[0]}\n")
    return result


def pytest_sessionfinish() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and TIMES.exists():
        TIMES.write_text("".join(sorted(TIMES.read_text("utf-8").splitlines(True), reverse=True)), "utf-8")
