"""The variables of a Keras model and their names: which are weights, and how they are matched by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from hansa.types import Struct
from hansa.types.aligned import settled


@contextmanager
def fresh_names() -> Iterator[None]:
    """Lets Keras number automatic names from the start, as in a new process, and go on from where it was afterwards."""
    try:
        from keras.src.backend.common import global_state
    except ImportError:  # A later Keras may keep the numbers elsewhere; names are then numbered on.
        yield
        return
    before = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before)


def quiet_tensorflow() -> None:
    """Lets TensorFlow, which Keras imports to save or copy a model if it is installed, print no greetings."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def is_seed(variable: Any) -> bool:
    """Whether a variable is the state of a random generator (of Dropout, for instance), and so no weight."""
    return str(variable.dtype) in ("uint32", "int64") and variable.name == "seed_generator_state"


def names(model: Any, variables: list[Any]) -> list[str]:
    """The names of a model's variables: their paths without the model's own name."""
    prefix = f"{model.name}/"
    found = [variable.path.removeprefix(prefix) for variable in variables]
    for i, name in enumerate(found):
        if found.count(name) > 1:
            number = found[:i].count(name)
            found[i] = f"{name}_{number}" if number else name
    return found


def order(model: Any, variables: list[Any]) -> list[tuple[str, int]]:
    """The names in the order of a struct of weights, each with the variable's position in `variables`."""
    return sorted(zip(names(model, variables), range(len(variables)), strict=True))


def weights(model: Any) -> tuple[list[Any], list[Any]]:
    """The trainable variables, and the non-trainable ones that are weights."""
    return list(model.trainable_variables), [v for v in model.non_trainable_variables if not is_seed(v)]


def initial_weights(model: Any) -> tuple[Struct, Struct]:
    """A copy of a model's weights as they are: the trainable ones, and the others."""
    trainable, rest = weights(model)
    return _struct(model, trainable), _struct(model, rest)


def _struct(model: Any, variables: list[Any]) -> Struct:
    return Struct((name, settled(np.asarray(variables[i].value))) for name, i in order(model, variables))


def assign(values: tuple[Struct, Struct], model: Any) -> None:
    """See `ModelWeights.assign_weights_to`; the values are the trainable weights, and the others."""
    pairs = _matched(values, model, "to assign")
    for _, target, value in pairs:
        target.assign(np.asarray(value))


def read(model: Any, like: tuple[Struct, Struct]) -> tuple[Struct, Struct]:
    """The weights of a Keras model, the trainable ones and the others, by the names of others.

    Raises:
        TypeError, ValueError: as `ModelWeights.assign_weights_to`.
    """
    found = {name: np.array(target.value) for name, target, _ in _matched(like, model, "to replace")}
    trainable, rest = (Struct([(name, found[str(name)]) for name in part._fields]) for part in like)
    return trainable, rest


def _matched(values: tuple[Struct, Struct], model: Any, which: str) -> list[tuple[str, Any, Any]]:
    """Each weight by its name in `values`, with the variable of the model that it belongs to, and its value."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"weights are assigned to a Keras model, found {type(model).__name__}")
    if not model.variables:
        raise ValueError(f"the Keras model {model.name!r} has no weights yet: build it, or call it on a batch, first")
    trainable, rest = weights(model)
    targets = dict(zip(names(model, [*trainable, *rest]), [*trainable, *rest], strict=True))
    sources = {str(name): value for part in values for name, value in part._items()}
    source_of = {name: name for name in targets}
    if sources.keys() != targets.keys():
        ours, theirs = _canonical(sources), _canonical(targets)
        if ours.keys() != theirs.keys():
            raise ValueError(
                f"the Keras model {model.name!r} is another model: its weights are {', '.join(sorted(targets))}; "
                f"those {which} are {', '.join(sorted(sources))}"
            )
        source_of = {theirs[name]: source for name, source in ours.items()}
    pairs = [(source_of[name], target, sources[source_of[name]]) for name, target in targets.items()]
    for name, (_, target, value) in zip(targets, pairs, strict=True):
        if tuple(target.shape) != tuple(np.shape(value)):
            raise ValueError(
                f"the weight {name!r} of the Keras model {model.name!r} has the shape {tuple(target.shape)}, the one "
                f"{which} {tuple(np.shape(value))}"
            )
    return pairs


def _canonical(named: dict[str, Any]) -> dict[str, str]:
    """Names by themselves with each path's numbered parts renumbered from the start, in the order of their numbers."""
    numbered = re.compile(r"^(.*?)(?:_(\d+))?$")
    seen: dict[tuple[str, str], set[int]] = {}
    split = {name: [numbered.match(part).groups() for part in name.split("/")] for name in named}  # type: ignore[union-attr]
    for parts in split.values():
        for depth, (base, number) in enumerate(parts[:-1]):
            seen.setdefault((str(depth), base), set()).add(int(number or 0))
    ranks = {key: {number: rank for rank, number in enumerate(sorted(found))} for key, found in seen.items()}

    def rename(name: str) -> str:
        *layers, _ = split[name]
        renamed = [f"{base}#{ranks[str(depth), base][int(number or 0)]}" for depth, (base, number) in enumerate(layers)]
        return "/".join([*renamed, name.rsplit("/", 1)[-1]])

    return {rename(name): name for name in named}
