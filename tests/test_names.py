"""What an editor completes, and what is said of a name that is not there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import hansa
from hansa import _answers, _elsewhere
from tests.docs.test_docs import headings

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = ["hansa", *(f"hansa.{part}" for part in hansa._PARTS)]


def test_a_notebook_completes_what_is_public_and_nothing_else():
    jedi = pytest.importorskip("jedi", reason="jedi, which ipykernel installs, completes in notebooks")
    for package in PACKAGES:
        found = jedi.Interpreter(f"{package}.", [{"hansa": hansa}]).complete()
        names = [completion.name for completion in found if not completion.name.startswith("_")]
        assert sorted(names) == dir(importlib.import_module(package)), package


@pytest.mark.parametrize("package", ["hansa", "hansa.learning"])
def test_an_editor_completes_what_is_public_without_running_it(package: str):
    jedi = pytest.importorskip("jedi", reason="jedi, which ipykernel installs, completes in editors")
    found = {completion.name for completion in jedi.Script(f"import {package}\n{package}.").complete()}
    assert found.issuperset(dir(importlib.import_module(package)))


def written() -> list[tuple[str, str]]:
    """What is written in place of other names, with the page."""
    members = [(text, "") for table in _elsewhere.MEMBERS.values() for text in table.values()]
    return [*((row.write, row.page) for row in _elsewhere.ROWS), *members]


def test_what_is_said_to_write_is_there_and_so_is_the_page():
    for text, page in written():
        for path in re.findall(r"hansa(?:\.\w+)+", text):
            value = hansa
            for name in path.split(".")[1:]:
                value = getattr(value, name)
        for member in re.findall(r"\bdata\.(\w+)", text):
            assert hasattr(hansa.simulation.ClientData, member), text
        for member in re.findall(r"\bprocess\.(\w+)", text):
            assert hasattr(hansa.templates.IterativeProcess, member), text
        if page:
            path, _, anchor = page.partition("#")
            assert (DOCS / path).is_file(), page
            assert not anchor or anchor in headings(DOCS / path), page


def test_each_name_of_others_has_one_answer_and_is_no_name_here():
    names = [name for row in _elsewhere.ROWS for name in row.names.split()]
    assert len(names) == len({name.replace("_", "").lower() for name in names})
    public = {name for package in PACKAGES for name in dir(importlib.import_module(package))}
    assert not public & set(names)
    for kind, table in (
        (hansa.simulation.ClientData, _elsewhere.MEMBERS["ClientData"]),
        (hansa.templates.IterativeProcess, _elsewhere.MEMBERS["IterativeProcess"]),
    ):
        assert not set(dir(kind)) & set(table)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("hansa.FedAvg", "hansa.learning.build_federated_averaging_process(model_fn)"),
        ("hansa.strategy", "hansa.learning.build_federated_averaging_process(model_fn)"),
        ("hansa.learning.algorithms.build_weighted_fed_avg", "it is hansa.learning.build_weighted_fed_avg"),
        (
            "hansa.learning.build_weighted_fed_avg_with_optimizer_schedule",
            "hansa.learning.build_federated_averaging_process(model_fn)",
        ),
        ("hansa.learning.models", "hansa.learning.from_compiled_keras_model"),
        ("hansa.learning.from_pytorch", "hansa.learning.from_torch("),
        ("hansa.simulation.FederatedDataset", "hansa.simulation.ClientData.from_arrays(arrays, clients)"),
        ("hansa.DataLoader", "hansa.simulation.ClientData.from_arrays(arrays, clients)"),
        ("hansa.ClientApp", "a client is its data"),
        ("hansa.simulation.start_simulation", "hansa.fit(process, data"),
        ("hansa.ClientData", "it is hansa.simulation.ClientData"),
        ("hansa.learning.train", "it is hansa.program.train"),
        ("hansa.models.from_keras_model", "it is hansa.learning.from_keras_model"),
        ("hansa.federated_meen", "did you mean hansa.federated_mean?"),
        ("hansa.simulation.clientdata", "did you mean hansa.simulation.ClientData?"),
        ("hansa.learning.EarlyStoping", "did you mean hansa.program.EarlyStopping?"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_name_here(path: str, told: str):
    package, _, name = path.rpartition(".")
    module = importlib.import_module(package)
    assert not hasattr(module, name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute '{name}'") as raised:
        getattr(module, name)
    assert told in str(raised.value)
    # An import statement would say nothing of it by itself.
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from '{package}'") as failed:
        exec(f"from {package} import {name}")
    assert told in str(failed.value)
    for error in (raised, failed):
        assert "_lazy" not in str(error.traceback[-1].path)


def test_a_name_that_is_like_no_other_is_just_not_there():
    with pytest.raises(AttributeError) as raised:
        hansa.quetzalcoatl  # noqa: B018
    assert str(raised.value) == "module 'hansa' has no attribute 'quetzalcoatl'"
    assert getattr(hansa, "__wrapped__", None) is None


def test_a_member_that_is_not_there_is_answered_with_what_to_write():
    data = hansa.simulation.ClientData.from_clients({"a": {"x": [1.0]}})
    for name, told in {
        "create_tf_dataset_for_client": "write data.client(client_id)",
        "preprocess": "write data.map(function)",
        "cohorts": "did you mean 'cohort'?",
    }.items():
        assert not hasattr(data, name)
        with pytest.raises(AttributeError, match=f"'ClientData' object has no attribute '{name}'") as raised:
            getattr(data, name)
        assert told in str(raised.value)


class Failing(_answers.Answering):
    @property
    def size(self) -> int:
        raise AttributeError("this has no size yet")


def test_an_attribute_error_of_a_property_is_its_own():
    with pytest.raises(AttributeError, match="this has no size yet"):
        Failing().size  # noqa: B018
