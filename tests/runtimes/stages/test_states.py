"""Small arrays of all aggregates are taken in together, and none has a part in another's result."""

import jax
import numpy as np
import pytest

import hansa


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("chunk", [None, 2])
def test_each_small_aggregate_has_its_own_result(devices, chunk):
    @hansa.federated_computation("{<a=float32,b=float32[3],n=int32,m=int64>}@CLIENTS")
    def everything(values):
        return {
            "sum": hansa.federated_sum(values),
            "mean": hansa.federated_mean(values.b, values.n),
            "least": hansa.federated_min(values),
            "most": hansa.federated_max(values),
        }

    rng = np.random.default_rng(0)
    a = rng.normal(size=5).astype("float32")
    b = rng.normal(size=(5, 3)).astype("float32")
    a[1], b[3, 0], b[4, 2] = np.nan, np.inf, -np.inf
    n, m = rng.integers(1, 9, 5).astype("int32"), rng.integers(-(2**40), 2**40, 5)
    rows = [{"a": a[i], "b": b[i], "n": n[i], "m": m[i]} for i in range(5)]
    with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:devices], clients_per_chunk=chunk)):
        found = everything(rows)
    for name, reduce in (("sum", np.sum), ("least", np.min), ("most", np.max)):
        for field, column in (("a", a), ("b", b), ("n", n), ("m", m)):
            expected = reduce(column, axis=0)
            np.testing.assert_allclose(np.asarray(found[name][field]), expected, rtol=1e-6, err_msg=f"{name} {field}")
    np.testing.assert_allclose(np.asarray(found.mean), np.average(b, axis=0, weights=n), rtol=1e-6)
