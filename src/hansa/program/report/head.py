"""The head of the page about a run: what it was, when and on what, and its main numbers in tiles."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from hansa._directions import less_is_better
from hansa._wording import titled
from hansa.program.records import EVALUATION
from hansa.program.report.elements import Element, duration, element, grid, shown
from hansa.program.report.reading import Run
from hansa.program.report.settings import in_words

_MOST_TILES = 4
_PACKAGES = {"hansa": "Hansa", "jax": "JAX", "keras": "Keras", "numpy": "NumPy"}


def header(run: Run) -> Element:
    """The run's name, what became of it, and what is known of how it was made; what is not known is left out."""
    button = element("button", "Light / dark", id="theme", type="button", hidden="hidden")
    about = element("dl", class_="facts")
    for name, value in _facts(run):
        about.append(element("div", element("dt", name), element("dd", value)))
    return element(
        "header", element("h1", run.name), button, element("p", _ended(run), class_="note"),
        element("div", about, class_="box"),
    )  # fmt: skip


def _ended(run: Run) -> str:
    ended = run.ended
    if ended is None:
        return "Has not ended: it is under way, or was killed."
    return "Finished." if ended.get("stopped") is None else f"Stopped: {ended['stopped']}."


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    about, seconds = run.about, _seconds(run)
    if "began" in about:
        yield "Began", _date(about["began"])
    if seconds:
        yield "Duration", duration(sum(seconds))
    machine = "; ".join(part for part in (about.get("machine"), _devices(run.devices)) if part)
    if machine:
        yield "Machine", machine
    if run.ended is not None and "privacy" in run.ended:
        yield "Privacy", run.ended["privacy"]
    if "parameters" in about:
        yield "Parameters", f"{about['parameters']:,}"
    if "bytes_down" in about and "bytes_up" in about:
        yield "Bytes a round", _bytes(run)
    for name, value in about.get("settings", {}).items():
        yield titled(name), value
    if run.data:
        yield "Data", _data(run.data)
    if run.asked.get("seed") is not None:
        yield "Seed", shown(run.asked["seed"])
    if run.versions:
        yield "Versions", ", ".join(f"{_PACKAGES.get(name, name)} {version}" for name, version in run.versions.items())


def _devices(text: str | None) -> str:
    return "" if text is None else re.sub(r"^(\d+) x ", r"\1 × ", text.replace("x cpu", "x CPU"))


def _data(text: str) -> str:
    """What a population prints as, without its class and the type of its examples, which stand elsewhere."""
    found = re.fullmatch(r"ClientData\((.*?)(?:: <.*)?\)", text, re.DOTALL)
    if found:
        return re.sub(r"\b\d{4,}\b", lambda number: f"{int(number[0]):,}", found[1])
    return "given by a function" if text.startswith("<") else in_words(text)


def _bytes(run: Run) -> str:
    """What all clients of a round are sent and send, as far as that is known, or what one of them does."""
    more = "" if run.about.get("bytes_exact", True) else " and more"
    down, up = run.about["bytes_down"], run.about["bytes_up"]
    sizes = [int(record["clients"]) for record in run.log if "clients" in record]
    each = f"{amount(down)} to each client, {amount(up)} back"
    once = run.about.get("bytes_once", 0)
    each += f", {amount(once)} more in the first round" if once else ""
    if not sizes:
        return each + more
    middle = int(np.median(sizes))
    return f"{amount((down + up) * middle)}{more}: {each}, {middle:,} client{'' if middle == 1 else 's'}"


def amount(count: int) -> str:
    """A number of bytes: `8 bytes`, `38.4 kB`, `1.63 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.3g} {unit}"
    return f"{count:,} byte{'' if count == 1 else 's'}"


def _date(text: str) -> str:
    """A date of ISO 8601 for people: `29 November 2026, 22:30 (UTC+00:00)`; as it is, if it is none."""
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = date.strftime("%Z")
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}, {date:%H:%M}" + (f" {zone}" if zone else "")


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def _seconds(run: Run) -> list[float]:
    return [float(record["seconds"]) + float(record["evaluation_seconds"]) for record in run.log]


def tiles(run: Run) -> Element:
    """The main numbers."""
    found = []

    def add(name: str, value: str, note: str = "") -> None:
        shown_value = element("dd", value)
        if note:
            shown_value.append(element("small", note))
        found.append(element("div", element("dt", name), shown_value))

    done = run.done
    add("Rounds", f"{done:,}", f"of {run.rounds:,}" if done < run.rounds else "")
    for name in main_metrics(run)[:_MOST_TILES]:
        rounds, values = run.columns[name]
        finite = [(value, number) for number, value in zip(rounds, values, strict=True) if math.isfinite(value)]
        base = titled(name.removeprefix(EVALUATION))
        best, better = "", _better(name)
        if finite and better is None:
            best = f"from {shown(min(finite)[0])} to {shown(max(finite)[0])}"
        elif finite:
            value, number = better(finite, key=lambda pair: pair[0])
            best = f"best {shown(value)} in round {number:,}"
        label = f"{base}, evaluated" if name.startswith(EVALUATION) else f"{base}, in training"
        add(label, shown(values[-1]), best)
    seconds = _seconds(run)
    if seconds:
        add("A round", duration(float(np.median(seconds))), "median")
    sizes = [int(record["clients"]) for record in run.log if "clients" in record]
    if sizes:
        each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        add("Clients a round", each, f"of {run.population['clients']:,}" if "clients" in run.population else "")
    return grid("dl", found, "tiles", (2, 4, 7))


def main_metrics(run: Run) -> list[str]:
    """The names of the metrics to look at first: the evaluation's, or the process's that change."""
    names = [name for name in run.columns if not name.removeprefix(EVALUATION).startswith("num_")]
    names = [name for name in names if name.removeprefix(EVALUATION) not in run.flags] or names
    evaluated = [name for name in names if name.startswith(EVALUATION)]
    varied = [name for name in names if len(set(run.columns[name][1])) > 1]
    return evaluated or varied or names


def _better(name: str) -> Any:
    """`min` or `max`, where a metric's name tells which is better; else None."""
    return {True: min, False: max, None: None}[less_is_better(name)]
