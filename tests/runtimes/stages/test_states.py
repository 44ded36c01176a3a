"""Small arrays of all aggregates are taken in together, and none has a part in another's result."""

import jax
import numpy as np
import pytest

import hansa
from hansa.runtimes.stages import states


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


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
def test_devices_report_a_part_each_of_a_large_mean_with_the_bits_of_one_device(monkeypatch):
    kind = "<kernel=float32[64,65],odd=float32[4099],complex=complex64[64,64],bias=float32[7]>"
    rng, found = np.random.default_rng(0), []
    shapes = [(64, 65), (4099,), (64, 64), (7,)]
    clients = [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(5)]
    clients = [(kernel, odd, (square + 1j).astype("complex64"), bias) for kernel, odd, square, bias in clients]

    @hansa.federated_computation(f"{{{kind}}}@CLIENTS", "{float32}@CLIENTS")
    def mean(values, weights):
        return hansa.federated_mean(values, weights)

    shared, weights = states._shared, rng.random(5).astype("float32")
    monkeypatch.setattr(states, "_shared", lambda *args: found.append(shared(*args)) or found[-1])
    results = []
    for devices in (1, 2):
        with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:devices])):
            results.append(mean(clients, list(weights)))
    jax.tree.map(np.testing.assert_array_equal, *results)
    # Two parts of the sums of the kernel, and of real and of imaginary numbers; what is odd cannot be halved.
    assert [len(each) for each in found] == [6]
    np.testing.assert_allclose(results[0].kernel, np.average([c[0] for c in clients], 0, weights), rtol=1e-5, atol=1e-7)
