"""Exact sums in plain Python, for the runtime without a compiler: what `hansa.compiler.sums` computes in XLA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.dtypes import kind as kind_of

Array = npt.NDArray[Any]


def exact_mean(values: Array, weights: Array) -> Any:
    """The weighted mean over the first axis, of exact sums; zero where the weights sum to zero."""
    if kind_of(values.dtype) == "complex":
        found = np.empty(values.shape[1:], np.complex128)
        found.real, found.imag = exact_mean(values.real, weights), exact_mean(values.imag, weights)
        return found
    summed, total = exact_sum(values, weights), exact_sum(weights.astype(np.float64))
    return summed / total if total != 0 else np.zeros_like(summed)


def exact_sum(values: Array, weights: Array | None = None) -> Any:
    """The sum over the first axis, each value times a weight, rounded once: to float64, or to complex128.

    Integers are added in their own dtype.
    """
    if kind_of(values.dtype) == "complex":
        found = np.empty(values.shape[1:], np.complex128)
        found.real, found.imag = exact_sum(values.real, weights), exact_sum(values.imag, weights)
        return found
    if kind_of(values.dtype) != "float":
        return values.sum(axis=0, dtype=values.dtype)
    factors = np.ones(len(values)) if weights is None else weights.astype(np.float64)
    columns = _without_subnormals(values).astype(np.float64).reshape(len(values), math.prod(values.shape[1:])).T
    add = _double if values.dtype == np.float64 and weights is not None else _single
    return np.array([add(column, factors.tolist()) for column in columns.tolist()]).reshape(values.shape[1:])


def _without_subnormals(values: Array) -> Array:
    """The values, with zero for those that are so small that XLA takes them for it."""
    if values.dtype != np.float32:
        return values
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)


def _single(column: list[float], weights: list[float]) -> float:
    """Of values of up to 24 bits, or times 1: float64 holds their products with each half of a weight."""
    if not all(map(math.isfinite, [*column, *weights])):
        return _special(column, weights)
    terms = [x * part for x, weight in zip(column, weights, strict=True) for part in _halves(weight)]
    return math.fsum(terms)


def _halves(weight: float) -> Sequence[float]:
    mantissa, exponent = math.frexp(weight)
    upper = math.ldexp(math.trunc(mantissa * 2**26), exponent - 26)
    return (weight,) if upper == weight else (upper, weight - upper)


def _double(column: list[float], weights: list[float]) -> float:
    if not all(map(math.isfinite, [*column, *weights])):
        return _special(column, weights)
    total = sum((Fraction(x) * Fraction(weight) for x, weight in zip(column, weights, strict=True)), Fraction())
    try:
        return float(total)
    except OverflowError:
        return math.copysign(math.inf, total)


def _special(column: list[float], weights: list[float]) -> float:
    """Of some that are not finite: NaN, or infinite."""
    return float(np.sum([x * weight for x, weight in zip(column, weights, strict=True)]))
