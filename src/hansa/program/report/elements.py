"""HTML as elements, which escape all text by construction; numbers as they are shown."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
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
    """A number for people: `1,234`, `0.9512`, `1.2e-05`; other values as they print."""
    if isinstance(value, bool) or not isinstance(value, int | float):
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


def titled(name: str) -> str:
    """A metric's name as a title: `test_loss` is `Test loss`."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


# Those that HTML does not allow would end the text for some readers.
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "�")
