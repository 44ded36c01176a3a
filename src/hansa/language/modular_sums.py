"""Sums modulo a power of two, of which nobody is to see a single summand: what protocols for such sums compute."""

from __future__ import annotations

import numpy as np

from hansa.language import operands
from hansa.language._typing import Operand
from hansa.language.excluding import terms_of
from hansa.language.graph import Node
from hansa.language.mechanism import Mechanism
from hansa.language.terms import Terms
from hansa.language.values import Value
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, tensor_leaves


def federated_secure_modular_sum(value: Operand, *, min_cohort: int | None = None) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the sum of unsigned integers modulo 2**32 or 2**64, of which nobody is to see a
    summand.

    It wraps around by definition. It is what protocols for secure sums compute, and what other sums are made of, such
    as `federated_private_sum`. Where a sum must not wrap around, take `federated_secure_sum`.

    Args:
        value: uint32 or uint64 tensors, or a struct of them.
        min_cohort: a call in which fewer clients take part is refused, before it has a result.

    Raises:
        TypeError: if the value is of another dtype.

    Examples:
        >>> @hansa.federated_computation("{uint32}@CLIENTS")
        ... def total(words):
        ...     return hansa.federated_secure_modular_sum(words)
        >>> total([2**32 - 1, 3])
        np.uint32(2)
    """
    name = "federated_secure_modular_sum"
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    kind = operands.member(node)
    operands.numeric(kind, name, ("int",), "unsigned integers of 32 or 64 bits")
    for leaf in tensor_leaves(kind):
        if leaf.dtype.name not in ("uint32", "uint64"):
            raise TypeError(
                f"{name} takes unsigned integers of 32 or 64 bits, found {leaf}; convert it in a local computation, "
                "with .astype('uint32'), or take federated_secure_sum"
            )
    terms = terms_of(name, min_cohort=min_cohort, disclosure="sum")
    return operands.recorded(name, FederatedType(kind, SERVER), trace, node, terms=terms)


def modular_sum(value: Value, width: int, min_cohort: int | None, mechanism: Mechanism | None, disclosure: str) -> Node:
    """The sum that a private sum is made of: of integers that are in a range, so that it never wraps around.

    Args:
        value: unsigned integers at the clients.
        width: how many numbers there are in the range of one.
        min_cohort: of how many clients it must be.
        mechanism: the noise that clients have added.
        disclosure: what the server sees of it.
    """
    name = "federated_secure_modular_sum"
    node = operands.placed(value, name, CLIENTS)
    least = terms_of("federated_private_sum", min_cohort=min_cohort).min_cohort
    terms = Terms(disclosure, min_cohort=least)
    limits = operands.at_server(Struct([(None, np.uint64(width))]), "the bound")
    kind = FederatedType(operands.member(node), SERVER)
    return operands.operation(name, kind, node, limits, terms=terms, mechanism=mechanism)
