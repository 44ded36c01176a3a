"""A device needs little: it works without Keras, TensorFlow, Optax and the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import hansa
from hansa.network import wire
from hansa.network.programs import NetworkProgram, described

DEVICE = """
import json, sys
from pathlib import Path
import numpy as np
import hansa.network.hosting
from hansa.network.holdings import Holdings
from hansa.network.orders import Order
from hansa.network.worker import Worker

folder = Path(sys.argv[1])
order = Order.from_json(json.loads((folder / "order.json").read_text()))
data = Holdings({"x": np.arange(6, dtype=np.float32)})
done = Worker().work(order, folder / "stage.hansa", [folder / "sent"], data, lambda stage, index: None)
sys.stdout.buffer.write(b"".join(done.contribution))
imported = {name.partition(".")[0] for name in sys.modules}
print(*{"keras", "tensorflow", "optax", "rich", "click", "aiohttp"} & imported, file=sys.stderr)
"""


@hansa.jax_computation("float32", "<x=float32[?]>")
def more(total, batch):
    return total + batch.x.sum()


@hansa.federated_computation("{<x=float32[?]>*}@CLIENTS", "float32@SERVER")
def sums(data, start):
    return hansa.federated_sum(hansa.sequence_reduce(data, hansa.federated_broadcast(start), more))


@pytest.mark.slow
def test_a_device_computes_without_what_models_and_the_command_line_need(tmp_path):
    (work,) = NetworkProgram(sums).clients
    (tmp_path / "stage.hansa").write_bytes(work.file)
    (port, _), *_ = work.sent
    (tmp_path / "sent").write_bytes(b"".join(wire.encoded([port], [np.float32(100)])))
    plan = hansa.simulation.ClientData.from_clients({1: {"x": np.zeros(6, np.float32)}}).batch(4).plan()
    order = {
        "format": 1,
        "task": "a" * 32,
        "phase": {"run": "r", "round": 1, "attempt": 1, "part": "round", "call": 0, "stage": 0, "phase": 0},
        "computation": "sums",
        "program": ["0" * 64, len(work.file)],
        "sent": [[port.name, "1" * 64, 10]],
        "inputs": described(work.inputs),
        "client_id": 1,
        "number": 1,
        "plan": plan.to_json(),
        "most_bytes": work.boundary.most_bytes,
        "lease": 60.0,
        "seconds_left": 60.0,
        "unprotected": False,
    }
    (tmp_path / "order.json").write_text(json.dumps(order))
    done = subprocess.run([sys.executable, "-c", DEVICE, str(tmp_path)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert wire.decoded(work.boundary.ports, done.stdout) == [115.0]
    assert done.stderr.decode().strip().splitlines()[-1:] in ([], [""])
