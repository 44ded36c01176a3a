"""What a run's folder says about a run for people, beside what it was asked: when, on what, of what size."""

from __future__ import annotations

import datetime
import math
import os
import platform
from pathlib import Path
from typing import Any

from hansa.compiler.explain.facts import AtClients, Bytes
from hansa.compiler.explain.stages import stages_of
from hansa.compiler.partition import compile_computation
from hansa.templates import IterativeProcess
from hansa.templates.keeping import model_type
from hansa.types import Type
from hansa.types.queries import tensor_leaves


def facts(process: IterativeProcess) -> dict[str, Any]:
    """What is known of a run when it begins, as values that JSON has.

    Returns:
        `began`, the date and time with its zone; `machine`, in a few words; `parameters`, how many numbers the model
        has; `bytes_down` and `bytes_up`, what each client is sent and sends in a round, `bytes_exact` if that is all;
        `bytes_once`, what it is sent in the first round besides; `settings`, what the process says it was made with.
    """
    clients = [stage for stage in stages_of(compile_computation(process.next)) if isinstance(stage, AtClients)]
    names = ("bytes_down", "bytes_once", "bytes_up")
    down, once, up = (Bytes.total(getattr(stage, name) for stage in clients) for name in names)
    return {
        "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": _machine(),
        "parameters": parameters(process.state_type),
        "bytes_down": int(down - once),
        "bytes_once": int(once),
        "bytes_up": int(up),
        "bytes_exact": down.exact and up.exact,
        "settings": dict(process.settings),
    }


def parameters(kind: Type) -> int:
    """How many numbers a model has: those of the state's field `model`, or, where there is none, of the state."""
    return sum(math.prod(size or 0 for size in leaf.shape) for leaf in tensor_leaves(model_type(kind) or kind))


def _machine() -> str:
    """`Linux x86_64, 8 cores, Intel(R) Xeon(R) CPU`; without the machine's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{platform.system()} {platform.machine()}", f"{cores} core{'' if cores == 1 else 's'}"]
    return ", ".join(filter(str.strip, [*parts, _processor()]))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
