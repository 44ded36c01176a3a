"""Values of a TOML file to frozen dataclasses. It knows types, bounds and names, not what a key is for.

All that is wrong is found, not only the first thing.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa._printing import printable
from hansa.cli._errors import Misuse
from hansa.types import names

COUNT_OR_SHARE = int | float
"""The type of a key that is a number of things, or as a float a fraction of those that there are."""

_MOST_SHOWN = 20
_LONGEST_SHOWN = 1000


class ConfigError(Misuse):
    """A configuration that cannot be used.

    Attributes:
        problems: what is wrong, a sentence each, beginning with the path to the key.

    Args:
        origin: the file, or what else the configuration is from.
        problems: at least one.
    """

    def __init__(self, origin: object, problems: Sequence[str]) -> None:
        self.problems = tuple(map(_short, problems))
        if len(problems) == 1:
            super().__init__(f"{origin}: {self.problems[0]}")
        else:
            lines = "".join(f"\n  {problem}" for problem in self.problems[:_MOST_SHOWN])
            more = len(problems) - _MOST_SHOWN
            super().__init__(
                f"{origin} has {len(problems)} mistakes:{lines}" + (f"\n  and {more} more" if more > 0 else "")
            )


def _short(text: str) -> str:
    return printable(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")


@dataclasses.dataclass(frozen=True)
class Function:
    """A function in a Python file, which a configuration has as `model.py:model_fn`."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


class Chosen:
    """A type of keys that says itself what a file may have there: a name, or a table."""

    @classmethod
    def read(cls, value: Any, folder: Path, where: str, problems: list[str]) -> Any:
        """What a file's value means; what is wrong with it is added to `problems`."""
        raise NotImplementedError

    def plain(self) -> dict[str, Any]:
        """What a file would have there."""
        raise NotImplementedError


def key(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    most: float | None = None,
    was: str | None = None,
) -> Any:
    """A field of a table.

    Args:
        help: what it means, for the reference.
        default: its value where the file has none; without one the file must have it.
        least, most: the bounds of a number, which may be reached.
        was: the name that the key had before: a file that has it is told the new one, and a run that was begun with it
            can still be read.
    """
    metadata = {"help": help, "least": least, "most": most, "was": was}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def checked(table: type[Any], values: Mapping[str, Any], folder: Path, path: str, problems: list[str]) -> Any:
    """An object of a dataclass, whose fields are made with `key`; None if something is wrong with them.

    Args:
        table: the dataclass. One with an attribute `SHORT`, the name of a key, may be written as the value of that key
            alone.
        values: what the file has for it.
        folder: what relative paths are relative to.
        path: the path to the table, such as `data.partition`; empty for the file itself.
        problems: what is wrong is added to it.
    """
    before = len(problems)
    kinds = typing.get_type_hints(table)
    known = {field.name: field for field in dataclasses.fields(table)}
    former = former_names(table)
    for name in values:
        if name in former:
            problems.append(f"{joined(path, name)} has another name now: write {former[name]}")
        elif name not in known:
            problems.append(
                f"{joined(path, name)} is no key{names.suggestion(name, known) or ';'} the keys here are "
                f"{', '.join(known)}"
            )
    found = {}
    for name, field in known.items():
        where = joined(path, name)
        if name in values:
            found[name] = checked_value(kinds[name], values[name], folder, where, problems, field.metadata)
        elif field.metadata["was"] in values:
            continue
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{where} is missing: {field.metadata['help']}; expected {expected(kinds[name])}")
    return None if len(problems) > before else table(**found)


def former_names(table: type[Any]) -> dict[str, str]:
    """The names that keys of a table had before, and those that they have."""
    return {field.metadata["was"]: field.name for field in dataclasses.fields(table) if field.metadata["was"]}


def joined(path: str, name: str) -> str:
    """The path to a key in a table."""
    return f"{path}.{name}" if path else name


