"""What runtimes keep of arrays, and what they give up."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import hansa
from hansa.runtimes import replicas
from hansa.runtimes.stages.executable import Executable

needs_devices = pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")


def summing(size):
    kind = f"float32[{size}]"
    add = hansa.jax_computation(lambda state, x: state + x, kind, kind)

    @hansa.federated_computation(f"{kind}@SERVER", f"{{{kind}}}@CLIENTS")
    def next_sum(state, values):
        return hansa.federated_map(add, (state, hansa.federated_sum(values)))

    return next_sum


@needs_devices
def test_a_result_that_comes_back_is_not_copied_to_the_devices_again_and_is_kept_only_as_long_as_the_caller_keeps_it():
    gc.collect()  # of what other tests have left
    add, before = summing(3), len(replicas._WHOLES)
    values = [np.float32([1, 2, 3]), np.float32([1, 0, 0])]
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("clients",)), PartitionSpec())
    first = add(np.zeros(3, "float32"), values)
    assert first.devices() == {jax.devices()[0]}
    assert replicas.whole_of(first, everywhere).sharding == everywhere
    second = add(first, values)
    np.testing.assert_array_equal(second, [4, 4, 6])
    np.testing.assert_array_equal(add(first, values), second)
    assert replicas.whole_of(jnp.zeros(3), everywhere) is None
    assert len(replicas._WHOLES) == before + 2
    del first, second
    gc.collect()
    assert len(replicas._WHOLES) == before


@needs_devices
def test_large_results_stay_on_one_device():
    size = replicas._MOST // 4 + 1
    state = summing(size)(np.zeros(size, "float32"), [np.ones(size, "float32")])
    assert id(state) not in replicas._WHOLES


def test_what_is_donated_is_gone_and_what_is_not_stays():
    mesh = Mesh(np.array(jax.devices()), ("clients",))
    everywhere = PartitionSpec()

    def step(x, pair):
        return x + pair[0], pair[1] + 1

    run = Executable(step, mesh, (everywhere, everywhere), everywhere, lambda: None, donated=(1,))
    put = NamedSharding(mesh, everywhere)
    x, a, b = (jax.device_put(np.full(1000, value, "float32"), put) for value in (1, 2, 3))
    total, after = run(x, (a, b))
    np.testing.assert_array_equal(total, np.full(1000, 3))
    np.testing.assert_array_equal(after, np.full(1000, 4))
    assert (x.is_deleted(), a.is_deleted(), b.is_deleted()) == (False, True, True)
