"""The demo's run: ten clients, one digit each, train a Keras model by federated averaging."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hansa._files import replacing
from hansa.cli import _demo_data, _run_folder
from hansa.cli._demo_data import DemoData, Setting
from hansa.cli._history import Round, write_csv
from hansa.cli._output import NO_PICTURE, can_draw
from hansa.cli._report import Plan, Reporter, Result
from hansa.program.interrupt import StopRequest


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        data: the dataset, `digits` or `mnist`.
        rounds: how many rounds; `None` for as many as suit the data.
        run_dir: the folder for what the run leaves; `None` for a new one in `runs/`.
        seed: of the model's first weights and of the choice of held-out images.
    """

    data: str
    rounds: int | None
    run_dir: Path | None
    seed: int


def run(options: Options, reporter: Reporter) -> bool:
    """Run the demo.

    1. Give each of ten clients the images of its digit, and hold out a tenth of them.
    2. In each round average what the clients learnt, and evaluate the average on the held-out images.
    3. Leave the numbers, their curves and the model in the run folder.

    Args:
        options: what the user asked for.
        reporter: where progress is shown.

    Returns:
        Whether all rounds were run; not if the user pressed Ctrl-C, in which case what was made is kept.

    Raises:
        hansa.simulation.datasets.DatasetError: the dataset cannot be had.
        hansa.cli._run_folder.RunFolderError: the run folder cannot be used.
        KeyboardInterrupt: the user stopped before a first round was finished.
    """
    started = time.perf_counter()
    setting = _demo_data.SETTINGS[options.data]
    total = options.rounds or setting.rounds
    folder = options.run_dir or Path("runs", time.strftime(f"demo-{setting.data}-%Y%m%d-%H%M%S"))
    with _run_folder.claimed(folder), reporter:
        data = _demo_data.load(setting, options.seed)
        model, process = _build(setting, data, options.seed)
        rounds: list[Round] = []
        with StopRequest() as stop:
            reporter.begin(_plan(setting, options, data, total, process), lambda: stop.requested)
            try:
                state = process.initialize()
                while len(rounds) < total and not stop.requested:
                    state, record = _round(process, state, data, model, len(rounds) + 1)
                    rounds.append(record)
                    reporter.add(record)
                    write_csv(rounds, folder / "metrics.csv")
            except KeyboardInterrupt:
                if not rounds:
                    raise
        files = _leave(folder, setting, rounds, model, options.seed)
        elapsed = time.perf_counter() - started
        stopped = len(rounds) < total
        reporter.end(Result(len(rounds), rounds[-1].held_out_accuracy, elapsed, files, stopped))
    if not can_draw():
        sys.stderr.write(NO_PICTURE + "\n")
    return not stopped


def model_builder(setting: Setting, seed: int) -> Callable[[], Any]:
    """A function that builds the tutorial's kind of model, compiled, with the same first weights each time."""
    import keras

    def build() -> Any:
        model = keras.Sequential(
            [
                keras.Input((setting.pixels,)),
                # Seeded here and not by keras.utils.set_random_seed, which imports TensorFlow if it is installed.
                keras.layers.Dense(
                    setting.hidden, activation="relu", kernel_initializer=keras.initializers.GlorotUniform(seed)
                ),
                keras.layers.Dense(
                    10, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(seed + 1)
                ),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(setting.learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["sparse_categorical_accuracy"],
        )
        return model

    return build


def _build(setting: Setting, data: DemoData, seed: int) -> tuple[Any, Any]:
    """A model to evaluate and save, and the process that trains its like."""
    import optax

    from hansa import learning

    build = model_builder(setting, seed)
    sample_batch = data.clients[0][0]
    rate = setting.server_learning_rate
    process = learning.build_federated_averaging_process(
        lambda: learning.from_compiled_keras_model(build(), sample_batch),
        server_optimizer=None if rate is None else optax.adam(rate),
    )
    return build(), process


def _round(process: Any, state: Any, data: DemoData, model: Any, number: int) -> tuple[Any, Round]:
    """Run one round and evaluate the averaged model, which is left in `model`."""
    begin = time.perf_counter()
    state, metrics = process.next(state, data.clients)
    loss, accuracy = float(metrics.loss), float(metrics.sparse_categorical_accuracy)
    seconds = time.perf_counter() - begin
    state.model.assign_weights_to(model)
    held_out_loss, held_out_accuracy = model.evaluate(data.held_out_x, data.held_out_y, batch_size=1000, verbose=0)
    return state, Round(number, loss, accuracy, float(held_out_loss), float(held_out_accuracy), seconds)


def _plan(setting: Setting, options: Options, data: DemoData, total: int, process: Any) -> Plan:
    return Plan(
        title=f"Federated averaging on {setting.title}: ten clients, each holding the images of one digit",
        setting=(
            f"{data.training_images:,} images to train on, {len(data.held_out_y):,} held out. "
            f"Model {setting.pixels}-{setting.hidden}-10, batches of {setting.batch_size}, "
            f"{setting.optimizers}, {total} rounds."
        ),
        rounds=total,
        facts=asdict(setting) | {"seed": options.seed, "clients": len(data.clients)},
        next_type=process.next.type_signature.compact(),
    )


def _leave(folder: Path, setting: Setting, rounds: list[Round], model: Any, seed: int) -> list[Path]:
    """Write what a finished or stopped run leaves; the table is there already."""
    files = [folder / "metrics.csv"]
    if can_draw():
        files.append(folder / "curves.png")
        _draw(setting, rounds, seed, files[-1])
    # To save a model, Keras imports TensorFlow where it is installed; its greetings are not for here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with replacing(folder / "model.keras") as part:
        model.save(part)
    return [*files, folder / "model.keras"]


def _draw(setting: Setting, rounds: list[Round], seed: int, target: Path) -> None:
    # Slow to import, and needed only here.
    from hansa.cli._curves import draw_curves

    last = rounds[-1]
    draw_curves(
        rounds,
        title=f"Federated averaging on {setting.title}",
        subtitle=(
            f"Ten clients, one digit each · model {setting.pixels}-{setting.hidden}-10 · "
            f"batches of {setting.batch_size} · {setting.optimizers} · seed {seed} · "
            f"held-out accuracy {last.held_out_accuracy:.3f} after {last.round} round{'' if last.round == 1 else 's'}"
        ),
        target=target,
    )
