"""Examples without clients, dealt out to simulated ones as a few words say: the same words in Python and in TOML.

A partition is `{"method": "dirichlet", "clients": 20, "alpha": 0.5}`, which names one of the functions
`hansa.simulation.partition_…` and its arguments, or a function from the labels [examples] to whose each example is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hansa.simulation import partition as partitions
from hansa.simulation._owned import by_owner
from hansa.simulation.client_data import ClientData
from hansa.types import names
from hansa.types.mismatch import describe

PARTITION_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "iid": (),
    "dirichlet": ("alpha", "min_examples", "equal_sizes"),
    "shards": ("shards_per_client",),
    "by_label": ("labels_per_client",),
    "by_quantity": ("alpha", "sigma", "min_examples"),
}
"""What each method takes beside the number of clients and the seed."""

_OF_LABELS = ("dirichlet", "shards", "by_label")


@dataclass(frozen=True)
class Parts:
    """Stretches of so many examples, in their order: for evaluation, where who has what does not matter."""

    examples: int


Partition: TypeAlias = Mapping[str, Any] | Callable[[Any], Any] | Parts


def check_owner(client: object, partition: object, what: str) -> None:
    """Checks that either a column says whose each row is, or a partition.

    Raises:
        TypeError, ValueError: if neither or both do, or the partition has words that there are not.
    """
    if client is None and partition is None:
        raise ValueError(
            f"nothing says whose each row of {what} is; give client='…', the column that does, or "
            "partition={'method': 'iid', 'clients': 10}, which deals rows out to clients"
        )
    if client is not None and partition is not None:
        raise ValueError(f"client and partition both say whose each row of {what} is; leave one of them out")
    if partition is not None:
        _checked(partition)


def dealt(arrays: Mapping[str, Any], partition: Any, label: str, what: str) -> ClientData:
    """The clients that examples without any are dealt out to.

    Args:
        arrays: the arrays `[examples, ...]`.
        partition: how.
        label: the array of labels.
        what: what to call the data in messages.

    Raises:
        TypeError, ValueError: if it cannot be done so.
    """

    def labels() -> Any:
        if label not in arrays:
            listed = names.listing(list(arrays))
            raise ValueError(f"label={label!r}: {what} has no such array; its arrays are {listed}: label says which")
        found = np.asarray(arrays[label])
        return found.reshape(-1) if found.size == len(found) else found

    size = len(next(iter(arrays.values())))
    client_of, client_ids = owners(partition, labels, size)
    return ClientData(by_owner(arrays, client_of, client_ids))


def owners(partition: Any, labels: Callable[[], Any], size: int) -> tuple[Any, Sequence[int] | None]:
    """Whose each example is, and the clients; these are None where they are those that have examples.

    Args:
        partition: how examples are dealt out.
        labels: gives the labels [examples], where they are asked for.
        size: how many examples there are.
    """
    if isinstance(partition, Parts):
        return np.arange(size) // partition.examples, None
    if callable(partition):
        return partition(labels()), None
    words = {name: value for name, value in _checked(partition).items() if value is not None}
    method = words.pop("method")
    function: Callable[..., Any] = getattr(partitions, f"partition_{method}")
    client_of = function(labels() if method in _OF_LABELS else size, **words)
    return client_of, range(words.get("clients") or int(client_of.max()) + 1)


def _checked(partition: Any) -> Mapping[str, Any]:
    """The words of a partition.

    Raises:
        TypeError, ValueError: if there are no such words.
    """
    if callable(partition) or isinstance(partition, Parts):
        return {}
    example = "{'method': 'dirichlet', 'clients': 10, 'alpha': 0.5}"
    if not isinstance(partition, Mapping):
        raise TypeError(
            f"partition must be a dict such as {example}, or a function from labels to whose each example is, such as "
            f"lambda y: partition_shards(y, 10); found {describe(partition)}"
        )
    method, methods = partition.get("method"), list(PARTITION_OPTIONS)
    if not isinstance(method, str) or method not in PARTITION_OPTIONS:
        hint = names.suggestion(str(method), methods)
        raise ValueError(
            f"partition must say a method; found {method!r}{hint or ';'} the methods are {names.listing(methods)}"
        )
    allowed = ["method", "clients", "seed", *PARTITION_OPTIONS[method]]
    for word, value in partition.items():
        if word not in allowed and value is not None:
            hint = names.suggestion(str(word), allowed) or ";"
            raise ValueError(f"partition: {method} does not take {word!r}{hint} it takes {names.listing(allowed[1:])}")
    for word in ["clients"] * (method != "by_label") + ["alpha"] * (method == "dirichlet"):
        if partition.get(word) is None:
            raise ValueError(f"partition: {method} needs {word!r}, as in {example}")
    return partition
