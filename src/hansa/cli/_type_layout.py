"""Lay a long type in Hansa's notation out over several lines. It knows brackets and commas, not types."""

from __future__ import annotations

_OPEN, _CLOSE = "<({[", ">)}]"
_ARROW = " -> "


def lay_out(notation: str, width: int) -> str:
    """Break a type's notation so that its structure shows.

    What fits on a line stays on one; else the elements between brackets go on lines of their own, indented. Removing
    the line breaks and indentation gives back the notation, but for a space after commas and brackets.

    Args:
        notation: a type, such as `(<a=int32,b={float32}@CLIENTS> -> float32@SERVER)`.
        width: the most characters a line should have; one that cannot be broken may have more.

    Returns:
        The lines, joined by line breaks.
    """
    return "\n".join(_lines(notation, "", "", width))


def _lines(text: str, before: str, indent: str, width: int) -> list[str]:
    """The lines of `text`, whose first line begins with `before` (a name and `=`) and may be followed by a comma."""
    line = indent + before + text
    if len(line) + 1 <= width:
        return [line]
    head, inside, tail = _outer_brackets(text)
    if not inside:
        return [line]
    inner = indent + "  "
    lines = [indent + before + head]
    parts, separator = _split(inside, _ARROW), _ARROW.rstrip()
    if len(parts) == 1:
        parts, separator = _split(inside, ","), ","
    for number, part in enumerate(parts):
        piece = _lines(*_name_and_type(part), inner, width)
        if number < len(parts) - 1:
            piece[-1] += separator
        # A function without a parameter has nothing before its arrow.
        lines += piece if part else [inner + piece[-1].strip()]
    return [*lines, indent + tail]


def _name_and_type(part: str) -> tuple[str, str]:
    name, equals, rest = part.partition("=")
    return (rest, name + equals) if equals and name.isidentifier() else (part, "")


def _outer_brackets(text: str) -> tuple[str, str, str]:
    """`text` as what opens its first bracket, what is inside, and what closes it (with `*` or `@CLIENTS`)."""
    first = next((i for i, char in enumerate(text) if char in _OPEN), None)
    if first is None:
        return text, "", ""
    # A tensor's shape is not worth a line of its own.
    if text[first] == "[":
        return text, "", ""
    last = max(i for i in range(len(text)) if _closes(text, i))
    return text[: first + 1], text[first + 1 : last], text[last:]


def _closes(text: str, index: int) -> bool:
    """Whether a bracket closes here; the `>` of an arrow does not."""
    return text[index] in _CLOSE and not (text[index] == ">" and text[index - 1 : index] == "-")


def _split(text: str, separator: str) -> list[str]:
    """`text` cut at each separator that stands outside all brackets."""
    depth, start, parts = 0, 0, []
    for i in range(len(text)):
        if depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i])
            start = i + len(separator)
        elif text[i] in _OPEN:
            depth += 1
        elif _closes(text, i):
            depth -= 1
    return [*parts, text[start:]]
