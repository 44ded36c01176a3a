"""`hansa doctor`: whether this installation works, what it has, and where it looks for data."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from hansa._cache import can_be_written, named_cache_dir
from hansa._printing import in_a_line
from hansa.cli._output import print_json, say

_EXTRAS = {
    "tensorflow": "tensorflow",
    "plots": "matplotlib",
    "pandas": "pandas",
    "polars": "polars",
    "parquet": "pyarrow",
    "huggingface": "datasets",
    "images": "PIL",
    "hdf5": "h5py",
    "safetensors": "safetensors",
    "tensorboard": "tensorboardX",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "privacy": "dp_accounting",
    "ray": "ray",
}
"""The extras of Hansa, and the module that shows that one is there."""


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        name: what.
        state: `ok`; `missing`, which some need; or `broken`, without which nothing works.
        detail: what was found, and what to do about it.
    """

    name: str
    state: Literal["ok", "missing", "broken"]
    detail: str


def doctor(as_json: bool, ray: bool = False) -> bool:
    """Look at everything, print it, and say whether what is essential works.

    Args:
        as_json: whether to print JSON.
        ray: whether to start Ray, or join the cluster of `RAY_ADDRESS`, and look at a worker for each node.
    """
    distributions = metadata.packages_distributions()
    extras = [_extra(name, distributions) for name in _EXTRAS]
    found = [_python(), _jax(), _keras(), *extras, _data(), _cache(), _round(), *(_workers() if ray else [])]
    works = all(finding.state != "broken" for finding in found)
    if as_json:
        print_json({"works": works, "findings": [asdict(finding) for finding in found]})
        return works
    for finding in found:
        say(f"{finding.state:8} {finding.name:14} {in_a_line(finding.detail)}")
    say("", "Hansa works." if works else "Hansa does not work; see what is broken above.")
    return works


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _jax() -> Finding:
    try:
        import jax

        devices = ", ".join(str(device) for device in jax.devices())
        return Finding("jax", "ok", f"{jax.__version__}; devices: {devices}")
    except Exception as error:  # whatever is wrong with it is to be told
        return Finding("jax", "broken", f"{type(error).__name__}: {error}")


def _keras() -> Finding:
    try:
        import keras

        backend = keras.backend.backend()
    except Exception as error:
        return Finding("keras", "broken", f"{type(error).__name__}: {error}")
    advice = "" if backend in ("jax", "tensorflow") else "; models need another one: KERAS_BACKEND=jax"
    return Finding("keras", "broken" if advice else "ok", f"{keras.__version__}; backend {backend}{advice}")


def _extra(name: str, distributions: Mapping[str, Sequence[str]]) -> Finding:
    module = _EXTRAS[name]
    if importlib.util.find_spec(module) is None:
        return Finding(name, "missing", f"pip install 'hansa[{name}]'")
    packages = sorted(set(distributions.get(module, [])))
    return Finding(name, "ok", ", ".join(f"{package} {metadata.version(package)}" for package in packages))


def _data() -> Finding:
    from hansa.simulation._files import data_dir

    folder = data_dir()
    if folder is None:
        return Finding("data", "ok", "HANSA_DATA_DIR is not set; data sets are downloaded into the cache")
    if not folder.is_dir():
        return Finding("data", "missing", f"HANSA_DATA_DIR names {folder}, which is no folder")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return Finding("data", "ok", f"HANSA_DATA_DIR is {folder}; in it: {', '.join(names) or 'nothing'}")


def _cache() -> Finding:
    folder = named_cache_dir()
    if folder is None:
        return Finding("cache", "missing", "there is no home folder; name a folder that lasts: HANSA_CACHE_DIR")
    if not can_be_written(folder):
        return Finding("cache", "missing", f"{folder} cannot be written; name another: HANSA_CACHE_DIR")
    return Finding("cache", "ok", f"{folder}")


def _round() -> Finding:
    """A round of two clients, whose sum is known."""
    try:
        begin = time.perf_counter()
        total = _two_clients()
        seconds = time.perf_counter() - begin
    except Exception as error:
        return Finding("round", "broken", f"{type(error).__name__}: {error}")
    if total != 9.0:
        return Finding("round", "broken", f"a sum at two clients is {total}, and should be 9")
    return Finding("round", "ok", f"two clients, compiled and run in {seconds:.2f} s")


def _workers() -> list[Finding]:
    """Ray's start, and for each node of the cluster a worker, which is to be like this process, and a round."""
    import hansa
    from hansa.runtimes.ray.session import nodes

    try:
        begin = time.perf_counter()
        count = nodes()
        started = Finding("ray", "ok", f"{count} node{'s' * (count > 1)}, in {time.perf_counter() - begin:.1f} s")
        with hansa.RayRuntime(count, mixed="warn", patience=120) as runtime, hansa.runtime(runtime):
            found = [Finding("worker", *_like_here(worker)) for worker in runtime.describe()]
            total = _two_clients()
    except Exception as error:  # whatever is wrong with it is to be told
        return [Finding("ray", "broken", f"{type(error).__name__}: {error}")]
    state: Literal["ok", "broken"] = "ok" if total == 9.0 else "broken"
    return [started, *found, Finding("round on ray", state, f"a sum at two clients is {total:g}, and should be 9")]


def _like_here(worker: Mapping[str, Any]) -> tuple[Literal["ok", "broken"], str]:
    from hansa.runtimes.ray import machine

    differing = machine.differences(machine.described(), worker)
    has = ", ".join(f"{name} {worker[name]}" for name in ("node", "hansa", "jax", "python", "device"))
    return ("broken", f"{has}; {'; '.join(differing)}") if differing else ("ok", has)


def _two_clients() -> float:
    import jax.numpy as jnp
    import numpy as np

    import hansa

    square_sum = hansa.jax_computation(lambda values: jnp.sum(values * values), "float32[2]")

    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def one_round(clients: Any) -> Any:
        return hansa.federated_sum(hansa.federated_map(square_sum, clients))

    return float(one_round([np.array([1, 2], np.float32), np.array([2, 0], np.float32)]))
