"""Completion in shells: what can stand where the cursor is, and how a shell comes to ask for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_DEEPEST, _MOST = 3, 2000
"""How far below the folder that is typed is looked, and at how many folders."""


def runs(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Folders of runs, or any folders where there are none."""
    from hansa.program.run_file import has_run

    found = _below(typed, lambda folder, files: [folder] if has_run(Path(folder or ".")) else [])
    return _items(found) or [CompletionItem(typed, type="dir")]


def configs(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """TOML files, or any files where there are none."""
    return _items(_configs(typed)) or [CompletionItem(typed, type="file")]


def configs_and_data_sets(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """The names of data sets, and TOML files."""
    from typing import get_args

    from hansa.cli.config.schema import DataName

    names = [name for name in get_args(DataName) if name.startswith(typed)]
    return _items([*names, *_configs(typed)]) or [CompletionItem(typed, type="file")]


def algorithms(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """The names of algorithms."""
    from hansa.cli.config.choices import Algorithm

    return _items(name for name in Algorithm.functions() if name.startswith(typed))


def keys(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """The keys of a run's file, with what they mean."""
    from hansa.cli.config.schema import RunConfig

    return [CompletionItem(f"{name}=", help=means) for name, means in _keys(RunConfig, "") if name.startswith(typed)]


def _keys(table: Any, prefix: str) -> Iterator[tuple[str, str]]:
    import dataclasses
    import typing

    kinds = typing.get_type_hints(table)
    for field in dataclasses.fields(table):
        kind = kinds[field.name]
        inner = [each for each in (kind, *typing.get_args(kind)) if _is_table(each)]
        if not inner:
            yield prefix + field.name, field.metadata["help"]
        for each in inner:
            yield from _keys(each, f"{prefix}{field.name}.")


def _is_table(kind: Any) -> bool:
    import dataclasses

    return dataclasses.is_dataclass(kind) and all("help" in field.metadata for field in dataclasses.fields(kind))


def _configs(typed: str) -> Iterator[str]:
    return _below(typed, lambda folder, files: [os.path.join(folder, name) for name in files if name.endswith(".toml")])


def _below(typed: str, choose: Callable[[str, list[str]], list[str]]) -> Iterator[str]:
    """What is chosen of the folders below the one that is typed; not below folders that something is chosen of."""
    head = os.path.dirname(typed)
    for count, (folder, folders, files) in enumerate(os.walk(head or ".")):
        inside = os.path.relpath(folder, head or ".")
        path = head if inside == "." else os.path.join(head, inside)
        chosen = [each for each in choose(path, sorted(files)) if each and each.startswith(typed)]
        yield from chosen
        too_deep = inside.count(os.sep) + (inside != ".") >= _DEEPEST
        folders[:] = [] if too_deep or count >= _MOST else sorted(each for each in folders if not each.startswith("."))


def _items(values: Any) -> list[CompletionItem[str]]:
    return [CompletionItem(value) for value in values]


def show(context: click.Context, parameter: click.Parameter, shell: str | None) -> None:
    """Print the script that a shell reads."""
    if shell is not None and not context.resilient_parsing:
        click.echo(_script(context, _chosen(shell)))
        context.exit()


def install(context: click.Context, parameter: click.Parameter, shell: str | None) -> None:
    """Write the script where the shell finds it, and say where."""
    if shell is None or context.resilient_parsing:
        return
    shell = _chosen(shell)
    home = Path.home()
    if shell == "fish":
        script = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "hansa.fish"
    else:
        script = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "hansa" / f"completion.{shell}"
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_script(context, shell) + "\n", "utf-8")
        click.echo(script)
        if shell != "fish":
            start = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
            click.echo(f"{start} {'reads it' if _add_line(start, _reading(shell, script)) else 'reads it already'}")
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(f"A new {shell} completes hansa's commands, options, run folders and files.")
    context.exit()


def _script(context: click.Context, shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(context.command, {}, "hansa", "_HANSA_COMPLETE").source().strip()


def _chosen(shell: str) -> str:
    """The shell that is meant by `auto`."""
    if shell == "auto":
        shell = Path(os.environ.get("SHELL", "")).name
    if shell not in _SHELLS:
        raise click.UsageError(f"name the shell, as SHELL does not name one of them: {', '.join(_SHELLS)}")
    return shell


def _reading(shell: str, script: Path) -> str:
    quoted = "'" + str(script).replace("'", "'\\''") + "'"
    # Zsh's own completion must be there before.
    first = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }; " if shell == "zsh" else ""
    return f"[ ! -r {quoted} ] || {{ {first}. {quoted}; }}  # completion of hansa"


def _add_line(path: Path, line: str) -> bool:
    """Add a line to a file that does not have it; whether it was added."""
    text = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
    if line in text.splitlines():
        return False
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n")
    return True


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that print and install completion."""
    for name, callback, help in (
        ("--show-completion", show, "Print the shell's script for completion."),
        ("--install-completion", install, "Install completion for your shell."),
    ):
        command = click.option(
            name,
            is_flag=False,
            flag_value="auto",
            type=click.Choice(["auto", *_SHELLS]),
            metavar="[SHELL]",
            is_eager=True,
            expose_value=False,
            callback=callback,
            help=help,
        )(command)
    return command
