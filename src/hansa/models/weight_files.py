"""The weights of a model as a safetensors file, which other libraries read, too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from hansa._extras import require
from hansa._files import replacing
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type, infer_type
from hansa.types.mismatch import describe
from hansa.types.names import listing, suggestion

_PARTS = ("trainable", "non_trainable")
_TYPE = "hansa.type"


def save_weights(
    weights: ModelWeights,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    parts: bool = True,
) -> None:
    """Writes weights to a safetensors file.

    A tensor is called by its part and its name in the type: `trainable/dense/kernel`,
    `non_trainable/batch_normalization/moving_mean`. The file says of what type the weights are, under `hansa.type`.

    Args:
        weights: such as `state.model` of a trained model.
        path: the file, such as `model.safetensors`; one that is there is replaced.
        metadata: what else the file is to say: strings by name, such as `{"rounds": "100"}`.
        parts: whether tensors are called by their part, too; without, they have the names of the model alone, as in a
            file of the `state_dict` of a PyTorch module. `load_weights` with `like` reads both.

    Raises:
        TypeError: if the weights are none, or the metadata are not strings.
        ImportError: if safetensors is not installed.
        OSError: if the file cannot be written.

    Examples:
        >>> hansa.learning.save_weights(state.model, "digits.safetensors", {"rounds": "0"})
    """
    _check_weights(weights, "save_weights")
    said = dict(metadata or {})
    for key, value in said.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"metadata are strings by name, found {key!r}: {value!r}; write {str(key)!r}: {str(value)!r}"
            )
    numpy = require("safetensors.numpy", "safetensors", "hansa.learning.save_weights")
    arrays = {
        name if parts else name.partition("/")[2]: np.require(leaf, requirements="C")
        for name, leaf in _flat(weights).items()
    }
    with replacing(Path(path)) as part:  # which sets who may read it, too
        numpy.save_file(arrays, part, {**said, _TYPE: str(infer_type(weights))})


def load_weights(path: str | os.PathLike[str], like: ModelWeights | Type | None = None) -> ModelWeights:
    """Reads weights from a safetensors file.

    Args:
        path: a file that `save_weights` wrote, or one with tensors of the same names. With `like`, tensors may also be
            called without the part, as in a file of the `state_dict` of a PyTorch module.
        like: what the weights must be like: others, such as `state.model`, or their type; by default they may be any.

    Raises:
        TypeError: if a weight has another type than in `like`.
        ValueError: if the file is none of safetensors, or has other weights than `like`, or no weights of a model.
        ImportError: if safetensors is not installed.
        OSError: if the file cannot be read.

    Examples:
        >>> hansa.learning.save_weights(state.model, "digits.safetensors")
        >>> weights = hansa.learning.load_weights("digits.safetensors", like=state.model)
        >>> state = hansa.learning.with_weights(process.initialize(), weights)
    """
    numpy = require("safetensors.numpy", "safetensors", "hansa.learning.load_weights")
    try:
        found = numpy.load_file(path)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{os.fspath(path)} is no safetensors file, or is damaged: {error}") from error
    expected = None if like is None else _expected(like)
    if expected is not None and not any(name.split("/")[0] in _PARTS for name in found):
        found = _by_parts(found, expected)
    for name in found:
        if expected is not None and name not in expected:
            raise ValueError(
                f"{os.fspath(path)} has the weight {name!r}, which the model has not"
                f"{suggestion(name, expected) or ';'} its weights are {listing(list(expected))}"
            )
        if name.split("/")[0] not in _PARTS or "/" not in name:
            raise ValueError(
                f"{os.fspath(path)} has the weight {name!r}; those of a model are called trainable/… or non_trainable/…"
                ", as hansa.learning.save_weights writes them"
            )
    for name, kind in (expected or {}).items():
        if name not in found:
            raise ValueError(f"{os.fspath(path)} lacks the weight {name!r} of the model; it has {listing(list(found))}")
        if infer_type(found[name]) != kind:
            raise TypeError(
                f"the weight {name!r} in {os.fspath(path)} is {infer_type(found[name])}, and that of the model is "
                f"{kind}"
            )
    names = sorted(found) if expected is None else list(expected)
    parts = [
        Struct([(name.removeprefix(f"{part}/"), found[name]) for name in names if name.startswith(f"{part}/")])
        for part in _PARTS
    ]
    return ModelWeights.create(*parts)


def _by_parts(found: dict[str, Any], expected: Mapping[str, TensorType]) -> dict[str, Any]:
    """Tensors of plain names, as those of a PyTorch `state_dict`, by the names here; integers of 64 bits become those
    that are expected."""
    part_of = {name.partition("/")[2]: name for name in expected}
    named = {part_of.get(name, name): value for name, value in found.items()}
    return {
        name: value.astype(expected[name].dtype) if value.dtype == np.int64 and name in expected else value
        for name, value in named.items()
    }


def _expected(like: Any) -> dict[str, TensorType]:
    """The types of weights, by their names in a file and in order."""
    if isinstance(like, Type):
        kind: Any = like
    else:
        _check_weights(like, "load_weights")
        kind = infer_type(like)
    if not isinstance(kind, StructType) or kind.names != _PARTS:
        raise TypeError(
            "like is weights of a model, such as state.model, or their type, <trainable=…,non_trainable=…>; found "
            f"{kind}"
        )
    return {f"{part}/{name}": leaf for part in _PARTS for name, leaf in cast(Any, kind[part]).fields}


def _flat(weights: ModelWeights) -> dict[str, Any]:
    return {f"{part}/{name}": np.asarray(leaf) for part in _PARTS for name, leaf in weights[part]._items()}


def _check_weights(value: Any, what: str) -> None:
    if not isinstance(value, Struct) or value._fields != _PARTS:
        raise TypeError(
            f"{what} takes the weights of a model, such as the field `model` of an averaging process's state; "
            f"found {describe(value)}"
        )
