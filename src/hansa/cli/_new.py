"""`hansa new`: a small project to begin with, which runs as it is."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hansa.cli.config import ConfigError

_FILES = ("README.md", "data.py", "model.py", "run.toml")


def new(folder: Path) -> list[Path]:
    """Write the project.

    Returns:
        Its files.

    Raises:
        ConfigError: if one of them is there already. Nothing is then written.
    """
    targets = [folder / name for name in _FILES]
    there = [target for target in targets if target.exists()]
    if there:
        raise ConfigError(
            folder, [f"{there[0].name} is there already, and nothing is overwritten; name another folder"]
        )
    folder.mkdir(parents=True, exist_ok=True)
    project = files("hansa.cli").joinpath("project")
    for target in targets:
        # Under another ending, so that no tool takes them for modules of Hansa.
        text = project.joinpath(target.name + ".txt").read_text("utf-8")
        target.write_text(text.replace("PROJECT", folder.resolve().name), "utf-8")
    return targets
