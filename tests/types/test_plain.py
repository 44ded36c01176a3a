"""Masked arrays and sparse matrices where arrays are passed."""

import numpy as np
import pytest

import hansa


def test_masked_values_are_refused_wherever_an_array_is_passed():
    masked, whole = np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[0, 0])
    double = hansa.jax_computation(hansa.types.TensorType(np.float64, [2]))(lambda x: 2 * x)
    with pytest.raises(ValueError, match=r"argument.*: 1 values of an array are masked, the first at \[1\]; say what"):
        double(masked)
    assert double(whole).tolist() == [2, 4]
    for make in (lambda x: hansa.Batches({"x": x}, 2), lambda x: hansa.ClientBatches({"x": x}, [0, 2], 2)):
        with pytest.raises(ValueError, match="1 values of an array are masked"):
            make(masked)
        assert make(whole).examples.size == 2


def test_sparse_matrices_are_sent_to_where_they_may_stay_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"pass \.toarray\(\), or make clients of it with .*from_arrays"):
        hansa.Batches({"x": sparse.csr_array(np.eye(2))}, 2)
