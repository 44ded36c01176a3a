"""Where a configuration is: in a TOML file with words of the command line over it, and then in the run's folder."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.cli.config.checking import Chosen, ConfigError, Function, checked, former_names, joined, shown, table_of
from hansa.cli.config.parsing import faults, parsed, read_text
from hansa.cli.config.rules import rules
from hansa.cli.config.schema import RunConfig

RUN_TOML = "run.toml"
"""The file that is meant where a folder is named."""


def config_file(path: Path) -> Path:
    """The TOML file that a path on the command line means: itself, or the `run.toml` in a folder.

    Raises:
        ConfigError: if it is a folder without one, with what there is instead.
    """
    if not path.is_dir():
        return path
    file = path / RUN_TOML
    if file.exists():
        return file
    looked = f"it is a folder, and there is no {file} in it"
    if (path / "run.json").exists():
        raise ConfigError(path, [f"{looked}; it is the folder of a run: `hansa resume {path}` goes on with it"])
    beside = _beside(path)
    if beside is not None:
        raise ConfigError(path, [f"{looked}; did you mean {beside}?"])
    others = sorted(found.name for found in path.glob("*.toml"))
    if others:
        raise ConfigError(path, [f"{looked}; name a file: {', '.join(str(path / name) for name in others[:5])}"])
    raise ConfigError(path, [f"{looked}; `hansa new {path}` writes one to begin with"])


def _beside(path: Path) -> Path | None:
    """The TOML file that is called as a path is, but for `.toml`, if there is one."""
    file = path.parent / f"{path.name}.toml"
    return file if file.is_file() else None


def _near(path: Path) -> Path | None:
    """What can be trained that is called nearly as a path is, if there is something."""
    try:
        found = [each for each in path.parent.iterdir() if each.suffix == ".toml" or (each / RUN_TOML).is_file()]
    except OSError:
        return None
    names = difflib.get_close_matches(path.name, [each.name for each in found], 1)
    return path.with_name(names[0]) if names else None


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a file.

    Args:
        path: a TOML file, or a folder with a `run.toml`; what is relative in it is relative to its folder.
        overrides: `KEY=VALUE`, such as `training.rounds=20`; what is no value of TOML is a string.

    Raises:
        ConfigError: if there is no such file, or something in it is wrong.
    """
    path = config_file(path)
    try:
        values = parsed(read_text(path))
    except FileNotFoundError:
        beside = _beside(path) or _near(path)
        instead = "`hansa new DIR` writes one to begin with" if beside is None else f"did you mean {beside}?"
        raise ConfigError(path, [f"there is no such file; {instead}"]) from None
    except OSError as error:
        raise ConfigError(path, [f"it cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError(path, [f"it is no TOML: {error}"]) from None
    for override in overrides:
        _set(values, override)
    return _config(values, path.resolve().parent, path)


def restore_config(values: Any, origin: object) -> RunConfig:
    """The configuration that `stored` gave.

    Args:
        values: what it gave, perhaps as read from JSON.
        origin: where it was kept.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("training"), Mapping):
        raise ConfigError(origin, ["it was not begun by `hansa train`, so it does not say how it goes on"])
    return _config(_renamed(RunConfig, values), Path.cwd(), origin)


def _renamed(table: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier version may have stored, by the names that the keys have now."""
    kinds, former = typing.get_type_hints(table), former_names(table)
    result = {}
    for name, value in values.items():
        name = former.get(name, name)
        inner = table_of(kinds.get(name))
        result[name] = value if inner is None or not isinstance(value, Mapping) else _renamed(inner, value)
    return result


def stored(config: RunConfig) -> dict[str, Any]:
    """The configuration as values that JSON has, with absolute paths, without keys that have no value."""
    result: dict[str, Any] = plain(config)
    return result


def plain(value: Any) -> Any:
    """A value of a configuration as JSON has it."""
    if isinstance(value, Path | Function):
        return str(value)
    if isinstance(value, Chosen):
        return plain(value.plain())
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(each) for name, each in fields.items() if each is not None}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """What is other in a configuration, a line for each key."""
    lines = []
    for name in [*before, *(name for name in now if name not in before)]:
        where, old, new = joined(path, name), before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, where)
        elif old != new:
            lines.append(
                f"{where} was {'not set' if old is None else shown(old)}, and is now "
                f"{'not set' if new is None else shown(new)}"
            )
    return lines


def _config(values: Mapping[str, Any], folder: Path, origin: object) -> RunConfig:
    problems = list(faults(values))
    if problems:
        raise ConfigError(origin, problems)
    config = checked(RunConfig, values, folder, "", problems)
    if not problems:
        problems = rules(config)
    if problems:
        raise ConfigError(origin, problems)
    assert isinstance(config, RunConfig)
    return config


def _set(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise ConfigError("--set", [f"expected KEY=VALUE, such as training.rounds=20; found {override!r}"])
    try:
        found = parsed(f"value = {text}")
        value = found["value"] if list(found) == ["value"] else text
    except tomllib.TOMLDecodeError:
        value = text
    except ValueError as error:
        raise ConfigError("--set", [f"{path[:60].strip()}: {error}"]) from None
    table = values
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError("--set", [f"{name!r} in {path!r} is no table of the file"])
    table[names[-1]] = value
