"""One computation, one result: traced or loaded, in one program or by stages, on one device or several, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("model", ["mlp", pytest.param("cnn", marks=pytest.mark.whole)])
def test_what_a_client_gives_and_the_mean_of_all_have_the_same_bits_wherever_and_however_they_are_computed(model):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "tests.runtimes.stages.every_way", model]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == [f"{model} {{}}"]
