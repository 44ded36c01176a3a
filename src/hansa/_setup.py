"""What importing Hansa decides where the user has not: Keras's backend, how JAX uses the CPU, the default runtime.

Nothing that has been chosen already is changed, and nothing that has started is restarted.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from functools import cache, partial
from typing import Any

import jax
from jax._src import xla_bridge  # the only place that says, without starting them, whether the backends have started

from hansa._cache import cache_dir
from hansa.language import context
from hansa.runtimes.inprocess import InProcessRuntime


def prepare() -> None:
    """Makes the choices. Called once, by `import hansa`."""
    choose_keras_backend()
    late = xla_bridge.backends_are_initialized()
    if not late:
        use_every_core()
        compile_sooner()
    keep_compiled_programs()
    context.set_default_runtime(partial(_default_runtime, late))


def choose_keras_backend() -> None:
    """JAX, unless the environment names a backend or Keras has been imported already."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")


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
    flags = os.environ.get("XLA_FLAGS", "").strip()
    in_file = flags and not flags.startswith("-")
    chosen = in_file or "xla_backend_optimization_level" in flags
    if not chosen and importlib.util.find_spec("jax_plugins") is None:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=2".lstrip()


def keep_compiled_programs() -> None:
    """XLA's programs in a cache on disk, so that a second process need not compile them, unless the user has one."""
    if _config("jax_compilation_cache_dir") is None and _config("jax_enable_compilation_cache"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _config(name: str) -> Any:
    return getattr(jax.config, name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _default_runtime(late: bool) -> InProcessRuntime:
    runtime = InProcessRuntime()
    if late and runtime.devices[0].platform == "cpu" and len(runtime.devices) < _cores():
        warnings.warn(
            f"JAX had started before hansa was imported, with {len(runtime.devices)} CPU device(s) for {_cores()} "
            "cores; rounds are "
            "faster with one for each: import hansa before JAX is used",
            stacklevel=2,
        )
    return runtime
