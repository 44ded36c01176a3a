"""The page about a run: its sections, in the order in which they stand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from hansa._directions import less_is_better
from hansa.program.metrics import EVALUATION, is_of_evaluation
from hansa.program.report.charts import Series, bar_chart, histogram, label_map, line_chart
from hansa.program.report.elements import Element, duration, element, shown, titled, to_html
from hansa.program.report.reading import Run

_MOST_METRICS = 24
_MOST_ROWS = 200
_MOST_TILES = 4


def page(run: Run) -> str:
    """The page's text. Whatever the run's names hold, it is text in it."""
    main = element("main", _header(run), _tiles(run), *_curves(run), *_rounds(run), *_clients(run), _settings(run))
    main.extend(_table_of_rounds(run))
    own = files("hansa.program.report")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{run.name}: a run of Hansa"),
        _verbatim("style", own.joinpath("page.css").read_text("utf-8")),
    )
    script = _verbatim("script", own.joinpath("page.js").read_text("utf-8"))
    return to_html(element("html", head, element("body", main, script), lang="en"))


def _verbatim(tag: str, text: str) -> Element:
    """A style sheet or script, which HTML does not escape."""
    result = element(tag)
    result.text = "\n" + text
    return result


def _header(run: Run) -> Element:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    about = " · ".join(part for part in (run.data, f"seed {run.asked.get('seed')}", versions) if part)
    button = element("button", "Light / dark", id="theme", type="button", hidden="hidden")
    return element("header", element("h1", run.name), button, element("p", about, class_="about"))


def _tiles(run: Run) -> Element:
    tiles = element("dl", class_="tiles")

    def add(name: str, value: str, note: str = "") -> None:
        tiles.append(element("div", element("dt", name), element("dd", value, element("small", note))))

    done = run.done
    add("Rounds", f"{done:,}", f"of {run.rounds:,} that were asked for" if done < run.rounds else "")
    for name in _main_metrics(run)[:_MOST_TILES]:
        rounds, values = run.columns[name]
        finite = [(value, number) for number, value in zip(rounds, values, strict=True) if math.isfinite(value)]
        label = titled(name.removeprefix(EVALUATION)) + (
            ", evaluated" if name.startswith(EVALUATION) else ", in training"
        )
        best = ""
        if finite:
            better = _better(name)
            if better is None:
                best = f"from {shown(min(finite)[0])} to {shown(max(finite)[0])}"
            else:
                value, number = better(finite, key=lambda pair: pair[0])
                best = f"best {shown(value)} in round {number:,}"
        add(label, shown(values[-1]), best)
    seconds = [float(record["seconds"]) + float(record["evaluation_seconds"]) for record in run.log]
    if seconds:
        add("Time", duration(sum(seconds)), f"{duration(float(np.median(seconds)))} a round at the median")
    sizes = [int(record["clients"]) for record in run.log if "clients" in record]
    if sizes:
        each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        add("Clients in a round", each, f"of {run.population['clients']:,}" if "clients" in run.population else "")
    return tiles


def _main_metrics(run: Run) -> list[str]:
    names = [name for name in run.columns if not name.removeprefix(EVALUATION).startswith("num_")]
    evaluated = [name for name in names if name.startswith(EVALUATION)]
    varied = [name for name in names if not _is_constant(run.columns[name][1])]
    return evaluated or varied or names


def _better(name: str) -> Any:
    """`min` or `max`, where a metric's name tells which is better; else None."""
    return {True: min, False: max, None: None}[less_is_better(name)]


def _curves(run: Run) -> Iterable[Element]:
    bases = list(dict.fromkeys(name.removeprefix(EVALUATION) for name in run.columns))
    main = {name.removeprefix(EVALUATION) for name in _main_metrics(run)}
    bases.sort(key=lambda name: name not in main)
    charts, constant = element("div", class_="charts"), []
    drawn = 0
    for base in bases:
        series = []
        for name, label in ((base, "in training"), (EVALUATION + base, "evaluated")):
            if name in run.columns:
                rounds, values = run.columns[name]
                series.append(Series(label, rounds, values, main=name.startswith(EVALUATION)))
        values = [value for line in series for value in line.values]
        if len(run.history) > 1 and _is_constant(values):
            constant.append(f"{titled(base)} {shown(values[0])}")
            continue
        drawn += 1
        if drawn <= _MOST_METRICS:
            charts.append(line_chart(titled(base), series))
    yield element("h2", "Metrics")
    if not len(run.history):
        yield element("p", "No round is finished.", class_="note")
    yield charts
    if constant:
        some = constant[:_MOST_METRICS]
        more = f", and {len(constant) - len(some):,} more" if len(constant) > len(some) else ""
        yield element("p", "The same in every round: " + ", ".join(some) + more + ".", class_="note")
    if drawn > _MOST_METRICS:
        yield element("p", f"{drawn - _MOST_METRICS:,} more metrics are in metrics.csv.", class_="note")


