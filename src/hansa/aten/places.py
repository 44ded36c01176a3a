"""Where in a module something is: the submodule, and the user's line."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = (str(Path(torch.__file__).parent) + os.sep, str(Path(__file__).parent.parent) + os.sep)


def where(node: Any) -> str:
    """Where a node of a graph comes from: `(in layers.2, at model.py:31)`."""
    path = list((node.meta.get("nn_module_stack") or {}).values())
    module = _submodule(path[-1][0]) if path else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [(file, line) for file, line in frames if _is_users(file)]
    parts = [f"in {module}" if module else "in forward"]
    if own:
        parts.append(f"at {os.path.basename(own[-1][0])}:{own[-1][1]}")
    return f"({', '.join(parts)})"


def _submodule(path: str) -> str:
    """The name of a submodule in the user's module, which is the field `module` of what is exported."""
    return path.removeprefix("L['self'].").removeprefix("module").removeprefix(".")


def line_of(error: BaseException) -> tuple[str, str]:
    """The user's innermost line that an error went through, `file:line`, and its text; empty where there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if not frames:
        return "", ""
    last = frames[-1]
    return f"{os.path.basename(last.filename)}:{last.lineno}", (last.line or "").strip()


def went_through(error: BaseException, function: str) -> bool:
    """Whether an error came through a function of this name."""
    return any(frame.name == function for frame in traceback.extract_tb(error.__traceback__))


def _is_users(file: str) -> bool:
    return not file.startswith(("<", "torch/", *_LIBRARIES))
