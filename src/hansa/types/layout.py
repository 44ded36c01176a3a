"""Lay a long type in Hansa's notation out over several lines. It knows brackets, commas and quotes, not types."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

WIDTH = 80
"""Characters of a line, where nothing says how many there are."""

_OPEN, _CLOSE = "<({[", ">)}]"
_ARROW = " -> "
_WHOLE = 40
"""The lines of a comparison that are shown without leaving out what is equal."""


def lay_out(notation: str, width: int = WIDTH) -> str:
    """Break a type's notation so that its structure shows.

    What fits on a line stays on one; else the elements between brackets go on lines of their own, indented. Removing
    the line breaks and indentation gives back the notation, but for a space after commas and brackets.

    Args:
        notation: a type, such as `(<a=int32,b={float32}@CLIENTS> -> float32@SERVER)`.
        width: the most characters a line should have; one that cannot be broken may have more.

    Returns:
        The lines, joined by line breaks.
    """
    return "\n".join(_lines(notation, "", width))


def comparison(expected: str, found: str, width: int = WIDTH) -> Iterator[str]:
    """The lines of two types, laid out: `-` before what is expected only, `+` before what is found only.

    Args:
        expected: a type in the notation.
        found: another.
        width: the most characters a line should have.

    Yields:
        The lines. Of long types, `...` stands for parts that are equal.
    """
    two = [lay_out(notation, width).splitlines() for notation in (expected, found)]
    context = _WHOLE if max(map(len, two)) <= _WHOLE else 2
    # Whether something follows makes no difference.
    bare = [[line.removesuffix(",") for line in lines] for lines in two]
    last_shown = 0
    for number, group in enumerate(
        difflib.SequenceMatcher(None, bare[0], bare[1], autojunk=False).get_grouped_opcodes(context)
    ):
        if number or group[0][1]:
            yield "  ..."
        for tag, first, last, other_first, other_last in group:
            if tag == "equal":
                yield from (f"  {line}" for line in two[0][first:last])
            else:
                yield from (f"- {line}" for line in two[0][first:last])
                yield from (f"+ {line}" for line in two[1][other_first:other_last])
        last_shown = group[-1][2]
    if last_shown < len(two[0]):
        yield "  ..."


def _lines(text: str, indent: str, width: int, beside: int = 0) -> list[str]:
    """The lines of `text`, after which a comma may follow; one line has `beside` characters of other text, too."""
    if len(indent) + len(text) + beside + 1 <= width:
        return [indent + text]
    marks = list(_marks(text))
    opening = next((i for i in marks if text[i] in _OPEN), None)
    # A tensor's shape is not worth a line of its own.
    if opening is None or text[opening] == "[":
        return [indent + text]
    closing = max(i for i in marks if text[i] in _CLOSE)
    inside = text[opening + 1 : closing]
    if not inside:
        return [indent + text]
    parts, separator = _split(inside, _ARROW), _ARROW.rstrip()
    if len(parts) == 1:
        parts, separator = _split(inside, ","), ","
    if parts[0] == "":  # a function without a parameter, of which there is only the result to lay out
        before, after = text[: opening + 1] + _ARROW, text[closing:]
        lines = _lines(parts[1], indent, width, beside + len(before) + len(after))
        lines[0] = indent + before + lines[0].removeprefix(indent)
        lines[-1] += after
        return lines
    lines = [indent + text[: opening + 1]]
    inner = indent + "  "
    for number, part in enumerate(parts):
        piece = _lines(part, inner, width)
        if number < len(parts) - 1:
            piece[-1] += separator
        lines += piece
    return [*lines, indent + text[closing:]]


def _split(text: str, separator: str) -> list[str]:
    """`text` cut at each separator that stands outside all brackets and quotes."""
    depth, start, parts = 0, 0, []
    for i in _marks(text):
        if depth == 0 and i >= start and text.startswith(separator, i):
            parts.append(text[start:i])
            start = i + len(separator)
        elif text[i] in _OPEN:
            depth += 1
        elif text[i] in _CLOSE:
            depth -= 1
    return [*parts, text[start:]]


def _marks(text: str) -> Iterator[int]:
    """The places of brackets, commas and arrows that are no part of a quoted name; of an arrow, the space before it."""
    quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        if character == '"':
            quoted = not quoted
        elif quoted:
            position += character == "\\"  # and what it escapes
        elif text.startswith(_ARROW, position):
            yield position
            position += len(_ARROW) - 1
        elif character in ("," + _OPEN + _CLOSE):
            yield position
        position += 1
