"""What the documentation shows is run: the Python of its pages with the output they print, its notebook, its links.

In a page, blocks marked `python` share a namespace and run in order. A `text` block right after one is what it prints,
and the error it ends with, if it ends with one; `...` in it stands for anything.
"""

from __future__ import annotations

import contextlib
import contextvars
import doctest
import importlib.util
import io
import itertools
import json
import re
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pytest

from hansa._cache import cache_dir
from hansa.simulation._files import data_dir

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
assert _SPEC is not None and _SPEC.loader is not None
notebooks: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(notebooks)
NOTEBOOKS: list[Path] = notebooks.NOTEBOOKS
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")


class Block(NamedTuple):
    """A block of Python in a page; `expected` is None where the page shows no output."""

    line: int
    code: str
    expected: str | None


def blocks(text: str) -> list[Block]:
    """The blocks of Python in a page, each with the output that is shown right after it."""
    fences = list(_FENCE.finditer(text))
    found = []
    for fence, after in itertools.zip_longest(fences, fences[1:]):
        if fence[1] == "python":
            shown = after is not None and after[1] == "text" and not text[fence.end() : after.start()].strip()
            line = text.count("\n", 0, fence.start(2))
            found.append(Block(line, fence[2], after[2] if after is not None and shown else None))
    return found


def run(page: Path) -> None:
    """Runs a page's blocks; fails at the first whose output is another, or that raises an error it does not show."""
    namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    for block in blocks(page.read_text("utf-8")):
        # Errors are then reported at the page's own lines.
        code = compile("\n" * block.line + block.code, str(page), "exec")
        printed, raised = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
        except Exception as error:
            if block.expected is None:
                raise
            raised = error
            printed.write("".join(traceback.format_exception_only(error)))
        if block.expected is None:
            continue
        if not doctest.OutputChecker().check_output(block.expected, printed.getvalue(), doctest.ELLIPSIS):
            place = f"{page.name}:{block.line + 1}"
            raise AssertionError(f"{place} shows\n{block.expected}\nbut gives\n{printed.getvalue()}") from raised


# Pages that train for ten seconds and more.
SLOW = (
    "artifacts.md",
    "cluster.md",
    "coming_from_pytorch.md",
    "evaluation.md",
    "finetuning.md",
    "finetuning_hugging_face.md",
    "images_by_folder.md",
    "models.md",
    "network.md",
    "privacy_promise.md",
    "table.md",
    "text.md",
)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in SLOW else [])
        for page in PAGES
        if blocks(page.read_text("utf-8"))
    ],
)
def test_the_python_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name == "text.md" and not (data_dir() and (data_dir() / "shakespeare" / "input.txt").is_file()):
        pytest.skip("no tiny Shakespeare on this machine; set HANSA_DATA_DIR to a folder with shakespeare/input.txt")
    if page.name == "finetuning_hugging_face.md":
        for needed in ("transformers", "peft"):
            pytest.importorskip(needed, reason=f"the page needs {needed}: pip install transformers peft")
    if page.name.startswith("finetuning"):  # which write files where they stand
        monkeypatch.chdir(tmp_path)
    contextvars.copy_context().run(run, page)  # so that a page may choose a runtime


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = _FENCE.sub("", page.read_text("utf-8"))
    found = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def prose(page: Path) -> str:
    """What a page or notebook says beside its code."""
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, as_version=4).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return _FENCE.sub("", page.read_text("utf-8"))


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_relative_links_and_images_exist(page: Path) -> None:
    for link, image in _LINK.findall(prose(page)):
        path, _, anchor = (link or image).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which does not exist"
        assert target.is_relative_to(ROOT), f"{page.name} links to {path}, outside the project"
        if anchor:
            assert anchor in headings(target), f"{page.name} links to {path}#{anchor}, a heading that does not exist"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_with_the_outputs_of_any_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "write them: make notebooks"
    assert not any(cell.metadata for cell in notebook.cells)
    assert "version" not in notebook.metadata.language_info
    for cell in code:
        for output in cell.outputs:
            assert output.get("name") != "stderr"
            text = notebooks.text_of(output)
            assert not re.search(r"/(home|root|tmp|Users|work)/|site-packages| at 0x|\bs/step|\d ?m?s\b|\x1b", text), (
                text
            )


