"""How many clients a device works on in one vectorised computation."""

from __future__ import annotations

from typing import Any

import jax

from hansa.compiler.program import Program
from hansa.language.local import tensors
from hansa.types import FederatedType, Type

_MOST = 32
_COPIES = 6
"""Of what the server sends, that a client works with: its model, the gradient, an optimizer's moments, the update."""


def clients_at_once(program: Program, device: jax.Device) -> int:
    """The number of clients, by a rule: results agree to rounding whatever it is.

    A CPU's core is kept busy by one client's step, and several clients' products, each with weights of its own, are
    slower than one after another; so it is one. Elsewhere it takes many to keep the device busy: 32, or as many as a
    quarter of the device's memory has room for, if that is known.
    """
    if device.platform == "cpu":
        return 1
    memory = (device.memory_stats() or {}).get("bytes_limit")
    sent = max((sum(_bytes(node.type) for _, node in stage.broadcasts) for stage in program.clients), default=0)
    if not memory or not sent:
        return _MOST
    return max(1, min(_MOST, int(memory) // 4 // (_COPIES * sent)))


def _bytes(kind: Type) -> int:
    """The size of a value, as far as it is known."""
    unplaced: Any = kind.member if isinstance(kind, FederatedType) else kind
    total = 0
    for leaf in tensors(unplaced):
        size = leaf.dtype.itemsize if leaf.dtype.kind != "U" else 0
        for n in leaf.shape:
            size *= 1 if n is None else n
        total += size
    return total
