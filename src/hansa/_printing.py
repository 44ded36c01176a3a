"""Text of files and of data, as it may be printed: a terminal acts on some characters, and others deceive the eye."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""A text whose control characters, and all others that are not seen, are written as Python does: `\x1b`.

    Ends of lines stay; a text that is to stay in its line goes through `in_a_line`.
    """
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in str(text))


def in_a_line(text: object) -> str:
    r"""As `printable`, with the ends of lines as `\n`, too."""
    return printable(text).replace("\n", "\\n")


def in_a_picture(text: object) -> str:
    r"""As `in_a_line`, for Matplotlib, which would take what is between two dollars for mathematics."""
    return in_a_line(text).replace("$", r"\$")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
