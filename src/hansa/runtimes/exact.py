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
    summed, total = exact_sum(values, weights), exact_sum(_without_subnormals(weights).astype(np.float64))
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
    factors = np.ones(len(values)) if weights is None else _without_subnormals(weights).astype(np.float64)
    if values.dtype != np.float64 or weights is not None:
        values = _without_subnormals(values)
    columns = values.astype(np.float64).reshape(len(values), math.prod(values.shape[1:])).T
    # float64 holds the products of up to 24 bits with each half of a weight.
    single = values.dtype.itemsize <= 4 or weights is None
    sums = [_sum(column, factors.tolist(), single) for column in columns.tolist()]
    return np.array(sums).reshape(values.shape[1:])


def _without_subnormals(values: Array) -> Array:
    """The values, with zero for those that are so small that XLA's conversions and products take them for it."""
    tiny = _TINIEST.get(values.dtype.name)
    return values if tiny is None else np.where(np.abs(values) < tiny, values.dtype.type(0), values)


_TINIEST = {"bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}
"""The smallest numbers of dtypes that are not subnormal. Those of float16 become normal in conversion."""


def _sum(column: list[float], weights: list[float], single: bool) -> float:
    """The nearest float to the exact sum; with a product that no float holds it is infinite, or NaN, as with one that
    is so by itself."""
    pairs = list(zip(column, weights, strict=True))
    products = [x * weight for x, weight in pairs]
    if not all(map(math.isfinite, products)):
        with np.errstate(invalid="ignore"):
            return float(np.sum(products))
    if single:
        terms = [x * part for x, weight in pairs for part in _halves(weight)]
        try:
            if all(abs(term) > _FAR_ABOVE_THE_LAST for term in terms if term):
                return math.fsum(terms)
        except OverflowError:  # on the way
            pass
    total = sum((Fraction(x) * Fraction(weight) for x, weight in pairs), Fraction())
    try:
        return total.numerator / total.denominator  # rounded once
    except OverflowError:
        return math.inf if total > 0 else -math.inf


_FAR_ABOVE_THE_LAST = 2.0**-900
"""Of a product that is so large, float64 has all bits."""


def _halves(weight: float) -> Sequence[float]:
    mantissa, exponent = math.frexp(weight)
    upper = math.ldexp(math.trunc(mantissa * 2**26), exponent - 26)
    return (weight,) if upper == weight else (upper, weight - upper)
