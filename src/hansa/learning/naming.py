"""Which of a model's weights something is about: by their names, by patterns, or by a function of a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from hansa.learning.fixed import Names
from hansa.models.model import FunctionalModel
from hansa.models.weights import ModelWeights
from hansa.types.names import unknown

Which: TypeAlias = str | Sequence[str] | Callable[[str], bool]
"""The names of weights, or of layers, which is the first part of their weights' names; patterns such as `dense_*`; or a
function of a name."""


def names_of(which: Which, weights: ModelWeights, what: str) -> Names:
    """The weights that are meant, by part: trainable, and non-trainable.

    Args:
        which: which weights.
        weights: those of the model.
        what: how messages call `which`.

    Raises:
        TypeError: if it is none of the forms above.
        ValueError: if a name or pattern is that of no weight.
    """
    every = [str(name) for part in weights for name in part._fields]
    if callable(which):
        chosen = {name for name in every if which(name)}
        if not chosen:
            raise ValueError(f"{what} is true of no weight of the model; it has {', '.join(every)}")
    else:
        chosen = _matching([which] if isinstance(which, str) else which, every, what)
    return {str(part): {name for name in found._fields if name in chosen} for part, found in weights._items()}


def others(names: Names, weights: ModelWeights) -> Names:
    """The weights that are not among these."""
    return {str(part): set(found._fields) - names[str(part)] for part, found in weights._items()}


def divided(which: Which, model: FunctionalModel, what: str) -> tuple[Names, Names]:
    """The weights that are meant, which are each client's own, and the others, which are learned together.

    Raises:
        TypeError, ValueError: as `names_of`, or if there is no trainable one among the others.
    """
    own = names_of(which, model.initial_weights, what)
    shared = others(own, model.initial_weights)
    if not shared["trainable"]:
        raise ValueError(
            f"all trainable weights of the model {model.name!r} are {what}, so nothing is learned together"
        )
    return own, shared


def _matching(patterns: object, every: list[str], what: str) -> set[str]:
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(
            f"{what} must be names of weights or patterns, such as 'dense_1/*', or a function of a name; found "
            f"{patterns!r}"
        )
    if not patterns:
        raise ValueError(f"{what} names no weight; the model has {', '.join(every)}")
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in every if any(fnmatchcase(name, pattern + end) for end in ("", "/*", ".*"))}
        if not found:
            raise ValueError(f"{what}: {unknown(pattern, every).replace('field', 'weight')}")
        chosen |= found
    return chosen
