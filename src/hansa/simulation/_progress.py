"""A bar that shows how far a file has been read."""

from __future__ import annotations

import contextlib
from typing import Any


def progress(source: Any, total: int, description: str) -> contextlib.AbstractContextManager[Any]:
    """The stream, reading from which moves a bar. On standard error: a program's output stays its own."""
    import rich.console
    import rich.progress

    return rich.progress.wrap_file(
        source, total=total, description=description, console=rich.console.Console(stderr=True), transient=True
    )
