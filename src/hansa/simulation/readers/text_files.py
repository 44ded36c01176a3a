"""Clients from a folder of text files, one for each client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hansa.simulation._errors import reader, reading
from hansa.simulation.client_data import ClientData
from hansa.types.mismatch import describe


@reader
def from_text_files(path: str | Path, *, convert: Callable[[str], Mapping[str, npt.ArrayLike]]) -> ClientData:
    """The clients of a folder of text files: `ann.txt` is what ann has written.

    Only the names are looked at; a client's file is read when it is wanted.

    Args:
        path: the folder, whose files `*.txt`, in UTF-8, are the clients.
        convert: from a client's text to arrays with a row for each example, such as `TokenCoding` makes them:
            `lambda text: coding.texts(text.split("\\n\\n"))`.

    Returns:
        The clients, in the order of their names, without `.txt`.

    Raises:
        DatasetError: there is no such folder, or no text in it, or a file is no text; it is a FileNotFoundError, a
            ValueError or a TypeError, too.

    Examples:
        >>> from pathlib import Path
        >>> Path("letters").mkdir()
        >>> _ = Path("letters/ann.txt").write_text("Dear Bo")
        >>> coding = hansa.simulation.CharacterCoding()
        >>> letters = hansa.simulation.from_text_files("letters", convert=lambda text: coding.sequences([text], 8))
        >>> letters.client("ann")["x"].shape
        (1, 8)
    """
    folder = Path(path)
    if not callable(convert):
        raise TypeError(f"convert must be a function from a text to arrays; found {describe(convert)}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files = {file.stem: file for file in sorted(folder.glob("*.txt"))}
    if not files:
        raise ValueError(f"there are no files *.txt in {folder}, so there are no clients")

    def read(client_id: Any) -> Mapping[str, npt.ArrayLike]:
        with reading(files[client_id]):
            return convert(files[client_id].read_text("utf-8"))

    return ClientData.from_function(list(files), read)
