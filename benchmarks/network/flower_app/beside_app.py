"""The apps of Flower in `benchmarks.network.flower`: a client in NumPy, and its own federated averaging."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

INPUTS, OUTPUTS, EXAMPLES, BATCH, RATE = 784, 10, 100, 20, 0.1
client = ClientApp()
server = ServerApp()


def data(number: int) -> tuple[np.ndarray, np.ndarray]:
    """One client's examples."""
    drawn = np.random.default_rng(number)
    return drawn.normal(size=(EXAMPLES, INPUTS)).astype(np.float32), drawn.integers(0, OUTPUTS, EXAMPLES)


@client.train()
def train(message: Message, context: Context) -> Message:
    """One pass over the client's examples."""
    kernel, bias = (array.copy() for array in message.content["arrays"].to_numpy_ndarrays())
    x, y = data(int(context.node_config["number"]))
    for at in range(0, EXAMPLES, BATCH):
        part, labels = x[at : at + BATCH], y[at : at + BATCH]
        scores = part @ kernel + bias
        scores = np.exp(scores - scores.max(1, keepdims=True))
        error = scores / scores.sum(1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        kernel -= RATE * part.T @ error / len(labels)
        bias -= RATE * error.mean(0)
    content = {
        "arrays": ArrayRecord([kernel, bias]),
        "metrics": MetricRecord({"num-examples": EXAMPLES}),
    }
    return Message(content=RecordDict(content), reply_to=message)


class Timed(FedAvg):
    """Federated averaging that notes when its rounds begin."""

    begun: list[float]
    out: Path

    def configure_train(self, *args: Any) -> Any:
        """Whom to ask."""
        self.begun.append(time.perf_counter())
        if len(self.begun) == 2:  # the first round is over
            self.out.with_suffix(".begun").touch()
        return super().configure_train(*args)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds; what came of them is written to a file."""
    config = context.run_config
    nodes = int(config["nodes"])
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.begun, strategy.out = [], Path(str(config["out"]))
    first = ArrayRecord([np.zeros((INPUTS, OUTPUTS), np.float32), np.zeros(OUTPUTS, np.float32)])
    result = strategy.start(grid, first, num_rounds=int(config["rounds"]))
    ended = [*strategy.begun[1:], time.perf_counter()]
    seconds = [end - begin for begin, end in zip(strategy.begun, ended, strict=True)]
    weights = [array.tolist() for array in result.arrays.to_numpy_ndarrays()]
    part = strategy.out.with_suffix(".part")
    part.write_text(json.dumps({"seconds": seconds, "weights": weights}))
    part.replace(strategy.out)
