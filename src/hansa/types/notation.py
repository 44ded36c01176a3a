"""Reads types from their notation, such as `{<x=float32[?,784],y=int32[?]>*}@CLIENTS`.

The grammar, in which white space separates and is otherwise ignored:

    type      = postfix ["@" placement]
    postfix   = primary {"*"}
    primary   = tensor | struct | function | "{" type "}" "@" placement
    tensor    = dtype ["[" size {"," size} "]"]        size = "?" or an integer
    struct    = "<" [field {"," field}] ">"            field = [name "="] type
    function  = "(" [type] "->" type ")"
    name      = any characters but white space and <>,=*@{}()[]", or a JSON string

Types print themselves by their `__str__`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeVar

from hansa.types.base import Type
from hansa.types.dtypes import DTYPES, as_dtype
from hansa.types.placements import Placement
from hansa.types.types import FederatedType, FunctionType, SequenceType, StructType, TensorType

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?: (?P<arrow>->) | (?P<string>"(?:[^"\\]|\\.)*") | (?P<mark>[<>,=*@{}()\[\]])
             | (?P<word>(?:(?!->)[^\s<>,=*@{}()\[\]"])+) | (?P<end>$) )""",
    re.VERBOSE | re.DOTALL,
)
_WINDOW = 60


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def parse_type(text: str) -> Type:
    """Reads the notation of a type; `parse_type(str(t)) == t`.

    Raises:
        ValueError: if it is none, with what was expected and a caret under the place.

    Examples:
        >>> hansa.parse_type("<x=float32[?,784],y=int32[?]>*").element["x"].shape
        (None, 784)
        >>> hansa.parse_type("float32[3")
        Traceback (most recent call last):
            ...
        ValueError: this is no type: expected ',' or ']', found the end
          float32[3
                   ^
    """
    parser = _Parser(text)
    result = parser.type()
    parser.end()
    return result


class _Parser:
    """A recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0

    def type(self) -> Type:
        start = self._peek().start
        result = self._primary()
        while self._accept("*"):
            result = self._build(start, SequenceType, result)
        if self._accept("@"):
            placement = self._placement()
            result = self._build(start, lambda: FederatedType(result, placement, all_equal=True))
        return result

    def end(self) -> None:
        if self._peek().kind != "end":
            self._fail("the end of the type, '*' or '@'")

    def _primary(self) -> Type:
        token = self._peek()
        if token.kind == "word":
            return self._tensor()
        if self._accept("<"):
            return self._struct(token.start)
        if self._accept("("):
            parameter = None if self._peek().kind == "arrow" else self.type()
            self._expect("->", "'->', '*' or '@'" if parameter is not None else "'->'")
            result = self.type()
            self._expect(")", "')', '*' or '@'")
            return self._build(token.start, FunctionType, parameter, result)
        if self._accept("{"):
            member = self.type()
            self._expect("}", "'}' or '*'")
            self._expect("@", "'@' and a placement after {…}")
            placement = self._placement()
            return self._build(token.start, lambda: FederatedType(member, placement, all_equal=False))
        self._fail("a type")

    def _tensor(self) -> Type:
        token = self._take()
        if token.text not in DTYPES:
            try:
                as_dtype(token.text)
            except TypeError as error:
                self._raise(str(error), token.start)
        shape = []
        if self._accept("["):
            shape.append(self._size())
            while self._accept(","):
                shape.append(self._size())
            self._expect("]", "',' or ']'")
        return TensorType(token.text, shape)

    def _size(self) -> int | None:
        token = self._peek()
        if token.text == "?":
            self._take()
            return None
        if re.fullmatch("[0-9]+", token.text):
            return int(self._take().text)
        self._fail("a size, that is a number or '?'")

    def _struct(self, start: int) -> Type:
        fields: list[tuple[str | None, Type]] = []
        if not self._accept(">"):
            fields.append(self._field())
            while self._accept(","):
                fields.append(self._field())
            self._expect(">", "',' or '>'")
        return self._build(start, StructType, fields)

    def _field(self) -> tuple[str | None, Type]:
        name = None
        token = self._peek()
        if token.kind == "string" or (token.kind == "word" and self._peek(1).text == "="):
            self._take()
            name = self._unquote(token) if token.kind == "string" else token.text
            self._expect("=", "'=' and a type after the name")
        return name, self.type()

    def _unquote(self, token: _Token) -> str:
        try:
            return str(json.loads(token.text))
        except ValueError as error:
            self._fail("a name as a JSON string", token, str(error))

    def _placement(self) -> Placement:
        token = self._peek()
        if token.kind == "word" and token.text in Placement.__members__:
            return Placement[self._take().text]
        self._fail("the placement CLIENTS or SERVER")

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _accept(self, mark: str) -> bool:
        token = self._peek()
        if token.kind not in ("mark", "arrow") or token.text != mark:
            return False
        self._next += 1
        return True

    def _expect(self, mark: str, expected: str) -> None:
        if not self._accept(mark):
            self._fail(expected)

    def _build(self, start: int, build: Callable[..., T], *arguments: object) -> T:
        """Calls a constructor, and points at the place if it refuses."""
        try:
            return build(*arguments)
        except (TypeError, ValueError) as error:
            self._raise(str(error), start)

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while not tokens or tokens[-1].kind != "end":
            match = _TOKEN.match(self._text, position)
            if match is None:
                start = len(self._text) - len(self._text[position:].lstrip())
                self._raise("expected the closing '\"' of a name", start)
            kind = match.lastgroup or ""
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return tokens

    def _fail(self, expected: str, token: _Token | None = None, more: str = "") -> NoReturn:
        token = token or self._peek()
        found = repr(token.text) if token.text else "the end"
        self._raise(f"expected {expected}, found {found}" + (f": {more}" if more else ""), token.start)

    def _raise(self, message: str, position: int) -> NoReturn:
        """Raises with the line around the position, and a caret below it."""
        first = max(0, position - _WINDOW)
        last = min(len(self._text), position + _WINDOW)
        before, after = "…" * (first > 0), "…" * (last < len(self._text))
        line = "".join(c if c.isprintable() else " " for c in self._text[first:last])
        caret = " " * (len(before) + position - first) + "^"
        raise ValueError(f"this is no type: {message}\n  {before}{line}{after}\n  {caret}") from None
