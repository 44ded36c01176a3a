"""Runs the notebooks, and keeps their outputs in them: `make notebooks`, or `python docs/notebooks.py tutorial`.

What is kept is the same wherever it is run, but for numbers, in which processors differ in the last bits, and how the
runtime goes about a program, which depends on the machine: `differences` compares outputs so.
"""

from __future__ import annotations

import base64
import difflib
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat

import hansa

DOCS = Path(__file__).resolve().parent
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
_HERE = re.compile(r"^here .*", re.MULTILINE)
_OPERATIONS = re.compile(r"[\d.,]+ ([kMGT]?)FLOP")
"""Another version of JAX or Keras may write a computation with a few more."""


def execute(path: Path, *more: str) -> Any:
    """A notebook as it is after a run, with cells of code after its own; the file stays as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook: Any = nbformat.read(path, as_version=4)
    about = dict(notebook.metadata)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in more]
    source = str(Path(hansa.__file__).resolve().parents[1])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}, record_timing=False
    )
    client.execute(env={**os.environ, "PYTHONPATH": search})
    notebook.metadata = nbformat.from_dict(about)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs whose parts of one text, which arrive as they do, are one."""
    found: list[Any] = []
    for output in outputs:
        if found and output.output_type == "stream" == found[-1].output_type and output.name == found[-1].name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def write(path: Path) -> None:
    """Run a notebook, and write it with its outputs."""
    notebook = execute(path)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n", "utf-8")


def differences(kept: Any, now: Any) -> list[str]:
    """How the outputs of two runs of a notebook differ, cell by cell; of none there is none.

    Texts are to be equal but for numbers that have a point or an exponent, which may differ by 2 % and by 0.02, and
    pictures are to be as large.
    """
    found = []
    for before, after in zip(kept.cells, now.cells, strict=False):
        if before.cell_type == "code":
            shown = [_shown(cell.outputs) for cell in (before, after)]
            if not _agree(*shown):
                lines = difflib.unified_diff(*(text.splitlines() for text in shown), "kept", "now", lineterm="")
                found.append(f"cell {before.id}:\n" + "\n".join(lines))
    return found


def text_of(output: Any) -> str:
    """What an output says in words."""
    if output.output_type == "stream":
        return str(output.text)
    return str(output.get("data", {}).get("text/plain", ""))


def _shown(outputs: list[Any]) -> str:
    return "\n".join(text_of(output) + _picture(output) for output in outputs)


def _picture(output: Any) -> str:
    picture = output.get("data", {}).get("image/png")
    if picture is None:
        return ""
    # The width and the height stand in a PNG's first chunk.
    width, height = struct.unpack(">II", base64.b64decode(picture)[16:24])
    return f"[picture of {width / 10:.1f} x {height / 10:.1f}]"


def _agree(kept: str, now: str) -> bool:
    texts = [_OPERATIONS.sub(r"… \1FLOP", _HERE.sub("here …", text)) for text in (kept, now)]
    if _NUMBER.sub("#", texts[0]).split() != _NUMBER.sub("#", texts[1]).split():
        return False
    return all(map(_close, *(_NUMBER.findall(text) for text in texts)))


def _close(kept: str, now: str) -> bool:
    if not re.search(r"[.e]", kept + now):
        return kept == now
    a, b = (float(number.replace(",", "")) for number in (kept, now))
    return abs(a - b) <= 0.02 + 0.02 * abs(a)


if __name__ == "__main__":
    for each in [DOCS / f"{name.removesuffix('.ipynb')}.ipynb" for name in sys.argv[1:]] or NOTEBOOKS:
        write(each)
        print(each)
