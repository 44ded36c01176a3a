"""Rounds whose server has an optimizer, in one program and by stages: prints where the bits of their states differ.

`test_bits` runs it in a process of its own, as users compile.
"""

from __future__ import annotations

import io
from typing import Any

import jax
import numpy as np
import optax

import hansa

ROUNDS = 3
OPTIMIZERS = {"adam": optax.adam(0.1)}


def process_of(server_optimizer: Any) -> hansa.learning.LearningProcess:
    def forward(weights, batch, training, rng):
        scores = jax.nn.relu(batch.x @ weights["w"] + weights["b"]) @ weights["v"]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y)
        return hansa.learning.BatchOutput(losses.mean())

    rng = np.random.default_rng(0)
    shapes = {"w": (8, 30), "b": (30,), "v": (30, 3)}
    model = hansa.learning.functional_model(
        {name: rng.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()},
        forward,
        input_spec="<x=float32[?,8],y=int32[?]>",
        optimizer=optax.sgd(0.1),
    )
    return hansa.learning.build_federated_averaging_process(model, server_optimizer=server_optimizer)


def bits(state: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def in_one(process: Any, data: hansa.ClientBatches) -> list[list[bytes]]:
    state, found = process.initialize(), []
    for _ in range(ROUNDS):
        state, _ = process.next(state, data)
        found.append(bits(state))
    return found


def by_stages(process: Any, data: hansa.ClientBatches) -> list[list[bytes]]:
    stages, state, found = hansa.Stages(process.next), process.initialize(), []
    (clients,), (first, last) = stages.clients, stages.servers
    for _ in range(ROUNDS):
        known: dict[str, Any] = {"state": state}
        known |= first.run(known)._asdict()
        total = clients.zero()
        for i in range(len(data)):
            own = {"data": data[i], "client_id": data.numbers[i]}
            total = clients.accumulate(total, clients.work(known, own, batch_rows=5).contributions)
        known |= clients.report(total)._asdict()
        known |= last.run(known)._asdict()
        state, _ = stages.result(known)
        found.append(bits(state))
    return found


def compared() -> list[tuple[str, str]]:
    """The optimizers and ways of which a state has other bits than by stages."""
    rng = np.random.default_rng(1)
    columns = {"x": rng.normal(size=(60, 8)).astype("f4"), "y": rng.integers(0, 3, 60).astype("i4")}
    data = hansa.ClientBatches(columns, [0, 3, 9, 20, 28, 40, 47, 60], 5, list("abcdefg"))
    runtimes = {
        "one device": hansa.InProcessRuntime(jax.devices()[:1]),
        "all devices": hansa.InProcessRuntime(),
        "chunks": hansa.InProcessRuntime(clients_per_chunk=3),
    }
    apart = []
    for name, optimizer in OPTIMIZERS.items():
        process, file = process_of(optimizer), io.BytesIO()
        expected = by_stages(process, data)
        assert len(set(map(tuple, expected))) == ROUNDS
        hansa.save(process, file)
        loaded = hansa.load(file.getvalue())
        for way, runtime in runtimes.items():
            with hansa.runtime(runtime):
                apart += [] if in_one(process, data) == expected else [(name, way)]
        apart += [] if by_stages(loaded, data) == expected else [(name, "loaded, by stages")]
        apart += [] if in_one(loaded, data) == expected else [(name, "loaded")]
    return apart


if __name__ == "__main__":
    print(compared())
