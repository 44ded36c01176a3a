"""Libraries that only some readers need, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, reader: str) -> Any:
    """The module, imported.

    Args:
        module: its name, such as `pyarrow.parquet`.
        extra: the extra of Hansa that installs it.
        reader: the function that needs it, for the message.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{reader} needs {package}: pip install 'hansa[{extra}]'") from error
