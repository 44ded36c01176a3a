"""Checksums of values: whether what a computation is given is what it was given before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.compiler.partition import inline
from hansa.compiler.stored import StoredFold, StoredStage
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.types import Struct
from hansa.types.batches import Batches, ClientBatches

_TOLD_OTHERWISE = ("type", "where", "arguments", "functions")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def add_numbers(value: Any, checksum: Any) -> bool:
    """Adds numbers in containers, and clients' batches, to a checksum; False where there is something else."""
    if isinstance(value, Mapping):
        checksum.update(repr(list(value)).encode())
        return all(add_numbers(part, checksum) for part in value.values())
    if isinstance(value, Struct):
        checksum.update(repr(value._fields).encode())
        return all(add_numbers(part, checksum) for part in value)
    if isinstance(value, list | tuple):
        checksum.update(b"%d," % len(value))
        return all(add_numbers(part, checksum) for part in value)
    if isinstance(value, ClientBatches):
        checksum.update(repr((value.batching, value.unrolled, value.capacity, value.client_ids.tolist())).encode())
        return _add_rows(value, zip(value.starts.tolist(), value.rows.tolist(), strict=True), checksum)
    if isinstance(value, Batches):
        checksum.update(repr((value.batching, value.unrolled, value.capacity)).encode())
        size = int(value.batching.stored(np.array([value.size]), value.unrolled)[0]) if value.unrolled else value.size
        return _add_rows(value, [(value.start, size)], checksum)
    if not isinstance(value, bool | int | float | complex | np.generic) and not hasattr(value, "__array__"):
        return False
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return False
    checksum.update(f"{array.dtype.str}{array.shape}".encode())
    checksum.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return True


def _add_rows(value: Batches | ClientBatches, pieces: Any, checksum: Any) -> bool:
    """Adds the rows of clients, each from a first one, so many of them."""
    return all(add_numbers(value.examples.batch(start, start + rows), checksum) for start, rows in pieces)


def program_digest(computation: Computation) -> str | None:
    """A digest of what a computation does, which is the same in another process; None where it is not known."""
    checksum = hashlib.sha256()
    return checksum.hexdigest() if _add_program(computation, checksum) else None


def _add_program(computation: Computation, checksum: Any) -> bool:
    if isinstance(computation, LocalComputation):
        traced = computation.function.first_trace
        if traced is None:
            return False
        # An address is that of a function whose body is written out beside it.
        checksum.update(_ADDRESS.sub("", f"{traced.jaxpr} {traced.result}").encode())
        return add_numbers(traced.jaxpr.consts, checksum)
    if isinstance(computation, StoredStage | StoredFold):
        stored = computation.functions if isinstance(computation, StoredFold) else (computation.function,)
        for function in stored:
            checksum.update(function.exported.mlir_module_serialized)
        return all(add_numbers(read(), checksum) for function in stored for read in function.constants)
    if not isinstance(computation, GraphComputation):
        return False
    if computation.declared is not None:
        checksum.update(repr(computation.declared.encode()).encode())
    result = inline(computation.result, {})
    numbers: dict[Node, int] = {}
    for node in walk(result):
        numbers[node] = len(numbers)
        inputs = [numbers[source] for source in node.inputs]
        checksum.update(f"{type(node).__name__} {node.type} {inputs} ".encode())
        if not _add_node(node, checksum):
            return False
    return True


def _add_node(node: Node, checksum: Any) -> bool:
    """Adds what a node does beside its type and inputs."""
    match node:
        case Literal():
            if isinstance(node.value, str):
                checksum.update(node.value.encode())
                return True
            return add_numbers(node.value, checksum)
        case Select():
            checksum.update(b"%d" % node.index)
        case MakeStruct():
            checksum.update(repr(node.names).encode())
        case Apply():
            return _add_program(node.computation, checksum)
        case Intrinsic():
            named = {name: value for name, value in vars(node).items() if name not in _TOLD_OTHERWISE}
            checksum.update(repr(sorted(named.items())).encode())
            return all(_add_program(function, checksum) for function in node.functions)
        case RuntimeValue():
            checksum.update(node.name.encode())
        case _:
            return isinstance(node, Parameter)
    return True
