"""On Ray and over a network a private round has the bits of one process, its noise included."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [pytest.param("ray", marks=pytest.mark.xdist_group("ray")), "network"],
)
def test_noise_of_the_same_secret_has_the_same_bits(place):
    needed = {"ray": "ray", "network": "cryptography"}
    pytest.importorskip(needed[place])
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "RAY_ADDRESS")}
    command = [sys.executable, "-m", "tests.privacy.elsewhere", place]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines == (["matrix []", "distributed []"] if place == "ray" else ["matrix []"])
