"""What all tests share: Hypothesis's profile, and where the data is."""

from __future__ import annotations

import gc
import os
import signal
from importlib.metadata import version
from pathlib import Path

# Compiled programs of tests run for milliseconds, and XLA takes seconds to optimise them. JAX after 0.10 has no other
# way to make kernels than its emitters, and stops at a flag that it does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""),
)

import pytest
from hypothesis import HealthCheck, settings

from hansa import _tracebacks
from hansa.simulation import ImageData, load_mnist

# isort: split
import jax  # after Hansa, which sets it up

# A shell starts what is to run in the background with Ctrl-C ignored; tests of Ctrl-C are to run there, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# At O0 a program is compiled sooner than it is read from the cache on disk. Processes that tests start have the cache.
jax.config.update("jax_enable_compilation_cache", False)

# JAX keeps what it has traced, and Python's collector would go through millions of objects again and again.
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# Who looks at a test that fails wants to see where.
_tracebacks.folding = False

# Tests that were measured to take long (`tests/times.py`), beside those that are marked where they stand.
MARKED = {
    mark: frozenset(Path(__file__).with_name(f"{mark}.txt").read_text("utf-8").splitlines())
    for mark in ("slow", "whole")
}

# No deadlines: an example's time depends on what else the machine does, and on JAX's first calls. `make test-all` tries
# more examples.
settings.register_profile("hansa", deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("hansa"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("hansa"), max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "hansa")


@pytest.hookimpl(tryfirst=True)  # before those that are marked are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, tests in MARKED.items():
            if item.nodeid in tests:
                item.add_marker(mark)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the data sets; skips where `HANSA_DATA_DIR` does not name one."""
    folder = os.environ.get("HANSA_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HANSA_DATA_DIR names no folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> ImageData:
    """MNIST; skips where it is not in `HANSA_DATA_DIR`."""
    if not list(data_dir.glob("**/train-images-idx3-ubyte.gz")):
        pytest.skip(f"there is no MNIST in HANSA_DATA_DIR, {data_dir}")
    return load_mnist()
