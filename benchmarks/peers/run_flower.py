"""Flower's worker: its simulation engine with one core for each client, and PyTorch.

Rounds are commanded from inside Flower's server app. A message names the client whose examples are trained on, so the
cohort is the task's and any of the simulated nodes can do its work.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers import torch_layers
from benchmarks.peers.flower_client import client_app
from benchmarks.peers.protocol import Channel, Task


class Flower:
    """Federated averaging of a PyTorch model; made in the server app."""

    def __init__(self, grid: Grid, task: Task, folder: str) -> None:
        self.grid, self.task, self.folder = grid, task, folder
        self.strategy = FedAvg()
        self.model = torch_layers.build(task)
        while len(list(grid.get_node_ids())) < max(map(len, task.cohorts)):  # They are registered one after another.
            time.sleep(0.05)

    def round(self, number: int) -> float:
        """Messages to the cohort, and their aggregate."""
        arrays = ArrayRecord(self.model.state_dict())
        messages = []
        for node, client in zip(self.grid.get_node_ids(), self.task.cohort(number), strict=False):
            config = ConfigRecord({"folder": self.folder, "client": client})
            content = RecordDict({"arrays": arrays, "config": config})
            messages.append(Message(content=content, message_type="train", dst_node_id=node))
        replies = list(self.grid.send_and_receive(messages))
        if len(replies) != len(self.task.cohort(number)):
            raise RuntimeError(f"{len(replies)} clients answered of {len(self.task.cohort(number))}")
        after, metrics = self.strategy.aggregate_train(number, replies)
        self.model.load_state_dict(after.to_torch_state_dict())
        return float(metrics["train_loss"])

    def evaluate(self) -> float:
        """At the server."""
        return torch_layers.evaluate(self.model, self.task)

    def weights(self) -> list[np.ndarray]:
        """In Keras's layouts."""
        return torch_layers.get_weights(self.model, self.task)


def main() -> None:
    """The simulation, which lasts until there are no more commands."""
    channel = Channel()
    folder = sys.argv[1]
    task = Task.load(Path(folder))
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        channel.serve(lambda: Flower(grid, task, folder))

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=max(map(len, task.cohorts)),
        backend_config={
            "init_args": {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
        },
    )


if __name__ == "__main__":
    main()
