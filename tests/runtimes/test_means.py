"""Means beyond the range of what they are means of, against NumPy in wider floats."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import hansa

LARGEST = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # as good as that of float32
RUNTIMES = {
    "whole": hansa.InProcessRuntime,
    "chunks": lambda: hansa.InProcessRuntime(clients_per_chunk=2),
    "reference": hansa.ReferenceRuntime,
}
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
VALUES = [LARGEST, -LARGEST, 1e36, -3e35, 1e-30, -2e-37]
WEIGHTS = {
    "counts": np.array([1000, 3, 2**30, 0, 77], np.int32),
    "large": np.array([3e38, 1e38, 2e37, 0, 3e38], np.float32),
    "small": np.array([1e-30, 3e-37, 2e-36, 0, 5e-31], np.float32),
    "float64": np.array([1e-200, 3e-200, 0, 1e-210, 2e-200], np.float64),
}


def exactly(values, weights):
    """The weighted mean in rational numbers, as float64."""
    weights = [Fraction(float(weight)) for weight in weights]
    columns = np.array(values, np.float64).T
    return np.array(
        [float(sum(w * Fraction(x) for w, x in zip(weights, column, strict=True)) / sum(weights)) for column in columns]
    )


def clients_of(value, dtype):
    """What five clients have, none of it the mean itself."""
    return [(np.array(value, np.float64) * part).astype(dtype) for part in (1, 0.8, 0.6, 0.4, 0.2)]


def at_clients(dtype, shape=""):
    return hansa.to_type(f"{{{np.dtype(dtype).name}{shape}}}@CLIENTS")


@hansa.federated_computation(
    {name: at_clients(dtype, f"[{len(VALUES)}]") for name, dtype in DTYPES.items()},
    {weighing: at_clients(weights.dtype) for weighing, weights in WEIGHTS.items()},
)
def means(values, weights):
    """The mean of each value by each weight."""
    return {
        name: {weighing: hansa.federated_mean(values[name], weights[weighing]) for weighing in WEIGHTS}
        for name in DTYPES
    }


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_mean_is_right_wherever_its_dtype_holds_it(runtime):
    rows = {name: clients_of(VALUES, dtype) for name, dtype in DTYPES.items()}
    with hansa.runtime(RUNTIMES[runtime]()):
        found = means(rows, {weighing: list(weights) for weighing, weights in WEIGHTS.items()})
    for name, dtype in DTYPES.items():
        for weighing, weights in WEIGHTS.items():
            np.testing.assert_allclose(
                np.asarray(found[name][weighing]).astype("float64"),
                exactly(rows[name], weights),
                rtol=float(ml_dtypes.finfo(dtype).eps),
                err_msg=f"{name}, {weighing}",
            )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_mean_without_weights_does_not_overflow(runtime):
    with hansa.runtime(RUNTIMES[runtime]()):
        for dtype in (np.float16, np.float32, np.complex64):

            @hansa.federated_computation(at_clients(dtype, "[3]"))
            def mean(values):
                return hansa.federated_mean(values)

            largest = np.finfo(dtype).max
            rows = [np.array([largest, -largest, largest / 2], dtype)] * 7
            assert np.array_equal(mean(rows), rows[0]), dtype
