"""One computation, one result: traced or loaded, in one program or by stages, on one device or several, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("model", ["mlp", pytest.param("cnn", marks=pytest.mark.whole)])
def test_what_a_client_gives_and_the_mean_of_all_have_the_same_bits_wherever_and_however_they_are_computed(model):
    assert printed("every_way", model) == [f"{model} {{}}"]


def test_a_step_of_the_server_s_optimizer_has_the_same_bits_in_a_round_and_by_itself():
    assert printed("server_steps") == ["[]"]


def printed(program: str, *arguments: str) -> list[str]:
    """What a program of these tests prints, in a process of its own that compiles as users do."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", f"tests.runtimes.stages.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
