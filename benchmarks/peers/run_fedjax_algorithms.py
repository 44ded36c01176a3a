"""FedJAX's worker for algorithms: its own `fed_prox`, `mime`, `mime_lite`, `agnostic`, `hyp_cluster`, by the option."""

from __future__ import annotations

from typing import Any

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from fedjax import algorithms

from benchmarks.peers import dense
from benchmarks.peers.protocol import Task, serve


class FedJaxAlgorithm:
    """One of FedJAX's algorithms, with batches in the order of the examples."""

    def __init__(self, task: Task, name: str) -> None:
        self.task, self.name = task, name
        fedjax.set_for_each_client_backend("jit")
        train = fedjax.ShuffleRepeatBatchHParams(task.batch_size, num_epochs=1, skip_shuffle=True)
        whole = fedjax.PaddedBatchHParams(task.batch_size)
        self.algorithm = self._algorithm(train, whole)
        first = [[jnp.asarray(w) for w in weights] for weights in dense.two_starts(task.weights)]
        self.state = self.algorithm.init(first if name == "hyp_cluster" else first[0])
        self.clients: dict[int, fedjax.ClientDataset] = {}

    def _algorithm(self, train: Any, whole: Any) -> Any:
        sgd, server = fedjax.optimizers.sgd(self.task.learning_rate), fedjax.optimizers.sgd(1.0)
        base = fedjax.optimizers.sgd(self.task.learning_rate, momentum=dense.MOMENTUM)

        def loss(params: Any, batch: Any, rng: Any) -> Any:
            return dense.losses(params, batch["x"], batch["y"])

        if self.name == "fed_prox":
            return algorithms.fed_prox.fed_prox(loss, sgd, server, train, dense.PROXIMAL)
        if self.name in ("mime", "mime_lite"):
            module = getattr(algorithms, self.name)
            return getattr(module, self.name)(loss, base, train, whole, 1.0)
        if self.name == "hyp_cluster":
            return algorithms.hyp_cluster.hyp_cluster(loss, sgd, server, whole, train)
        return algorithms.agnostic_fed_avg.agnostic_federated_averaging(
            loss,
            sgd,
            server,
            train,
            whole,
            list(dense.DOMAIN_WEIGHTS),
            dense.DOMAIN_RATE,
            domain_window_size=dense.WINDOW,
            init_domain_window=[1.0] * dense.DOMAINS,
        )

    def round(self, number: int) -> float:
        """One call of `apply`. It tells no loss."""
        key = jax.random.PRNGKey(0)
        clients = [(index, self._client(index), key) for index in self.task.cohort(number)]
        self.state, _ = self.algorithm.apply(self.state, clients)
        jax.block_until_ready(self._models())
        return 0.0

    def evaluate(self) -> float:
        """Nothing."""
        return 0.0

    def weights(self) -> list[np.ndarray]:
        """The model, or one model after another; and of agnostic averaging the weights of the domains."""
        found = [np.asarray(w) for model in self._models() for w in model]
        return [*found, np.asarray(self.state.domain_weights)] if self.name == "agnostic" else found

    def _models(self) -> list[Any]:
        return self.state.cluster_params if self.name == "hyp_cluster" else [self.state.params]

    def _client(self, index: int) -> fedjax.ClientDataset:
        if index not in self.clients:
            x, y = self.task.client(index)
            self.clients[index] = fedjax.ClientDataset({"x": x, "y": y, "domain_id": dense.domains(y)})
        return self.clients[index]


if __name__ == "__main__":
    serve(FedJaxAlgorithm)
