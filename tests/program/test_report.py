"""The page about a run: whole, safe, of its own, and with the run's numbers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hansa.program import RunError, train, write_report
from hansa.program.report.axes import round_numbers
from tests.program.digits import Evaluation, averaging, population

FINITE = st.floats(-1e30, 1e30)
EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)>'
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A page's elements, text and tables; every element must be closed where it ought to be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.drawn: list[tuple[str, dict[str, str | None]]] = []
        self.titles: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)
            if self.open[-1] == "text":
                self.drawn.append((data, self.tags[-1][1]))
            if self.open[-1] == "title" and "svg" in self.open:
                self.titles.append((data, self.tags[-2][1]))
            if "td" in self.open or "th" in self.open:
                self.tables[-1][-1][-1] += data

    def series(self) -> dict[str, dict[int, str]]:
        """The points of each curve, by the chart's title, which begins with what it shows, and the curve's label."""
        charts = [attributes for tag, attributes in self.tags if tag == "svg" and "data-series" in attributes]
        titles = [name for name, attributes in self.titles if "data-series" in attributes]
        return {
            f"{title}|{line['label']}": dict(line["points"])
            for title, attributes in zip(titles, charts, strict=True)
            for line in json.loads(attributes["data-series"] or "")
        }

    def table(self, *head: str) -> list[list[str]]:
        """The table that begins with these cells."""
        return next(table for table in self.tables if tuple(table[0][: len(head)]) == head)


def write_run(folder: Path, records: list[dict[str, Any]], asked: dict[str, Any] | None = None, **files: str) -> Path:
    folder.mkdir()
    run = {"format": 1, "asked": {"process": "(a -> b)", "seed": 7, **(asked or {})}, "rounds": len(records)}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(
        averaging(), population(), 6, cohort_size=4, seed=2, evaluate=Evaluation(), evaluate_every=2, run_dir=folder,
        config={"rate": 0.5}, progress=False,
    )  # fmt: skip
    return folder


def test_the_numbers_are_those_of_the_run(run_dir: Path) -> None:
    page = read(write_report(run_dir))
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    losses = next(points for name, points in page.series().items() if name.startswith("Loss,"))
    assert losses == {record["round"]: f"{record['loss']:.6g}" for record in records}
    evaluated = next(points for name, points in page.series().items() if name.startswith("Accuracy,"))
    assert evaluated == {n: f"{records[n - 1]['evaluation/accuracy']:.6g}" for n in (2, 4, 6)}
    table = page.table("Round")
    place = table[0].index("Loss")
    assert [float(row[place]) for row in table[1:]] == pytest.approx([record["loss"] for record in records], rel=1e-3)
    assert ["rate", "0.5"] in page.table("Type of a round")
    text = " ".join(page.texts)
    best = max(record["evaluation/accuracy"] for record in records if "evaluation/accuracy" in record)
    assert f"best {best:.4g}" in text


def test_who_took_part_is_recorded_and_counted(run_dir: Path) -> None:
    log = [json.loads(line) for line in (run_dir / "rounds.jsonl").open()]
    times = [0] * 10
    for record in log:
        assert record["clients"] == 4
        assert record["seconds"] > 0
        for position in record["positions"].split():
            times[int(position)] += 1
    clients = read(write_report(run_dir)).table("Client", "Examples", "Rounds")
    assert [[int(cell) for cell in row] for row in clients[1:]] == [
        [client, len(range(client, 1797, 10)), times[client]] for client in range(10)
    ]
    summary = json.loads((run_dir / "population.json").read_text())
    assert np.sum(summary["label_counts"]) == summary["sizes"]["total"] == 1797


def test_what_was_compiled_is_told_apart_from_the_other_seconds(run_dir: Path) -> None:
    log = [json.loads(line) for line in (run_dir / "rounds.jsonl").open()]
    page = read(write_report(run_dir))
    curves = {name: points for name, points in page.series().items() if name.startswith("Seconds ")}
    training, evaluation = curves.values()
    assert training == {record["round"]: f"{record['seconds']:.6g}" for record in log[1:]}
    assert evaluation == {n: f"{log[n - 1]['evaluation_seconds']:.6g}" for n in (4, 6)}
    assert any(re.match(r"Without the first round \(.*\) and the first evaluation", text) for text in page.texts)


def test_nothing_is_loaded_from_elsewhere(run_dir: Path) -> None:
    path = write_report(run_dir)
    for tag, attributes in read(path).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "href", "action"} & attributes.keys(), tag
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, which is not loaded
    assert not re.search(r"https?://|//cdn|url\(|@import|fetch\(|XMLHttp", text)


def test_whatever_names_hold_is_text(tmp_path: Path) -> None:
    records = [{"round": n, EVIL: n / 2, f"evaluation/{EVIL}": n / 3} for n in (1, 2)]
    clients = {
        "clients": 1, "client_ids": [EVIL], "examples": [3], "sizes": {"total": 3, "quantiles": [3.0] * 11},
        "labels": [EVIL], "label_counts": [[3]],
    }  # fmt: skip
    folder = write_run(
        tmp_path / "<b>run&amp;", records, {"config": {EVIL: EVIL}, "evaluate": EVIL},
        population__json=json.dumps(clients),
        client_metrics__csv='client_id,"{}"\nx,1\n'.format(EVIL.replace('"', '""')),
    )  # fmt: skip
    page = read(write_report(folder))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.texts.count("<b>run&amp;") == 1
    assert EVIL in page.table("Client", "Examples")[1]


def test_a_long_run_is_a_small_page_that_keeps_its_peaks(tmp_path: Path) -> None:
    records = [{"round": n, **{f"m{k}": (n * k) % 7 / 7 for k in range(1, 40)}} for n in range(1, 10_001)]
    records[4567]["m1"] = 99.0
    path = write_report(write_run(tmp_path / "long", records))
    assert path.stat().st_size < 1_000_000
    first = next(iter(read(path).series().values()))
    assert first[4568] == "99"
    assert {1, 10_000} <= first.keys()
    assert len(first) <= 402
    # Five of the 39 are always zero.
    assert "10 more metrics" in path.read_text("utf-8")


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [0.5],
        [float("nan")],
        [1.0, float("inf"), float("nan"), 2.0],
        [0.0, 0.0],
        [1e-30, 1e30],
        [-5.0, -5.0],
        [1.7e308, 1.7e308],
        [5e-324, 0.0],
        [-1e308, 3.0],
    ],
)
def test_any_numbers_have_a_page(tmp_path: Path, losses: list[float]) -> None:
    folder = write_run(tmp_path / "run", [{"round": n, "loss": loss} for n, loss in enumerate(losses, 1)])
    text = write_report(folder, tmp_path / "page.html").read_text("utf-8")
    Page(text)
    drawn = " ".join(re.findall(r'\s(?:d|x|y|cx|cy|x1|y1|x2|y2)="([^"]*)"', text))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_run_that_was_killed_has_a_page(run_dir: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [{"round": 1, "loss": 2.0}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 2, "lo')
    page = read(write_report(folder))
    assert page.table("Round") == [["Round", "Loss"], ["1", "2"]]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run\.json in it; name the run_dir"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "run", [], client_metrics__csv="client_id,accuracy\nx,good\n")
    with pytest.raises(RunError, match="no table of clients and their metrics"):
        write_report(folder)


@given(FINITE, FINITE, st.integers(2, 6), st.booleans())
def test_ticks_are_a_few_round_numbers_around_a_range(low: float, high: float, most: int, whole: bool) -> None:
    low, high = sorted((low, high))
    assume(high - low > 1e-3 * max(abs(low), abs(high), 1e-20))
    ticks = round_numbers(low, high, most, whole)
    step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    margin = 1e-6 * step + 1e-9 * max(abs(low), abs(high))
    assert 2 <= len(ticks) <= most + 1
    assert ticks[0] <= low + margin and high - margin <= ticks[-1]
    np.testing.assert_allclose(np.diff(ticks), step, atol=margin)
    digits = f"{step:.6e}".partition("e")[0].rstrip("0").rstrip(".")
    assert whole or digits in ("1", "2", "2.5", "5")
    assert not whole or (step >= 0.999 and step == pytest.approx(round(step)))


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.31, 2.4, False, [0, 1, 2, 3]),
        (0.912, 0.957, False, [0.9, 0.92, 0.94, 0.96]),
        (0, 7, True, [0, 2, 4, 6, 8]),
        (0, 1, True, [0, 1]),
        (-3, 3, False, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_by_hand(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert round_numbers(low, high, 4, whole) == expected
