"""A plan is data: another process makes of it, and of a client's own arrays, the batches that the population has."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hansa.simulation import ClientData, DataPlan, ImageData, PlanError, partition_dirichlet

ELSEWHERE = """
import json, sys
for name in ("keras", "tensorflow", "tf_keras"):
    sys.modules[name] = None  # so that importing it fails

import numpy as np
from hansa.simulation import DataPlan

plan = DataPlan.from_json(json.load(open(sys.argv[1])))
own = np.load(sys.argv[2])
batches = plan.batches({"x": own["x"], "y": own["y"]}, client_id=sys.argv[4], round_number=int(sys.argv[5]))
parts = {f"{name}{i}": batch[name] for i, batch in enumerate(batches) for name in ("x", "y")}
np.savez(sys.argv[3], **parts)
print(json.dumps([plan.digest, batches.capacity]))
"""


def order(seed: int, purpose: str, size: int, *draw: int) -> npt.NDArray[np.int64]:
    """A random order, as the documentation of the draws has it, by NumPy alone."""
    key = (zlib.crc32(purpose.encode()), *draw)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).permutation(size)


def test_another_process_without_keras_makes_the_batches_of_mnist(mnist: ImageData, tmp_path: Path) -> None:
    x, y = mnist.train_images[:3000], mnist.train_labels[:3000]
    names = np.array([f"writer {i}" for i in range(12)], object)
    owners = names[partition_dirichlet(y, clients=12, alpha=0.5, seed=1)]
    data = ClientData.from_arrays({"x": x, "y": y}, owners)
    train = data.split(0.2, by="examples", seed=5)[0].scale("x", divide=255).shuffle(seed=7).repeat(2).batch(20)
    client, round_number = "writer 3", 4
    mine = np.flatnonzero(owners == client)
    (tmp_path / "plan.json").write_text(json.dumps(train.plan().to_json()))
    np.savez(tmp_path / "own.npz", x=x[mine], y=y[mine])
    paths = [str(tmp_path / name) for name in ("plan.json", "own.npz", "made.npz")]
    command = [sys.executable, "-c", ELSEWHERE, *paths, client, str(round_number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [train.plan().digest, train.batch_capacity]
    with np.load(tmp_path / "made.npz") as made:
        found = dict(made)

    # As the population has them.
    cohort = list(train.cohort(train.positions([client]), round_number)[0])
    for i, batch in enumerate(cohort):
        for name in ("x", "y"):
            assert found[f"{name}{i}"].dtype == batch[name].dtype
            assert found[f"{name}{i}"].tobytes() == batch[name].tobytes()
    assert len(found) == 2 * len(cohort)

    # As NumPy has them.
    number = zlib.crc32(client.encode()) & 0x7FFFFFFF
    held_out = int(len(mine) * 0.2 + 0.5)
    rest = mine[np.sort(order(5, "split", len(mine), number)[held_out:])]
    expected = []
    for epoch in range(2):
        rows = rest[order(7, "order", len(rest), number, round_number, epoch)]
        expected += [rows[start : start + 20] for start in range(0, len(rows), 20)]
    assert len(expected) == len(cohort)
    for i, rows in enumerate(expected):
        assert found[f"x{i}"].tobytes() == (x[rows].astype(np.float32) / np.float32(255)).tobytes()
        assert found[f"y{i}"].tobytes() == y[rows].tobytes()


SIZES = {"ann": 7, "bo": 1, "cy": 12}
OWN = {
    name: {"a": np.arange(size) + 10 * i, "b": np.linspace(0, 1, size), "y": np.arange(size, dtype=np.int32) % 3}
    for i, (name, size) in enumerate(SIZES.items())
}
WAYS: dict[str, Callable[[ClientData], ClientData]] = {
    "as it is": lambda data: data.repeat(2).batch(5),
    "columns": lambda data: data.features({"x": ["a", "b"], "y": "y"}, {"x": "float32"}).take(6).batch(4),
    "held out": lambda data: data.split(0.3, by="examples", seed=2)[1].scale("a", subtract=3).batch(2),
    "short ones dropped": lambda data: data.shuffle(3).repeat(3).batch(4, drop_remainder=True),
    "across epochs": lambda data: data.shuffle(3).repeat(3).batch(4, across_epochs=True),
    "steps": lambda data: data.shuffle(3).batch(5, steps=4),
    "kept, some clients": lambda data: data.scale("b", divide=7).in_memory().shuffle(2**70).take_clients(3).batch(100),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("known", [True, False])
def test_a_plan_gives_each_client_the_batches_of_the_population(
    way: Callable[[ClientData], ClientData], known: bool
) -> None:
    data = way(ClientData.from_clients(OWN) if known else ClientData.from_function(list(OWN), OWN.__getitem__))
    plan = DataPlan.from_json(json.loads(json.dumps(data.plan().to_json())))
    assert plan == data.plan() and plan.digest == data.plan().digest
    cohort = data.cohort([0, 1, 2, 0], round_number=9, replace=True)
    for client, copy, expected in zip(["ann", "bo", "cy", "ann"], [0, 0, 0, 1], cohort, strict=True):
        found = plan.batches(OWN[client], client, 9, copy=copy)
        assert found.type_signature == expected.type_signature
        assert [len(found), found.total] == [len(expected), expected.total]
        if known:
            assert found.capacity == expected.capacity
        for one, other in zip(found, expected, strict=True):
            for name in data.example_type.names:
                assert one[name].tobytes() == other[name].tobytes()


def test_a_client_that_shares_a_checksum_has_the_number_that_the_population_gives_it() -> None:
    data = ClientData.from_clients({5: {"x": np.arange(20)}}).shuffle(1).batch(20)
    found = data.plan().batches({"x": np.arange(20)}, "somebody", number=5)
    assert found.examples.rows.x.tolist() == data.client(5)["x"].tolist()


def double(arrays: dict[str, Any]) -> dict[str, Any]:
    return {"x": arrays["x"] * 2}


def test_what_is_no_data_is_refused_by_name() -> None:
    data = ClientData.from_clients({0: {"x": np.arange(4)}}).batch(2)
    other = ClientData.from_clients({1: {"x": np.arange(4)}}).batch(2)
    with pytest.raises(PlanError, match=r"map calls 'double', a function, .* write scale or features in its place"):
        data.map(double).plan()
    with pytest.raises(PlanError, match=r"filter calls '.*<lambda>', a function, .* write take in its place"):
        data.filter(lambda arrays: arrays["x"] > 1).shuffle(1).plan()
    with pytest.raises(PlanError, match="call the steps on the two together"):
        data.shuffle(1).concatenate(other).plan()
    with pytest.raises(PlanError, match="batch has not been called"):
        ClientData.from_clients({0: {"x": np.arange(4)}}).plan()
    assert data.shuffle(1).concatenate(other.shuffle(1)).plan() == data.shuffle(1).plan()


def test_arrays_that_are_not_those_of_the_population_are_refused() -> None:
    plan = ClientData.from_clients(OWN).scale("a", divide=2).batch(2).plan()
    with pytest.raises(ValueError, match="scale names an array that client 'dee' does not have"):
        plan.batches({"b": np.zeros(3)}, "dee")
    with pytest.raises(TypeError, match="client 'dee' has the arrays 'a', 'b', but the plan has 'a', 'b', 'y'"):
        plan.batches({"a": np.zeros(3, int), "b": np.zeros(3)}, "dee")
    with pytest.raises(TypeError, match=r"client 'dee' has 'b' of type float32\[0\], but the plan's are float64\[\?\]"):
        plan.batches({**OWN["bo"], "b": np.zeros(1, np.float32)}, "dee")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "of the format 2, and this version of Hansa knows 1"),
        ({"more": 1}, "it must be an object with format, examples"),
        ({"examples": "<x=float32[4]>"}, "arrays by name with a row for each example"),
        ({"examples": "int32[?]"}, "arrays by name with a row for each example"),
        ({"examples": "<x="}, "no plan of data"),
        ({"steps": [{"step": "tke", "count": 1}]}, "no such step: .*take"),
        ({"steps": [{"step": "take"}]}, "take must say 'count'"),
        ({"steps": [{"step": "take", "count": 1, "seed": 2}]}, "take has no field of this name"),
        ({"steps": [{"step": "take", "count": "1"}]}, "count must be an integer"),
        ({"steps": [{"step": "hold_out", "held_out": 2, "seed": 1, "rest": True}]}, "held_out must be a number"),
        ({"steps": [{"step": "hold_out", "held_out": 0.5, "seed": 1, "rest": 1}]}, "rest must be True or False"),
        ({"steps": [{"step": "scale", "column": "x", "divide": 0}]}, "divide must have no 0"),
        ({"steps": [{"step": "features", "features": ["x"], "convert": {"x": "flot"}}]}, "must be a dtype"),
        ({"steps": [{"step": "features", "features": ["x"], "convert": {"x": "S3"}}]}, "must be a dtype of numbers"),
        ({"steps": [{"step": "features", "features": {"x": [0.5]}}]}, "must be names of arrays"),
        ({"steps": ["take"]}, "a step must be an object"),
        ({"steps": None}, "steps must be a list"),
        ({"batching": {"batch_size": 0}}, "batch_size must be a positive integer"),
        ({"batching": {"batch_size": 2, "epochs": 2, "steps": 2}}, "give one of them"),
        ({"batch_capacity": 3}, "batch_capacity is 3, more than the batch_size, 2"),
    ],
)
def test_json_that_is_no_plan_is_refused(change: dict[str, Any], message: str) -> None:
    plan = ClientData.from_clients({0: {"x": np.arange(4)}}).batch(2).plan().to_json()
    with pytest.raises(PlanError, match=message):
        DataPlan.from_json({**plan, **change})


class TestScale:
    def test_bytes_are_divided_as_float32_divides_them(self) -> None:
        x = np.arange(256, dtype=np.uint8)
        for divisor in (255, 16, 3, 0.25):
            found = ClientData.from_clients({0: {"x": x}}).scale("x", divide=divisor).client(0)["x"]
            assert found.tobytes() == (x.astype(np.float32) / np.float32(divisor)).tobytes()

    def test_constants_are_per_feature_and_the_result_is_rounded_once(self) -> None:
        x = np.random.default_rng(0).normal(7, 3, (50, 4, 3)).astype(np.float32)
        mean, deviation = x.mean((0, 1), dtype=np.float64), x.std((0, 1), dtype=np.float64)
        found = ClientData.from_clients({0: {"x": x}}).scale("x", subtract=mean, divide=deviation).client(0)["x"]
        assert found.tobytes() == ((x.astype(np.float64) - mean) / deviation).astype(np.float32).tobytes()

    def test_large_whole_numbers_lose_nothing_before_the_subtraction(self) -> None:
        seconds = 1_700_000_000 + np.arange(3)
        found = ClientData.from_clients({0: {"t": seconds}}).scale("t", subtract=1.7e9).client(0)["t"]
        assert found.tolist() == [0, 1, 2] and found.dtype == np.float32

    def test_floats_keep_their_dtype_and_nan(self) -> None:
        for dtype in (np.float16, np.float32, np.float64):
            data = ClientData.from_clients({0: {"x": np.array([2, np.nan], dtype)}}).scale("x", divide=4)
            assert data.client(0)["x"].dtype == dtype
            np.testing.assert_array_equal(data.client(0)["x"], [0.5, np.nan])

    @pytest.mark.parametrize(
        ("column", "constants", "error", "message"),
        [
            ("z", {}, ValueError, "scale names an array that client 0 does not have"),
            ("c", {}, TypeError, "scale of 'c' of client 0, which is complex64"),
            ("x", {"divide": [1, 2]}, ValueError, r"divide is of the shape \[2\], and a row of \[3\]"),
            ("x", {"divide": 1e-39}, ValueError, "makes a number that float32 does not hold"),
            ("x", {"divide": [1, 0, 1]}, ValueError, "divide must have no 0 in it, for 'x'"),
            ("x", {"subtract": np.inf}, ValueError, "subtract must be finite numbers; found inf"),
            ("x", {"subtract": "mean"}, TypeError, "subtract must be a number"),
            ("x", {"subtract": [1, [2]]}, TypeError, "subtract must be a number"),
            (0, {}, TypeError, "scale takes the name of an array"),
        ],
    )
    def test_what_cannot_be_is_refused(self, column: Any, constants: Any, error: type[Exception], message: str) -> None:
        arrays = {"x": np.ones((2, 3), np.float32), "c": np.zeros(2, np.complex64)}
        with pytest.raises(error, match=message):
            ClientData.from_clients({0: arrays}).scale(column, **constants).client(0)


def test_arrays_are_chosen_as_a_reader_chooses_columns() -> None:
    data = ClientData.from_clients(OWN)
    found = data.features({"x": ["a", "b"], "label": "y"}, {"x": "float32"}).client("ann")
    assert list(found) == ["x", "label"]
    assert found["x"].tobytes() == np.stack([OWN["ann"]["a"], OWN["ann"]["b"]], -1).astype(np.float32).tobytes()
    assert list(data.features(["y"]).client("bo")) == ["y"]
    with pytest.raises(ValueError, match="the examples of client 'ann' has no column 'c'"):
        data.features(["c"]).client("ann")
    with pytest.raises(TypeError, match=r"convert.'y'. must be a dtype, .* for a function there is map"):
        data.features(["y"], {"y": np.log})
