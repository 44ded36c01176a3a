"""What is wrong with data: one kind of error, whatever library met it, which names the file.

A reader runs within `reading`, and so does what it reads later, when a client is wanted (`readers/clients.py`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from hansa._errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


class DatasetError(UserError):
    """A dataset is missing, damaged, or does not hold what it should. The message names the file.

    What would be a `ValueError`, a `TypeError` or a `FileNotFoundError` by itself, such as a column that is not there,
    is that too, so either can be caught.

    Examples:
        >>> hansa.simulation.from_csv("patients.csv", "patient")
        Traceback (most recent call last):
            ...
        hansa.simulation._errors.DatasetFileNotFoundError: there is no file patients.csv
    """


class DatasetValueError(DatasetError, ValueError):
    """A value that cannot be."""


class DatasetTypeError(DatasetError, TypeError):
    """A value of another type."""


class DatasetFileNotFoundError(DatasetError, FileNotFoundError):
    """A file that is not there."""


_KINDS: dict[type[Exception], type[DatasetError]] = {
    ValueError: DatasetValueError,
    TypeError: DatasetTypeError,
    FileNotFoundError: DatasetFileNotFoundError,
}


@contextlib.contextmanager
def reading(name: object, part: str = "") -> Iterator[None]:
    """Whatever goes wrong within it is a `DatasetError` that names the file.

    Args:
        name: the file, or what to call what is read.
        part: what of it is read, such as `client 'ann'`.
    """
    try:
        yield
    except ImportError:  # of a library that is not installed
        raise
    except Exception as error:
        told = _told(error)
        named = told if str(name) in told else f"{name}{part and ', ' + part}: {told}"
        if isinstance(error, DatasetError) and named == told:
            raise
        raise _kind_of(error)(named) from error


def reader(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose first argument is a file, or several, and whose errors are `DatasetError`s that name it."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        path = next(iter(signature.bind(*args, **kwargs).arguments.values()))
        # Of several files, the function itself knows which one it reads.
        with reading(path if isinstance(path, str | Path) else ""):
            return function(*args, **kwargs)

    return named


def _kind_of(error: Exception) -> type[DatasetError]:
    return next((made for kind, made in _KINDS.items() if isinstance(error, kind)), DatasetError)


def _told(error: Exception) -> str:
    if isinstance(error, (DatasetError, *_KINDS)) and str(error):
        return str(error)
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"{type(error).__name__}: {error}"
