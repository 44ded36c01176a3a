"""HTML as elements, which escape all text by construction; values as they are shown; tables, and figures in a grid."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Any

Element = ET.Element
_LONGEST = 1000
"""Characters of a text among numbers that are shown."""


def element(tag: str, *children: Element | str, **attributes: Any) -> Element:
    """An element with text and elements in it.

    Args:
        tag: its name.
        *children: in order.
        **attributes: `_` in a name stands for `-`, and one at the end for nothing: `class_`, `data_values`.
    """
    names = {name.rstrip("_").replace("_", "-"): str(value).translate(_CONTROL) for name, value in attributes.items()}
    result = ET.Element(tag, names)
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            text = child.translate(_CONTROL)
            if last is None:
                result.text = (result.text or "") + text
            else:
                last.tail = (last.tail or "") + text
        else:
            result.append(child)
            last = child
    return result


def to_html(root: Element) -> str:
    """The text of a page."""
    return "<!DOCTYPE html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def shown(value: Any) -> str:
    """A value for people: `1,234`, `0.9512`, `1.2e-05`, `yes`; text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        text = "" if value is None else str(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`0.25 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def folded(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], class_: str = "values") -> Element:
    """A table that is shown when it is wanted."""
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    body = element("tbody", *(_row(row) for row in rows))
    table = element("table", head, body, class_="numbers")
    scroll = element("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)
    return element("details", element("summary", name), scroll, class_=class_)


def _row(cells: Sequence[Any]) -> Element:
    first, *rest = cells
    return element("tr", element("th", shown(first), scope="row"), *(element("td", shown(cell)) for cell in rest))


def grid(tag: str, cells: Sequence[Element], class_: str, across: Sequence[int]) -> Element:
    """Elements in rows that are full, whatever the room: for each most of them in a row, each says how many it has."""
    for most in across:
        for cell, number in zip(cells, _rows(len(cells), most), strict=True):
            cell.set("style", f"{cell.get('style', '')}--of-{most}:{number};")
    return element(tag, *cells, class_=class_)


def _rows(count: int, most: int) -> list[int]:
    """For each of some cells, how many are in its row: rows differ by one at most, and the first are the shorter."""
    number = max(1, -(-count // most))
    longer = count % number
    sizes = [count // number + (row >= number - longer) for row in range(number)]
    return [size for size in sizes for _ in range(size)]


# Those that HTML does not allow would end the text for some readers.
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "�")
