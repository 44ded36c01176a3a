"""Functions in Python files of the user's: they are loaded and called, and their errors shown at the user's lines."""

from __future__ import annotations

import importlib.util
import inspect
import random
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hansa._tracebacks import users_lines
from hansa.cli._errors import Misuse
from hansa.cli.config.checking import Function
from hansa.types import names

_STYLES = re.compile("\x1b\\[[0-9;]*m")
"""What makes Keras's messages bold in a terminal."""


class UserCodeError(Misuse):
    """A file of the user's cannot be run, or a function in it raised an error."""


def load(function: Function) -> Callable[..., Any]:
    """The function. The file's folder is where its imports are looked for, too.

    What is run is the file as it is: byte code that lies beside it is not looked at.

    Raises:
        UserCodeError: if the file raises an error, or has no such function.
    """
    folder = str(function.file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(function.file.stem, function.file)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{function.file} is no Python file; its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    # As import does, for what looks its own module up.
    sys.modules[function.file.stem] = module
    try:
        code = compile(function.file.read_bytes(), str(function.file), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except Exception as error:
        raise UserCodeError(told(error, str(function.file))) from error
    found = getattr(module, function.name, None)
    if not callable(found):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        hint = names.suggestion(function.name, known) or f"; its functions are: {names.listing(known)}"
        raise UserCodeError(f"{function.file} has no function {function.name!r}{hint}")
    return found  # type: ignore[no-any-return]


def call(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> Any:
    """What a function returns.

    Args:
        function: the function.
        options: its arguments by name.
        where: the key that has them, such as `model.options`.

    Raises:
        UserCodeError: if it does not take these arguments, or raises an error.
    """
    check_options(function, options, where)
    try:
        return function(**options)
    except Exception as error:
        raise UserCodeError(told(error)) from error


def check_options(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Checks that a function can be called with these arguments by name.

    Raises:
        UserCodeError: if it cannot.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some that are not written in Python
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise UserCodeError(f"{where}: {name}{signature} cannot be called with them: {error}") from None


def seeded(make: Callable[[], Any], seed: int) -> Any:
    """What a function makes, where the weights that Keras and PyTorch draw, and what is drawn with `random` or NumPy,
    are those of a seed.

    `keras.utils.set_random_seed` does the same, but imports TensorFlow where it is installed, which takes seconds.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (what the user's code may draw from)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    return make()


def told(error: Exception, file: str = "") -> str:
    """An error in a line, after the lines of the user's that led to it; also of one in the syntax of a file."""
    places = users_lines(error)
    if isinstance(error, SyntaxError) and error.filename == file:
        places = [f"{file}, line {error.lineno}: {(error.text or '').strip()}"]
    message = _STYLES.sub("", f"{type(error).__name__}: {error}")
    return "\n  ".join([*places, *(line for line in message.splitlines() if line)])
