"""FedJAX's worker: federated averaging on `for_each_client`, with the backend that the option names, jit or pmap.

FedJAX's own `federated_averaging` fills a client's last batch with examples of the next epoch. With `padded_batch` and
masks, which FedJAX offers too, a short batch is a short batch, as it is for everyone else here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

if sys.argv[2] == "pmap":  # which needs a device for each core
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={len(os.sched_getaffinity(0))}"

import fedjax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.protocol import Task, serve

MASK = fedjax.EXAMPLE_MASK_KEY


def apply(layers: list[dict[str, Any]], weights: list[jax.Array], x: jax.Array) -> jax.Array:
    """The logits; the weights are in Keras's order and layouts."""
    left = iter(weights)
    for layer in layers:
        kind = layer["kind"]
        if kind == "dense":
            x = x @ next(left) + next(left)
        elif kind == "conv":
            x = jax.lax.conv_general_dilated(x, next(left), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = x + next(left)
        elif kind == "pool":
            window = (1, layer["size"], layer["size"], 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind == "embedding":
            x = next(left)[x]
        elif kind == "lstm":
            x = lstm(next(left), next(left), next(left), x)
        if layer.get("activation") == "relu":
            x = jax.nn.relu(x)
    return x


def lstm(kernel: jax.Array, recurrent: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    """[batch, time, inputs] to [batch, time, units]."""

    def step(carry: Any, inputs: jax.Array) -> Any:
        hidden, cell = carry
        i, f, g, o = jnp.split(inputs + hidden @ recurrent, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((len(x), recurrent.shape[0]))
    return jax.lax.scan(step, (zeros, zeros), (x @ kernel + bias).swapaxes(0, 1))[1].swapaxes(0, 1)


class FedJax:
    """Federated averaging of a model in plain JAX."""

    def __init__(self, task: Task, backend: str) -> None:
        fedjax.set_for_each_client_backend(backend)
        self.task = task
        self.params = [jnp.asarray(weight) for weight in task.weights]
        self.clients: dict[int, fedjax.ClientDataset] = {}
        self.train = self._train_for_each_client()
        self.optimizer = fedjax.optimizers.sgd(1.0)
        self.optimizer_state = self.optimizer.init(self.params)
        self.test_loss = jax.jit(lambda params, x, y: self._losses(params, x, y).mean())

    def round(self, number: int) -> float:
        """Clients' training, the weighted mean of their updates, the server's step."""
        cohort = self.task.cohort(number)
        clients = [(i, self._client(i).padded_batch(batch_size=self.task.batch_size), {}) for i in cohort]
        losses, examples = [], 0

        def updates() -> Any:
            nonlocal examples
            for client, (update, loss) in self.train(self.params, clients):
                size = len(self.clients[client])
                losses.append(loss)
                examples += size
                yield update, size

        mean = fedjax.tree_util.tree_mean(updates())
        self.optimizer_state, self.params = self.optimizer.apply(mean, self.optimizer_state, self.params)
        jax.block_until_ready(self.params)
        return float(sum(np.asarray(loss) for loss in losses) / examples)

    def evaluate(self) -> float:
        """In batches of 1,000."""
        x, y = self.task.test_x, self.task.test_y
        parts = [slice(start, start + 1000) for start in range(0, len(x), 1000)]
        return float(
            sum(float(self.test_loss(self.params, x[part], y[part])) * len(x[part]) for part in parts) / len(x)
        )

    def weights(self) -> list[np.ndarray]:
        """As they are."""
        return [np.asarray(weight) for weight in self.params]

    def _client(self, index: int) -> fedjax.ClientDataset:
        if index not in self.clients:
            x, y = self.task.client(index)
            self.clients[index] = fedjax.ClientDataset({"x": x, "y": y})
        return self.clients[index]

    def _losses(self, params: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        logits = apply(self.task.layers, params, x)
        labels = y.reshape(logits.shape[:-1])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)
        return -chosen.reshape(len(x), -1).mean(1)

    def _train_for_each_client(self) -> Any:
        optimizer = fedjax.optimizers.sgd(self.task.learning_rate)

        def masked_sum(params: Any, batch: Any) -> Any:
            return jnp.where(batch[MASK], self._losses(params, batch["x"], batch["y"]), 0).sum()

        def start(params: Any, _: Any) -> Any:
            return {"params": params, "optimizer": optimizer.init(params), "loss": jnp.zeros(())}

        def step(state: Any, batch: Any) -> Any:
            total, gradients = jax.value_and_grad(masked_sum)(state["params"], batch)
            count = jnp.maximum(batch[MASK].sum(), 1)
            gradients = jax.tree_util.tree_map(lambda leaf: leaf / count, gradients)
            slots, params = optimizer.apply(gradients, state["optimizer"], state["params"])
            return {"params": params, "optimizer": slots, "loss": state["loss"] + total}

        def finish(params: Any, state: Any) -> Any:
            return jax.tree_util.tree_map(jnp.subtract, params, state["params"]), state["loss"]

        return fedjax.for_each_client(start, step, finish)


if __name__ == "__main__":
    serve(FedJax)
