"""The page about a run: its sections, in the order in which they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from hansa._wording import titled
from hansa.program.records import EVALUATION, is_of_evaluation
from hansa.program.report.bars import bar_chart, histogram, label_map
from hansa.program.report.charts import Series, line_chart
from hansa.program.report.elements import Element, duration, element, folded, grid, shown, to_html
from hansa.program.report.head import header, main_metrics, tiles
from hansa.program.report.reading import Run
from hansa.program.report.settings import settings

_MOST_METRICS = 24
_MOST_ROWS = 200


def page(run: Run) -> str:
    """The page's text. Whatever the run's names hold, it is text in it."""
    main = element("main", header(run), tiles(run), *_metrics(run), *_rounds(run), *_clients(run))
    main.extend(_numbers(run))
    main.extend(settings(run))
    own = files("hansa.program.report")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{run.name}: a run of Hansa"),
        _verbatim("style", own.joinpath("page.css").read_text("utf-8")),
    )
    said = element("p", class_="unseen", role="status", id="said")
    script = _verbatim("script", own.joinpath("page.js").read_text("utf-8"))
    return to_html(element("html", head, element("body", main, said, script), lang="en"))


def _verbatim(tag: str, text: str) -> Element:
    """A style sheet or script, which HTML does not escape."""
    result = element(tag)
    result.text = "\n" + text
    return result


def _charts(figures: Sequence[Element]) -> Element:
    return grid("div", figures, "charts", (2, 3))


def _metrics(run: Run) -> Iterable[Element]:
    bases = list(dict.fromkeys(name.removeprefix(EVALUATION) for name in run.columns))
    main = {name.removeprefix(EVALUATION) for name in main_metrics(run)}
    bases.sort(key=lambda name: name not in main)
    charts, constant = [], []
    for base in bases:
        series = []
        found = [name for name in (base, EVALUATION + base) if name in run.columns]
        for name in found:
            label = "evaluated" if name.startswith(EVALUATION) else "in training"
            series.append(Series(label, *run.columns[name], main=name == found[-1]))
        values = [value for line in series for value in line.values]
        if len(run.history) > 1 and len(set(values)) == 1:
            constant.append((titled(base), shown(bool(values[0]) if base in run.flags else values[0])))
        else:
            charts.append((titled(base), series))
    yield element("h2", "Metrics")
    if not len(run.history):
        yield element("p", "No round is finished.", class_="note")
    yield _charts([line_chart(title, series) for title, series in charts[:_MOST_METRICS]])
    if len(charts) > _MOST_METRICS:
        yield element("p", f"{len(charts) - _MOST_METRICS:,} more metrics are in metrics.csv.", class_="note")
    if constant:
        same = element("dl", class_="facts")
        for name, value in constant[:_MOST_METRICS]:
            same.append(element("div", element("dt", name), element("dd", value)))
        yield element("h3", "The same in every round")
        yield element("div", same, class_="box")
    if len(constant) > _MOST_METRICS:
        yield element("p", f"{len(constant) - _MOST_METRICS:,} more are in metrics.csv.", class_="note")


def _rounds(run: Run) -> Iterable[Element]:
    if not len(run.log):
        return
    charts, notes = [], []
    evaluated = {int(one["round"]) for one in run.history if any(map(is_of_evaluation, one))}
    training = [(int(record["round"]), float(record["seconds"])) for record in run.log]
    evaluation = [(int(record["round"]), float(record["evaluation_seconds"])) for record in run.log]
    evaluation = [pair for pair in evaluation if pair[0] in evaluated]
    # The first of each is compiled, and the others would lie on the axis beside it.
    if len(training) > 2:
        notes = [f"the first round ({duration(training[0][1])})"]
        training = training[1:]
        if evaluation:
            notes.append(f"the first evaluation ({duration(evaluation[0][1])})")
            evaluation = evaluation[1:]
    series = [_seconds("training", training, main=True)]
    if evaluation:
        series.append(_seconds("evaluation", evaluation, main=False))
    note = f"Without {' and '.join(notes)}, with compilation." if notes else "With compilation."
    charts.append(line_chart("Seconds a round", series, " s", note))
    sizes = [(int(record["round"]), float(record["clients"])) for record in run.log if "clients" in record]
    if len({size for _, size in sizes}) > 1:
        rounds, clients = zip(*sizes, strict=True)
        charts.append(line_chart("Clients a round", [Series("", rounds, clients, main=True)]))
    times = run.participation()
    if times is not None:
        never = int((times == 0).sum())
        note = f"Median {np.median(times):,.0f} rounds. {never:,} of {len(times):,} clients took no part."
        charts.append(histogram("How often clients took part", note, times.tolist(), "Rounds"))
    yield element("h2", "Rounds")
    yield _charts(charts)


def _seconds(label: str, times: Sequence[tuple[int, float]], main: bool) -> Series:
    return Series(label, [number for number, _ in times], [seconds for _, seconds in times], main)


def _clients(run: Run) -> Iterable[Element]:
    population, charts = run.population, []
    names = population.get("client_ids", [])
    if "sizes" in population and population["clients"]:
        quantiles, total = population["sizes"]["quantiles"], population["sizes"]["total"]
        note = f"{total:,} in all. {quantiles[0]:,.0f} to {quantiles[-1]:,.0f} a client, median {quantiles[5]:,.0f}."
        title, columns = "Examples of each client", ("Client", "Examples")
        if "examples" in population:
            order = np.argsort(-np.asarray(population["examples"]), kind="stable").tolist()
            each = [population["examples"][index] for index in order]
            who = [names[index] if names else str(index) for index in order]
            charts.append(bar_chart(title, note, each, "Clients, the largest first", who, columns))
        else:
            deciles = ["largest", *(f"{90 - 10 * i} %" for i in range(9)), "smallest"]
            axis = "Deciles of clients, the largest first"
            charts.append(bar_chart(title, note, quantiles[::-1], axis, deciles, ("Decile", "Examples")))
    if "label_counts" in population:
        charts.append(label_map(population["label_counts"], population["labels"], names))
    for name, values in list(run.client_metrics.items())[:_MOST_METRICS]:
        finite = values[np.isfinite(values)]
        note = f"{len(finite):,} of {len(values):,} clients have a value."
        if len(finite):
            note = f"Median {shown(float(np.median(finite)))}. {note}"
        charts.append(histogram(f"{titled(name)} of each client", note, values.tolist(), titled(name)))
    charts += _sites(run)
    if not charts and not names:
        return
    yield element("h2", "Clients")
    yield _charts(charts)
    if names:
        yield _table_of_clients(run)


def _sites(run: Run) -> list[Element]:
    """The epsilon of each client whose examples are protected, each as a whole."""
    found = {} if run.ended is None else run.ended.get("sites", {})
    if not found:
        return []
    epsilons = sorted(found.items(), key=lambda pair: -pair[1])
    least, most = shown(epsilons[-1][1]), shown(epsilons[0][1])
    note = f"{least} to {most}, for each example of the client, against the server."
    who, values = [site for site, _ in epsilons], [epsilon for _, epsilon in epsilons]
    title, axis = "Epsilon of each client's examples", "Clients, the largest first"
    return [bar_chart(title, note, values, axis, who, ("Client", "Epsilon"))]


def _table_of_clients(run: Run) -> Element:
    ids, times = run.population["client_ids"], run.participation()
    columns: dict[str, Sequence[Any]] = {"Client": ids}
    if "examples" in run.population:
        columns["Examples"] = run.population["examples"]
    if times is not None:
        columns["Rounds"] = times.tolist()
    for name, values in list(run.client_metrics.items())[:_MOST_METRICS]:
        found = dict(zip(run.client_metrics_ids, values.tolist(), strict=True))
        columns[titled(name)] = [found.get(client_id) for client_id in ids]
    rows = list(zip(*columns.values(), strict=True))
    few = len(rows) <= _MOST_ROWS
    name = f"Table of {len(rows):,} clients" if few else f"The first {_MOST_ROWS} of {len(rows):,} clients"
    return folded(name, list(columns), rows[:_MOST_ROWS], "box")


def _numbers(run: Run) -> Iterable[Element]:
    history, seconds = run.history, {int(record["round"]): record for record in run.log}
    if not len(history):
        return
    names = list(history.names)[: _MOST_METRICS + 1]
    timed = [name for name in ("seconds", "evaluation_seconds", "clients") if any(name in one for one in run.log)]
    places = np.unique(np.linspace(0, len(history) - 1, min(_MOST_ROWS, len(history))).round().astype(int))
    rows = []
    for record in (history[int(place)] for place in places):
        log = seconds.get(int(record["round"]), {})
        rows.append([*(record.get(name) for name in names), *(log.get(name) for name in timed)])
    every = "" if len(rows) == len(history) else f": {len(rows)} of them"
    yield element("h2", "All numbers")
    title = f"Table of {len(history):,} round{'s' if len(history) > 1 else ''}{every}"
    heads = [f"{titled(name.removeprefix(EVALUATION))}{_evaluated(name)}" for name in names]
    heads += [{"seconds": "Seconds", "evaluation_seconds": "Seconds of evaluation"}.get(n, "Clients") for n in timed]
    yield folded(title, heads, rows, "box")
    if every or len(names) < len(history.names):
        yield element("p", "metrics.csv in the run's folder has all rounds and metrics.", class_="note")


def _evaluated(name: str) -> str:
    return ", evaluated" if name.startswith(EVALUATION) else ""
