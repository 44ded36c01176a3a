"""What a module cannot be, in words that say where and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.aten.places import line_of, went_through


class NotExportable(Exception):
    """A module has no graph, or one with operations that the table does not have."""


_SUGGESTIONS = {
    "nonzero": "its result has a size that depends on values; write torch.where, or multiply by a mask",
    "masked_select": "its result has a size that depends on values; write torch.where, or multiply by a mask",
    "unique": "its result has a size that depends on values",
    "_unique2": "its result has a size that depends on values",
    "unique_consecutive": "its result has a size that depends on values",
    "cond": "write torch.where(condition, a, b)",
    "while_loop": "write a loop of a fixed number of steps",
}


def missing(name: str, found: Sequence[tuple[str, str]]) -> NotExportable:
    """All operations of a module that the table does not have.

    Args:
        name: the module's.
        found: the operations, and where each is.
    """
    places: dict[str, list[str]] = {}
    for operation, place in found:
        places.setdefault(operation, []).append(place)
    told = []
    for operation, at in places.items():
        more = f" and {len(at) - 1} more times" if len(at) > 1 else ""
        why = _SUGGESTIONS.get(operation.partition(".")[0])
        told.append(f"{operation} {at[0]}{more}" + (f": {why}" if why else ""))
    count = f"{len(told)} operations" if len(told) > 1 else "an operation"
    return NotExportable(
        f"{name!r} uses {count} of PyTorch without a counterpart in Hansa: {'; '.join(told)}. Write it with other "
        "operations, or the forward pass in JAX, for hansa.learning.functional_model"
    )


def outer(name: str, taken: Sequence[str]) -> NotExportable:
    """A loss or forward pass uses tensors of the user's module, of which copies are trained.

    Args:
        name: the module's.
        taken: the names of the tensors.
    """
    more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
    return NotExportable(
        f"{name!r}: the loss or forward= uses {taken[0]!r}{more} of the module itself, which a name outside of the "
        "function refers to and which stays as it is: no gradient would reach it. Take all from the first argument of "
        "forward=, forward(module, batch) -> (loss, predictions), which is the module in training"
    )


def refusal(name: str, error: Any) -> NotExportable:
    """Why PyTorch can make no graph of a module."""
    if isinstance(error, NotExportable):
        return error
    kind, text = type(error).__name__, str(error)
    place, line = line_of(error)
    at = f" at {place}, `{line}`" if line else (f" at {place}" if place else "")
    if went_through(error, "pack_padded_sequence"):
        return NotExportable(
            f"{name!r} packs sequences{at}, whose size then depends on values: give the layer the padded sequences, "
            "and leave out what is after their end in the loss, with a mask, or with labels of ignore_index"
        )
    if kind in ("GuardOnDataDependentSymNode", "DataDependentOutputException", "DynamicOutputShapeException") or any(
        part in text for part in ("data-dependent", "Unbacked", "aten._local_scalar_dense")
    ):
        return NotExportable(
            f"{name!r} asks Python for the value of a tensor{at}: an if, a while, int(), .item() or a mask x[mask] of "
            "it. Values are not known before a round runs; write torch.where(condition, a, b), or multiply by a mask"
        )
    if (
        isinstance(error, UserWarning)
        or kind in ("ConstraintViolationError", "UserError")
        or "Constraints violated" in text
    ):
        return NotExportable(
            f"{name!r} asks Python for the number of examples of a batch{at}: write it without, as the last batch of "
            f"a client is often short ({_first_line(text)})"
        )
    return NotExportable(f"{name!r} is none that torch.export can make a graph of{at}: {kind}: {_first_line(text)}")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
