"""A size that the type of a client's tensor leaves open is one for all; the error says what to write for several."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa

RUNTIMES = [
    hansa.InProcessRuntime(),
    hansa.InProcessRuntime(clients_per_chunk=2),
    hansa.ReferenceRuntime(),
]
BATCH = "<x=float32[?,2],y=int32[?]>"


@hansa.jax_computation(BATCH)
def weighed(batch: Any) -> Any:
    return jnp.sum(batch.x[:, 1] * batch.y) + jnp.mean(batch.x)


def client(size: int) -> dict[str, Any]:
    return {"x": np.arange(2 * size, dtype=np.float32).reshape(size, 2), "y": np.arange(size, dtype=np.int32)}


def by_hand(size: int) -> float:
    value = client(size)
    return float((value["x"][:, 1] * value["y"]).sum() + value["x"].mean())


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


SIZES = [2, 2, 3, 5]


@hansa.federated_computation(f"{{{BATCH}}}@CLIENTS")
def mapped(value: Any) -> Any:
    return hansa.federated_map(weighed, value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_error_says_what_to_write_and_that_is_right(runtime: Any) -> None:
    with hansa.runtime(runtime):
        assert mapped([client(3), client(3)]) == [by_hand(3)] * 2
        with pytest.raises(ValueError, match=r"'mapped'\[0\].x is of shape \[2, 2\] and .*\[2\].x of shape") as raised:
            mapped([client(size) for size in SIZES])
        told = re.search(r"declare '({.*}@CLIENTS)',.* write (.+?) for hansa.federated_map", str(raised.value))
        assert told is not None
        declared, written = told.groups()
        body = eval(f"lambda value: {written}", {"hansa": hansa, "fn": weighed})
        assert hansa.federated_computation(body, declared)([[client(size)] for size in SIZES]) == pytest.approx(
            [by_hand(size) for size in SIZES]
        )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("kind", "values", "remedy"),
    [
        ("float32[?]", [ones(1), ones(2)], r"declare '\{float32\[\?\]\*\}@CLIENTS'"),
        ("float32[2,?]", [ones(2, 1), ones(2, 3)], "of a call; pad them to one size$"),
        ("float32[?,?]", [ones(2, 1), ones(2, 3)], "of a call; pad them to one size$"),
        ("<n=float32*,x=int32[?]>", [([1.0], [1, 2]), ([2.0], [3])], r"the field as a sequence .*, 'int32\[\?\]\*'"),
    ],
)
def test_every_runtime_refuses_the_same(kind: str, values: Any, remedy: str, runtime: Any) -> None:
    first = hansa.jax_computation(lambda x: jnp.ravel(x)[0], kind.split("x=")[-1].rstrip(">"))
    computation = hansa.federated_computation(
        lambda v: hansa.federated_sum(hansa.federated_map(first, v.x if "x=" in kind else v)), f"{{{kind}}}@CLIENTS"
    )
    with hansa.runtime(runtime):
        assert computation([values[0], values[0]]) == 2
        with pytest.raises(ValueError, match=remedy):
            computation(values)


def test_wrong_types_are_said_before_sizes() -> None:
    with pytest.raises(TypeError, match=r"\[1\].x: expected float32\[\?,2\], found float32\[3\]; it is of rank 1"):
        mapped([client(3), {"x": np.zeros(3, np.float32), "y": client(3)["y"]}])
    with pytest.raises(TypeError, match=r"\[1\].y: expected int32\[\?\], found None"):
        mapped([client(3), {"x": client(3)["x"], "y": None}])
