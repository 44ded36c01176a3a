"""A round ends however uneven the clients' work is, whether JAX started before Hansa or after it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.runtimes import patience
from hansa.runtimes.inprocess import runtime as inprocess

UNEVEN = """
    import sys, time
    import hansa, jax, numpy as np

    def wait(seconds):
        time.sleep(float(seconds))
        return np.float32(seconds)

    work = hansa.jax_computation(lambda s: jax.pure_callback(wait, jax.ShapeDtypeStruct((), np.float32), s))

    @hansa.federated_computation("{float32}@CLIENTS")
    def waited(seconds):
        values = hansa.federated_map(work, seconds)
        return hansa.federated_sum(values), values

    assert len(jax.devices()) == 3
    total, each = waited([np.float32(s) for s in (float(sys.argv[1]), 0.25, 0.5, 0.125)])
    print(total, *each)
"""
THREE = "--xla_force_host_platform_device_count=3"
SHORT = f"{THREE} --xla_cpu_collective_call_warn_stuck_timeout_seconds=1"
SHORT += " --xla_cpu_collective_call_terminate_timeout_seconds=2"


def run(program: str, flags: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(seconds)],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("", id="hansa first"),
        pytest.param("    import jax; jax.devices()\n", id="jax first", marks=pytest.mark.slow),
    ],
)
def test_a_client_that_takes_longer_than_xla_would_wait(before: str) -> None:
    """The user's own, short limit stays, and is not met."""
    done = run(before + UNEVEN, SHORT, 5)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5.875", "5.0", "0.25", "0.5", "0.125"]


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "    import jax; jax.devices()\n"], ids=["hansa first", "jax first"])
def test_a_client_that_takes_longer_than_xlas_own_limit(before: str) -> None:
    done = run(before + UNEVEN, THREE, 47)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "47.875"
    assert "may be stuck" not in done.stderr


def test_xla_is_told_to_wait_once_and_only_where_nobody_chose() -> None:
    told = "import hansa, jax, os; jax.devices(); print(os.environ['XLA_FLAGS'])"
    for flags in ("", THREE, SHORT):
        done = run(told, flags, 0)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(flags)
        for name, value in patience.FLAGS.items():
            assert done.stdout.count(name) == 1
            assert (f"--{name}={value}" in done.stdout) == (flags != SHORT)


@hansa.federated_computation("<{<x=float32[?,3]>*}@CLIENTS,{float32}@CLIENTS>")
def two_rounds(data, weight):
    """Sums, means and an aggregate of its own, what clients keep for a second round, and values of every client."""
    add = hansa.jax_computation(lambda total, batch: total + batch.x.sum(0))
    first = hansa.federated_map(
        hansa.federated_computation(lambda batches: hansa.sequence_reduce(batches, np.zeros(3, np.float32), add)), data
    )
    mean = hansa.federated_mean(first, weight)
    away = hansa.federated_map(
        hansa.jax_computation(lambda mine, all, w: (mine - all) / (1 + w)),
        (first, hansa.federated_broadcast(mean), weight),
    )
    last = hansa.federated_aggregate(
        away,
        np.zeros(3, np.float32),
        hansa.jax_computation(lambda a, x: jnp.where(jnp.abs(x) > jnp.abs(a), x, a)),
        hansa.jax_computation(lambda a, b: jnp.where(jnp.abs(a) >= jnp.abs(b), a, b)),
        hansa.jax_computation(lambda a: 2 * a),
    )
    return mean, hansa.federated_max(away), last, away, first


@pytest.mark.skipif(len(jax.devices()) < 2, reason="one device waits for nobody")
@pytest.mark.parametrize("clients", [0, 1, 2, 7])
def test_stages_of_their_own_give_the_same_bits(clients: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(clients)
    data = [
        [{"x": random.normal(size=(int(n), 3)).astype(np.float32)} for n in random.integers(1, 5, k)]
        for k in random.integers(0, 4, clients)
    ]
    weights = random.uniform(0.1, 2, clients).astype(np.float32)
    argument = (data, list(weights))
    results = []
    for together in (True, False):
        monkeypatch.setattr(inprocess, "meets_in_programs", lambda devices, together=together: together)
        with hansa.runtime(hansa.InProcessRuntime()):
            mean, largest, last, away, first = two_rounds(*argument)
        results.append([mean, largest, last, *away, *first])
    fused, apart = results
    assert len(fused) == len(apart) == 3 + 2 * clients
    for one, other in zip(fused, apart, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), strict=True)
