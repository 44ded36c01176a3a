"""The bits of what a client computes do not depend on who else is in the cohort, where batches are declared."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import hansa
from hansa.simulation import ClientData

SIZES = [7, 600, 61, 20, 1, 0, 33]
RATE = 0.1
BATCH = 20


def dense(features: int, units: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.2, (features, units)).astype(np.float32), np.zeros(units, np.float32))


def mlp(weights: Any, x: Any) -> Any:
    (first, a), (second, b) = weights
    return jnp.tanh(x @ first + a) @ second + b


def cnn(weights: Any, x: Any) -> Any:
    (kernel, a), (last, b) = weights
    images = x.reshape(x.shape[0], 8, 8, 1)
    maps = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    maps = jax.lax.reduce_window(jax.nn.relu(maps + a), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return maps.reshape(x.shape[0], 4 * 4 * 6) @ last + b


KERNEL = np.random.default_rng(3).normal(0, 0.2, (3, 3, 1, 6)).astype(np.float32)
MODELS: dict[str, tuple[Callable[..., Any], Any]] = {
    "mlp": (mlp, (dense(64, 200, 0), dense(200, 10, 1))),
    "cnn": (cnn, ((KERNEL, np.zeros(6, np.float32)), dense(96, 10, 2))),
}


def loss(model: Callable[..., Any], weights: Any, x: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(model(weights, x)), y[:, None], 1).mean()


def trained_clients(model: Callable[..., Any], start: Any) -> Any:
    """From clients' batches to the weights that each of them ends with."""

    @hansa.jax_computation
    def initial():
        return start

    kind = initial.type_signature.result

    @hansa.jax_computation(kind, "<x=float32[?,64],y=int32[?]>")
    def step(weights, batch):
        slopes = jax.grad(lambda w: loss(model, w, batch.x, batch.y))(jax.tree.map(jnp.asarray, tuple(weights)))
        return jax.tree.map(lambda w, slope: w - RATE * slope, tuple(weights), slopes)

    @hansa.federated_computation("<x=float32[?,64],y=int32[?]>*")
    def work(batches):
        return hansa.sequence_reduce(batches, initial(), step)

    @hansa.federated_computation("{<x=float32[?,64],y=int32[?]>*}@CLIENTS")
    def train(data):
        return hansa.federated_map(work, data)

    return train


def arrays_of(sizes: list[int]) -> tuple[dict[str, Any], np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    offsets = np.cumsum([0, *sizes])
    return {"x": (images[: offsets[-1]] / 16).astype(np.float32), "y": labels[: offsets[-1]].astype(np.int32)}, offsets


def bits(weights: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(weights)]


@pytest.mark.parametrize("name", MODELS)
def test_a_client_has_the_same_bits_whoever_else_is_in_the_cohort(name: str, tmp_path) -> None:
    model, start = MODELS[name]
    arrays, offsets = arrays_of(SIZES)
    resident = hansa.ClientBatches(arrays, offsets, BATCH)
    for key, array in arrays.items():
        np.save(tmp_path / f"{key}.npy", array)
    mapped = {key: np.load(tmp_path / f"{key}.npy", mmap_mode="r") for key in arrays}
    on_disk = hansa.ClientBatches(mapped, offsets, BATCH)
    parts = [hansa.Batches({k: a[i:j] for k, a in arrays.items()}, BATCH) for i, j in itertools.pairwise(offsets)]
    train = trained_clients(model, start)
    found: list[list[bytes]] = []
    for devices, chunk in ((1, None), (1, 2), (2, None)):
        with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:devices], clients_per_chunk=chunk)):
            found.append(bits(train(resident.select([0]))[0]))
            found.append(bits(train(resident.select([1, 0]))[1]))
            found.append(bits(train(resident.select([3, 2, 0, 1]))[2]))
            found.append(bits(train(on_disk.select([0]))[0]))
            found.append(bits(train(on_disk.select([0, 1, 2]))[0]))
            found.append(bits(train([parts[0]])[0]))
            found.append(bits(train([parts[4], parts[0], parts[1]])[1]))
    assert all(each == found[0] for each in found)
    by_hand = jax.grad(lambda w: loss(model, w, arrays["x"][:7], arrays["y"][:7]))(start)
    for now, before, slope in zip(found[0], jax.tree.leaves(start), jax.tree.leaves(by_hand), strict=True):
        expected = before - RATE * np.asarray(slope)
        np.testing.assert_allclose(np.frombuffer(now, np.float32), expected.reshape(-1), rtol=1e-5, atol=1e-6)


