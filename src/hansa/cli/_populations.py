"""The clients of a run: a named data set, a file, or what a function of the user's returns, dealt out and batched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa import simulation
from hansa.cli import _user_code
from hansa.cli._errors import Misuse
from hansa.cli._user_code import UserCodeError
from hansa.cli.config.rules import format_of
from hansa.cli.config.schema import DataTable
from hansa.simulation import ClientData, DatasetError, ImageData
from hansa.simulation._dealing import Partition, Parts, dealt
from hansa.simulation._numbers import cast
from hansa.simulation.readers.layouts import split_folders, unclear
from hansa.simulation.readers.npz_files import read_npz

_EVALUATION_BATCH = 250
_EVALUATION_PART = 1000


class DataError(Misuse):
    """The data cannot be had as the configuration says."""


@dataclass(frozen=True)
class Populations:
    """The clients of a run.

    Attributes:
        training: whom the model is trained on, in batches.
        examples: the same in their order, each once, in batches for evaluation.
        evaluation: whom it is evaluated on, likewise; None if nobody.
        by_client: whether these are clients, and not parts of a data set.
        what: what is evaluated on, in a few words.
    """

    training: ClientData
    examples: ClientData
    evaluation: ClientData | None
    by_client: bool
    what: str


def load(table: DataTable) -> Populations:
    """The clients that a configuration says.

    Raises:
        DataError, UserCodeError, hansa.simulation.DatasetError, OSError, ImportError: if they cannot be had.
    """
    try:
        return _load(table)
    except (ValueError, TypeError, KeyError) as error:
        told = str(error.args[0] if error.args else error)
        where = "" if table.path is None or str(table.path) in told else f"{table.path}: "
        raise DataError(f"data: {where}{told}") from error
    except (MemoryError, OverflowError) as error:
        raise DataError(f"data: a number in it is too large, or there is too little memory: {error}") from error


def class_count(populations: Populations, label: str) -> int | None:
    """How many labels there are, if they are integers from 0; None if there are none."""
    if label == "y" and populations.examples.label_names is not None:
        return len(populations.examples.label_names)
    highest = -1
    evaluation = [] if populations.evaluation is None else [populations.evaluation]
    for population in (populations.examples, *evaluation):
        for client_id in population.client_ids:
            found = population.client(client_id).get(label)
            if found is None or found.dtype.kind not in "iu":
                return None
            highest = max(highest, int(found.max(initial=-1)))
    return highest + 1 if highest >= 0 else None


def _load(table: DataTable) -> Populations:
    clients, test, test_is_clients = _sources(table)
    clients, test = _scaled(clients, table), None if test is None else _scaled(test, table)
    if table.max_clients is not None:
        clients = clients.take_clients(table.max_clients)
    evaluation, by_client, what = test, test_is_clients, "the data set's own test examples"
    if table.function is not None:
        what = "the second population"
    if table.path is not None and test is not None:
        what = f"the examples of {table.test_path or _split(table)[1]}"
    if table.held_out:
        clients, evaluation = clients.split(table.held_out, by=table.held_out_by, seed=table.seed)
        by_client = True
        what = f"{table.held_out:g} of {'each client' if table.held_out_by == 'examples' else 'the clients'}, held out"
    if table.examples_per_client is not None:
        clients = clients.take(table.examples_per_client)
    training = clients.shuffle(table.seed) if table.shuffle else clients
    return Populations(
        training.repeat(table.epochs).batch(
            table.batch_size,
            drop_remainder=table.drop_remainder,
            across_epochs=table.across_epochs,
            steps=table.steps,
        ),
        clients.batch(_EVALUATION_BATCH),
        None if evaluation is None else evaluation.batch(_EVALUATION_BATCH),
        by_client,
        what,
    )


def _sources(table: DataTable) -> tuple[ClientData, ClientData | None, bool]:
    """Whom to train on, whom to evaluate on, and whether the latter are clients."""
    if table.function is not None:
        return _of_function(table)
    if table.path is not None:
        return _of_files(table)
    name = str(table.name)
    if name in _IMAGES:
        images = _IMAGES[name]()
        arrays = _arrays(images.train_images, images.train_labels)
        test = _in_parts(images) if len(images.test_labels) else None
        return _dealt(arrays, table), test, False
    found = _WITH_CLIENTS[name]()
    train, test = found if isinstance(found, tuple) else (found, None)
    return train, test, True


_IMAGES: dict[str, Callable[[], ImageData]] = {
    "digits": simulation.load_digits,
    "mnist": simulation.load_mnist,
    "fashion_mnist": simulation.load_fashion_mnist,
    "cifar10": simulation.load_cifar10,
}
_WITH_CLIENTS: dict[str, Callable[[], Any]] = {
    "cifar100": lambda: tuple(part.scale("x", divide=255) for part in simulation.load_cifar100()),
    "emnist": simulation.load_emnist,
    "shakespeare": simulation.load_shakespeare,
    "tiny_shakespeare": simulation.load_tiny_shakespeare,
}


def _scaled(population: ClientData, table: DataTable) -> ClientData:
    for name, constants in (table.scale or {}).items():
        population = population.scale(name, subtract=constants.subtract, divide=constants.divide)
    return population


def _arrays(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Images as float32 in 0..1, and their labels."""
    x = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    return {"x": x, "y": labels}


