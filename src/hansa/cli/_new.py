"""`hansa new`: a small project to begin with, which runs as it is."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hansa.cli.config import ConfigError

_FILES = ("README.md", "data.py", "model.py", "run.toml")
_MODELS = {"keras": "model.py", "torch": "model_torch.py"}


def new(folder: Path, framework: str = "keras") -> list[Path]:
    """Write the project.

    Args:
        folder: where.
        framework: what the model is written in, "keras" or "torch".

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
        source = _MODELS[framework] if target.name == "model.py" else target.name
        text = project.joinpath(source + ".txt").read_text("utf-8")
        target.write_text(text.replace("PROJECT", folder.resolve().name), "utf-8")
    return targets
