"""What Hansa decides about JAX where the user has not: how it uses the CPU, and where compiled programs are kept.

Nothing that has been chosen already is changed, and nothing that has started is restarted.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any

import jax
from jax._src import xla_bridge  # the only place that says, without starting them, whether the backends have started

from hansa._cache import can_be_written, named_cache_dir
from hansa._memory import keep_freed
from hansa._warnings import warn
from hansa.runtimes import patience


@cache
def prepare() -> bool:
    """Makes the choices, once.

    Returns:
        Whether it was too late for some of them, as JAX had started before.
    """
    late = xla_bridge.backends_are_initialized()
    if not late:
        use_every_core()
        compile_sooner()
        wait_for_uneven_work()
        if _only_cpus():
            keep_freed()
    keep_compiled_programs()
    return late


def use_every_core() -> None:
    """One CPU device per core, unless the user has said how many."""
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and _config("jax_num_cpu_devices") <= 0:
        jax.config.update("jax_num_cpu_devices", _cores())


def compile_sooner() -> None:
    """LLVM's second level of optimisation for XLA's programs on CPUs, unless the user has chosen one.

    At the third, XLA's default, loops are unrolled further. Drawing the initial weights of a Keras layer then takes up
    to six times as long to compile, for the same weights, and no round and no `fit` that was measured runs faster.
    Where JAX has a plugin for other devices, the level, which is that of their programs too, stays as it is.
    """
    if _only_cpus():
        _add_flags(xla_backend_optimization_level=2)


def _only_cpus() -> bool:
    """Whether JAX has no plugin for other devices."""
    return importlib.util.find_spec("jax_plugins") is None


def wait_for_uneven_work() -> None:
    """XLA's devices on CPUs wait for each other however long it takes, unless the user has chosen how long.

    XLA ends the whole process when one device has waited 40 seconds for another in a reduction, and one large client
    is enough for that. The limit is the process's: it cannot be given with a program, nor after JAX has started.
    `hansa.runtimes.patience` says what becomes of rounds then.
    """
    if patience.flags_are_known():
        _add_flags(**patience.FLAGS)


def _add_flags(**flags: int) -> None:
    """Adds to `XLA_FLAGS` what it does not name. A value that does not begin with a hyphen names a file, and stays."""
    given = os.environ.get("XLA_FLAGS", "").strip()
    if not given or given.startswith("-"):
        added = [f"--{name}={value}" for name, value in flags.items() if name not in given]
        os.environ["XLA_FLAGS"] = " ".join(filter(None, [given, *added]))


def keep_compiled_programs() -> None:
    """XLA's programs in a cache on disk, so that a second process need not compile them, unless the user has one, or
    nothing can be written there (of which `hansa doctor` tells)."""
    if _config("jax_compilation_cache_dir") is None and _config("jax_enable_compilation_cache"):
        folder = named_cache_dir()
        if folder is not None and can_be_written(folder / "xla"):
            jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _config(name: str) -> Any:
    return getattr(jax.config, name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_of_few_devices(devices: int) -> None:
    """Says, where JAX had started before, that rounds could use more of this machine."""
    if devices < _cores():
        warn(
            f"JAX had started before hansa was imported, with {devices} CPU device(s) for {_cores()} cores; rounds are "
            "faster with one for each: import hansa before JAX is used",
        )
