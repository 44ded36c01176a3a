"""Packages that only some users need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def imported(module: str, extra: str) -> Any:
    """A module of an extra.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {module}, which is not installed: pip install 'hansa[{extra}]'", name=error.name
        ) from error
