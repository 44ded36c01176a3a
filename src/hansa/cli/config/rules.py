"""What a run's keys must have to do with each other, and which files must be there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.cli.config.algorithms import algorithm_rules, takes
from hansa.cli.config.checking import Function
from hansa.cli.config.private_rules import private_rules
from hansa.cli.config.schema import (
    DataTable,
    ModelTable,
    PartitionTable,
    RunConfig,
    RuntimeTable,
    ScaleTable,
    TrainingTable,
)
from hansa.program.run_file import MOST_COUNT

FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".npz": "npz",
    ".json": "leaf",
    ".h5": "tff_hdf5",
    ".hdf5": "tff_hdf5",
    ".sqlite": "tff_sqlite",
    ".sqlite.lzma": "tff_sqlite",
}
"""The formats of files by their ending."""

_TABLES = ("csv", "parquet", "npz")

WITH_CLIENTS = ("cifar100", "emnist", "shakespeare", "tiny_shakespeare")
"""The data sets whose clients are given."""


def rules(config: RunConfig) -> list[str]:
    """What is wrong with a configuration whose keys are each of the right type, a sentence for each thing."""
    of_tables = [*_model(config.model), *_data(config.data), *_training(config), *_runtime(config.runtime)]
    return [*of_tables, *algorithm_rules(config), *private_rules(config), *_own_files(config)]


def _own_files(config: RunConfig) -> list[str]:
    """Of the Python files that the algorithm's arguments are in."""
    if config.algorithm is None:
        return []
    functions = {key: value for key, value in config.algorithm.arguments.items() if isinstance(value, Function)}
    return [problem for key, value in functions.items() for problem in _function(f"algorithm.{key}", value)]


def _runtime(runtime: RuntimeTable) -> list[str]:
    if runtime.kind == "ray":
        return []
    names = ("workers", "resources", "address", "mixed")
    return [
        f'runtime.{name} is of Ray, and runtime.kind is not; write runtime.kind = "ray"'
        for name in names
        if getattr(runtime, name) != getattr(RuntimeTable(), name)
    ]


def format_of(data: DataTable) -> str | None:
    """The format of the file that data are from: what is said, or what its ending says."""
    if data.format is not None or data.path is None:
        return data.format
    return next((kind for ending, kind in FORMATS.items() if data.path.name.lower().endswith(ending)), None)


def _model(model: ModelTable) -> list[str]:
    problems = _one_of("model", model, ("function", "name"))
    return problems + _function("model.function", model.function)


def _data(data: DataTable) -> list[str]:
    problems = _one_of("data", data, ("name", "path", "function"))
    problems += _function("data.function", data.function)
    if data.path is not None:
        problems += _file(data)
    else:
        of_file = ("format", "test_path", "client", "folders", "features", "types")
        problems += [f"data.{name} is of a file, and there is no data.path" for name in of_file if getattr(data, name)]
    clients = _whose(data)
    if clients and data.partition is not None:
        problems.append(f"data.partition: {clients}; leave it out, or choose data without")
    if not clients and data.partition is None and data.function is None and not problems:
        or_column = "; or say data.client, the column that says whose a row is" if format_of(data) in _TABLES else ""
        problems.append(
            f'data.partition is missing, as this data has no clients: {{ method = "iid", clients = 10 }}{or_column}'
        )
    if data.partition is not None:
        problems += _partition(data.partition)
    if data.steps is not None and data.epochs != 1:
        problems.append(f"data.steps = {data.steps} and data.epochs = {data.epochs} both say how long; leave one out")
    if data.test_path is not None and data.held_out:
        problems.append("data.test_path and data.held_out both say what is evaluated on; leave one of them out")
    problems += [problem for name, table in (data.scale or {}).items() for problem in _scale(name, table)]
    if data.options and data.name is not None:
        problems.append("data.options are arguments of a function or of a reader; data.name takes none")
    return problems


def _scale(name: str, table: ScaleTable) -> list[str]:
    from hansa.simulation._column_steps import Scale  # slow to import

    try:
        Scale(name, table.subtract, table.divide)
    except (TypeError, ValueError) as error:
        return [f"data.scale.{name}: {error}"]
    return []


def _whose(data: DataTable) -> str:
    """What says whose each example is; empty if nothing does, so that examples are dealt out."""
    if data.name in WITH_CLIENTS:
        return "this data has clients"
    if data.path is None:
        return ""
    if data.client is not None:
        return "data.client says whose each example is"
    kind = format_of(data)
    if kind == "images":
        if data.folders is None and data.partition is None:
            return "its folders are clients"
        return 'data.folders = "clients" says that its folders are clients' if data.folders == "clients" else ""
    return "" if kind in _TABLES else f"data of the format {kind} has clients"


