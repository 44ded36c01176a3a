"""Sparse matrices, and files in another byte order: arrays are made of the rows that are wanted."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hansa.simulation import ClientData

sparse = pytest.importorskip("scipy.sparse")

RANDOM = np.random.default_rng(0)
DENSE = ((RANDOM.random((40, 5)) < 0.3) * RANDOM.normal(size=(40, 5))).astype(np.float32)
OWNERS = RANDOM.integers(-1, 3, 40)


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_a_sparse_matrix_is_made_dense_a_client_at_a_time(layout: str):
    for make in (sparse.csr_matrix, sparse.csr_array):
        data = ClientData.from_arrays({"x": make(DENSE).asformat(layout), "y": np.arange(40)}, OWNERS)
        assert str(data.example_type) == "<x=float32[?,5],y=int64[?]>"
        for client in range(3):
            np.testing.assert_array_equal(data.client(client)["x"], DENSE[client == OWNERS])
        cohort = data.batch(4).cohort([2, 0])
        np.testing.assert_array_equal(cohort[0].examples.rows["x"][: (OWNERS == 2).sum()], DENSE[OWNERS == 2])
        np.testing.assert_array_equal(data.in_memory().client(1)["x"], DENSE[OWNERS == 1])
        assert not data.is_in_memory
    one = ClientData.from_clients({"a": {"x": sparse.coo_array(DENSE)}}).map(lambda a: {"x": sparse.csr_array(a["x"])})
    np.testing.assert_array_equal(one.client("a")["x"], DENSE)


@pytest.mark.slow
def test_the_whole_is_never_made_dense():
    wide = sparse.random(20_000, 5_000, 1e-4, format="csr", dtype=np.float32, random_state=0)
    tracemalloc.start()
    try:
        data = ClientData.from_arrays({"x": wide}, np.repeat(np.arange(200), 100))
        data.batch(10).cohort([3])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 100 * 5_000 * 4


def test_a_file_in_another_byte_order_stays_on_disk(tmp_path: Path):
    stored = np.memmap(tmp_path / "x", ">f4", "w+", shape=DENSE.shape)
    stored[:] = DENSE
    data = ClientData.from_arrays({"x": stored}, OWNERS)
    assert not data.is_in_memory
    found = data.client(1)["x"]
    assert (found.dtype, found.tolist()) == (np.float32, DENSE[OWNERS == 1].tolist())
