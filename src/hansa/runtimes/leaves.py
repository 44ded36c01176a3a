"""The order in which what is no sum is folded: it depends on the cohort alone, and is the same in every runtime.

Clients in the cohort's order make leaves of 16; each leaf is folded by itself, one client after another, and the leaves
are merged by a binary tree of which every left part is as large a power of two as there can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LEAF = 16
"""Clients whose contributions are folded one after another."""


def merged(states: Sequence[Any], merge: Callable[[Any, Any], Any]) -> Any:
    """The states of the leaves, at least one, as one."""
    if len(states) == 1:
        return states[0]
    left = 1 << (len(states) - 1).bit_length() - 1
    return merge(merged(states[:left], merge), merged(states[left:], merge))
