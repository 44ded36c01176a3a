"""What importing Hansa decides where the user has not: Keras's backend, how JAX is set up, the default runtime.

It imports neither JAX nor Keras, so that `import hansa` is quick: JAX is set up when somebody imports it.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from hansa._after_import import after_import
from hansa.language import context


def prepare() -> None:
    """Makes the choices, or sees to it that they are made. Called once, by `import hansa`."""
    choose_keras_backend()
    after_import("jax", _prepare_jax)
    context.set_default_runtime(_default_runtime)


def choose_keras_backend() -> None:
    """JAX, unless the environment names a backend or Keras has been imported already."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")


def _prepare_jax() -> None:
    from hansa import _setup_jax

    _setup_jax.prepare()


@cache
def _default_runtime() -> context.Runtime:
    from hansa import _setup_jax
    from hansa.runtimes.inprocess.runtime import InProcessRuntime

    late = _setup_jax.prepare()
    runtime = InProcessRuntime()
    if late and runtime.devices[0].platform == "cpu":
        _setup_jax.warn_of_few_devices(len(runtime.devices))
    return runtime
