"""What importing Hansa decides where the user has not: Keras's backend, JAX's CPU devices, the default runtime.

Nothing that has been chosen already is changed, and nothing that has started is restarted.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import jax
from jax._src import xla_bridge  # the only place that says, without starting them, whether the backends have started

from hansa._cache import cache_dir
from hansa.language import context
from hansa.runtime.inprocess import InProcessRuntime


def prepare() -> None:
    """Makes the choices. Called once, by `import hansa`."""
    choose_keras_backend()
    use_every_core()
    keep_compiled_programs()
    context.set_default_runtime(_default_runtime)


def choose_keras_backend() -> None:
    """JAX, unless the environment names a backend or Keras has been imported already."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")


def use_every_core() -> None:
    """One CPU device per core, unless the user has said how many, or JAX has started."""
    if xla_bridge.backends_are_initialized() or _config("jax_num_cpu_devices") > 0:
        return
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", cores)


def keep_compiled_programs() -> None:
    """XLA's programs in a cache on disk, so that a second process need not compile them, unless the user has one."""
    if _config("jax_compilation_cache_dir") is None and _config("jax_enable_compilation_cache"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _config(name: str) -> Any:
    return getattr(jax.config, name)


@cache
def _default_runtime() -> InProcessRuntime:
    return InProcessRuntime()
