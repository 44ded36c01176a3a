"""What a run was asked, for people: names and values without Python in them, and the user's files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from hansa._wording import titled
from hansa.program.report.elements import Element, element, shown
from hansa.program.report.reading import Run
from hansa.program.run_file import PLAN

_NAMES = {
    "process": "Type of a round",
    "examples": "Type of a batch",
    "evaluate": "Evaluated by",
    "evaluate_every": "Evaluated every … rounds",
    "evaluate_initial": "Before the first round, too",
}
_LONGEST_CODE = 200_000


def settings(run: Run) -> Iterable[Element]:
    """A section: a table of what was asked, and the files that were read."""
    config = run.asked.get("config")
    facts = [(name, value) for name, value in run.asked.items() if name not in ("config", "data", PLAN)]
    rows = [
        (_NAMES.get(name, titled(name)), in_words(text), name == "process")
        for name, value in facts
        for each in (value if isinstance(value, list) else [value])
        for text in _said(each)
    ]
    code: Mapping[str, Any] = {}
    if isinstance(config, Mapping):
        found = config.get("files")
        code = found if isinstance(found, Mapping) else {}
        rest = {name: value for name, value in config.items() if name != "files" or not code}
        rows += [(name, text, False) for name, text in _flat(rest)]
    elif config is not None:
        rows += [("config", text, False) for text in _said(config)]
    rows += [(name, text, False) for name, text in _changed(run.changes)]
    if not rows:
        return
    table = element("table", class_="settings")
    for name, text, is_type in rows:
        cell = element("td", text)
        if is_type:
            cell = element("td", element("details", element("summary", "Show"), element("code", text)))
        table.append(element("tr", element("th", name, scope="row"), cell))
    yield element("h2", "Settings")
    yield element("div", table, class_="box")
    for path, file in code.items():
        content = file.get("text") if isinstance(file, Mapping) else None
        if isinstance(content, str):
            code_text = content if len(content) <= _LONGEST_CODE else f"{content[:_LONGEST_CODE]}\n…"
            scroll = element("div", element("pre", element("code", code_text)), class_="scroll", tabindex=0,
                             role="region", aria_label=PurePath(path).name)  # fmt: skip
            yield element("details", element("summary", PurePath(path).name), scroll, class_="box")


def _changed(changes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """After which round the run went on as another, and what it was and became; texts of files are only named."""
    for entry in changes:
        changed = entry.get("changed") if isinstance(entry, Mapping) else None
        if not isinstance(changed, Mapping):
            continue
        told = []
        for name, values in changed.items():
            if isinstance(values, Mapping) and not name.startswith("config.files."):
                was, now = ("; ".join(_said(values.get(when))) or "not set" for when in ("was", "is"))
                told.append(f"{name.removeprefix('config.')} was {was}, became {now}")
            elif name.endswith(".sha256"):
                told.append(f"{PurePath(name.removeprefix('config.files.').removesuffix('.sha256')).name} was edited")
        yield f"Changed after round {shown(entry.get('after_round'))}", "; ".join(told)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested tables by the path to each, as TOML names them."""
    for name, value in values.items():
        step = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from _flat(value, step)
        else:
            yield from ((step, text) for text in _said(value))


def _said(value: Any) -> Iterator[str]:
    """A value in words; nothing for one that says nothing."""
    if value is None or value == [] or value == {}:
        return
    if isinstance(value, Mapping):
        yield "; ".join(f"{name} {text}" for name, text in _flat(value))
    elif isinstance(value, list):
        yield "; ".join(text for each in value for text in _said(each))
    else:
        yield shown(value)


def in_words(text: str) -> str:
    """What a Python value prints as, in words: `EarlyStopping('loss', 3)` is `Early stopping: loss, 3`.

    The name of a function or class loses that of its module; other text stays as it is.
    """
    called = re.fullmatch(r"(?:\w+\.)*([A-Za-z_]\w*)\((.*)\)", text, re.DOTALL)
    if called:
        name, arguments = called.groups()
        plain = re.sub(r"(?<![\w])(['\"])([^'\"\\]*)\1", r"\2", arguments)
        plain = re.sub(r"\b([A-Za-z_]\w*)=(?=\S)", r"\1 ", plain)
        plain = re.sub(r"\bTrue\b", "yes", re.sub(r"\bFalse\b", "no", re.sub(r"\bNone\b", "none", plain)))
        return f"{_words(name)}: {plain}" if plain else _words(name)
    if re.fullmatch(r"[a-z_]\w*(?:\.[A-Za-z_<>]\w*>?)+", text) and not text.endswith((".py", ".csv", ".toml")):
        return _words(text.rsplit(".", 1)[-1].strip("<>"))
    return text


def _words(name: str) -> str:
    """`EarlyStopping` is `Early stopping`; a name of small letters stays as it is."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+", name.strip("_"))
    if len(parts) < 2:
        return name
    return " ".join([parts[0], *(part if part.isupper() else part.lower() for part in parts[1:])])
