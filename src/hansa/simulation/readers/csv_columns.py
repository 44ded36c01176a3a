"""The columns of a CSV file in their types: what convert and column_types say, or what the first rows look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hansa.simulation._errors import DatasetError
from hansa.simulation._selection import Selection, no_number
from hansa.simulation.readers.csv_rows import Block, CsvFile
from hansa.simulation.readers.csv_values import STORED, Cells, NotOfType, looks_like, parsed
from hansa.simulation.readers.streams import Watched

_EXACT = 2**53


class TypedColumns:
    """The columns of a CSV file in their types, one block after another.

    Args:
        file: the file.
        names: the names in its first line.
        first: its first rows.
        columns: those that are wanted.
        types: the types of some of them; those of the others are what their first rows look like.
    """

    def __init__(
        self, file: CsvFile, names: list[str], first: Block, columns: list[str], types: Mapping[str, str]
    ) -> None:
        self._file, self._names, self._said = file, names, types
        self._texts = {column: self._names.index(column) for column in columns}
        self.kinds = {
            column: types.get(column) or looks_like(first.columns[place]) for column, place in self._texts.items()
        }

    def check(self, selection: Selection) -> None:
        """Checks that what is no number is left to a function of the user's."""
        for column in selection.columns:
            kind = self.kinds[column]
            if kind in STORED and not selection.is_converted(column):
                raise no_number(selection.table, column, "text" if kind == "str" else "dates or times", kind)

    def blocks(self, source: Watched) -> Iterator[dict[str, Cells]]:
        """The columns of each block."""
        names, blocks = self._file.read(source)
        if names != self._names:
            raise DatasetError(f"{self._file.path} was changed while it was read; read it again when it is whole")
        for block in blocks:
            yield {
                column: self._cells(column, block.columns[place], block.lines) for column, place in self._texts.items()
            }

    def _cells(self, column: str, texts: Sequence[str], lines: Sequence[int]) -> Cells:
        kind, path = self.kinds[column], self._file.path
        try:
            cells = parsed(texts, kind)
        except NotOfType as error:
            remedy = "str" if looks_like([texts[error.row]]) == "str" else "float64"
            raise TypeError(
                f"{path} has a value that is not of its column's type: in line {lines[error.row]}, column {column!r} "
                f"holds {texts[error.row]!r:.60}, and is read as {kind}. The type is what convert says, or else what "
                f"the first rows look like; say another with column_types={{{column!r}: {remedy!r}}}"
            ) from None
        if cells.values.dtype.kind != "f":
            return cells
        numbers = cells.values
        if np.isinf(numbers).any():
            raise ValueError(
                f"column {column!r} of {path} holds infinity, or a number that is too large for {numbers.dtype}, in "
                f"line {lines[int(np.argmax(np.isinf(numbers)))]}; read it as text, with "
                f"column_types={{{column!r}: 'str'}}, for a function in convert"
            )
        large = np.abs(numbers) >= _EXACT
        if column not in self._said and large.any():
            raise TypeError(
                f"column {column!r} of {path} holds a number as large as {numbers[large][0]!s}, in line "
                f"{lines[int(np.argmax(large))]}, where float64 does not tell whole numbers apart; say what it is with "
                f"column_types={{{column!r}: 'uint64'}}, or 'float64' for measurements, which may be rounded, or 'str' "
                "for a function in convert"
            )
        return cells
