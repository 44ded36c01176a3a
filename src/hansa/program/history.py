"""`History`: what was measured in the rounds of a run, as a table."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa._files import replacing
from hansa._tracebacks import boundaries
from hansa._wording import titled
from hansa.program.records import COUNTED, EVALUATION, LEFT_OUT, Record, Scalar
from hansa.types import names as _names

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from hansa.language.counted import Counted

_MOST_NAMES = 8
"""Columns that are named in a line."""
_MOST_ROWS = 10
"""Rounds that a notebook shows."""


@boundaries
class History(Sequence[Record]):
    """The records of a run's rounds, in order: each a dict of numbers by name, with its number under `round`.

    Iterating gives records, `history["loss"]` a column, `history.columns` all of them.

    Args:
        records: those of the rounds.

    Examples:
        >>> history = hansa.program.train(process, data, rounds=3, progress=False).history
        >>> len(history), history.names[:3]
        (3, ('round', 'accuracy', 'loss'))
        >>> history[-1]["loss"] == history["loss"][-1] == history.columns["loss"][-1]
        True
        >>> history.to_pandas().shape
        (3, 6)
        >>> figure = history.plot("loss", path="loss.png")
    """

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self._records = tuple(dict(record) for record in records)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which they first occur."""
        return tuple(dict.fromkeys(name for record in self._records for name in record))

    @property
    def columns(self) -> dict[str, list[Scalar | None]]:
        """The columns by name; None where a round has no such value."""
        return {name: [record.get(name) for record in self._records] for name in self.names}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self._records[key]
        if key not in self.names:
            raise KeyError(_names.unknown(key, self.names))
        return [record.get(key) for record in self._records]

    def counted(self, round_number: int) -> Counted | None:
        """Who was counted in a round: None where it was everybody, or nothing says it.

        The columns `clients_counted` and `clients_left_out`, which are there if some were left out, say the same.

        Raises:
            KeyError: if there is no such round.
            ValueError: if what was recorded is damaged.

        Examples:
            >>> print(hansa.program.train(process, data, rounds=1, progress=False).history.counted(1))
            None
        """
        found = next((record for record in self._records if record.get("round") == round_number), None)
        if found is None:
            raise KeyError(f"the history has no round {round_number}")
        number, text = found.get(COUNTED), found.get(LEFT_OUT)
        if type(number) is not int or type(text) is not str:
            return None
        from hansa.language.counted import Counted

        return Counted.from_text(number, text)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        rounds = f"{len(self)} round{'' if len(self) == 1 else 's'}"
        names = [name for name in self.names if name != "round"]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return f"History({': '.join(filter(None, [rounds, ', '.join(names[:_MOST_NAMES]) + more]))})"

    def _repr_html_(self) -> str:
        """The first and the last rounds as a table, in a notebook."""
        names, rows = self.names, list(self._records)
        if len(rows) > _MOST_ROWS:
            rows = [*rows[: _MOST_ROWS // 2], dict.fromkeys(names, "…"), *rows[-(_MOST_ROWS // 2) :]]
        body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a `pandas.DataFrame` whose index is the round; NaN where a round has no value.

        Raises:
            ModuleNotFoundError: without pandas: `pip install 'hansa[pandas]'`.
        """
        table = require("pandas", "pandas", "History.to_pandas").DataFrame(
            list(self._records), columns=list(self.names)
        )
        return table.set_index("round") if "round" in self.names else table

    def plot(self, *metrics: str, path: str | os.PathLike[str] | None = None, title: str = "Training") -> Figure:
        """Curves of metrics over the rounds, a panel for each; the evaluation's beside the process's own.

        Args:
            *metrics: names, without `evaluation/`; by default those of the evaluation, or, where there was none, the
                process's floats, four at most.
            path: a file to draw the picture to, such as `curves.png`.
            title: above the picture.

        Returns:
            The figure, which a notebook shows.

        Raises:
            KeyError: if there is no metric of a name.
            ValueError: if there is nothing to draw.
            ModuleNotFoundError: without Matplotlib: `pip install 'hansa[plots]'`.
        """
        require("matplotlib", "plots", "History.plot")
        from hansa.program.curves import Line, Panel, draw

        numbers = [int(number) for number in self["round"]] if len(self) else []
        names = metrics or self._main_metrics()
        if not numbers or not names:
            raise ValueError("there is nothing to draw: the history has no rounds, or no floats in them")
        panels = []
        for name in names:
            known = [column for column in (name, EVALUATION + name) if column in self.names]
            lines = [
                Line(
                    "in training" if column == name else "evaluated",
                    *_points(numbers, self[column]),
                    main=column == known[-1],
                )
                for column in known
            ]
            if not lines:
                self[name]  # raises, with the names that there are
            panels.append(Panel(titled(name), lines))
        rounds = f"{numbers[-1]} round{'' if numbers[-1] == 1 else 's'}"
        figure = draw(panels, title, rounds)
        if path is not None:
            with replacing(Path(path)) as part:
                figure.savefig(part)
        return figure

    def _main_metrics(self) -> list[str]:
        floats = [name for name, column in self.columns.items() if any(isinstance(value, float) for value in column)]
        evaluated = [name.removeprefix(EVALUATION) for name in floats if name.startswith(EVALUATION)]
        return (evaluated or [name for name in floats if not name.startswith("num_")])[:4]


def _cell(value: Scalar | None) -> str:
    return "" if value is None else html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _points(numbers: list[int], column: Sequence[Any]) -> tuple[list[int], list[float]]:
    found = [(number, float(value)) for number, value in zip(numbers, column, strict=True) if value is not None]
    return [number for number, _ in found], [value for _, value in found]
