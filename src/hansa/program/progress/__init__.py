"""What is seen of a run while it runs: a live table in a terminal or notebook, else a line now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hansa.program._adapting import check_call, check_no_class
from hansa.program.progress.lines import is_logged, to_log, to_standard_error
from hansa.program.records import Record


class Progress(Protocol):
    """Shows a run: `begin`, then any number of times `add`, and always `end`.

    Examples:
        >>> class Dots:
        ...     def begin(self, done, rounds, stopping):
        ...         print(rounds, "rounds")
        ...
        ...     def add(self, record, seconds):
        ...         print(record["round"])
        ...
        ...     def end(self, message):
        ...         print(message)
        >>> result = hansa.program.train(process, data, rounds=2, progress=Dots())
        2 rounds
        1
        2
        Finished after 2 rounds.
    """

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """So many rounds are done before, of so many; `stopping` says whether the user has asked to stop."""

    def add(self, record: Record, seconds: float) -> None:
        """A round is finished, which took so long."""

    def end(self, message: str) -> None:
        """What came of it; empty after an error."""


class NoProgress:
    """Shows nothing."""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Nothing is shown."""

    def add(self, record: Record, seconds: float) -> None:
        """Nothing is shown."""

    def end(self, message: str) -> None:
        """Nothing is shown."""


def to_progress(value: Any) -> Progress:
    """What `progress=` stands for.

    Args:
        value: "auto" for a table in a terminal or notebook, and lines elsewhere: in the log where the user has said
            what becomes of it, else on the standard error; True for the same without the log; False for nothing; or a
            `Progress`.
    """
    if value is False:
        return NoProgress()
    if value is True or (isinstance(value, str) and value == "auto"):
        from rich.console import Console

        from hansa.program.progress.tables import NotebookProgress, TableProgress

        console = Console(highlight=False)
        if console.is_jupyter:
            return NotebookProgress()
        if console.is_terminal:
            return TableProgress(console)
        return to_log() if value is not True and is_logged() else to_standard_error()
    methods = {"begin": ("done", "rounds", "stopping"), "add": ("record", "seconds"), "end": ("message",)}
    if all(callable(getattr(value, name, None)) for name in methods):
        check_no_class("progress", value)
        for name, given in methods.items():
            check_call(f"{type(value).__name__}.{name}", getattr(value, name), given)
        return value  # type: ignore[no-any-return]
    raise TypeError(f"progress must be 'auto', True, False, or an object with begin, add and end; found {value!r}")
