"""How many clients are worked on at once, by the rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.compiler.partition import compile_computation
from hansa.runtimes.inprocess.vectorise import clients_at_once


@dataclass
class Device:
    """What the rule asks of a device."""

    platform: str
    bytes_limit: int | None

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.bytes_limit is None else {"bytes_limit": self.bytes_limit}


@hansa.federated_computation("float32[1000]@SERVER", "{float32}@CLIENTS")
def program(model: Any, value: Any) -> Any:
    add = hansa.jax_computation(lambda model, value: model + value)
    return hansa.federated_sum(hansa.federated_map(add, (hansa.federated_broadcast(model), value)))


@pytest.mark.parametrize(
    ("device", "clients"),
    [
        (Device("cpu", None), 1),
        (Device("cpu", 2**36), 1),
        (Device("cuda", None), 32),
        (Device("cuda", 2**36), 32),
        (Device("cuda", 10 * 4 * 6 * 4000), 10),  # a quarter of it holds six copies of 4,000 bytes ten times
        (Device("cuda", 1000), 1),
    ],
)
def test_a_cpu_takes_one_and_others_as_many_as_their_memory_holds(device: Any, clients: int) -> None:
    assert clients_at_once(compile_computation(program), device) == clients


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_agree_whatever_the_number(number: int) -> None:
    model, values = np.arange(1000, dtype=np.float32), [0.5, -1.0, 2.0, 8.0]
    with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:1], clients_at_once=number)):
        np.testing.assert_allclose(program(model, values), 4 * model + 9.5, rtol=1e-6)
