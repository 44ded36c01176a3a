"""Starts Ray, or joins a cluster that has been started, with what Hansa decides where the user has not."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from hansa._extras import require


def connect(address: str | None, cpus: int) -> bool:
    """Connects this process to a cluster.

    Args:
        address: of a cluster, as `ray.init` takes it; None for the one that `RAY_ADDRESS` names, or else one of this
            machine alone, which ends with this process.
        cpus: how many CPUs the workers take, for a cluster of this machine alone.

    Returns:
        Whether this call has done it, and not the user before.
    """
    ray: Any = require("ray", "ray", "hansa.RayRuntime")
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    alone = address in (None, "local") and not (address is None and os.environ.get("RAY_ADDRESS"))
    chosen: dict[str, Any] = {}
    if alone:
        address = "local"  # Ray would join a cluster that somebody else has started on this machine
        chosen = {"num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False}
        chosen["_node_ip_address"] = "127.0.0.1"
    with warnings.catch_warnings():
        # Ray forks to start its processes, which then become others: JAX's threads do them no harm.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **chosen)
    return True


def nodes() -> int:
    """How many nodes the cluster has; starts Ray, or joins it, if that has not been done."""
    connect(None, 1)
    ray: Any = require("ray", "ray", "hansa.RayRuntime")
    return sum(node["Alive"] for node in ray.nodes())


def environment() -> dict[str, str]:
    """The variables of workers: how this process's programs are compiled, and one CPU device for each worker."""
    names = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_DEFAULT_MATMUL_PRECISION", "HANSA_CACHE_DIR", "HANSA_DATA_DIR")
    found = {name: os.environ[name] for name in names if name in os.environ}
    if "xla_force_host_platform_device_count" not in found.get("XLA_FLAGS", ""):
        found["JAX_NUM_CPU_DEVICES"] = "1"
    return found
