"""Functions of all clients' values that look at each coordinate by itself are computed in blocks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler import coordinates

KIND = "<kernel=float32[6,50],bias=float32[3],loss=float32>"
RNG = np.random.default_rng(0)


def clients(number: int) -> list[Any]:
    return [
        {
            "kernel": RNG.normal(size=(6, 50)).astype("float32"),
            "bias": RNG.normal(size=3).astype("float32"),
            "loss": np.float32(RNG.normal()),
        }
        for _ in range(number)
    ]


def by_coordinate(values: Any) -> Any:
    """A median, a trimmed mean, how often a sum is exceeded, and the nearest to another result of all clients."""
    kernel, number = values.kernel, values.kernel.shape[0]
    there = values.loss > -1
    ordered = jnp.sort(jnp.where(there[:, None, None], kernel, jnp.nan), 0)
    rank = jnp.arange(number).reshape(-1, 1, 1)
    cut = number // 4
    low = jax.lax.dynamic_index_in_dim(ordered, jnp.maximum(there.sum() - 1, 0) // 2, 0, keepdims=False)
    middle = jnp.where((rank >= cut) & (rank < number - cut), jnp.sort(kernel, 0), 0).sum(0)
    above = (jnp.cumsum(kernel, 0) > values.loss.mean()).sum(0)
    return {"low": low, "middle": middle / (number - 2 * cut), "above": above, "bias": jnp.median(values.bias, 0)}


def mixing(values: Any) -> Any:
    """Results of which each coordinate is computed of others, too."""
    kernel = values.kernel
    return {
        "turned": jnp.flip(kernel, 2).sum(0),
        "normed": (kernel / jnp.linalg.norm(kernel, axis=2, keepdims=True)).sum(0),
        "sorted": jnp.sort(kernel, 2).sum(0),
        "rolled": jnp.roll(kernel, 1, 2).sum(0),
        "self": (kernel[0] @ kernel[0].T @ kernel[0]).astype("float32"),
    }


def blocks_of(monkeypatch: pytest.MonkeyPatch, size: int) -> list[Any]:
    """What is computed in blocks of so many bytes from now on."""
    found: list[Any] = []
    whole = coordinates._Region.in_blocks

    def in_blocks(region: Any, *args: Any) -> Any:
        found.append(region)
        return whole(region, *args)

    monkeypatch.setattr(coordinates._Region, "in_blocks", in_blocks)
    monkeypatch.setattr(coordinates, "_BLOCK", size)
    return found


def computed(function: Any, values: list[Any], runtime: Any = None) -> Any:
    local = hansa.jax_computation(lambda values: function(values))
    computation = hansa.federated_computation(
        lambda values: hansa.federated_map(local, hansa.federated_stack(values)), f"{{{KIND}}}@CLIENTS"
    )
    with hansa.runtime(runtime or hansa.InProcessRuntime(jax.devices()[:1])):
        return computation(values)


@pytest.mark.parametrize("block", [400, 7 * 24 * 11])
def test_blocks_give_what_the_whole_gives_wherever_clients_are(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    values = clients(7)
    whole = computed(by_coordinate, values)
    np.testing.assert_array_equal(whole.bias, np.median([each["bias"] for each in values], 0))
    found, results = blocks_of(monkeypatch, block), []
    for runtime in (None, hansa.InProcessRuntime(jax.devices()[:2], clients_per_chunk=3)):
        parts = computed(by_coordinate, values, runtime)
        # XLA divides by one number otherwise in a loop.
        np.testing.assert_allclose(parts.middle, whole.middle, rtol=3e-7)
        jax.tree.map(np.testing.assert_array_equal, parts._replace(middle=0), whole._replace(middle=0))
        results.append(parts)
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert {region._result.aval.shape for region in found} == {(6, 50)} and len(found) >= 6


def test_what_mixes_coordinates_is_computed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values = clients(6)
    whole = computed(mixing, values)
    found = blocks_of(monkeypatch, 400)
    parts = computed(mixing, values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), parts, whole)
    assert len(found) == 1  # The norms are computed as a whole, and what is divided by them in blocks.


def test_medians_and_trimmed_means_of_the_library_are_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [np.float32(each["kernel"]) for each in clients(9)]
    found = blocks_of(monkeypatch, 1000)
    for rule in (hansa.aggregators.median(), hansa.aggregators.trimmed_mean(0.2)):
        aggregation = rule("float32[6,50]")
        result = aggregation.next(aggregation.initialize(), values, [np.float32(1)] * 9).result
        cut = 0 if rule.name == "median" else 1
        ordered = np.sort(np.float64(values), 0)
        expected = np.median(values, 0) if not cut else ordered[cut:-cut].mean(0)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)
    assert len(found) == 2
