"""The worker of PyTorch alone, without federation: a loop over all the examples of a round, in order.

The option is a number of threads; by default PyTorch has one for each core.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from benchmarks.peers import torch_layers
from benchmarks.peers.protocol import Task, serve


class Torch:
    """One model, trained on one data set."""

    def __init__(self, task: Task, threads: str = "") -> None:
        if threads:
            torch.set_num_threads(int(threads))
        self.task = task
        self.model = torch_layers.build(task)
        self.examples = cache(lambda turn: torch_layers.tensors(*task.joined(turn)))

    def round(self, number: int) -> float:
        """One epoch."""
        return torch_layers.train(self.model, *self.examples(number % len(self.task.cohorts)), self.task)

    def evaluate(self) -> float:
        """In batches of 1,000."""
        return torch_layers.evaluate(self.model, self.task)

    def weights(self) -> list[np.ndarray]:
        """In Keras's layouts."""
        return torch_layers.get_weights(self.model, self.task)


if __name__ == "__main__":
    serve(Torch)
