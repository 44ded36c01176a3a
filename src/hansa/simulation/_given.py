"""One client's arrays as a population was given them, before any step: what a plan of its data begins with."""

from __future__ import annotations

from hansa.simulation._derived import Chosen, Concatenated, Kept, Transformed
from hansa.simulation._sources import Source
from hansa.simulation._steps import Arrays


def given(source: Source, position: int) -> Arrays:
    """The arrays of the client at a position."""
    match source:
        case Transformed() | Kept():
            return given(source._parent, position)
        case Chosen():
            return given(source._parent, int(source._positions[position]))
        case Concatenated():
            before = len(source._first.client_ids)
            return given(source._first, position) if position < before else given(source._second, position - before)
    return source.read(position)
