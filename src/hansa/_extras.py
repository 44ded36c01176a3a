"""Packages that only some users need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, what: str) -> Any:
    """The module, imported.

    Args:
        module: its name, such as `pyarrow.parquet`.
        extra: the extra of Hansa that installs it.
        what: what needs it, for the message.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how to install it. If something that it needs is
            not, the error is that of its import.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        message = f"{what} needs {package}, which is not installed: pip install 'hansa[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error
