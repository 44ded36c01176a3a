"""`sequence_reduce` with what its op needs of each element and does not change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa

BATCH = "<x=float32[?,2],y=float32[?]>"
rng = np.random.default_rng(0)
CLIENTS = [
    [{"x": rng.normal(size=(n, 2)).astype("float32"), "y": rng.normal(size=n).astype("float32")} for n in sizes]
    for sizes in ([3, 3, 1], [2], [])
]
WEIGHTS = np.array([0.5, -2.0], "float32")


def loss(weights: Any, batch: Any, shift: Any) -> Any:
    return ((batch["x"] @ weights + shift - batch["y"]) ** 2).mean()


EXPECTED = [sum(float(loss(WEIGHTS, batch, i)) for batch in client) for i, client in enumerate(CLIENTS)]


def losses(op: Any) -> Any:
    @hansa.federated_computation("float32[2]@SERVER", "{float32}@CLIENTS", f"{{{BATCH}*}}@CLIENTS")
    def of_each(weights, shifts, data):
        given = {"weights": hansa.federated_broadcast(weights), "shift": shifts}
        return hansa.sequence_reduce(data, 0.0, op, given=given)

    return of_each


def add(total: Any, batch: Any, given: Any) -> Any:
    return total + loss(given.weights, batch, given.shift)


def add_by_size(total: Any, batch: Any, given: Any) -> Any:
    """Compiled for each size of batch."""
    return add(total, batch, given) + (0.0 if batch.y.shape[0] != 2 else 1.0)


@pytest.mark.parametrize("runtime", [hansa.InProcessRuntime(jax.devices()[:1]), hansa.ReferenceRuntime()])
def test_each_step_is_given_it(runtime: Any) -> None:
    with hansa.runtime(runtime):
        found = losses(hansa.jax_computation(add))(WEIGHTS, [0.0, 1.0, 2.0], CLIENTS)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)


def test_a_step_for_each_size_of_batch_is_given_it() -> None:
    found = losses(hansa.jax_computation(add_by_size))(WEIGHTS, [0.0, 1.0, 2.0], CLIENTS)
    np.testing.assert_allclose(found, np.add(EXPECTED, [0, 1, 0]), rtol=1e-5)


def test_a_file_has_it(tmp_path: Any) -> None:
    hansa.save(losses(hansa.jax_computation(add)), tmp_path / "losses.hansa", platforms=["cpu"])
    found = hansa.load(tmp_path / "losses.hansa")(WEIGHTS, [0.0, 1.0, 2.0], CLIENTS)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)


def test_in_a_composition_without_placements() -> None:
    @hansa.federated_computation("int32*", "int32")
    def scaled(numbers, factor):
        return hansa.sequence_reduce(numbers, 0, hansa.jax_computation(lambda t, x, by: t + by * x), given=factor)

    assert scaled([1, 2, 3], 10) == 60


def test_it_must_be_where_the_sequence_is() -> None:
    op = hansa.jax_computation(lambda total, x, by: total + by * x)
    with pytest.raises(TypeError, match="what is given to sequence_reduce needs a value at CLIENTS"):
        hansa.federated_computation(
            lambda numbers, by: hansa.sequence_reduce(numbers, 0, op, given=by), "{int32*}@CLIENTS", "int32@SERVER"
        )
    typed = hansa.jax_computation(lambda total, x, by: total + jnp.int32(by) * x, "int32", "int32", "float32")
    with pytest.raises(TypeError, match="the op of sequence_reduce"):
        hansa.federated_computation(lambda numbers: hansa.sequence_reduce(numbers, 0, typed, given=1), "int32*")
