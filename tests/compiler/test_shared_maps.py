"""Loops over parts at the server: each device does some of them, and all have the same result as one device alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler import shared_maps

PARTS = 7


@hansa.federated_computation("float32@SERVER", "{float32}@CLIENTS")
def drawn(scale: Any, values: Any) -> Any:
    """A number of the clients, and numbers of the server that are computed in parts."""

    @hansa.jax_computation
    def parts(scale: Any, total: Any) -> Any:
        def part(i: Any) -> Any:
            return jnp.sin(scale * i + jnp.arange(5.0)), i

        return jax.lax.map(part, jnp.arange(PARTS)), total

    return hansa.federated_map(parts, [scale, hansa.federated_sum(values)])


def test_parts_are_shared_and_have_the_bits_of_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    in_shares = shared_maps._in_shares

    def seen(eqn: Any, inputs: Any, axis: str, among: int) -> Any:
        shares.append(among)
        return in_shares(eqn, inputs, axis, among)

    monkeypatch.setattr(shared_maps, "_in_shares", seen)
    found = []
    for count in (1, 2):
        with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:count])):
            found.append(drawn(0.25, [1.0, 2.0, 4.0]))
    assert shares == [2]
    ((sines, numbers), total), ((alone, _), _) = found[1], found[0]
    assert np.array_equal(sines, alone) and numbers.tolist() == list(range(PARTS)) and total == 7
    assert np.allclose(sines, np.sin(0.25 * np.arange(PARTS)[:, None] + np.arange(5)), atol=1e-6)
