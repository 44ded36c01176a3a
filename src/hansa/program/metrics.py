"""Metrics as flat records: a name such as `evaluation/accuracy` for each number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from hansa.program.records import EVALUATION, MOST_BITS, Record, Scalar, is_of_evaluation
from hansa.types import FederatedType, StructType, TensorType, Type
from hansa.types import names as _names
from hansa.types.members import members
from hansa.types.mismatch import describe

_LARGEST = 1000
"""The most elements that an array among the metrics may have, each of which becomes a number with a name."""


def flatten(metrics: Any, prefix: str = "") -> dict[str, Scalar]:
    """The numbers in a value, by the path to each, in the value's order.

    Fields of structs, dicts and named tuples go by their names, elements of lists and arrays by their index:
    `{"recall": [0.5, 1.0]}` is `{"recall/0": 0.5, "recall/1": 1.0}`. Arrays become Python's numbers, which hold those
    of every dtype exactly.

    Args:
        metrics: numbers, strings, arrays, or a container of them.
        prefix: what the names begin with.

    Raises:
        TypeError: if something is no such value.
        ValueError: if an array is too large to be metrics, or an integer.
    """
    found = members(metrics)
    if found is not None:
        result: dict[str, Scalar] = {}
        for index, (name, value) in enumerate(zip(found.names, found.values, strict=True)):
            result.update(flatten(value, _joined(prefix, str(index) if name is None else name)))
        return result
    what = f"the metric {prefix!r}" if prefix else "the metrics"
    if isinstance(metrics, bool | int | float | str) and not isinstance(metrics, np.generic):
        if isinstance(metrics, int) and metrics.bit_length() > MOST_BITS:
            raise ValueError(f"{what} has an integer of {metrics.bit_length():,} bits, which no float holds")
        return {prefix or "value": metrics}
    if not hasattr(metrics, "__array__"):
        raise TypeError(f"{what} must be numbers, or arrays or containers of numbers; found {describe(metrics)}")
    array = np.asarray(metrics)
    if array.ndim == 0:
        return {prefix or "value": _scalar(array, what)}
    _check_size(array.size, what)
    return {_joined(prefix, "/".join(map(str, index))): _scalar(value, what) for index, value in np.ndenumerate(array)}


def check_type(kind: Type) -> None:
    """Checks before the first round that a process's metrics can be recorded.

    Raises:
        ValueError: if an array among them is too large.
    """
    _check_type(kind, "")


def names_of(kind: Type, prefix: str = "") -> list[str] | None:
    """The names that `flatten` gives the numbers in a value of a type; None where the type does not say them all.

    Args:
        kind: the type.
        prefix: what the names begin with.
    """
    if isinstance(kind, FederatedType):
        return names_of(kind.member, prefix) if kind.all_equal else None
    if isinstance(kind, StructType):
        inner = [
            names_of(member, _joined(prefix, str(index) if name is None else name))
            for index, (name, member) in enumerate(kind.fields)
        ]
        return None if None in inner else [name for names in inner for name in names or ()]
    if not isinstance(kind, TensorType) or None in kind.shape:
        return None
    if not kind.shape:
        return [prefix or "value"]
    return [_joined(prefix, "/".join(map(str, index))) for index in np.ndindex(*(size or 0 for size in kind.shape))]


def metric_value(metrics: Record, name: str) -> float | None:
    """A metric of a round; None where it is one of the evaluation and the round has none.

    Raises:
        KeyError: if there is no metric of this name.
        TypeError: if it is no number.
    """
    if name in metrics:
        value = metrics[name]
        if isinstance(value, str):
            raise TypeError(f"the metric {name!r} must be a number, found {value!r}")
        return float(value)
    if is_of_evaluation(name) and not any(map(is_of_evaluation, metrics)):
        return None
    raise KeyError(_names.unknown(name, tuple(metrics)))


def no_such_metric(name: str, known: Iterable[str], evaluated: bool, all_known: bool) -> str | None:
    """What is wrong with a metric that a run is to look at: that there is none; None where there is, or may be, one.

    Args:
        name: the metric's.
        known: the names that are known before the first round, those of the evaluation with `evaluation/`.
        evaluated: whether there is an evaluation.
        all_known: whether all names of the evaluation are known.
    """
    listed = list(known)
    if name in listed or (is_of_evaluation(name) and evaluated and not all_known):
        return None
    hint = _names.suggestion(name, listed) or ";"
    more = "" if all_known or not evaluated else f", and what evaluate returns, as {EVALUATION}…"
    none = "; there is no evaluation, so there is nothing of it" if is_of_evaluation(name) and not evaluated else ""
    return f"there is no such metric{hint} there are {', '.join(listed) or 'none'}{more}{none}"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def _scalar(value: Any, what: str) -> Scalar:
    if value.dtype.kind == "V":  # bfloat16 and the like
        value = np.asarray(value).astype(np.float32)
    number = value.item()
    if not isinstance(number, bool | int | float | str):
        raise TypeError(f"{what} must be numbers, found {describe(value)}")
    return number


def _check_size(size: int, what: str) -> None:
    if size > _LARGEST:
        raise ValueError(
            f"{what} has {size:,} elements, and each would be recorded by itself; at most {_LARGEST:,} are: leave it "
            "out, or reduce it in the computation"
        )


def _check_type(kind: Type, path: str) -> None:
    if isinstance(kind, FederatedType):
        _check_type(kind.member, path)
    elif isinstance(kind, StructType):
        for index, (name, member) in enumerate(kind.fields):
            _check_type(member, _joined(path, str(index) if name is None else name))
    elif isinstance(kind, TensorType):
        _check_size(math.prod(size or 1 for size in kind.shape), f"the metric {path!r}" if path else "the metrics")