def test_populations_that_are_read_anew_have_a_capacity_of_everybody(tmp_path) -> None:
    model, start = MODELS["mlp"]
    arrays, _ = arrays_of(SIZES)
    owners = np.repeat(np.arange(len(SIZES)), SIZES)
    data = ClientData.from_arrays(arrays, owners, range(len(SIZES))).shuffle(seed=1).batch(BATCH)
    train = trained_clients(model, start)
    alone = bits(train(data.cohort([0], 5))[0])
    assert bits(train(data.cohort([2, 0, 1], 5))[1]) == alone
    # A runtime that knows nothing of rounds before, as after a run was killed.
    with hansa.runtime(hansa.InProcessRuntime()):
        assert bits(train(data.cohort([0], 5))[0]) == alone


def test_the_capacity_is_the_smaller_of_batch_and_largest_client_of_the_population() -> None:
    arrays, offsets = arrays_of([7, 3, 12])
    for size, expected in ((5, 5), (12, 12), (20, 12), (500, 12)):
        population = hansa.ClientBatches(arrays, offsets, size)
        assert [population.capacity, population.select([1]).capacity, population[1].capacity] == [expected] * 3
    owners = np.repeat(np.arange(3), [7, 3, 12])
    data = ClientData.from_arrays(arrays, owners).batch(20)
    for one in (data, data.shuffle(seed=0), data.filter(lambda rows: np.ones(len(rows["y"]), bool))):
        assert [one.batch_capacity, one.cohort([1]).capacity] == [12, 12]
    few = hansa.ClientBatches(arrays, offsets, 20)
    assert hansa.ClientBatches(arrays, offsets, 20, capacity=15).select([0]).capacity == 15
    assert few.select([]).capacity == 12
    assert hansa.ClientBatches(arrays, [0], 20).capacity == 1


def test_batches_across_epochs_are_as_large_as_all_epochs() -> None:
    rows = np.arange(8)
    assert hansa.ClientBatches(rows, [0, 3, 8], 50, epochs=3, across_epochs=True).capacity == 15
    assert hansa.ClientBatches(rows, [0, 3, 8], 50, epochs=3).capacity == 5
    assert hansa.ClientBatches(rows, [0, 3, 8], 50, steps=3, across_epochs=True).capacity == 50
    assert hansa.ClientBatches(rows, [0, 3, 8], 50, steps=3).capacity == 5


def test_clients_that_nobody_has_counted_have_the_size_of_batch_or_room_for_the_cohort() -> None:
    sizes = {"ann": 70, "bo": 3, "cy": 200}
    unread = ClientData.from_function(list(sizes), lambda name: {"x": np.zeros(sizes[name], np.float32)})
    assert [unread.batch(n).batch_capacity for n in (20, 64, 65)] == [20, 64, None]
    assert [unread.batch(n).cohort([1]).capacity for n in (20, 64, 65, 1000)] == [20, 64, 64, 64]
    assert [unread.batch(1000).cohort(who).capacity for who in ([0], [1, 2])] == [128, 256]
    known = ClientData.from_function(list(sizes), lambda name: {"x": np.zeros(sizes[name])}, [70, 3, 200]).batch(1000)
    assert [known.batch_capacity, known.cohort([1]).capacity] == [200, 200]
    assert [hansa.Batches(np.zeros(n), 1000).capacity for n in (3, 65)] == [64, 128]


@pytest.mark.parametrize("capacity", [6, 21, 0, True])
def test_a_capacity_without_room_or_with_too_much_is_refused(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity"):
        hansa.Batches(np.zeros(7), 20, capacity=capacity)
    with pytest.raises(ValueError, match="capacity"):
        hansa.ClientBatches(np.zeros(7), [0, 7], 20, capacity=capacity)
    assert hansa.Batches(np.zeros(7), 20, capacity=7).capacity == 7
