"""`Listed`: what is no list, but is read, compared and printed as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Listed(Sequence[Any]):
    """A sequence of values that prints as the list of them."""

    def __repr__(self) -> str:
        return repr(list(self))