def has_mnist() -> bool:
    folders = [cache_dir() / "mnist", *([data_dir() / "mnist", data_dir()] if data_dir() else [])]
    names = ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")
    return any((folder / name).is_file() for folder in folders for name in names)


class Executed(NamedTuple):
    """The notebook after a run: its cells, some of its variables, and where its outputs are others than those kept."""

    cells: list[Any]
    values: dict[str, Any]
    differences: list[str]


def execute(path: Path, values: str) -> Executed:
    """Runs a notebook, and then a cell that prints some of its variables as JSON."""
    if not has_mnist():
        pytest.skip("no MNIST on this machine; set HANSA_DATA_DIR to a folder with mnist/*.gz")
    notebook = notebooks.execute(path, values)
    values = notebook.cells.pop().outputs[0].text
    return Executed(
        notebook.cells, json.loads(values), notebooks.differences(nbformat.read(path, as_version=4), notebook)
    )


_VALUES = """
import json
print(json.dumps({
    "initialize": process.initialize.type_signature.compact(),
    "losses": losses,
    "accuracies": accuracies,
    "test_accuracy": test_accuracy,
    "num_non_finite_clients": int(damaged.num_non_finite_clients),
    "damaged": str(damaged),
    "momentum_loss": float(momentum_metrics.loss),
    "population_accuracy": population_accuracy,
    "share": float(share_above(temperatures, 20.0)),
    "own": str(own_metrics),
    "in_jax": str(jax_metrics),
}))
"""


@pytest.fixture(scope="module")
def executed() -> Executed:
    return execute(ROOT / "docs" / "tutorial.ipynb", _VALUES)


@pytest.mark.slow
@pytest.mark.xdist_group("notebook")
class TestTutorial:
    def test_its_outputs_are_those_kept(self, executed: Executed) -> None:
        assert not executed.differences, "\n".join(
            [*executed.differences, "if they are right, write them: make notebooks"]
        )

    def test_the_type_of_the_process_is_the_tutorials(self, executed: Executed) -> None:
        assert executed.values["initialize"] == (
            "( -> <model=<trainable=<dense/bias=float32[512],dense/kernel=float32[784,512],dense_1/bias=float32[10],"
            "dense_1/kernel=float32[512,10]>,non_trainable=<>>,optimizer_state=<int64>>@SERVER)"
        )

    def test_the_rounds_have_the_tutorials_losses_and_accuracies(self, executed: Executed) -> None:
        known = [
            (0.9138, 0.2718),
            (0.9259, 0.2448),
            (0.9488, 0.2233),
            (0.9616, 0.2055),
            (0.9683, 0.1905),
            (0.9704, 0.1773),
        ]
        first = list(zip(executed.values["accuracies"], executed.values["losses"], strict=True))[: len(known)]
        for (accuracy, loss), (known_accuracy, known_loss) in zip(first, known, strict=True):
            assert accuracy == pytest.approx(known_accuracy, abs=0.02)
            assert loss == pytest.approx(known_loss, rel=0.1)

    def test_the_loss_falls_in_every_round(self, executed: Executed) -> None:
        losses = executed.values["losses"]
        assert losses == sorted(losses, reverse=True)

    def test_the_model_recognises_images_it_has_not_seen(self, executed: Executed) -> None:
        assert executed.values["test_accuracy"] > 0.7
        assert executed.values["population_accuracy"] > 0.6

    def test_a_client_of_nans_is_left_out_and_counted(self, executed: Executed) -> None:
        assert executed.values["num_non_finite_clients"] == 1
        assert "nan" not in executed.values["damaged"]

    def test_momentum_at_the_server_is_faster_here(self, executed: Executed) -> None:
        assert executed.values["momentum_loss"] < 0.7 * executed.values["losses"][9]

    def test_a_computation_of_ones_own_is_right(self, executed: Executed) -> None:
        assert executed.values["share"] == pytest.approx(2 / 3)

    def test_own_models_have_the_tutorials_figures(self, executed: Executed) -> None:
        assert executed.values["own"] == "<accuracy=0.9799,loss=0.229727,num_examples=10000.0>"
        assert executed.values["in_jax"] == "<num_examples=10000.0,loss=0.229727,accuracy=0.9799>"

    def test_it_draws_pictures_and_prints_no_errors(self, executed: Executed) -> None:
        outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
        assert [output.text for output in outputs if output.get("name") == "stderr"] == []


