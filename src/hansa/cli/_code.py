"""The Python files of a run: what they were when it began, and whether they are the same when it is taken up again.

A run's folder says which files they are, and taking it up runs them. So each is named before it is run, and is the one
that the run began with, or is not run.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._files import open_regular
from hansa.cli._places import short
from hansa.cli.config import ConfigError, RunConfig
from hansa.cli.config.checking import Function

_LINES_SHOWN = 20
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class Code:
    """A Python file that is about to be run.

    Attributes:
        file: its path.
        sha256: the digest of its bytes.
        change: how it is another than when the run began, in lines; None if it is the same.
    """

    file: Path
    sha256: str
    change: str | None

    @property
    def changed(self) -> bool:
        """Whether it is another than when the run began."""
        return self.change is not None

    def __str__(self) -> str:
        target = f", a link to {self.file.resolve()}" if self.file.is_symlink() else ""
        since = "changed since the run began" if self.changed else "as when the run began"
        return f"{self.file}{target}, {since} (SHA-256 {self.sha256[:16]}…)"

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        return {"file": self.file, "sha256": self.sha256, "changed": self.changed}


def files_of(config: RunConfig) -> list[Path]:
    """The Python files that a configuration names."""
    functions = [config.model.function, config.data.function]
    functions += [] if config.algorithm is None else [p for p in config.algorithm.parts() if isinstance(p, Function)]
    return list(dict.fromkeys(function.file for function in functions if function is not None))


def kept(config: RunConfig) -> dict[str, dict[str, str]]:
    """Of each of these files its digest and its text, which a run keeps: values that JSON has.

    Raises:
        OSError: if one cannot be read.
    """
    found = {}
    for file in files_of(config):
        source = _read(file)
        found[str(file)] = {"sha256": _digest(source), "text": source.decode(errors="replace")}
    return found


def compared(folder: Path, config: RunConfig, before: Any) -> list[Code]:
    """The Python files of a run that is about to be taken up, beside those that it began with.

    Args:
        folder: the run's.
        config: what it is taken up with.
        before: what `kept` gave when it began.

    Raises:
        ConfigError: if one is not there.
    """
    codes = []
    for file in files_of(config):
        try:
            source = _read(file)
        except OSError as error:
            raise ConfigError(
                folder, [f"the run's code is in {file}, which cannot be read: {error.strerror or error}; put it back"]
            ) from None
        entry = before.get(str(file)) if isinstance(before, Mapping) else None
        if isinstance(entry, str):  # as Hansa kept it before it kept digests
            entry = {"sha256": _digest(entry.encode(errors="replace")), "text": entry}
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        change = None
        if not isinstance(digest, str):
            change = f"the folder does not say what {short(file)} was when the run began"
        elif digest != _digest(source):
            assert isinstance(entry, Mapping)
            lines = _changes(str(entry.get("text")), source.decode(errors="replace"))
            change = f"{short(file)} has changed since the run began:\n{lines}"
        codes.append(Code(file, _digest(source), change))
    return codes


def _read(file: Path) -> bytes:
    with open_regular(file) as opened:
        return opened.read(_MOST_BYTES)


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _changes(before: str, now: str) -> str:
    lines = list(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0))[2:]
    shown = lines[:_LINES_SHOWN] + (["…"] if len(lines) > _LINES_SHOWN else []) or ["only in what ends its lines"]
    return "\n".join(f"    {line}" for line in shown)
