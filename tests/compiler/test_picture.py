"""The picture of an explanation: an SVG document that every viewer reads, in which every text has its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font

import hansa

SVG = "{http://www.w3.org/2000/svg}"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
LONG = "a_parameter_whose_name_is_longer_than_any_box_of_the_picture_could_ever_show_in_one_line"


def explained(function: Any, *kinds: Any) -> Any:
    return hansa.explain(hansa.federated_computation(function, *kinds))


def local(function: Any, name: str) -> Any:
    function.__name__ = name
    return hansa.jax_computation(function)


def total() -> Any:
    return explained(lambda value: hansa.federated_sum(value), "{int32}@CLIENTS")


def two_stages() -> Any:
    def work(data: Any, model: Any) -> Any:
        add_up = local(lambda total, batch: total + jnp.sum(batch.x), "add_up")
        scale = local(lambda model, total: jnp.tanh(model * total), "scale")
        distance = local(lambda mine, mean: jnp.sum((mine - mean) ** 2), "distance")
        sums = hansa.sequence_reduce(data, np.float32(0), add_up)
        mine = hansa.federated_map(scale, [hansa.federated_broadcast(model), sums])
        mean = hansa.federated_mean(mine)
        apart = hansa.federated_map(distance, [mine, hansa.federated_broadcast(mean)])
        return {"mean": mean, "closest": hansa.federated_min(apart), "distances": apart}

    return explained(work, "{<x=float32[?,64],y=int32[?]>*}@CLIENTS", "float32[64,10]@SERVER")


def server_only() -> Any:
    return explained(lambda x: hansa.federated_map(local(lambda x: jnp.sort(x) * 2, "sort"), x), "float32[100]@SERVER")


def many() -> Any:
    def work(struct: Any) -> Any:
        values, counts, keys, table = struct
        as_int = [local(lambda x: x.astype(jnp.int32), name) for name in ("名前の長い関数" * 4, "W" * 90, "%@" * 40)]
        mapped = [hansa.federated_map(function, values) for function in as_int]
        rows = hansa.federated_select(keys, 9, table, local(lambda table, key: table[key], "row"))
        return [
            *(hansa.federated_sum(value) for value in mapped * 5),
            *(hansa.federated_secure_sum(counts, n) for n in range(9)),
            hansa.federated_collect(values),
            hansa.federated_max(hansa.sequence_sum(rows)),
            hansa.federated_mean(values),
        ]

    members = {
        LONG: hansa.FederatedType(hansa.to_type("float32[3,200,200,10]"), hansa.CLIENTS),
        "counts<&>\"'\x00\x1b\ud800": hansa.FederatedType(
            hansa.to_type({f"field {i} & more": np.int32 for i in range(12)}), hansa.CLIENTS
        ),
        "keys": hansa.to_type("{int32[3]}@CLIENTS"),
        "table": hansa.to_type("float32[9,5]@SERVER"),
    }
    return explained(work, hansa.StructType(list(members.items())))


def at_clients() -> Any:
    return explained(lambda x: (hansa.federated_map(local(jnp.sin, "sine"), x), x), "{float32}@CLIENTS")


def one_place() -> Any:
    return hansa.explain(hansa.jax_computation(lambda x: x @ x.T, "float32[?,3]"))


CASES = [total, two_stages, server_only, many, at_clients, one_place]
NAMES = [case.__name__ for case in CASES]


def texts(root: ElementTree.Element) -> list[str]:
    return [shown(element) for element in root.iter(f"{SVG}text")]


def shown(element: ElementTree.Element) -> str:
    title = element.find(f"{SVG}title")
    return (element.text or "") + ((title.tail or "") if title is not None else "")


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_it_is_a_document_of_its_own_and_the_same_each_time(case: Any) -> None:
    picture = case().svg()
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.get("role")) == ("800", "img")
    assert root.get("viewBox") == f"0 0 800 {root.get('height')}"
    assert picture == case().svg()
    assert "id=" not in picture, "two pictures in a page must not meet"
    assert "nan" not in picture
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme:dark" in style
    used = {name for element in root.iter() for name in element.get("class", "").split()} - {"hansa-explain"}
    assert {name for name in used if f".{name}{{" not in style} == set(), "each class has a colour or a shape"
    dark = style.partition("@media")[2]
    shapes = {"line", "life", "shackle", "mono", "bold"}
    assert {name for name in used - shapes if f".{name}{{" not in dark} == set(), "in dark surroundings too"


def width(text: str, element: ElementTree.Element) -> float:
    """How wide a text is in DejaVu, which is as wide as fonts on screens get; a character it lacks is a full em."""
    style = set((element.get("class") or "").split())
    name = "DejaVuSansMono" if "mono" in style else "DejaVuSans"
    font = FT2Font(FONTS / f"{name}{'-Bold' if 'bold' in style else ''}.ttf")
    font.set_size(1000, 72)
    known = font.get_charmap()
    ems = (font.load_char(ord(c)).linearHoriAdvance / 65536 / 1000 if ord(c) in known else 1.0 for c in text)
    return float(element.get("font-size") or 0) * sum(ems)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_text_leaves_its_box_or_runs_into_another(case: Any) -> None:
    root = ElementTree.fromstring(case().svg())
    boxes = [
        tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height")) for rect in root.iter(f"{SVG}rect")
    ]
    spans = []
    for element in root.iter(f"{SVG}text"):
        x, y, size = (float(element.get(key, "")) for key in ("x", "y", "font-size"))
        wide = width(shown(element), element)
        left = x - wide * {None: 0, "middle": 0.5, "end": 1}[element.get("text-anchor")]
        around = [(bx, bx + bw) for bx, by, bw, bh in boxes if bx <= x <= bx + bw and by <= y - size / 3 <= by + bh]
        start, end = max(a for a, _ in around), min(b for _, b in around)
        assert start <= left and left + wide <= end, shown(element)
        spans.append((y, left, left + wide, shown(element)))
    for i, (y, left, right, text) in enumerate(spans):
        for other_y, other_left, other_right, other in spans[i + 1 :]:
            if abs(y - other_y) < 9:
                assert right <= other_left or other_right <= left, (text, other)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_boxes_and_arrows_lie_in_the_picture(case: Any) -> None:
    root = ElementTree.fromstring(case().svg())
    high = float(root.get("height", ""))
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        assert min(x, y, w, h) > 0
        assert x + w < 800
        assert y + h < high
    for path in root.iter(f"{SVG}path"):
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d", ""))
        assert points
        assert all(0 < float(x) < 800 and 0 < float(y) < high for x, y in points)


def test_time_runs_down_from_the_server_to_the_clients_and_back() -> None:
    root = ElementTree.fromstring(two_stages().svg())
    places = {shown(element): float(element.get("y", "")) for element in root.iter(f"{SVG}text")}
    order = [
        "1  The server",
        "2  Each client, by itself",
        "3  The server",
        "4  Each client, by itself",
        "5  The server",
    ]
    heights = [places[text] for text in [*order, "6  Each client"]]
    assert heights == sorted(heights)
    assert {"2,560 bytes", "keeps", "distances: float32", "closest: float32", "scale", "distance"} <= set(places)
    heads = [e.get("class") for e in root.iter(f"{SVG}path") if "Z" in e.get("d", "")]
    assert heads == ["blue"] * 3 + ["rust"] + ["blue"] * 3 + ["rust"], (
        "sent to several clients, made one on the way back"
    )


def test_what_is_protected_has_a_lock_and_says_so() -> None:
    text = explained(
        lambda count: (hansa.federated_secure_sum(count, 9), hansa.federated_sum(count)), "{int32}@CLIENTS"
    )
    root = ElementTree.fromstring(text.svg())
    assert texts(root).count("only the sum is seen") == 1
    assert sum("shackle" in (e.get("class") or "") for e in root.iter(f"{SVG}path")) == 2, "at the arrow, in the legend"
    assert "in a deployment, the server would see only the sum" in texts(root)
    assert "in a deployment, the server would see what each client reports" in texts(root)
    assert "here all of it runs in one process, which sees everything" in texts(root)
    plain = ElementTree.fromstring(total().svg())
    assert not any("shackle" in (e.get("class") or "") for e in plain.iter(f"{SVG}path"))


def test_many_reports_are_put_together_but_protected_ones_not_with_others() -> None:
    root = ElementTree.fromstring(many().svg())
    together = [text for text in texts(root) if re.match(r"\d+ more", text)]
    assert [text.split(" ")[0] for text in together] == ["12", "4"]
    assert {"collect", "secure_sum", "select", "3 slices of table"} <= set(texts(root))
    assert any(LONG in (title.text or "") for title in root.iter(f"{SVG}title")), "the pointer shows it in full"


def test_names_are_only_text() -> None:
    picture = many().svg()
    shown_names = [title.text or "" for title in ElementTree.fromstring(picture).iter(f"{SVG}title")]
    assert any("counts<&>\"'\ufffd\ufffd\ufffd" in name for name in shown_names)


def test_it_is_saved_and_shown_in_a_notebook(tmp_path: Path) -> None:
    text = total()
    path = text.save(tmp_path / "picture.svg")
    assert path.read_text("utf-8") == text.svg() == text._repr_svg_()
    assert text.save(str(tmp_path / "text.txt")).read_text("utf-8") == f"{text}\n"
