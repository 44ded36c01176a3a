"""Data on disk is read when it is needed, in parts if it is much, and gives the same results."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import hansa
from hansa.runtimes.inprocess import runtime as inprocess
from hansa.runtimes.stages import devices
from hansa.runtimes.stages.ahead import ahead

SIZES = [3, 0, 25, 8, 1, 40, 16, 7]
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])


@hansa.jax_computation("float32[3]", "<x=float32[?,3],y=int32[?]>")
def step(state, batch):
    return 0.5 * state + (batch.x * batch.y[:, None]).mean(0)


@hansa.federated_computation("{<x=float32[?,3],y=int32[?]>*}@CLIENTS")
def work(data):
    reduced = hansa.sequence_reduce(data, np.zeros(3, "float32"), step)
    return hansa.federated_sum(reduced), reduced


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)).astype("float32"), rng.integers(0, 9, 100).astype("int32")
    mapped = {}
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    return {"x": x, "y": y}, mapped


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.stack(found[1]), np.stack(expected[1]), rtol=1e-5, atol=1e-6)


def by_hand(arrays, clients):
    results = []
    for client in clients:
        state = np.zeros(3, "float32")
        for first in range(OFFSETS[client], OFFSETS[client + 1], 8):
            rows = slice(first, min(first + 8, OFFSETS[client + 1]))
            state = 0.5 * state + (arrays["x"][rows] * arrays["y"][rows, None]).mean(0)
        results.append(state)
    return np.sum(results, 0), results


@pytest.mark.parametrize("clients", [range(8), [5, 1, 0], [2]])
@pytest.mark.parametrize("at_once", [2**28, 400])
def test_data_on_disk_gives_what_data_in_memory_gives(arrays, clients, at_once, monkeypatch):
    monkeypatch.setattr(inprocess, "_AT_ONCE", at_once)
    in_memory, on_disk = arrays
    population = hansa.ClientBatches(on_disk, OFFSETS, batch_size=8)
    assert population.examples.on_disk
    assert not hansa.ClientBatches(in_memory, OFFSETS, batch_size=8).examples.on_disk
    assert_same(work(population.select(list(clients))), by_hand(in_memory, clients))


def test_no_more_than_a_part_is_read_at_a_time(arrays, monkeypatch):
    monkeypatch.setattr(inprocess, "_AT_ONCE", 400)
    packed = []
    original = devices.pack
    monkeypatch.setattr(devices, "pack", lambda *args: packed.append(args[4]) or original(*args))
    with hansa.runtime(hansa.InProcessRuntime()):
        work(hansa.ClientBatches(arrays[1], OFFSETS, batch_size=8))
    clients = sorted(int(client) for part in packed for client in (part if part is not None else range(8)))
    assert clients == [*range(8)]  # what stays with each is kept of the one time
    assert max(map(len, packed)) == 2


def test_views_of_a_file_are_on_disk_too(arrays):
    reshaped = {name: array[10:].reshape(array[10:].shape) for name, array in arrays[1].items()}
    assert hansa.ClientBatches(reshaped, [0, 90], 8).examples.on_disk
    assert_same(work(hansa.ClientBatches(reshaped, [0, 0], 8)), (np.zeros(3), [np.zeros(3)]))


def test_the_next_item_is_made_while_this_one_is_used():
    begun, release = threading.Event(), threading.Event()

    def items():
        yield 1
        begun.set()
        assert release.wait(10)
        yield 2

    iterator = ahead(items())
    assert next(iterator) == 1
    assert begun.wait(10)
    release.set()
    assert list(iterator) == [2]


def test_an_error_in_making_an_item_comes_in_its_place():
    def items():
        yield 1
        raise OSError("the disk is gone")

    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)
