"""The devices of two processes are one mesh: with the bits of one process; what is not the same in both is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

import hansa
from tests.runtimes.inprocess import several_processes


@pytest.mark.slow
def test_two_processes_have_the_bits_of_one_and_refuse_what_differs():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", several_processes.__name__, str(port), "2"]
    running = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, env=environment, text=True)
        for number in range(2)
    ]
    first, second = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in running]
    with hansa.runtime(hansa.InProcessRuntime()):
        assert first["computed"] == second["computed"] == several_processes.computed()
    assert first["devices"] == 2
    assert first["refused"] == second["refused"]
    examples, clients, rest = first["refused"]
    assert examples.startswith("processes 0 and 1 differ in the clients' examples")
    assert clients.startswith("processes 0 and 1 differ in who takes part")
    assert rest.startswith("processes 0 and 1 differ in the rest of the argument, such as the state")
