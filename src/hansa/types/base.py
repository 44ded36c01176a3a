"""What all types have in common: a notation, equality, components, and the question what may be passed for what.

The types themselves, with the rules of each, are in `types`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from hansa.types.layout import WIDTH, comparison, lay_out

_SHOWN = 3
_LONGEST = 60
"""Characters of one of two types in a line that says where they differ."""


class Difference(NamedTuple):
    """One reason why a source is not assignable to a target, at the innermost place where the two part.

    Attributes:
        path: The way from the whole type to that place, such as `.model['dense/kernel']`; empty for the whole.
        expected: What the target has there.
        found: What the source has there.
        reason: What else there is to say, or empty.
    """

    path: str
    expected: str
    found: str
    reason: str = ""


class Type:
    """The type of a value that computations take and return: immutable, hashable, and equal by structure.

    `str(type)`, and so `print(type)`, is the notation, such as `{<x=float32[?,784],y=int32[?]>*}@CLIENTS`. Where that
    is longer than a line of 80 characters, it is laid out in several. In a line, however long, it is `type.compact()`,
    or `f"{type}"`. `parse_type` reads both back.

    Examples:
        >>> kind = hansa.to_type("{<x=float32[?,784],y=int32[?]>*}@CLIENTS")
        >>> kind.placement, kind.member.element["x"]
        (CLIENTS, to_type('float32[?,784]'))
        >>> kind == hansa.parse_type(str(kind))
        True
        >>> kind.compact()
        '{<x=float32[?,784],y=int32[?]>*}@CLIENTS'
    """

    # No abc.ABC: its `isinstance` is several times slower, and types are told apart wherever values pass.
    __slots__ = ()

    def is_assignable_from(self, source: Type) -> bool:
        """Whether a value of the type `source` may be passed where one of this type is expected.

        Dtypes must be the same, as there are no implicit casts; an unknown size here takes any size; a struct's field
        without a name goes to a named one, never the reverse. Sequences and federated values go by their members, an
        all-equal federated type needs an all-equal source, and functions are contravariant in the parameter. That
        makes a partial order of the types.

        Examples:
            >>> batch = hansa.to_type("float32[?,784]")
            >>> batch.is_assignable_from(hansa.to_type("float32[20,784]"))
            True
            >>> batch.is_assignable_from(hansa.to_type("float64[20,784]"))
            False
        """
        return self == source or next(self._differences(source, ""), None) is None

    def check_assignable_from(self, source: Type, what: str = "argument") -> None:
        """Raises a `TypeError` unless `is_assignable_from(source)`.

        Args:
            source: The type of the value at hand.
            what: What that value is to the reader of the message, such as `the state that next returns`.

        Examples:
            >>> hansa.to_type("<x=float32>").check_assignable_from(hansa.to_type("<x=int32>"), "the batch")
            Traceback (most recent call last):
                ...
            TypeError: the batch.x: expected float32, found int32; dtypes are never cast implicitly
              expected, in full: <x=float32>
              found, in full:    <x=int32>
        """
        if self == source:
            return
        differences = self._differences(source, "")
        shown = list(itertools.islice(differences, _SHOWN))
        if not shown:
            return
        whole = self.compact(), source.compact()
        long = max(map(len, whole)) > WIDTH
        lines = [_told(difference, long) for difference in shown]
        lines = [what + lines[0], *(f"  and {line}" for line in lines[1:])]
        more = sum(1 for _ in differences)
        if more:
            lines.append(f"  and {more} more")
        if long:
            lines += ["  in full, - is expected and + is found:"]
            lines += [f"    {line}" for line in comparison(*whole, WIDTH)]
        elif any((difference.expected, difference.found) != whole for difference in shown):
            lines += [f"  expected, in full: {self}", f"  found, in full:    {source}"]
        raise TypeError("\n".join(lines))

    def components(self) -> Iterator[Type]:
        """This type, then all the types in it, depth first.

        Examples:
            >>> [str(part) for part in hansa.to_type("<a=int32,b=float32*>").components()]
            ['<a=int32,b=float32*>', 'int32', 'float32*', 'float32']
        """
        yield self
        for child in self._children():
            yield from child.components()

    def compact(self) -> str:
        """The notation in one line."""
        return self._notation()

    def __str__(self) -> str:
        return lay_out(self.compact())

    def __format__(self, spec: str) -> str:
        """In one line, as what is around it is one."""
        return format(self.compact(), spec)

    def __repr__(self) -> str:
        return f"to_type({self.compact()!r})"

    def _notation(self) -> str:
        """The notation in one line."""
        raise NotImplementedError

    def _children(self) -> tuple[Type, ...]:
        """The types that this one is directly made of."""
        raise NotImplementedError

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        """Why `source` is not assignable to this type; nothing if it is."""
        raise NotImplementedError


def _told(difference: Difference, cut: bool) -> str:
    """A difference in a line; long types in it may be cut."""
    path, expected, found, reason = difference
    two = [text[:_LONGEST] + "…" if cut and len(text) > _LONGEST else text for text in (expected, found)]
    shown = "two types that differ" if two[0] == two[1] else f"expected {two[0]}, found {two[1]}"
    return f"{path}: {shown}" + (f"; {reason}" if reason else "")
