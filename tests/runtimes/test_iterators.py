"""Data that can be read only once, in every situation in which a runtime reads it twice."""

import jax.numpy as jnp
import numpy as np
import pytest

import hansa

# The median of a batch has to be compiled for each size of batch, which shows only when the program is traced.
add_median = hansa.jax_computation(lambda total, x: total + jnp.median(x), np.float32, "float32[?]")


@hansa.federated_computation("{float32[?]*}@CLIENTS")
def medians(data):
    @hansa.federated_computation("float32[?]*")
    def client(batches):
        return hansa.sequence_reduce(batches, np.float32(0), add_median)

    own = hansa.federated_map(client, data)
    mean = hansa.federated_broadcast(hansa.federated_mean(own))
    subtract = hansa.jax_computation(lambda a, b: a - b, np.float32, np.float32)
    return hansa.federated_map(subtract, [hansa.federated_map(client, data), mean])


BATCHES = [[[1.0, 2.0, 9.0], [4.0]], [[3.0, 3.5]], [], [[0.0, 8.0, 1.0], [2.0, 6.0]]]
SUMS = np.array([sum(np.median(batch) for batch in client) for client in BATCHES])


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_iterators_give_what_lists_give(chunk):
    def clients():
        return [(np.float32(batch) for batch in client) for client in BATCHES]

    hansa.set_runtime(hansa.InProcessRuntime(clients_per_chunk=chunk))
    try:
        for _ in range(2):
            found = medians(clients())
            np.testing.assert_allclose(found, SUMS - SUMS.mean(), rtol=1e-6)
    finally:
        hansa.set_runtime(None)


def test_an_iterator_that_is_passed_on_comes_back_unread():
    assert hansa.federated_computation(lambda s: s, "{int32*}@CLIENTS")([iter([1, 2]), iter([])]) == [[1, 2], []]
