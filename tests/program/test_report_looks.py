"""What can be said of the looks of the page about a run without eyes: rows, widths, contrast, words, and its parts."""

from __future__ import annotations

import json
import re
import string
from importlib.resources import files
from pathlib import Path

import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from hansa.program import EarlyStopping, train, write_report
from hansa.program.report import axes
from hansa.program.report.elements import element, grid
from hansa.program.report.settings import in_words
from tests.program.digits import Evaluation, averaging, population
from tests.program.test_report import Page, read, write_run

CSS = files("hansa.program.report").joinpath("page.css").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    train(
        averaging(), population(), 6, cohort_size=4, evaluate=Evaluation(), run_dir=folder, progress=False,
        callbacks=[EarlyStopping("loss", 3)], config={"training": {"rate": 0.5, "shuffle": True, "names": ["a", "b"]}},
    )  # fmt: skip
    return read(write_report(folder))


def test_the_head_says_when_on_what_of_what_size_and_how(page: Page) -> None:
    text = " ".join(page.texts)
    assert re.search(r"Began \d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d", text)
    assert re.search(r"Duration [\d.]+ \w+ Machine \S+ \S+, \d+ cores?", text)
    assert "Parameters 650 Bytes a round 21.1 kB: 2.61 kB to each client, 2.68 kB back, 4 clients" in text
    assert "Client optimizer SGD, learning rate 0.5 Server optimizer SGD with momentum 0.5, learning rate 1" in text
    assert "Data 10 clients, 1,797 examples, 179 to 180 each, in batches of 30 Seed 0 Versions Hansa " in text


def test_there_is_no_python_in_it_and_no_name_of_a_counter(page: Page) -> None:
    text = " ".join(text for text in page.texts if not text.startswith("(<state="))  # the type of a round
    assert not re.search(
        r"\b(True|False|None|nan|array|num_\w+|[A-Z]\w+\([^ ]|\w+=\w+\))|<\w+ \w+ at |0x[0-9a-f]{6}", text
    )
    for words in ("Clients left out: not finite 0", "Clients without examples 0", "Model unchanged no"):
        assert words in text
    settings = page.table("Type of a round")
    assert ["training.shuffle", "yes"] in settings
    assert ["training.names", "a; b"] in settings
    assert any(name == "Callbacks" and value.startswith("Early stopping: ") for name, value in settings)


def test_each_picture_says_what_it_shows_and_has_its_numbers_in_a_table(page: Page) -> None:
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == len(page.titles) == sum(tag == "figure" for tag, _ in page.tags)
    assert all(len(title) > 20 for title, _ in page.titles)
    assert sum(text == "Values" for text in page.texts) == sum("data-series" not in chart for chart in charts)
    assert {"Seconds", "Seconds of evaluation", "Clients", "Loss", "Accuracy, evaluated"} <= set(page.table("Round")[0])
    scrolled = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in scrolled)
    assert all(chart["tabindex"] == "0" for chart in charts if "data-series" in chart)


def test_a_run_that_says_less_shows_what_it_has(tmp_path: Path) -> None:
    text = " ".join(read(write_report(write_run(tmp_path / "old", [{"round": 1, "loss": 2.0}]))).texts)
    assert "Has not ended" in text
    assert not re.search("Began|Machine|Parameters|Bytes a round|optimizer|Duration", text)


