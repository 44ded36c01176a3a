"""A run as one HTML page, which needs nothing else: `write_report`."""

from __future__ import annotations

import os
from pathlib import Path

from hansa._files import replacing
from hansa.program.report.page import page
from hansa.program.report.reading import read

__all__ = ["write_report"]


def write_report(run_dir: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Path:
    """Write a page about a run that is finished, was stopped or is under way.

    The page shows what was run, the curves of all metrics, the seconds of the rounds, who took part, what clients
    have, and a table of the rounds. It can be opened from the disk and loads nothing. If the folder has a
    `client_metrics.csv`, as `ClientMetrics.to_csv` writes it, the page shows how these are distributed.

    Args:
        run_dir: the run's folder.
        target: the page; by default `report.html` in the folder.

    Returns:
        The page's path.

    Raises:
        hansa.program.RunError: if the folder has no run, or a file of it is damaged, which is named.
        OSError: if the page cannot be written.

    Examples:
        >>> result = hansa.program.train(process, data, rounds=2, run_dir="runs/first", progress=False)
        >>> hansa.program.write_report("runs/first").name
        'report.html'
    """
    folder = Path(run_dir)
    path = folder / "report.html" if target is None else Path(target)
    text = page(read(folder))
    with replacing(path) as part:
        # Names may have lone surrogates, which no file can hold.
        part.write_bytes(text.encode("utf-8", "replace"))
    return path
