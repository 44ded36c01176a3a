"""The way of somebody in a notebook: progress and plots below their cells, short errors, and a model in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import nbclient
import nbformat
import pytest

import hansa

CELLS = {
    "import": "import hansa\nimport keras",
    "data": """
digits = hansa.simulation.load_digits()
x, y = digits.train_images, digits.train_labels
data = hansa.simulation.ClientData.from_arrays({"x": x, "y": y}, hansa.simulation.partition_dirichlet(y, 10, 0.5))
train, test = data.split(0.2, by="examples")
hansa.simulation.plot_clients(data)
""",
    "mistake": "hansa.learning.build_federated_averaging_process(keras.Sequential)",
    "process": """
network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
network.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
model = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": y})
process = hansa.learning.build_federated_averaging_process(model)
hansa.explain(process)
""",
    "population": "process.next(process.initialize(), train)",
    "fit": """
held_out = test.centralized()
evaluate = (network, (held_out["x"], held_out["y"]))
result = hansa.fit(process, train.batch(20), rounds=6, evaluate=evaluate, run_dir="runs/first")
""",
    "plot": "result.history.plot()",
    "model": "result.model.save('digits.keras')\nprint(result.history['evaluation/accuracy'][-1])",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outputs of each cell of a notebook in an empty folder."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip()) for code in CELLS.values()])
    source = str(Path(hansa.__file__).resolve().parents[1])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    folder = tmp_path_factory.mktemp("empty")
    client = nbclient.NotebookClient(
        notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": search})
    outputs = {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}
    return {**outputs, "folder": folder}


def kinds(outputs: Any) -> set[str]:
    return {kind for output in outputs for kind in output.get("data", {})}


@pytest.mark.slow
@pytest.mark.xdist_group("notebook user")
class TestNotebook:
    def test_only_the_mistakes_are_errors(self, cells: dict[str, Any]) -> None:
        failed = [name for name in CELLS if any(output.output_type == "error" for output in cells[name])]
        assert failed == ["mistake", "population"]

    def test_a_mistake_is_answered_in_a_few_lines(self, cells: dict[str, Any]) -> None:
        (error,) = [output for output in cells["mistake"] if output.output_type == "error"]
        assert "Sequential" in error.evalue and "from_compiled_keras_model" in error.evalue
        (error,) = [output for output in cells["population"] if output.output_type == "error"]
        assert "data.cohort([0, 1, 2])" in error.evalue
        assert len("\n".join(error.traceback).splitlines()) < 12

    def test_pictures_show_themselves(self, cells: dict[str, Any]) -> None:
        assert "image/png" in kinds(cells["data"])
        assert "image/svg+xml" in kinds(cells["process"])
        assert "image/png" in kinds(cells["plot"])

    def test_progress_is_a_table_below_the_cell(self, cells: dict[str, Any]) -> None:
        (table,) = [output for output in cells["fit"] if "text/html" in output.get("data", {})]
        assert "accuracy" in table.data["text/html"]

    def test_the_model_is_one_of_keras(self, cells: dict[str, Any]) -> None:
        assert float(cells["model"][0].text) > 0.6
        assert keras.models.load_model(cells["folder"] / "digits.keras").count_params() == 650