@pytest.mark.parametrize("most", [2, 3, 4, 7])
def test_rows_are_full_and_differ_by_one_at_most(most: int) -> None:
    for count in range(1, 30):
        cells = [element("p") for _ in range(count)]
        assert len(grid("div", cells, "charts", (most,))) == count
        sizes = [int(re.fullmatch(rf"--of-{most}:(\d+);", cell.attrib["style"])[1]) for cell in cells]  # type: ignore[index]
        rows = []
        while sizes:
            rows.append(sizes[0])
            assert sizes[: sizes[0]] == [sizes[0]] * sizes[0]
            del sizes[: sizes[0]]
        assert max(rows) <= most
        assert max(rows) - min(rows) <= 1
        assert len(rows) == -(-count // most)


def test_widths_are_not_less_than_those_of_the_widest_usual_font() -> None:
    font = FT2Font(font_manager.findfont("DejaVu Sans"))
    font.set_size(axes.TEXT, 72)
    assert f"svg text {{ fill: var(--quiet); font-size: {axes.TEXT}px" in CSS
    for text in [*string.printable[:95], "1,234,567", "× 10³", "−0.0025", "Wednesday", "…"]:
        font.set_text(text)
        assert axes.width_of(text) >= font.get_width_height()[0] / 64 - 1, text
    assert axes.cut("automobile", 200) == "automobile"
    assert axes.width_of(axes.cut("automobiles of the 1960s", 80)) <= 80


@pytest.mark.parametrize(
    ("first", "last"), [(1, 1), (1, 2), (1, 6), (0, 12), (1, 1000), (7, 10_000), (1_234_000, 1_234_567), (1, 10**9)]
)
def test_rounds_under_a_chart_have_room_at_320_pixels(first: int, last: int) -> None:
    axis = axes.round_axis(first, last)
    places = [axes.NARROWEST * axis.share(tick) for tick in axis.ticks]
    widths = [axes.width_of(f"{int(tick):,}") for tick in axis.ticks]
    assert all(first <= tick <= last for tick in axis.ticks)
    for i in range(len(places) - 1):
        assert places[i] + widths[i] / 2 < places[i + 1] - widths[i + 1] / 2
    assert len(places) >= (1 if first == last else 2)


def test_a_chart_keeps_room_for_its_labels(tmp_path: Path) -> None:
    name = "a label that is much longer than there is room for"
    people = {
        "clients": 2, "client_ids": ["a", "b"], "examples": [3, 4], "sizes": {"total": 7, "quantiles": [3.0] * 11},
        "labels": ["cat", name], "label_counts": [[1, 2], [4, 0]],
    }  # fmt: skip
    records = [{"round": n, "loss": 1e7 / n, "tiny": -1e-9 * n} for n in range(999_990, 1_000_001)]
    page = read(write_report(write_run(tmp_path / "run", records, population__json=json.dumps(people))))
    room, labels = (0.0, 0.0), []
    for tag, attributes in page.tags:
        if attributes.get("class") == "plot":
            margins = re.fullmatch(r"margin-left:(\d+)px;margin-right:(\d+)px", attributes["style"] or "")
            assert margins is not None
            room = (float(margins[1]), float(margins[2]))
        elif tag == "text":
            labels.append((attributes["x"], room))
    texts = [text for text, inside in page.drawn]
    assert len(texts) == len(labels) > 15
    for text, (x, (left, right)) in zip(texts, labels, strict=True):
        if x == "-8":
            assert axes.width_of(text) + 8 <= left + 1
            assert left <= 125
        elif (x or "").endswith("%"):
            assert axes.width_of(text) / 2 <= left + axes.NARROWEST * float((x or "")[:-1]) / 100 + 1
            assert axes.width_of(text) / 2 <= right + axes.NARROWEST * (1 - float((x or "")[:-1]) / 100) + 1
    assert name in page.table("Client", "cat")[0]


@pytest.mark.parametrize(
    ("low", "high"), [(0.27, 0.64), (0.93, 0.95), (0.01, 2.3), (718, 720), (-3, 5), (0, 0), (7, 7)]
)
def test_an_axis_fits_its_values(low: float, high: float) -> None:
    axis = axes.value_axis(low, high)
    assert axis.low <= low <= high <= axis.high
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    if high > low:
        assert (high - low) / (axis.high - axis.low) > 0.63
        assert len(axis.ticks) >= 2


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("start", [":root {", ':root[data-theme="dark"] {', ':root:not([data-theme="light"]) {'])
def test_colours_have_contrast(start: str) -> None:
    colours: dict[str, str] = dict(re.findall(r"--(\w+): (#\w{6})", CSS.partition(start)[2].partition("}")[0]))
    for ground in ("page", "card"):
        for name, least in (("ink", 7), ("quiet", 4.5), ("warn", 4.5), ("main", 3), ("side", 3)):
            assert contrast(colours[name], colours[ground]) >= least, (name, ground)
    assert contrast(colours["card"], colours["ink"]) >= 7  # of the values at the cursor
    # Lines are told apart without their colours, too.
    assert re.search(r"\.line\.side \{[^}]*stroke-dasharray", CSS)
    assert re.search(r"\.legend i\.side \{[^}]*dashed", CSS)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("EarlyStopping('loss', 3, mode='min')", "Early stopping: loss, 3, mode min"),
        ("UniformSampler(4 of 10 clients, seed 2)", "Uniform sampler: 4 of 10 clients, seed 2"),
        ("tests.program.digits.Evaluation", "Evaluation"),
        ("my.module.test_accuracy", "test_accuracy"),
        ("Thing(flag=True, other=None)", "Thing: flag yes, other none"),
        ("a text (as it is)", "a text (as it is)"),
    ],
)
def test_python_in_words(printed: str, words: str) -> None:
    assert in_words(printed) == words
