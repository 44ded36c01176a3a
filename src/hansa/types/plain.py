"""Arrays as they are computed with: without masks, and not sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def unmasked(value: Any) -> npt.NDArray[Any]:
    """An array of what is passed as one.

    Raises:
        TypeError: if it is a sparse matrix.
        ValueError: if values are masked.
    """
    if isinstance(value, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(value)
        if masked.any() and not value.ndim:
            raise ValueError("the value is masked, that is, missing; put a number in its place, or leave it out")
        if masked.any():
            raise ValueError(
                f"{int(masked.sum())} values of an array are masked, the first at {np.argwhere(masked)[0].tolist()}; "
                "say what stands there, with .filled(value), or leave these rows out"
            )
        return np.asarray(value.data)
    if not isinstance(getattr(value, "dtype", None), np.dtype) and hasattr(value, "isna") and np.any(value.isna()):
        raise ValueError(
            f"{int(np.sum(value.isna()))} values of an array are missing; say what stands there, with .fillna(value), "
            "or leave these rows out"
        )
    if type(value).__module__.startswith("scipy.sparse"):
        raise TypeError(
            "a sparse matrix is no array; pass .toarray(), or make clients of it with "
            "hansa.simulation.ClientData.from_arrays, which makes the rows of a cohort dense"
        )
    return np.asarray(value)
