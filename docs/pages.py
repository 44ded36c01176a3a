"""What mkdocs does not do itself: notebooks as pages, and the project's README, changes and licence as pages.

mkdocs runs the functions named `on_…` when it builds the site (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# The page of the site that a file beside `docs` becomes.
BESIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "LICENSE.txt",
}
_TARGET = re.compile(r"(?<=\]\()([^()\s#]+)")


def markdown_of(notebook: Path) -> str:
    """A notebook as Markdown: its texts, its code in fences, and the outputs that are kept in it."""
    parts = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```python\n{cell.source}\n```", *map(_output, cell.outputs)]
    return "\n\n".join(parts) + "\n"


def _output(output: Any) -> str:
    picture = output.get("data", {}).get("image/png")
    if picture is not None:
        return f'<img alt="What the cell above draws" src="data:image/png;base64,{picture.strip()}">'
    text = output.text if output.output_type == "stream" else output.data["text/plain"]
    return f"```text\n{text.rstrip()}\n```"


def in_site(target: str, beside_docs: bool) -> str:
    """Where a relative link leads in the site, from a page in `docs` or from one beside it."""
    if beside_docs:
        target = target.removeprefix("docs/") if target.startswith("docs/") else BESIDE.get(target, target)
    elif target.startswith("../"):
        target = BESIDE.get(target.removeprefix("../"), target)
    return target.removesuffix(".ipynb") + ".md" if target.endswith(".ipynb") else target


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files beside `docs`, and puts pages in the place of notebooks."""
    for name, uri in BESIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text("utf-8")))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            assert file.abs_src_path is not None
            content = markdown_of(Path(file.abs_src_path))
            files.remove(file)
            files.append(File.generated(config, in_site(file.src_uri, False), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links to notebooks, and to files beside `docs`, into links to their pages."""
    beside_docs = page.file.src_uri in BESIDE.values()
    return _TARGET.sub(lambda match: in_site(match[1], beside_docs), markdown)
