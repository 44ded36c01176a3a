"""What a table of misuse is made of: a mistake as a user would make it, and what the error must say about it.

A case is a function that makes a mistake in the line with the comment `# wrong`. Its error must say what the case's
pattern says, and lead to that line: the traceback goes through it, or, if the error is raised later, its message names
the file and the line.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Misuse:
    """A mistake, and its error.

    Attributes:
        name: what the mistake is.
        commit: makes it.
        error: the class of the error.
        message: a pattern that the error's last lines, with its notes, must have.
        later: whether the error is raised by another line than the wrong one, and names that.
    """

    name: str
    commit: Callable[[], Any]
    error: type[Exception]
    message: str
    later: bool

    def check(self) -> None:
        with pytest.raises(self.error) as raised:
            self.commit()
        assert type(raised.value) is self.error
        shown = last_lines(raised.value)
        assert re.search(self.message, shown, re.DOTALL), shown
        file, line = self.place()
        if self.later:
            assert f"{file}:{line}" in shown, (line, shown)
        else:
            frames = traceback.extract_tb(raised.value.__traceback__)
            assert (file, line) in [(frame.filename, frame.lineno) for frame in frames], (line, shown)

    def place(self) -> tuple[str, int]:
        """The file and the line of the mistake."""
        lines, first = inspect.getsourcelines(self.commit)
        marked = [first + i for i, text in enumerate(lines) if text.rstrip().endswith("# wrong")]
        assert len(marked) == 1, f"{self.name}: one line has the comment `# wrong`, found {len(marked)}"
        return inspect.getsourcefile(self.commit) or "", marked[0]


def last_lines(error: BaseException) -> str:
    """What stands below the traceback: the error's class, its message and its notes."""
    return "".join(traceback.format_exception_only(error))


class Table:
    """The cases of one module of tests."""

    def __init__(self) -> None:
        self.cases: list[Misuse] = []

    def __call__(self, name: str, error: type[Exception], message: str, later: bool = False) -> Any:
        """Adds the decorated function as a case."""

        def add(commit: Callable[[], Any]) -> Callable[[], Any]:
            assert name not in [case.name for case in self.cases]
            self.cases.append(Misuse(name, commit, error, message, later))
            return commit

        return add

    @property
    def parameters(self) -> list[Any]:
        """The cases, for `pytest.mark.parametrize`."""
        return [pytest.param(case, id=case.name) for case in self.cases]
