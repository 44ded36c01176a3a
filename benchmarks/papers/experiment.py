"""An experiment as a command: what has been computed is kept, a table is printed and written, a picture is drawn.

python -m benchmarks.papers.NAME [--quick] [--out FOLDER] [--picture FILE]

FOLDER, by default benchmarks/results/NAME, then has what was computed (`results.json`), the table (`table.csv`,
`table.json`) and the picture. A run that was stopped goes on from there. With `--quick` all is small and takes seconds:
it shows that the experiment runs, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.papers.pictures import Picture, save

RESULTS = Path(__file__).resolve().parents[1] / "results"
Rows = list[dict[str, Any]]


class Results:
    """What has been computed, by name, in a file of JSON.

    Args:
        file: where it is kept.
        settings: what it depends on; a file of other settings is refused.

    Raises:
        SystemExit: if the file is of other settings.
    """

    def __init__(self, file: Path, settings: dict[str, Any] | None = None) -> None:
        self._file = file
        # As JSON has them, to compare with.
        self.settings = json.loads(json.dumps(settings or {}))
        self.found: dict[str, Any] = {}
        if file.exists():
            kept = json.loads(file.read_text("utf-8"))
            if kept["settings"] != self.settings:
                raise SystemExit(
                    f"{file} was computed with other settings; delete it, or give another folder with --out"
                )
            self.found = kept["found"]

    def once(self, name: str, compute: Callable[..., Any], *arguments: Any) -> Any:
        """What is kept under a name, or what `compute` gives, which is then kept: something that JSON has."""
        if name not in self.found:
            began = time.process_time()
            self.found[name] = compute(*arguments)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps({"settings": self.settings, "found": self.found}), "utf-8")
            part.replace(self._file)
            print(f"  {name}: {time.process_time() - began:.0f} s of CPU", flush=True)
        return self.found[name]


class Measure(Protocol):
    """The experiment itself."""

    def __call__(self, settings: Any, results: Results) -> Rows:
        """The rows of the table, with columns by name; lists, such as a curve, are for the picture."""


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: of the module, and of the folder and the picture.
        about: what `--help` says.
        settings: a dataclass of the sizes.
        quick: the same, for `--quick`.
        measure: computes the rows.
        draw: makes the picture of the rows.
    """

    name: str
    about: str | None
    settings: Any
    quick: Any
    measure: Measure
    draw: Callable[[Rows], Picture]

    def run(self, arguments: Sequence[str] | None = None) -> Rows:
        """Does what the command line asks for."""
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="a small one, in seconds, to see that it runs")
        parser.add_argument("--out", type=Path, help="where results are kept, by default benchmarks/results/NAME")
        parser.add_argument("--picture", type=Path, help="where the picture goes, by default into that folder")
        options = parser.parse_args(arguments)
        settings = self.quick if options.quick else self.settings
        out = options.out or RESULTS / (f"{self.name}-quick" if options.quick else self.name)
        rows = self.measure(settings, Results(out / "results.json", asdict(settings)))
        out.mkdir(parents=True, exist_ok=True)
        (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        with (out / "table.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns(rows), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        print(markdown(rows))
        save(self.draw(rows), options.picture or out / f"{self.name}.svg")
        return rows


def columns(rows: Rows) -> list[str]:
    """The names of the columns that are numbers and texts."""
    return [name for name in rows[0] if not isinstance(rows[0][name], list | dict)]


def markdown(rows: Rows) -> str:
    """The table as a page has it."""
    names = columns(rows)
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