def _in_parts(images: ImageData) -> ClientData:
    """The test examples, in parts that can be evaluated beside each other, and are no clients."""
    arrays, part = _arrays(images.test_images, images.test_labels), np.arange(len(images.test_labels))
    return ClientData.from_arrays(arrays, np.char.add("test ", (part // _EVALUATION_PART).astype(str)))


def _dealt(arrays: dict[str, npt.NDArray[Any]], table: DataTable) -> ClientData:
    return dealt(arrays, _partition(table), table.label, "the data" if table.path is None else str(table.path))


def _partition(table: DataTable) -> Partition:
    """The words of the partition, as readers take them."""
    if table.partition is None:
        raise DataError("data.partition is missing, as this data has no clients")
    return dataclasses.asdict(table.partition)


def _of_function(table: DataTable) -> tuple[ClientData, ClientData | None, bool]:
    assert table.function is not None
    made = _user_code.call(_user_code.load(table.function), table.options, "data.options")
    train, test = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    for population in (train, test):
        if not isinstance(population, ClientData) and population is not None:
            raise UserCodeError(
                f"{table.function} returned {type(made).__name__}; it must return a hansa.simulation.ClientData, or a "
                "pair of them: to train on, and to evaluate on"
            )
    return train, test, True


def _of_files(table: DataTable) -> tuple[ClientData, ClientData | None, bool]:
    """Whom to train on, and whom to evaluate on, of a file or two, or of a folder that has a folder for each."""
    path, test_path = _split(table)
    has_clients = table.partition is None
    if format_of(table) == "images" and has_clients and table.folders is None:
        folder = unclear(path) if path.is_dir() else None
        if folder is not None:
            raise DataError(
                f"data.folders is missing: {folder} has images, and its name may be that of a client or that of a "
                'label; write folders = "clients", or folders = "labels" and how its images are dealt out, '
                'partition = { method = "iid", clients = 10 }'
            )
    train = _of_file(table, path, None if has_clients else _partition(table), "path")
    if test_path is None:
        return train, None, has_clients
    labels = train.label_names
    test = _of_file(table, test_path, None if has_clients else Parts(_EVALUATION_PART), "test_path", labels)
    return train, test, has_clients


def _split(table: DataTable) -> tuple[Path, Path | None]:
    """The paths for training and for evaluation. Those of images may be a folder's `train` and `test`."""
    assert table.path is not None
    split = split_folders(table.path) if format_of(table) == "images" and table.path.is_dir() else None
    if split is None:
        return table.path, table.test_path
    return split[0], table.test_path or (None if table.held_out else split[1])


def _of_file(
    table: DataTable, path: Path, partition: Partition | None, key: str, labels: tuple[str, ...] | None = None
) -> ClientData:
    try:
        return _read_file(table, path, partition, labels)
    except DatasetError as error:
        raise DataError(f"data.{key}: {error}") from error


def _read_file(table: DataTable, path: Path, partition: Partition | None, labels: tuple[str, ...] | None) -> ClientData:
    kind = format_of(table)
    if kind == "npz":
        return _of_npz(table, path, partition)
    reader: Callable[..., ClientData] = getattr(simulation, f"from_{'folder' if kind == 'images' else kind}")
    options = dict(table.options)
    if table.client is not None:
        options["client"] = table.client
    if table.features:
        options["features"] = table.features
    if table.types:
        options["convert"] = table.types
    if partition is not None:
        options |= {"partition": partition} | ({} if kind == "images" else {"label": table.label})
    if kind == "images":
        options |= ({"folders": table.folders} if table.folders else {}) | ({"labels": labels} if labels else {})
    _user_code.check_options(reader, {"path": path, **options}, "data")
    return reader(path, **options)


def _of_npz(table: DataTable, path: Path, partition: Partition | None) -> ClientData:
    arrays = read_npz(path)
    if table.client is not None and table.client not in arrays:
        raise DataError(f'data.client = "{table.client}": {path} has the arrays {", ".join(arrays)}')
    owners = None if table.client is None else arrays.pop(table.client)
    if table.features:
        for name, source in table.features.items():
            if source not in arrays:
                raise DataError(f"data.features.{name}: {path} has the arrays {', '.join(arrays)}")
        arrays = {name: arrays[source] for name, source in table.features.items()}
    for name, dtype in table.types.items():
        if name not in arrays:
            raise DataError(f"data.types.{name}: there are the arrays {', '.join(arrays)}")
        arrays[name] = cast(arrays[name], np.dtype(dtype), f"the array {name!r} of {path}")
    if owners is None:
        return dealt(arrays, partition, table.label, str(path))
    try:
        return ClientData.from_arrays(arrays, owners)
    except (TypeError, ValueError) as error:
        raise DataError(f"data: in {path}, whose array {table.client!r} is client_of, {error}") from error