def expected(kind: Any, metadata: Mapping[str, Any] = types.MappingProxyType({})) -> str:
    """What a type and its bounds are called in messages and in the reference."""
    kind = _not_none(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind == COUNT_OR_SHARE:
        return "an integer >= 1, or a fraction such as 0.1"
    if origin is typing.Literal:
        *others, last = (f'"{value}"' for value in arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin is list:
        return f"a list of: {expected(arguments[0])}"
    if _is_chosen(kind):
        return "its name, or a table"
    if kind is Function:
        return 'a Python file and a function in it, such as "code.py:name"'
    if origin is dict or dataclasses.is_dataclass(kind):
        return f"its {kind.SHORT}, or a table" if hasattr(kind, "SHORT") else "a table"
    if kind is Path:
        return "a path"
    plain = {bool: "true or false", int: "an integer", float: "a number", str: "a string", Any: "a number, or a string"}
    return plain[kind] + _bounds(metadata)


def optional(kind: Any) -> bool:
    """Whether a type allows None."""
    return type(None) in typing.get_args(kind)


def table_of(kind: Any) -> type[Any] | None:
    """The dataclass that a type is, if it is one."""
    plain = _not_none(kind)
    is_table = isinstance(plain, type) and dataclasses.is_dataclass(plain) and plain is not Function
    is_table = is_table and not _is_chosen(plain)
    return plain if is_table else None


def checked_value(
    kind: Any,
    value: Any,
    folder: Path,
    where: str,
    problems: list[str],
    metadata: Mapping[str, Any] = types.MappingProxyType({}),
) -> Any:
    """The value of a key, as its type has it; None if it is none, which is then added to the problems.

    Args:
        kind: the type.
        value: what the file has.
        folder: what relative paths are relative to.
        where: the path to the key.
        problems: what is wrong is added to it.
        metadata: the bounds of a number, as `key` keeps them.
    """
    plain = _not_none(kind)
    if value is None and optional(kind):  # from a file of JSON
        return None
    if _is_chosen(plain):
        return plain.read(value, folder, where, problems)
    table = table_of(kind)
    if table is not None and isinstance(value, str) and hasattr(table, "SHORT"):
        value = {table.SHORT: value}
    if table is not None and isinstance(value, dict):
        return checked(table, value, folder, where, problems)
    origin, arguments = typing.get_origin(plain), typing.get_args(plain)
    if origin is list and isinstance(value, list):
        return [
            checked_value(arguments[0], each, folder, f"{where}[{index}]", problems) for index, each in enumerate(value)
        ]
    if origin is typing.Literal:
        if value in arguments:
            return value
        hint = names.suggestion(value, arguments).replace("'", '"') if isinstance(value, str) else ""
        problems.append(f"{where} = {shown(value)}: expected {expected(kind)}{hint}")
        return None
    if origin is dict and isinstance(value, dict):
        return {
            name: checked_value(arguments[1], each, folder, f"{where}.{name}", problems) for name, each in value.items()
        }
    if plain is Any and value == value:  # which nan is not; a resumed run could not tell that it is the same
        return value
    if plain is Path and isinstance(value, str):
        return _path(value, folder, where, problems)
    if plain is Function and isinstance(value, str):
        file, _, name = value.rpartition(":")
        if file and name.isidentifier():
            path = _path(file, folder, where, problems)
            return None if path is None else Function(path, name)
    if plain == COUNT_OR_SHARE and ((type(value) is int and value >= 1) or (type(value) is float and 0 < value <= 1)):
        return value
    if plain is float and type(value) in (int, float) and math.isfinite(value) and _within(value, metadata):
        return float(value)
    if plain in (int, bool, str) and type(value) is plain and _within(value, metadata):
        return value
    problems.append(f"{where} = {shown(value)}: expected {expected(kind, metadata)}")
    return None


def _path(value: str, folder: Path, where: str, problems: list[str]) -> Path | None:
    """A path, relative to a folder; whether something is there is not asked, but whether there can be."""
    try:
        path = folder / Path(value).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        problems.append(f"{where} = {shown(value)}: it cannot be looked up: {why}")
        return None
    return path


def shown(value: Any) -> str:
    """A value as TOML has it, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        text = f"{{ {', '.join(f'{name} = {shown(each)}' for name, each in value.items())} }}" if value else "{}"
    else:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_chosen(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Chosen)


def _not_none(kind: Any) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        plain = tuple(each for each in typing.get_args(kind) if each is not type(None))
        return plain[0] if len(plain) == 1 else typing.Union[plain]  # noqa: UP007
    return kind


def _within(value: Any, metadata: Mapping[str, Any]) -> bool:
    least, most = metadata.get("least"), metadata.get("most")
    return (least is None or value >= least) and (most is None or value <= most)


def _bounds(metadata: Mapping[str, Any]) -> str:
    least, most = metadata.get("least"), metadata.get("most")
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    return "" if least is None else f" >= {least:g}"
