"""The CNN of two 5x5 convolutions three times: a PyTorch module in Hansa, the same Keras model, and PyTorch's own loop.

python -m benchmarks.pytorch [--repeat 9] [--batch 10 50] [--examples 300]

Two clients, so that both of two cores have work. Each form is a process of its own, and they take turns: a round of
federated averaging, or an epoch of the loop over all examples, in batches of the same size. The loop runs with one
thread for each core and with a single one. CPU time is that of all threads of the process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Task

CLIENTS = 2
LINE = "{:34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}"


def rounds_of_module(task: Task) -> Callable[[], float]:
    """Rounds of the module, by `from_torch`, on images with their channels first."""
    import torch

    import hansa
    from benchmarks.peers import torch_layers

    module = torch_layers.build(task)
    x, y = np.ascontiguousarray(task.x.transpose(0, 3, 1, 2)), task.y[:, 0].astype("int64")
    data = hansa.ClientBatches({"x": x, "y": y}, task.offsets, task.batch_size)
    process = hansa.learning.build_federated_averaging_process(
        lambda: hansa.learning.from_torch(
            module,
            next(iter(data[0])),
            loss=torch.nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(module.parameters(), lr=task.learning_rate),
        )
    )
    return federated(process, data)


def rounds_of_keras(task: Task) -> Callable[[], float]:
    """Rounds of the same model in Keras, with the channels last."""
    import hansa  # isort: skip
    import keras

    from benchmarks.peers import keras_layers

    model = keras_layers.build(keras, task.layers, task.x.shape[1:], task.x.dtype.name)
    model.set_weights(task.weights)
    model.compile(keras.optimizers.SGD(task.learning_rate), keras_layers.loss(keras))
    data = hansa.ClientBatches({"x": task.x, "y": task.y}, task.offsets, task.batch_size)
    process = hansa.learning.build_federated_averaging_process(
        lambda: hansa.learning.from_compiled_keras_model(model, next(iter(data[0])))
    )
    return federated(process, data)


def federated(process: Any, data: Any) -> Callable[[], float]:
    """A round, from the initial state each time."""
    import jax

    state = process.initialize()

    def run() -> float:
        after, metrics = process.next(state, data)
        jax.block_until_ready(after)
        return float(metrics.loss)

    return run


def epochs_of_torch(task: Task, threads: int) -> Callable[[], float]:
    """PyTorch's own loop."""
    import torch

    from benchmarks.peers import torch_layers

    torch.set_num_threads(threads)
    x, y = torch_layers.tensors(task.x, task.y)

    def run() -> float:
        return torch_layers.train(torch_layers.build(task), x, y, task)

    return run


def forms() -> dict[str, tuple[Callable[..., Callable[[], float]], tuple[int, ...]]]:
    """What is measured, by name: what makes it of a task, and further arguments."""
    cores = os.cpu_count() or 1
    return {
        "Hansa, PyTorch module": (rounds_of_module, ()),
        "Hansa, Keras model": (rounds_of_keras, ()),
        f"loop of PyTorch, threads: {cores}": (epochs_of_torch, (cores,)),
        "loop of PyTorch, threads: 1": (epochs_of_torch, (1,)),
    }


def serve(pipe: Any, make: Callable[..., Callable[[], float]], task: Task, options: tuple[int, ...]) -> None:
    """The process of one form: for each request its loss, CPU seconds and seconds."""
    run = make(task, *options)
    while pipe.recv():
        cpu, wall = time.process_time(), time.perf_counter()
        loss = run()
        pipe.send((loss, time.process_time() - cpu, time.perf_counter() - wall))


class Form:
    """A process that measures one form; a context manager that ends it."""

    def __init__(self, make: Callable[..., Callable[[], float]], task: Task, options: tuple[int, ...]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, end = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(end, make, task, options), daemon=True)
        self._process.start()
        end.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def turn(self) -> tuple[float, float, float]:
        """The loss, the CPU seconds and the seconds of a round.

        Raises:
            EOFError: if the process has ended.
        """
        self._pipe.send(True)
        answer: tuple[float, float, float] = self._pipe.recv()
        return answer


def measure(task: Task, repeat: int) -> None:
    """Prints the table of a task.

    Raises:
        RuntimeError: if the two models of Hansa have different losses in the same round.
    """
    turns: dict[str, list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        running = {name: stack.enter_context(Form(make, task, more)) for name, (make, more) in forms().items()}
        for number in range(repeat + 2):
            for name, form in running.items():
                turn = form.turn()
                if number > 1:
                    turns.setdefault(name, []).append(turn)
    module, keras_model = (times[0][0] for times in list(turns.values())[:2])
    if not np.isclose(module, keras_model, rtol=1e-4):
        raise RuntimeError(f"the losses differ: {module} of the module, {keras_model} of the Keras model")
    print(f"\n{task.name}\n" + LINE.format("", "CPU s", "least", "to Keras", "s", "least", "to Keras"))
    first = turns["Hansa, Keras model"]
    for name, times in turns.items():
        cells = []
        for which in (1, 2):
            mine, other = [turn[which] for turn in times], [turn[which] for turn in first]
            ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
            cells += [f"{statistics.median(mine):.3f}", f"{min(mine):.3f}", f"{ratio:.2f}"]
        print(LINE.format(name, *cells), flush=True)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9, help="turns of each form, after two that do not count")
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 50], help="sizes of batches")
    parser.add_argument("--examples", type=int, default=300, help="of each of the two clients")
    options = parser.parse_args()
    import hansa  # noqa: F401  it chooses Keras's backend, and so comes before what imports Keras
    from benchmarks.peers.tasks import convolutional

    for batch in options.batch:
        name = f"CNN, {CLIENTS} x {options.examples}, B={batch}"
        measure(convolutional(batch, name, [options.examples] * CLIENTS), options.repeat)


if __name__ == "__main__":
    main()
