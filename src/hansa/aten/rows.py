"""A pass over an exported graph that keeps the batch on an axis of its own.

`F.multi_head_attention_forward` computes with time first, [time, batch, features], and merges both axes before a linear
layer, to take them apart again behind it. The rows of an example are then no block, and a batch of a size that is known
only later could not be told from what fills it up. A linear layer works on the last axis only: the axes need not be
merged for it.
"""

from __future__ import annotations

import math
from typing import Any

import torch

_VIEWS = ("view", "reshape", "_unsafe_view")
_BY_ROW = (
    "linear", "relu", "gelu", "silu", "sigmoid", "tanh", "dropout", "native_dropout", "clone", "contiguous", "detach",
    "alias",
)  # fmt: skip


def keep_rows_apart(graph: Any) -> None:
    """Leaves time and batch on two axes where only operations on the last axis come before they are taken apart."""
    for node in graph.nodes:
        if _packet(node) in _VIEWS:
            time = _merged_time(node)
            if time is not None and _ends_in_views(node):
                features = [int(n) for n in node.meta["val"].shape[1:]]
                node.args = (node.args[0], [time, -1, *features])


def _merged_time(node: Any) -> int | None:
    """The size of the axis that a view merges with the batch behind it, if it does."""
    source, result = _shape(node.args[0]), _shape(node)
    if len(source) < 2 or not result or not isinstance(source[0], int) or source[0] == 1:
        return None
    if not isinstance(source[1], torch.SymInt) or not isinstance(result[0], torch.SymInt):
        return None
    if any(isinstance(n, torch.SymInt) for n in [*source[2:], *result[1:]]) or len(result) != 2:
        return None
    # All of the rows: [time, c * batch, …] to [time * batch, …].
    rest = math.prod(source[2:])
    per = math.prod(int(n) for n in result[1:])
    expected = source[0] * source[1].node.expr * rest
    return int(source[0]) if expected == result[0].node.expr * per else None


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(getattr(node.meta.get("val"), "shape", ()))


def _ends_in_views(node: Any) -> bool:
    """Whether all that is made of a value works on its last axis, until it is viewed in another shape."""
    for user in node.users:
        if _packet(user) in _VIEWS:
            continue
        if _packet(user) not in _BY_ROW or user.args[0] is not node or not _ends_in_views(user):
            return False
    return bool(node.users)


def _packet(node: Any) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)
