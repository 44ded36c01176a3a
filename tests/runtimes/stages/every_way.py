"""What clients give, its mean and a fold in order, computed in every way there is: prints where bits differ from those
of one device.

`test_bits` runs it in a process of its own, as users compile: tests compile without optimisation, and so by other code.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import hansa

SIZES = [24, 9, 40, 0, 16, 31]


def dense(x, w, b):
    return x @ w + b


def mlp(weights, x):
    hidden = jax.nn.relu(dense(x, weights.w1, weights.b1))
    return dense(jax.nn.relu(dense(hidden, weights.w2, weights.b2)), weights.w3, weights.b3)


def cnn(weights, x):
    images = x.reshape(x.shape[0], 16, 16, 1)
    maps = lax.conv_general_dilated(images, weights.kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    pooled = lax.reduce_window(jax.nn.relu(maps), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return dense(pooled.reshape(x.shape[0], 8 * 8 * 32), weights.w, weights.b)


MODELS = {
    "mlp": (mlp, {"w1": (256, 128), "b1": (128,), "w2": (128, 64), "b2": (64,), "w3": (64, 10), "b3": (10,)}),
    # The gradient of this kernel is summed over parts of a batch.
    "cnn": (cnn, {"kernel": (5, 5, 1, 32), "w": (2048, 10), "b": (10,)}),
}


def training(forward, shapes):
    """What each client's training adds to the weights, the mean of all, and a sum in which the last count most."""
    weights = hansa.to_type({name: ("float32", list(shape)) for name, shape in shapes.items()})
    batch = hansa.to_type("<x=float32[?,256],y=int32[?]>")

    @hansa.jax_computation(weights, batch)
    def step(weights, batch):
        def loss(weights):
            scores = jax.nn.log_softmax(forward(weights, batch.x))
            return -jnp.mean(jnp.take_along_axis(scores, batch.y[:, None], 1))

        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))

    @hansa.jax_computation(weights, weights)
    def difference(after, before):
        return jax.tree.map(jnp.subtract, after, before)

    @hansa.jax_computation(weights, weights)
    def fading(state, update):
        return jax.tree.map(lambda a, b: 0.7 * a + b, state, update)

    same = hansa.jax_computation(lambda state: state, weights)
    none = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    clients = hansa.FederatedType(hansa.SequenceType(batch), hansa.CLIENTS)

    @hansa.federated_computation(clients, hansa.FederatedType(weights, hansa.SERVER))
    def train(data, model):
        sent = hansa.federated_broadcast(model)
        update = hansa.federated_map(difference, [hansa.sequence_reduce(data, sent, step), sent])
        last = hansa.federated_aggregate(update, none, fading, fading, same)
        return {"each": update, "mean": hansa.federated_mean(update), "fading": last}

    return train


def by_stages(computation, data, model, batch_rows):
    """What each client gives, the last one first, the mean of all, of three partial states in another order, and what
    is folded in order, all clients in one program and one by one."""
    stages = hansa.Stages(computation)
    (stage,) = stages.clients
    known: dict[str, Any] = {"model": model}
    known |= stages.servers[0].run(known)._asdict()
    found, partial = [], [stage.zero() for _ in range(3)]
    for client in reversed(range(len(data))):
        done = stage.work(known, {"data": data[client]}, batch_rows=batch_rows)
        found.append(done.contributions[0].value)
        partial[client % 3] = stage.accumulate(partial[client % 3], done.contributions)
    mean, _ = stage.report(stage.merge(partial[2], stage.merge(partial[0], partial[1])))
    own = [{"data": clients} for clients in data]
    _, together = stage.report(stage.fold(stage.zero(), known, own, batch_rows=batch_rows).state)
    state = stage.zero()
    for update in reversed(found):
        state = stage.accumulate(state, [{"value": update}, {"value": update}])
    return found[::-1], mean, together, stage.report(state)[1]


def differing(found, expected):
    """Which clients' parts have other bits, and how many."""
    return [
        (client, name, int((np.asarray(a).view("int32") != np.asarray(b).view("int32")).sum()))
        for client, (mine, other) in enumerate(zip(found, expected, strict=True))
        for (name, a), b in zip(mine._items(), other, strict=True)
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    ]


def compared(name, batch_size, folder):
    """By form and place, the parts that differ."""
    forward, shapes = MODELS[name]
    traced = training(forward, shapes)
    hansa.save(traced, folder / "saved.hansa")
    loaded = hansa.load(folder / "saved.hansa")
    rng, count = np.random.default_rng(1), sum(SIZES)
    model = {part: rng.normal(0, 0.1, shape).astype("float32") for part, shape in shapes.items()}
    rows = {"x": rng.normal(size=(count, 256)).astype("float32"), "y": rng.integers(0, 10, count).astype("int32")}
    data = hansa.ClientBatches(rows, np.cumsum([0, *SIZES]), batch_size)
    runtimes = {
        "one device": hansa.InProcessRuntime(jax.devices()[:1]),
        "all devices": hansa.InProcessRuntime(),
        "chunks": hansa.InProcessRuntime(clients_per_chunk=2),
        "clients alone": hansa.InProcessRuntime(clients_per_chunk=1),
    }
    found, means, fading = {}, {}, {}
    for form, computation in (("traced", traced), ("loaded", loaded)):
        for where, runtime in runtimes.items():
            with hansa.runtime(runtime):
                result = computation(data, model)
            found[form, where], means[form, where], fading[form, where] = result.each, result.mean, result.fading
        found[form, "stages"], means[form, "stages"], *folded = by_stages(computation, data, model, batch_size)
        fading |= {(form, "stages", i): each for i, each in enumerate(folded)}
    with hansa.runtime(hansa.InProcessRuntime()):
        order = np.random.default_rng(2).permutation(len(SIZES))
        means["traced", "another order"] = traced(data.select(order), model).mean
    first = found["traced", "one device"]
    assert len(found) == 10
    assert any(np.any(leaf) for leaf in first[0])
    apart = {key: differing(each, first) for key, each in found.items()}
    together = {(*key, "mean"): differing([mean], [means["traced", "one device"]]) for key, mean in means.items()}
    in_order = {(*key, "fading"): differing([each], [fading["traced", "one device"]]) for key, each in fading.items()}
    return {key: parts for key, parts in {**apart, **together, **in_order}.items() if parts}


if __name__ == "__main__":
    # In batches of up to 12 examples a gradient is another product: see `hansa.compiler.products`.
    with tempfile.TemporaryDirectory() as folder:
        print(sys.argv[1], compared(sys.argv[1], {"mlp": 8, "cnn": 20}[sys.argv[1]], Path(folder)))
