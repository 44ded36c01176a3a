"""What a process runs on, as far as results or messages between processes depend on it."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSIONS = ("hansa", "jax", "jaxlib", "numpy", "python")
"""What must be the same everywhere: programs are read by it, and compiled."""

KINDS = ("platform", "device", "cpu")
"""What the last bits of results depend on."""


def described() -> dict[str, Any]:
    """This process: versions, and the kinds of its device and its CPU."""
    import jax
    import jaxlib
    import numpy as np

    hansa = importlib.import_module("hansa")

    device = jax.devices()[0]
    return {
        "hansa": hansa.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "platform": device.platform,
        "device": device.device_kind,
        "cpu": _cpu() if device.platform == "cpu" else "any",
        "node": platform.node(),
    }


def differences(driver: Mapping[str, Any], worker: Mapping[str, Any]) -> list[str]:
    """In what a worker differs from the driver; the driver's device does not count beside GPUs."""
    names = VERSIONS if worker["platform"] != driver["platform"] else (*VERSIONS, *KINDS)
    return _differing(driver, worker, names, "the driver")


def unlike(first: Mapping[str, Any], worker: Mapping[str, Any]) -> list[str]:
    """In what the kinds of two workers differ."""
    return _differing(first, worker, KINDS, "another worker")


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, ...], whose: str) -> list[str]:
    return [f"{name} {b[name]}, where {whose} has {a[name]}" for name in names if a[name] != b[name]]


def _cpu() -> str:
    """The kind of CPU, and the sets of instructions by which XLA rounds in another way."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in lines[:60])
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    known = ("fma", "avx2", "avx512f", "avx512_bf16", "amx_tile")
    flags = [flag for flag in known if flag in fields.get("flags", "").split()]
    return " ".join([platform.machine(), *flags])
