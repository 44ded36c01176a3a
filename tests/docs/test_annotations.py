"""The signatures of public names say types. `Any` stands only where no type says more, and here it is said why."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from tests.docs.test_docstrings import PACKAGES, public

import hansa

STATE = "what the process at hand passes on"
VALUE = "arrays, containers of them, or a list of these for each client, as the type says that a computation takes"
MODEL = "a model of the kind that the process was made of: of a Keras model a Keras model, else its weights"
SAVED = "what a callback likes to remember"
PYTREE = "a pytree, which has no type in JAX"
TENSORFLOW = "tensors and variables of TensorFlow, which has no types"
DECORATOR = "the implementation; the overloads say types"
ALLOWED = {
    "hansa.ClientStates": VALUE,
    "hansa.ClientValues.stacked": "a value of any type, of arrays that have an axis more",
    "hansa.DeviceStage.prepare": VALUE,
    "hansa.InProcessRuntime.invoke": VALUE,
    "hansa.InProcessRuntime.prepare": VALUE,
    "hansa.Stages.result": VALUE,
    "hansa.RayRuntime.invoke": VALUE,
    "hansa.ReferenceRuntime.invoke": VALUE,
    "hansa.Value.__call__": VALUE,
    "hansa.federated_computation": DECORATOR,
    "hansa.jax_computation": DECORATOR,
    "hansa.tf_computation": DECORATOR,
    "hansa.fit": "clients in any form, of which the page of runs has the list; the options are those of `train`",
    "hansa.load": "what was saved: a computation, a process or a stage, and who loads it knows which",
    "hansa.simulation.DataPlan.from_json": "what a file of JSON has, which is looked at",
    "hansa.learning.Model.federated_output_computation": TENSORFLOW,
    "hansa.learning.Model.forward_pass": TENSORFLOW,
    "hansa.learning.Model.input_spec": TENSORFLOW,
    "hansa.learning.Model.report_local_outputs": TENSORFLOW,
    "hansa.learning.TrainableModel.train_on_batch": TENSORFLOW,
    "hansa.learning.ModelWeights.to_pytree": PYTREE,
    "hansa.learning.functional_model": PYTREE,
    **{
        f"hansa.learning.arithmetic.{name}": PYTREE
        for name in hansa.learning.arithmetic.__all__
        if name != "difference"
    },
    "hansa.learning.with_weights": STATE,
    "hansa.program.BestModel.after_last_evaluation": STATE,
    "hansa.program.BestModel.after_round": STATE,
    "hansa.program.BestModel.restore": SAVED,
    "hansa.program.BestModel.save": SAVED,
    "hansa.program.Callback.after_round": STATE,
    "hansa.program.Callback.restore": SAVED,
    "hansa.program.Callback.save": SAVED,
    "hansa.program.Checkpoint": STATE,
    "hansa.program.EarlyStopping.after_round": STATE,
    "hansa.program.EarlyStopping.restore": SAVED,
    "hansa.network.LocalNetwork.invoke": VALUE,
    "hansa.program.EarlyStopping.save": SAVED,
    "hansa.program.TrainingResult": STATE,
    "hansa.program.TrainingResult.model": MODEL,
    "hansa.program.WeightsAndBiases": "whatever `wandb.init` takes",
    "hansa.program.train": "the state to begin with, and `config`, which is whatever JSON has",
    "hansa.templates.EstimatorProcess.fitted": STATE,
    "hansa.templates.EstimatorProcess.to_sklearn": STATE,
    "hansa.templates.IterativeProcess.model_of": MODEL,
    "hansa.utils.IterativeProcess.model_of": MODEL,
}


def signatures() -> Iterator[tuple[str, Any]]:
    """Every public function and method, with its full name; constructors under the name of the class."""
    for package in PACKAGES:
        for name, value in public(package):
            if not inspect.isclass(value):
                yield name, value
                continue
            for part, member in vars(value).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                member = member.fget if isinstance(member, property) else getattr(member, "func", member)
                if inspect.isroutine(member) and (not part.startswith("_") or part in ("__init__", "__call__")):
                    yield (name if part == "__init__" else f"{name}.{part}"), inspect.unwrap(member)


def says_nothing(annotation: Any) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return "Any" in re.split(r"\s*\|\s*", text)


def test_any_stands_only_where_no_type_says_more() -> None:
    vague = {}
    for name, function in signatures():
        parts = [part for part, of in getattr(function, "__annotations__", {}).items() if says_nothing(of)]
        if parts:
            vague[name] = parts
    assert {name: parts for name, parts in vague.items() if name not in ALLOWED} == {}, "say the type"
    assert ALLOWED.keys() - vague.keys() == set(), "these say types now"
