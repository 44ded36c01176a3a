"""pfl's worker for algorithms: its own `SCAFFOLD` of a PyTorch model, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.algorithm_utils import run_train_eval
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.user_state import InMemoryUserStateStorage
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn

from benchmarks.peers.protocol import Task, serve


class Network(nn.Module):
    """A chain of dense layers with ReLU between them, and what pfl asks of a module."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*kernel.shape) for kernel in weights[::2])
        with torch.no_grad():
            for layer, kernel, bias in zip(self.layers, weights[::2], weights[1::2], strict=True):
                layer.weight.copy_(torch.from_numpy(kernel.T))
                layer.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        for number, layer in enumerate(self.layers):
            x = layer(torch.relu(x) if number else x)
        return x

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The mean cross entropy of a batch."""
        return nn.functional.cross_entropy(self(x), y)

    @torch.no_grad()
    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Weighted]:
        """What a round begins and ends with, where pfl evaluates."""
        return {"loss": Weighted(float(self.loss(x, y)) * len(x), len(x))}


class PflAlgorithm:
    """SCAFFOLD with the controls of option II, which pfl advises."""

    def __init__(self, task: Task, name: str) -> None:
        if name != "scaffold":
            raise ValueError(f"pfl is run for 'scaffold', not for {name!r}")
        self.task, self.next_clients = task, iter(())
        self.network = Network(task.weights)
        self.model = PyTorchModel(self.network, torch.optim.SGD, torch.optim.SGD(self.network.parameters(), lr=1.0))
        data = FederatedDataset(self._client, self._sampled)
        self.backend, self.algorithm = SimulatedBackend(training_data=data, val_data=data), SCAFFOLD()
        self.parameters = SCAFFOLDParams(
            central_num_iterations=10**9,
            evaluation_frequency=10**9,
            train_cohort_size=len(task.cohort(0)),
            val_cohort_size=None,
            population=len(task.offsets) - 1,
            use_gradient_as_control_variate=False,
            user_state_storage=InMemoryUserStateStorage(),
        )
        self.training = NNTrainHyperParams(
            local_batch_size=task.batch_size, local_num_epochs=1, local_learning_rate=task.learning_rate
        )
        self.clients: dict[int, Dataset] = {}
        asyncio.set_event_loop(asyncio.new_event_loop())

    def round(self, number: int) -> float:
        """One iteration of `run`. It tells no loss."""
        self.next_clients: Iterator[int] = iter(self.task.cohort(number))
        contexts, _, _ = self.algorithm.get_next_central_contexts(self.model, number, self.parameters, self.training)
        [(total, metrics)] = run_train_eval(self.algorithm, self.backend, self.model, contexts)
        pairs = tuple((context, total) for context in contexts)
        self.algorithm.process_aggregated_statistics_from_all_contexts(pairs, metrics, self.model)
        return 0.0

    def evaluate(self) -> float:
        """Nothing."""
        return 0.0

    def weights(self) -> list[np.ndarray]:
        """Kernels and biases in turn."""
        found: list[Any] = []
        for layer in self.network.layers:
            found += [layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()]
        return found

    def _sampled(self) -> int:
        return next(self.next_clients)

    def _client(self, index: int) -> Dataset:
        if index not in self.clients:
            x, y = self.task.client(index)
            data = [torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.reshape(-1).astype(np.int64))]
            self.clients[index] = Dataset(raw_data=data, user_id=str(index))
        return self.clients[index]


if __name__ == "__main__":
    serve(PflAlgorithm)
