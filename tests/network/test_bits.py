"""Devices over TLS give the bits of a simulation: the state, the metrics, all stages, whoever comes first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WAYS = [
    ("training", 2),
    pytest.param("training", 10, marks=pytest.mark.whole),
    pytest.param("stages", 3, marks=pytest.mark.slow),
    pytest.param("evaluation", 2, marks=pytest.mark.slow),
    pytest.param("client_state", 2, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("what", "processes"), WAYS)
def test_what_devices_give_has_the_bits_of_a_simulation(what, processes):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "tests.network.bits", what, str(processes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    name, _, differences = done.stdout.strip().partition(" ")
    assert (name, set(differences) - set("[], ")) == (what, set()), differences
