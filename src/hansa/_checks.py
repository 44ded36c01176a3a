"""Checks of numbers that are arguments."""

from __future__ import annotations


def check_number(what: str, value: object, *, above: float | None = None, below: float | None = None) -> float:
    """A finite number strictly between two."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if good and (above is None or value > above) and (below is None or value < below):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    limits = [f"{word} {limit:g}" for word, limit in (("above", above), ("below", below)) if limit is not None]
    wanted = f"number {' and '.join(limits)}" if limits else "finite number"
    raise ValueError(f"{what} must be a {wanted}, found {value!r}")


def check_whole(what: str, value: object, least: int, most: int | None = None) -> int:
    """An integer that is not less than another, nor above a third."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return value
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{what} must be an integer {limits}, found {value!r}")


def check_share(what: str, value: object) -> float:
    """A number above 0, up to 1."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise ValueError(f"{what} must be a number above 0, up to 1, found {value!r}")
