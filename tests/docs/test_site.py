"""The site has every page and every public name, and works from a folder: without a server, and without a network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "hansa",
    "hansa.aggregators",
    "hansa.aggregators.codecs",
    "hansa.analytics",
    "hansa.learning",
    "hansa.learning.tabular",
    "hansa.network",
    "hansa.privacy",
    "hansa.program",
    "hansa.simulation",
    "hansa.templates",
]
# Public modules whose names are told on the page of their package.
MODULES = ("hansa.learning.algorithms", "hansa.types", "hansa.utils")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package: str) -> None:
    public = {
        name for name in importlib.import_module(package).__all__ if f"{package}.{name}" not in (*PACKAGES, *MODULES)
    }
    page = (ROOT / "docs" / "reference" / f"{package.rsplit('.', 1)[-1]}.md").read_text("utf-8")
    assert set(re.findall(rf"^::: {re.escape(package)}\.(\w+)$", page, re.MULTILINE)) == public


def test_the_navigation_has_every_page() -> None:
    navigation = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    docs = ROOT / "docs"
    pages = {
        str(page.relative_to(docs).with_suffix(".md")) for page in docs.rglob("*") if page.suffix in (".md", ".ipynb")
    }
    assert sorted(navigation) == sorted(pages | {"index.md", "changes.md", "contributing.md"})


class Parts(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, [given.get("id"), given.get("name")]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        elif given.get("src") or (tag == "link" and given.get("href")):
            self.loaded.append(str(given.get("src") or given["href"]))


@pytest.mark.slow
def test_the_site_works_from_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    pages = {path: Parts(path.read_text("utf-8")) for path in tmp_path.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 20
    for path, parts in pages.items():
        for address in [*parts.links, *parts.loaded]:
            if address.startswith("data:"):  # in the page itself
                continue
            if re.match(r"https?:", address):
                assert address not in parts.loaded, f"{path.name} loads {address}"
                continue
            if address.startswith("data:"):
                continue
            name, _, anchor = address.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            assert target.is_file(), f"{path.name} leads to {address}"
            if anchor and target in pages:
                assert unquote(anchor) in pages[target].anchors, f"{path.name} leads to {address}"
    # Search: the index as a script, and what stands in for workers.
    assert (tmp_path / "search" / "search_index.js").read_text("utf-8").startswith("var __index = {")
    assert any("iframe-worker.js" in address for address in pages[tmp_path / "index.html"].loaded)