def _rounds(run: Run) -> Iterable[Element]:
    if not len(run.log):
        return
    charts = element("div", class_="charts")
    title = "Seconds of each round"
    numbers = [int(record["round"]) for record in run.log]
    training = [(number, float(record["seconds"])) for number, record in zip(numbers, run.log, strict=True)]
    # The first of each is compiled, and the others would lie on the axis beside it.
    if len(training) > 2:
        title += f" after the first, which took {duration(training[0][1])} with compilation"
        training = training[1:]
    series = [_seconds("training", training, main=True)]
    evaluated = {record["round"] for record in run.history if any(map(is_of_evaluation, record))}
    evaluation = [
        (number, float(record["evaluation_seconds"]))
        for number, record in zip(numbers, run.log, strict=True)
        if number in evaluated
    ]
    if evaluation:
        if len(evaluation) > 2:
            title += f"; the first evaluation took {duration(evaluation[0][1])}"
            evaluation = evaluation[1:]
        series.append(_seconds("evaluation", evaluation, main=False))
    charts.append(line_chart(title, series, " s"))
    sizes = [(int(record["round"]), float(record["clients"])) for record in run.log if "clients" in record]
    if len({size for _, size in sizes}) > 1:
        rounds, clients = zip(*sizes, strict=True)
        charts.append(line_chart("Clients in each round", [Series("", rounds, clients, main=True)]))
    times = run.participation()
    if times is not None:
        never = int((times == 0).sum())
        note = f"{np.median(times):,.0f} rounds at the median; {never:,} of {len(times):,} clients in none"
        charts.append(histogram("How often clients took part", note, times.tolist(), "rounds"))
    yield element("h2", "Rounds")
    yield charts


def _seconds(label: str, times: Sequence[tuple[int, float]], main: bool) -> Series:
    return Series(label, [number for number, _ in times], [seconds for _, seconds in times], main)


def _clients(run: Run) -> Iterable[Element]:
    population, charts = run.population, element("div", class_="charts")
    if "sizes" in population and population["clients"]:
        quantiles, total = population["sizes"]["quantiles"], population["sizes"]["total"]
        note = f"{total:,} in all: {quantiles[0]:,.0f} to {quantiles[-1]:,.0f}, {quantiles[5]:,.0f} at the median"
        if "examples" in population:
            each, axis = sorted(population["examples"], reverse=True), "clients, the largest first"
        else:
            each, axis = quantiles[::-1], "deciles of clients, the largest first"
        charts.append(bar_chart("Examples of each client", note, each, axis))
    if "label_counts" in population:
        charts.append(label_map(population["label_counts"], population["labels"]))
    for name, values in list(run.client_metrics.items())[:_MOST_METRICS]:
        finite = values[np.isfinite(values)]
        note = f"{len(finite):,} of {len(values):,} clients have one"
        if len(finite):
            note = f"{shown(float(np.median(finite)))} at the median; {note}"
        charts.append(histogram(f"{titled(name)} of each client", note, values.tolist(), titled(name)))
    if not len(charts) and "client_ids" not in population:
        return
    yield element("h2", "Clients")
    yield charts
    if "client_ids" in population:
        yield _table_of_clients(run)


def _table_of_clients(run: Run) -> Element:
    ids, times = run.population["client_ids"], run.participation()
    columns: dict[str, Sequence[Any]] = {"client": ids}
    if "examples" in run.population:
        columns["examples"] = run.population["examples"]
    if times is not None:
        columns["rounds"] = times.tolist()
    for name, values in list(run.client_metrics.items())[:_MOST_METRICS]:
        found = dict(zip(run.client_metrics_ids, values.tolist(), strict=True))
        columns[name] = [found.get(client_id) for client_id in ids]
    rows = list(zip(*columns.values(), strict=True))
    name = (
        f"Table of {len(rows):,} clients"
        if len(rows) <= _MOST_ROWS
        else f"The first {_MOST_ROWS} of {len(rows):,} clients"
    )
    return _folded(name, list(columns), rows[:_MOST_ROWS])


def _settings(run: Run) -> Element:
    table = element("table", class_="facts")
    asked = {name: value for name, value in run.asked.items() if name != "config"}
    config = run.asked.get("config")
    facts = [*asked.items(), *(config.items() if isinstance(config, Mapping) else [("config", config)])]
    for name, value in [*facts, *((f"{name}, version", version) for name, version in run.versions.items())]:
        if value is None or value == []:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.append(element("tr", element("th", name, scope="row"), element("td", element("code", text))))
    return element("section", element("h2", "What was asked"), element("div", table, class_="box"))


def _table_of_rounds(run: Run) -> Iterable[Element]:
    history = run.history
    if not len(history):
        return
    names = list(history.names)[: _MOST_METRICS + 1]
    places = np.unique(np.linspace(0, len(history) - 1, min(_MOST_ROWS, len(history))).round().astype(int))
    rows = [[history[int(place)].get(name) for name in names] for place in places]
    every = "" if len(rows) == len(history) else f": {len(rows)} of them"
    yield element("h2", "All numbers")
    yield _folded(f"Table of {len(history):,} round{'s' if len(history) > 1 else ''}{every}", names, rows)
    if every or len(names) < len(history.names):
        yield element("p", "metrics.csv in the run's folder has all rounds and metrics.", class_="note")


def _folded(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Element:
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    body = element("tbody", *(element("tr", *(element("td", shown(cell)) for cell in row)) for row in rows))
    scroll = element("div", element("table", head, body, class_="numbers"), class_="scroll", tabindex=0)
    return element("details", element("summary", name), scroll, class_="box")


def _is_constant(values: Sequence[float]) -> bool:
    return len(set(values)) == 1
