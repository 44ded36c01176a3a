"""Files of saved computations in which a function is another one, with right checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

import hansa
from hansa.portable import process

MATRIX = jax.ShapeDtypeStruct((4, 4), np.float32)

ALL = export.DisabledSafetyCheck.custom_call("ALL")


@hansa.federated_computation("{float32[4,4]}@CLIENTS")
def doubled(value):
    return hansa.federated_sum(hansa.federated_map(hansa.jax_computation(lambda x: x * 2.0), value))


@hansa.federated_computation("{float32[?,3,3]}@CLIENTS")
def batches(value):
    each = hansa.federated_map(hansa.jax_computation(lambda x: (x * 2.0).sum(0)), value)
    return hansa.federated_sum(each)


def exported(function: Callable[..., Any], *arguments: Any, change: Callable[[str], str] = lambda text: text) -> Any:
    """A function of arrays to a list of arrays, exported for CPUs, with its StableHLO changed as a text."""
    with jax.enable_x64(True):
        found = export.export(jax.jit(function), platforms=("cpu",), disabled_checks=[ALL])(*(arguments or (MATRIX,)))
    return changed(found, change)


def changed(found: Any, change: Callable[[str], str]) -> Any:
    """What was exported with its StableHLO changed as a text."""
    text = found.mlir_module()
    after = change(text)
    if after == text:
        return found
    with mlir.make_ir_context():
        module = ir.Module.parse(after)
        data = stablehlo.serialize_portable_artifact_str(str(module), stablehlo.get_current_version())
    return dataclasses.replace(found, mlir_module_serialized=data)


def contents(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a file, and the other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(entries.pop("manifest.json")), entries


def write(path: Path, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Writes a file with right checksums."""
    listed = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in entries.items()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, "entries": listed}))
        for name, data in entries.items():
            archive.writestr(name, data)


def forge(saved: Path, path: Path, function: Any) -> Path:
    """A copy of a file whose client stage is another function."""
    manifest, entries = contents(saved)
    stage = manifest["programs"]["computation"]["clients"][0]
    old, data = stage["function"]["entry"], bytes(function.serialize())
    name = f"functions/{hashlib.sha256(data).hexdigest()}.bin"
    stage.update(function={"entry": name, "constants": []}, vectorised=None)
    entries[name] = data
    if old not in json.dumps(manifest["programs"]):
        entries.pop(old)
    write(path, manifest, entries)
    return path


def looked_at(functions: Sequence[Any]) -> list[str]:
    """What the process that looks at functions finds of each, as far as it lives."""
    done = process._ask([function.mlir_module_serialized for function in functions])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [each.get("refused") or each.get("damaged") or "nothing" for each in found]


_CHILD = """
import sys, numpy as np, hansa
for path in sys.argv[2:]:
    try:
        found = hansa.load(path)([np.full(eval(sys.argv[1]), 0.5, np.float32)] * 2)
        print("LOADED", np.asarray(found).ravel()[:3].tolist(), flush=True)
    except Exception as error:
        print("REFUSED", type(error).__name__, str(error).replace(chr(10), " "), flush=True)
"""


def tried(paths: list[Path], shape: tuple[int, ...] = (4, 4)) -> list[str]:
    """What comes of loading and calling each file in a process of its own: a line for each, as far as it lived."""
    command = [sys.executable, "-c", _CHILD, str(shape), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return [*done.stdout.splitlines(), *([f"ENDED {done.returncode} {done.stderr[-300:]}"] if done.returncode else [])]