_FROM_SCRATCH = """
import json
print(json.dumps({
    "losses": losses,
    "alone": [*(float(local_eval(alone, train[digit])) for digit in (5, 0)), float(federated_eval(alone, train))],
    "unseen": float(federated_eval(model, test)),
}))
"""


def softmax_regression(model: Any, x: Any, y: Any, rate: float) -> tuple[float, Any]:
    """The mean loss of a batch, and the weights after a step of gradient descent, in NumPy."""
    scores = x @ model[0] + model[1]
    scores = scores - scores.max(1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    loss = -np.log(probabilities[np.arange(len(y)), y]).mean()
    slope = (probabilities - np.eye(10)[y]) / len(y)
    return loss, (model[0] - rate * x.T @ slope, model[1] - rate * slope.sum(0))


def test_averaging_from_scratch_equals_numpy(mnist: Any) -> None:
    run = execute(ROOT / "docs" / "from_scratch.ipynb", _FROM_SCRATCH)
    assert not run.differences, "\n".join([*run.differences, "if they are right, write them: make notebooks"])
    found = run.values

    def batches(images: Any, labels: Any, digit: int) -> list[Any]:
        mine = np.flatnonzero(labels == digit)[:1000]
        x, y = images[mine].reshape(-1, 784) / 255.0, labels[mine].astype(int)
        return [(x[i : i + 100], y[i : i + 100]) for i in range(0, len(mine), 100)]

    def trained(model: Any, client: Any, rate: float) -> Any:
        for x, y in client:
            model = softmax_regression(model, x, y, rate)[1]
        return model

    def loss(model: Any, client: Any) -> float:
        return float(sum(softmax_regression(model, x, y, 0.0)[0] for x, y in client))

    train = [batches(mnist.train_images, mnist.train_labels, digit) for digit in range(10)]
    test = [batches(mnist.test_images, mnist.test_labels, digit) for digit in range(10)]
    initial = (np.zeros((784, 10)), np.zeros(10))
    alone = trained(initial, train[5], 0.1)
    everywhere = np.mean([loss(alone, client) for client in train])
    assert found["alone"] == pytest.approx([loss(alone, train[5]), loss(alone, train[0]), everywhere], rel=1e-4)
    model, losses = initial, []
    for number in range(5):
        models = [trained(model, client, 0.1 * 0.9**number) for client in train]
        model = tuple(np.mean(parts, axis=0) for parts in zip(*models, strict=True))
        losses.append(np.mean([loss(model, client) for client in train]))
    assert found["losses"] == pytest.approx(losses, rel=1e-4)
    assert found["unseen"] == pytest.approx(np.mean([loss(model, client) for client in test]), rel=1e-4)


def test_outputs_of_notebooks_are_compared_but_for_last_digits_and_the_machine() -> None:
    def notebook(text: str) -> Any:
        cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", text=text)])
        return nbformat.v4.new_notebook(cells=[cell])

    kept = notebook("round 3 <accuracy=0.9442,loss=1.5e-07>, 1,628,200 bytes\nhere    ten clients on 2 x cpu")
    same = "round 3 <accuracy=0.95,loss=2e-08>, 1,628,200 bytes\nhere    one client on 1 x gpu"
    assert notebooks.differences(kept, notebook(same)) == []
    for changed in (same.replace("round 3", "round 4"), same.replace("0.95", "0.85"), same.replace("loss", "lost")):
        assert "cell" in notebooks.differences(kept, notebook(changed))[0]
