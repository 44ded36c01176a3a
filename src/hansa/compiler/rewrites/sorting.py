"""Sorts that keep equal elements in order, in place of those that may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def stable_sort(eqn: Any) -> Callable[..., Any] | None:
    """The rule for `sort`."""
    if eqn.params["is_stable"]:
        return None

    def sort(*operands: Any) -> Any:
        return eqn.primitive.bind(*operands, **{**eqn.params, "is_stable": True})

    return sort
