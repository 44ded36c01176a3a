"""How many clients a device works on in one vectorised computation."""

from __future__ import annotations

import jax

from hansa.compiler.evaluate import member
from hansa.compiler.handed_on import handed_on, tensors_handed_on
from hansa.compiler.narrowing import Path
from hansa.compiler.program import Program
from hansa.language.graph import Node
from hansa.language.local import tensors
from hansa.types import TensorType

_MOST = 32
_COPIES = 6
"""Of what the server sends, that a client works with: its model, the gradient, an optimizer's moments, the update. What
stays as it is from round to round, such as frozen weights, is there once for all clients."""


def clients_at_once(program: Program, device: jax.Device) -> int:
    """The number of clients, by a rule: results agree to rounding whatever it is.

    A CPU's core is kept busy by one client's step, and several clients' products, each with weights of its own, are
    slower than one after another; so it is one. Elsewhere it takes many to keep the device busy: 32, or as many as a
    quarter of the device's memory has room for, if that is known.
    """
    if device.platform == "cpu":
        return 1
    memory = (device.memory_stats() or {}).get("bytes_limit")
    fixed = handed_on(program)
    sent = max((sum(_moving(source, fixed) for source, _ in stage.broadcasts) for stage in program.clients), default=0)
    if not memory or not sent:
        return _MOST
    return max(1, min(_MOST, int(memory) // 4 // (_COPIES * sent)))


def _moving(node: Node, fixed: frozenset[Path]) -> int:
    """The size of a value without what is the same in each round, as far as it is known."""
    return _bytes(tensors(member(node.type))) - _bytes(tensors_handed_on(node, fixed))


def _bytes(leaves: list[TensorType]) -> int:
    total = 0
    for leaf in leaves:
        size = leaf.dtype.itemsize if leaf.dtype.kind != "U" else 0
        for n in leaf.shape:
            size *= 1 if n is None else n
        total += size
    return total
