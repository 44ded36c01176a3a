"""What `train` is given is looked at before the first round: nothing is computed, and no folder is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.program import BestModel, EarlyStopping, train
from hansa.program.metrics import flatten, names_of
from tests.program.counting import ADDING, run


class Evaluation:
    metric_names = ("distance", "sum")

    def __call__(self, state: Any) -> dict[str, float]:
        raise AssertionError("nothing is to be evaluated")


class Forgetful:
    def after_round(self, round_number: int, state: Any) -> None: ...

    def save(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...


class Shown:
    def begin(self, done: int, rounds: int) -> None: ...

    def add(self, record: Any, seconds: float) -> None: ...

    def end(self, message: str) -> None: ...


def two(state: Any, data: Any) -> dict[str, float]:
    raise AssertionError("nothing is to be evaluated")


def of_any(*arguments: Any) -> dict[str, float]:
    raise AssertionError("nothing is to be evaluated")


typed = hansa.jax_computation(lambda state: {"double": 2 * state.sum}, {"sum": np.float32, "squares": np.float32})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"evaluate": two}, TypeError, r"evaluate is called with the arguments \(state\); found two with the param"),
        ({"evaluate": lambda: 1}, TypeError, r"found a lambda with the parameters \(\): too many positional"),
        ({"evaluate": Evaluation}, TypeError, r"evaluate has the class Evaluation; make an object of it"),
        ({"evaluate_every": 2}, ValueError, "evaluate_every=2 says after which rounds there is an evaluation; pass ev"),
        ({"evaluate": of_any, "evaluate_every": 0}, ValueError, "evaluate_every must be at least 1, found 0"),
        (
            {"callbacks": [lambda number, state: None]},
            TypeError,
            r"callbacks is called with .*\(round_number, state,",
        ),
        ({"callbacks": [Forgetful()]}, TypeError, r"Forgetful\.after_round is called with"),
        (
            {"sinks": [lambda metrics: None]},
            TypeError,
            r"sinks is called with .*\(round_number, metrics\)",
        ),
        ({"progress": Shown()}, TypeError, r"Shown\.begin is called with .*\(done, rounds, stopping\)"),
        ({"data": lambda: 1}, TypeError, r"data is called with the arguments \(round_number\)"),
        (
            {"callbacks": [EarlyStopping("los", mode="min")]},
            ValueError,
            r"EarlyStopping\('los'.* no such metric; did you mean 'loss'\? there are loss, squares$",
        ),
        ({"callbacks": [BestModel("evaluation/loss")]}, ValueError, "there is no evaluation, so there is nothing of"),
        (
            {"callbacks": [BestModel("distance")], "evaluate": Evaluation()},
            ValueError,
            "there are loss, squares, evaluation/distance, evaluation/sum$",
        ),
        ({"callbacks": [BestModel("accuracy")], "evaluate": of_any}, ValueError, "and what evaluate returns, as ev"),
        (
            {"callbacks": [BestModel("evaluation/dubble", mode="min")], "evaluate": typed},
            ValueError,
            "mean 'evaluation/double'",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    def data(round_number: int) -> Any:
        raise AssertionError("no round is to be run")

    asked = {"process": ADDING, "data": data, "rounds": 1, "progress": False, "run_dir": tmp_path / "run"}
    with pytest.raises(error, match=message):
        train(**(asked | options))
    assert not (tmp_path / "run").exists()


def test_what_can_be_called_with_these_arguments_is_taken() -> None:
    class Method:
        def evaluate(self, state: Any, more: int = 0) -> dict[str, Any]:
            return {"double": 2 * state.sum}

    watched = [EarlyStopping("evaluation/double", 9, mode="min"), BestModel("loss"), lambda *_: None]
    found = run(None, 2, evaluate=Method().evaluate, callbacks=watched, sinks=[lambda number, metrics, x=1: None])
    assert found.history[1]["evaluation/double"] == 6
    found = run(None, 3, evaluate=typed, evaluate_every=2, callbacks=[EarlyStopping("evaluation/double", mode="max")])
    assert found.history["evaluation/double"] == [None, 6, 12]


def test_the_names_of_a_type_are_those_of_its_values() -> None:
    value = {"loss": np.float32(1), "by": {"digit": np.zeros((2, 2), np.int32)}, "list": [np.int32(1), np.int32(2)]}
    kind = hansa.jax_computation(lambda: value).type_signature.result
    assert names_of(kind) == list(flatten(value))
    assert names_of(kind, "evaluation") == list(flatten(value, "evaluation"))
    assert names_of(hansa.types.TensorType(np.float32)) == list(flatten(np.float32(1)))
    assert names_of(hansa.types.StructType([("a", hansa.types.TensorType(np.float32, [None]))])) is None
