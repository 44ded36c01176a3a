"""How long one device waits for another where they meet: XLA's collectives on CPUs.

On CPUs XLA ends the process, with SIGABRT, when a device has waited 40 seconds for another in a collective operation.
Work at clients may be more uneven than that. So either XLA is told to wait (`FLAGS`, which must be said before JAX
starts), or devices meet only after all have finished their clients: stages are then programs of their own, and a call
waits for each of them at the host. That takes a little longer, and the results have the same bits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import jax
import jaxlib

_YEARS = 10**8

FLAGS = {
    "xla_cpu_collective_call_terminate_timeout_seconds": _YEARS,
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": _YEARS,
}
"""Seconds after which XLA ends the process, and after which it writes that a device may be stuck."""


def flags_are_known() -> bool:
    """Whether this XLA has the flags: at one that it does not know it ends the process."""
    return bool(jaxlib.version.__version_info__ < (0, 13))


def meets_in_programs(devices: Sequence[jax.Device]) -> bool:
    """Whether devices may wait for each other inside a program that works on clients."""
    return len(devices) == 1 or devices[0].platform != "cpu" or _waits()


def _waits() -> bool:
    # What the variable says is what XLA has read, as `import hansa` changes it only before JAX starts.
    limits = re.findall(r"--xla_cpu_collective_call_terminate_timeout_seconds=(\d+)", os.environ.get("XLA_FLAGS", ""))
    return bool(limits) and int(limits[-1]) >= _YEARS