def _file(data: DataTable) -> list[str]:
    assert data.path is not None
    kind = format_of(data)
    missing = [
        f"data.{name}: there is no {path}"
        for name, path in (("path", data.path), ("test_path", data.test_path))
        if path is not None and not path.exists()
    ]
    if missing:
        return missing
    if kind is None:
        known = 'format = "images", for folders of images' if data.path.is_dir() else 'format = "csv", for a start'
        return [f"data.format is missing, and {data.path.name} does not tell it; write {known}"]
    if data.folders is not None and kind != "images":
        return [f"data.folders is of the format images, and {data.path.name} is {kind}; leave it out"]
    return []


def _partition(partition: PartitionTable) -> list[str]:
    from hansa.simulation._dealing import PARTITION_OPTIONS  # slow to import

    problems = []
    allowed = PARTITION_OPTIONS[partition.method]
    every = {name for options in PARTITION_OPTIONS.values() for name in options}
    for name in sorted(every):
        if getattr(partition, name) is not None and name not in allowed:
            problems.append(f"data.partition.{name}: {partition.method} does not take it")
    if partition.clients is None and partition.method != "by_label":
        problems.append("data.partition.clients is missing: how many clients")
    if partition.method == "dirichlet" and not partition.alpha:
        problems.append("data.partition.alpha is missing, or 0: 100 makes clients alike, 0.1 unlike")
    if partition.method == "by_quantity" and (partition.alpha is None) == (partition.sigma is None):
        problems.append("data.partition: by_quantity takes either alpha or sigma")
    return problems


def _training(config: RunConfig) -> list[str]:
    training = config.training
    optimizers = {"client_optimizer": training.client_optimizer, "server_optimizer": training.server_optimizer}
    problems = [
        f"training.{name}.options.learning_rate is a key of its own; write training.{name.split('_')[0]}_learning_rate"
        for name, table in optimizers.items()
        if table is not None and "learning_rate" in table.options
    ]
    problems += [
        problem for who in ("client", "server") if takes(config, f"{who}_optimizer") for problem in _rate(training, who)
    ]
    if training.sampler != "uniform" and training.cohort_size is None:
        sampler = f'training.sampler = "{training.sampler}"'
        problems.append(f"training.cohort_size is missing, and {sampler} draws clients")
    if training.with_replacement and (training.cohort_size is None or training.sampler == "poisson"):
        problems.append(
            'training.with_replacement is of a number of clients, cohort_size, that are drawn "uniform" or '
            '"weighted"; leave it out, or say these'
        )
    for name in ("rounds", "evaluate_every", "checkpoint_every", "keep_checkpoints", "keep_every"):
        number = getattr(training, name)
        if number is not None and number >= MOST_COUNT:
            problems.append(f"training.{name} = {number}: expected less than {MOST_COUNT}")
    if training.keep_every is not None and training.keep_every % training.checkpoint_every:
        problems.append(
            f"training.keep_every = {training.keep_every}: it must be a multiple of checkpoint_every, which is "
            f"{training.checkpoint_every}, as other rounds have no checkpoint"
        )
    return problems


def _rate(training: TrainingTable, who: str) -> list[str]:
    """What is wrong with the learning rate of the clients' or the server's optimizer."""
    key, path = f"training.{who}_learning_rate", f"training.{who}_optimizer"
    table, rate = getattr(training, f"{who}_optimizer"), getattr(training, f"{who}_learning_rate")
    if table is None:
        if rate is None or who == "server":
            return []
        return [f'{key} is of an optimizer by name, and there is no {path}; write {who}_optimizer = "sgd", for a start']
    if rate is None and table.learning_rate is None:
        return [f"{key} is missing: the learning rate of {path}"]
    if rate is not None and table.learning_rate is not None:
        return [f"{key} and {path}.learning_rate are one and the same; leave one out"]
    return []


def _one_of(path: str, table: Any, keys: Sequence[str]) -> list[str]:
    given = [name for name in keys if getattr(table, name) is not None]
    if len(given) == 1:
        return []
    found = f"found {' and '.join(given)}" if given else "found none of them"
    return [f"{path} has one of the keys {', '.join(keys)}; {found}"]


def _function(path: str, function: Function | None) -> list[str]:
    if function is None or function.file.is_file():
        return []
    return [f"{path}: there is no file {function.file}"]
