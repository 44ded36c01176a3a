"""An SVG document, written as text: shapes, and text that is measured so that it fits.

Which font a viewer has is not known, so widths are those of the widest of the usual ones: text is never wider than
`width` says.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import escape

_WIDTHS = {
    char: width
    for width, chars in (
        (0.33, " ',.IJijl\""),
        (0.42, "!()-/:;[\\]frt|"),
        (0.54, "*?_`sz"),
        (0.64, "$0123456789EFLPSTYabcdeghknopquvxy{}"),
        (0.72, "ABCKRVXZ"),
        (0.8, "&DGHNOQU"),
        (0.9, "#+<=>M^w~"),
    )
    for char in chars
}
"""Advance widths in em of a sans-serif font, for characters that are narrower than 1 em."""

_MONOSPACED = 0.62
_BOLD = 1.25
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Font:
    """How a text is set.

    Attributes:
        size: in pixels.
        mono: monospaced, for names and types.
        bold: bold.
    """

    size: float
    mono: bool = False
    bold: bool = False

    def width(self, text: str) -> float:
        """The most pixels that a text takes."""
        scale = self.size * (_BOLD if self.bold and not self.mono else 1)
        return scale * sum(self._advance(char) for char in text)

    def _advance(self, char: str) -> float:
        if ord(char) > 127:
            return 1.3 if unicodedata.east_asian_width(char) in "WF" or ord(char) > 0xFFFF else 1.0
        return _MONOSPACED if self.mono else _WIDTHS.get(char, 1.0)

    def cut(self, text: str, width: float) -> str:
        """The text, or as much of its beginning as fits, and `…`."""
        if self.width(text) <= width:
            return text
        while text and self.width(f"{text}…") > width:
            text = text[:-1]
        return f"{text}…"

    def wrap(self, text: str, width: float, lines: int) -> list[str]:
        """The text in at most so many lines, broken at spaces or after punctuation; what does not fit is cut."""
        pieces = re.findall(r"[^\s.,/_>+]*[.,/_>+]*\s*", text)
        found = [""]
        for piece in filter(None, pieces):
            if found[-1] and self.width((found[-1] + piece).rstrip()) > width:
                found.append("")
            found[-1] += piece
        kept = [line.rstrip() for line in found[:lines]]
        if len(found) > lines:
            kept[-1] += "".join(found[lines:])
        return [self.cut(line, width) for line in kept]


def clean(text: str) -> str:
    """A text for XML, with `�` for characters that no document may hold."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


class Canvas:
    """Elements of a document, drawn in order."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(
        self, x: float, y: float, text: str, font: Font, style: str, anchor: str = "start", full: str = ""
    ) -> None:
        """A line of text from, around or up to `x`; where it is cut, `full` is what the pointer shows."""
        classes = " ".join([style, *(["mono"] if font.mono else []), *(["bold"] if font.bold else [])])
        title = f"<title>{clean(full)}</title>" if full and full != text else ""
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        place = f'x="{_number(x)}" y="{_number(y)}" font-size="{_number(font.size)}"'
        self.parts.append(f'<text {place} class="{classes}"{end}>{title}{clean(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, style: str, radius: float = 8) -> None:
        """A rectangle with round corners."""
        sizes = f'x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
        self.parts.append(f'<rect {sizes} rx="{_number(radius)}" class="{style}"/>')

    def line(self, points: list[tuple[float, float]], style: str) -> None:
        """A line through points."""
        path = " L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self.parts.append(f'<path d="M{path}" class="{style}"/>')

    def head(self, x: float, y: float, style: str, size: float = 7) -> None:
        """The head of an arrow whose point is at `x`; it points to the left if `size` is negative."""
        back, half = x - size, abs(size) / 1.75
        path = f"M{_number(x)} {_number(y)} L{_number(back)} {_number(y - half)} L{_number(back)} {_number(y + half)} Z"
        self.parts.append(f'<path d="{path}" class="{style}"/>')

    def lock(self, x: float, y: float, style: str) -> None:
        """A padlock, 9 pixels wide and 11 high, with its upper left corner at a point; its bow is in `style`-edge."""
        shackle = f"M{_number(x + 2)} {_number(y + 5)} v-2 a2.5 2.5 0 0 1 5 0 v2"
        self.parts.append(f'<path d="{shackle}" class="{style}-edge shackle"/>')
        self.box(x, y + 4.5, 9, 6.5, style, 1.5)

    def document(self, width: float, height: float, name: str, style: str, title: str, description: str) -> str:
        """The document, with a title and a description for those who do not see it."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" width="{_number(width)}" '
        head += f'height="{_number(height)}" viewBox="0 0 {_number(width)} {_number(height)}" role="img">'
        about = f"<title>{clean(title)}</title>\n<desc>{clean(description)}</desc>"
        return "\n".join([head, about, f"<style>\n{style}</style>", *self.parts, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
