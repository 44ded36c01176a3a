"""`hansa explain`: what a round of a run is: its type, its stages, what goes between server and clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hansa
from hansa._errors import UserError
from hansa._files import replacing
from hansa.cli._experiment import Experiment
from hansa.cli._output import print_json, say
from hansa.cli.config import plain, read_config
from hansa.cli.config.algorithms import algorithm_of, told
from hansa.cli.config.choices import OF_TABLES

_WIDTH = 100


_REQUIREMENTS = {"private": hansa.privacy.require_private, "protected": hansa.privacy.require_protected}


def explain(path: Path, overrides: Sequence[str], svg: Path | None, required: Sequence[str], as_json: bool) -> None:
    """Print it, and draw it.

    Args:
        path: the run's TOML file.
        overrides: of the file.
        svg: where the picture goes.
        required: what the round must be, of "private" and "protected".
        as_json: whether to print JSON.

    Raises:
        NotAsRequired: if it is not, after all is printed.
    """
    config = read_config(path, overrides)
    process, algorithm = Experiment(config).process, algorithm_of(config)
    explanation = hansa.explain(process)
    if svg is not None:
        with replacing(svg) as part:
            part.write_text(explanation.svg(), "utf-8")
    kind = process.next.type_signature.compact()
    missing = {name: _missing(process, check) for name, check in _REQUIREMENTS.items()}
    if as_json:
        facts: dict[str, Any] = {}
        for name in ("bytes_down", "bytes_once", "bytes_up"):
            size = getattr(explanation, name)
            facts[name] = {"known": int(size), "exact": size.exact}
        for name in ("client_flops", "server_flops", "adding_flops"):
            facts[name] = str(getattr(explanation, name))
        stages = [type(stage).__name__ for stage in explanation.stages]
        tables = {name: getattr(config, name) for name in OF_TABLES}
        chosen = {"algorithm": plain(algorithm)}
        chosen |= {name: None if table is None else plain(table) for name, table in tables.items()}
        facts["releases"] = [
            {"mechanism": str(release.mechanism), "results": list(release.paths)}
            for release in hansa.privacy.releases(process)
        ]
        facts |= {name: {"holds": why is None, "why": why} for name, why in missing.items()}
        print_json({"type": kind, **chosen, "stages": stages, **facts, "text": str(explanation), "svg": svg})
    else:
        say(*told(config), "", explanation)
        if svg is not None:
            say("", f"picture {svg}")
    for name in required:
        if (why := missing[name]) is not None:
            raise NotAsRequired(why)


class NotAsRequired(UserError):
    """A round is not private, or not protected, and is to be."""


def _missing(process: Any, check: Callable[[Any], None]) -> str | None:
    """Why a process is not what a check asks for; None if it is."""
    try:
        check(process)
    except ValueError as error:
        return str(error)
    return None
