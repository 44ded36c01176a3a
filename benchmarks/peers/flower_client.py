"""The client app of Flower's worker; Flower's simulation imports it in processes of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.peers import torch_layers
from benchmarks.peers.protocol import Task

client_app = ClientApp()


@cache
def task_in(folder: str) -> Task:
    """The task, read once in each process."""
    return Task.load(Path(folder))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One client's training."""
    torch.set_num_threads(1)
    config = message.content["config"]
    task = task_in(config["folder"])
    model = torch_layers.build(task)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = task.client(config["client"])
    loss = torch_layers.train(model, *torch_layers.tensors(x, y), task)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(x)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)
