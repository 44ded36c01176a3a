"""Errors that reach the user's code show the user's lines: the frames of Hansa, JAX and Keras are folded away.

A function of the public interface is a boundary: of an error that leaves it, the frames within it are taken out, but
for those of the user's own code that Hansa calls, such as a model's loss. `HANSA_TRACEBACK=1` leaves all of them in.
Where there is no error, a boundary costs a call of a Python function.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable, Iterator
from types import FunctionType, TracebackType
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

VARIABLE = "HANSA_TRACEBACK"
"""The environment variable that leaves all frames in."""

folding = True
"""Whether frames are folded away where the environment does not say otherwise. The tests of Hansa itself say no."""

_FOLDED = frozenset({"hansa", "jax", "jaxlib", "keras", "tensorflow"})
"""The packages whose frames are folded away, wherever they are."""

_HELPERS = frozenset(
    [
        "click",
        "contextlib",
        "h5py",
        "importlib",
        "ml_dtypes",
        "numpy",
        "opt_einsum",
        "optax",
        "pandas",
        "PIL",
        "pyarrow",
        "safetensors",
    ]
)
"""The packages, beside Python's own, whose frames are folded away where the frame that called them is."""

_PYTHON = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_NOTE = f"({VARIABLE}=1 shows the frames that are left out.)"
_OF_JAX = "For simplicity, JAX has removed its internal frames"


def shows_all() -> bool:
    """Whether tracebacks are left as they are."""
    return not folding or bool(os.environ.get(VARIABLE))


def boundary(function: Callable[P, R]) -> Callable[P, R]:
    """A function of the public interface, which folds the tracebacks of the errors that leave it."""

    folds = fold  # which is not among the function's globals

    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            folds(error)
            # A bare `raise` does not add this frame again.
            raise

    # With the globals of the function, by which doctest and others tell where it is from.
    origin: Any = function
    while hasattr(origin, "__wrapped__"):  # as inspect.unwrap does, which takes long to import
        origin = origin.__wrapped__
    home = getattr(origin, "__globals__", called.__globals__)
    made = FunctionType(called.__code__, home, called.__name__, None, called.__closure__)
    functools.update_wrapper(made, function)
    made.__kwdefaults__ = None  # which are the function's own
    made._is_boundary = True  # type: ignore[attr-defined]
    return cast(Callable[P, R], made)


def is_boundary(function: object) -> bool:
    """Whether a function is one."""
    return getattr(function, "_is_boundary", False)


def boundaries(kind: type[C]) -> type[C]:
    """A class of the public interface: its own `__init__`, `__call__`, methods and properties are boundaries."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and name not in ("__init__", "__call__", "__getitem__"):
            continue
        found: Any = None
        if isinstance(member, FunctionType):
            found = boundary(member)
        elif isinstance(member, classmethod | staticmethod):
            found = type(member)(boundary(member.__func__))
        elif isinstance(member, property) and member.fget is not None:
            found = property(boundary(member.fget), member.fset, member.fdel, member.__doc__)
        if found is not None:
            setattr(kind, name, found)
    return kind


def fold(error: BaseException) -> None:
    """Take the frames that are not the user's out of an error's traceback, and out of those of its causes."""
    if shows_all():
        return
    for each in _chain(error):
        whole = each.__traceback__
        _set(each, "__traceback__", _folded(whole))
        _drop_notes_of_jax(each)
        if not _is_hansas(whole) and not _has_users(each.__cause__):
            _set(each, "__cause__", None)  # which sets __suppress_context__, too
        if each is error and not error.__suppress_context__ and error.__cause__ is None:
            # What Hansa was doing when it noticed is not the user's concern.
            _set(error, "__suppress_context__", not _has_users(error.__context__))
        # An error that Hansa has raised for the user says all itself; one that came up within does not.
        unexpected = not _is_hansas(whole) or isinstance(each, AssertionError)
        if each is error and unexpected and not _has_users(each):
            add_note(each, _NOTE)


def add_note(error: BaseException, note: str) -> None:
    """As the method of the error does, but of any error; see `_set`."""
    _set(error, "__notes__", [*getattr(error, "__notes__", ()), note])


def users_lines(error: BaseException) -> list[str]:
    """The lines of the user's own code that led to an error, the outermost first: `model.py, line 3, in loss: …`."""
    import linecache

    lines = []
    for place in filter(_is_users, _frames(error.__traceback__)):
        code, number = place.tb_frame.f_code, place.tb_lineno
        line = linecache.getline(code.co_filename, number, place.tb_frame.f_globals).strip()
        lines.append(f"{code.co_filename}, line {number}, in {code.co_name}: {line}")
    return lines


def _set(error: BaseException, name: str, value: object) -> None:
    """Set what Python keeps of an error, also of a class that lets nobody set anything, as a frozen dataclass does."""
    BaseException.__setattr__(error, name, value)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    next_: BaseException | None = error
    while next_ is not None and id(next_) not in seen:
        seen.add(id(next_))
        yield next_
        next_ = next_.__cause__ or (None if next_.__suppress_context__ else next_.__context__)


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _folded(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without what is not the user's, and without what that calls of Python's own."""
    kept: list[TracebackType] = []
    calls = False
    for place in _frames(traceback):
        package = _package(place)
        if package in _FOLDED:
            calls = False
        elif not (package in _HELPERS or _is_pythons(place)):
            calls = True
        if calls:
            kept.append(place)
    result = None
    for place in reversed(kept):
        result = TracebackType(result, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return result


def _package(place: TracebackType) -> str:
    name = place.tb_frame.f_globals.get("__name__")
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_pythons(place: TracebackType) -> bool:
    """Whether a frame is of Python's own library."""
    file = place.tb_frame.f_code.co_filename
    return file.startswith("<frozen ") or (file.startswith(_PYTHON) and not any(part in file for part in _INSTALLED))


def _is_users(place: TracebackType) -> bool:
    file = place.tb_frame.f_code.co_filename
    package = _package(place)
    return not (package in _FOLDED or package in _HELPERS or _is_pythons(place) or any(p in file for p in _INSTALLED))


def _has_users(error: BaseException | None) -> bool:
    return error is not None and any(map(_is_users, _frames(error.__traceback__)))


def _is_hansas(traceback: TracebackType | None) -> bool:
    """Whether it is Hansa that raised the error."""
    *_, last = [None, *_frames(traceback)]
    return last is None or _package(last) == "hansa"


def _drop_notes_of_jax(error: BaseException) -> None:
    notes = getattr(error, "__notes__", None)
    if notes is not None and any(_OF_JAX in str(note) for note in notes):
        kept = [note for note in notes if _OF_JAX not in str(note)]
        if kept:
            _set(error, "__notes__", kept)
        else:
            BaseException.__delattr__(error, "__notes__")
