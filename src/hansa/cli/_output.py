"""What the commands print: JSON for programs, and errors; and which error has which exit code.

A device prints with it, too, where neither Click nor Rich is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from hansa._printing import in_a_line, printable
from hansa._tracebacks import VARIABLE
from hansa.cli._errors import FAILED, INTERRUPTED, exit_code
from hansa.cli._interrupt import Ending

NO_PICTURE = "curves.png was not drawn, for which matplotlib is needed: pip install 'hansa[plots]'"


def can_draw() -> bool:
    """Whether Matplotlib is installed, which `hansa[plots]` installs."""
    return importlib.util.find_spec("matplotlib") is not None


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object in a line, in ASCII; what JSON has not, NaN and infinity, is null."""
    sys.stdout.write(json.dumps(_plain(values)) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def say(*lines: object) -> None:
    """Print lines. What a terminal would act on in them is escaped, as names in files and folders may hold anything."""
    for line in lines:
        print(printable(line), flush=True)


@contextlib.contextmanager
def _told_warnings(command: str) -> Iterator[None]:
    """Warnings are printed in a line, as errors are."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _complain(f"hansa {command}: warning: {in_a_line(message)}")
        yield


@contextlib.contextmanager
def errors_of(command: str, as_json: bool) -> Iterator[None]:
    """Errors that a user can cause are printed in a line or a few, without a traceback, and end the command.

    Args:
        command: its name.
        as_json: whether an object `{"error": …}` is printed, too, to standard output.
    """
    try:
        with Ending(f"hansa {command}"), _told_warnings(command):
            yield
    except KeyboardInterrupt:
        _complain(f"hansa {command}: interrupted")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        code = exit_code(error)
        if os.environ.get(VARIABLE) or _is_clicks(error):
            raise
        message = told = str(error)
        if code is None:  # an error that nobody foresaw: in the user's functions, or in Hansa
            from hansa.cli import _user_code

            code, message = FAILED, f"{type(error).__name__}: {error}"
            told = f"{_user_code.told(error)}\n  ({VARIABLE}=1 shows all that led to it)"
        _complain(f"hansa {command}: {printable(told)}")
        if as_json:
            print_json({"error": message, "exit_code": code})
        raise SystemExit(code) from None


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _is_clicks(error: Exception) -> bool:
    """Whether Click ends a command by it. Where there is a device and no more, there is no Click."""
    return any(kind.__module__.partition(".")[0] == "click" for kind in type(error).__mro__)
