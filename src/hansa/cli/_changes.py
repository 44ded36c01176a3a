"""A run that is another than what is asked for: what is other, keys and Python files alike, and what to type then."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa._printing import printable
from hansa.cli import _code
from hansa.cli._places import short
from hansa.cli.config import ConfigError, RunConfig, differences, restore_config, stored

_FILES = "files"


class ChangedError(ConfigError):
    """A run is another one than what is asked for.

    Args:
        folder: the run's.
        changes: what is other, in lines.
        commands: what to type, with what it does.
    """

    def __init__(self, folder: Path, changes: Sequence[str], commands: Mapping[str, str]) -> None:
        self.problems = tuple(changes)
        widest = max(map(len, commands))
        typed = [f"  {command:{widest}}   {what}" for command, what in commands.items()]
        head = f"the run in {short(folder)} is not the one that is asked for now:"
        lines = ["  " + change.replace("\n", "\n  ") for change in changes]
        Exception.__init__(self, printable("\n".join([head, *lines, "Put back what it was, or type", *typed])))


def command(*words: object) -> str:
    """A command as it is typed."""
    return shlex.join(["hansa", *map(str, words)])


def changes(folder: Path, config: RunConfig, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is other in a configuration, a line for each key and a few for each file.

    Args:
        folder: the run's.
        config: what is asked for now.
        before: what `identity` gave when the run began.
        now: what it gives now.
    """
    lines = differences(_without_files(before, folder), _without_files(now, folder))
    for code in _code.compared(folder, config, before[_FILES]):
        if code.change is not None and (not lines or str(code.file) in before[_FILES]):  # else a key names another file
            lines.append(code.change)
    return lines


def check_files(
    folder: Path, config: RunConfig, before: Mapping[str, Any], allow_changes: bool, commands: Mapping[str, str]
) -> list[_code.Code]:
    """The Python files of a run that is taken up from its folder alone.

    Args:
        folder: the run's.
        config: its configuration.
        before: what `identity` gave when it began.
        allow_changes: whether they may be others than when it began.
        commands: what to type if they are.

    Raises:
        ChangedError: if one is another, and may not be.
    """
    codes = _code.compared(folder, config, before[_FILES])
    changed = [code.change for code in codes if code.change is not None]
    if changed and not allow_changes:
        raise ChangedError(folder, changed, commands)
    return codes


def _without_files(values: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The keys, those included that had no value then, as they have one by default."""
    keys = {name: value for name, value in values.items() if name != _FILES}
    try:
        whole = stored(restore_config({**keys, "training": {**keys["training"], "rounds": 1}}, folder))
    except ConfigError:  # of another version, or of files that have gone
        return keys
    del whole["training"]["rounds"]
    return whole
