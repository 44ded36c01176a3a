"""Clients in the forms in which users have them, as a population of which each round is given some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from hansa.simulation import ClientData
from hansa.types import Struct
from hansa.types.batches import Batches, ClientBatches
from hansa.types.examples import Examples
from hansa.types.mismatch import describe

BATCH_SIZE = 20
"""Examples in a batch, where neither the data nor the user says how many; the command line has the same."""

_FORMS = (
    "a hansa.simulation.ClientData; a list of clients, each with its examples, {'x': x, 'y': y} or (x, y), or with its "
    "batches; a dict from each client's id to its examples; a hansa.ClientBatches; or a function from a round's number "
    "to the round's data"
)


class GivenClients:
    """Clients that are given as a sequence, each of them its batches.

    Args:
        clients: what `next` of the process takes, of which a cohort is a part.

    Attributes:
        batch_capacity: the rows that every batch is computed with; None where the clients do not say their batches.
    """

    def __init__(self, clients: Sequence[Any]) -> None:
        self.batch_capacity: int | None = None
        if isinstance(clients, ClientBatches):
            self.batch_capacity = clients.capacity
        elif clients and all(isinstance(client, Batches) for client in clients):
            self.batch_capacity = most = max(client._least_capacity for client in clients)
            clients = [client._with_capacity(most) for client in clients]
        self._clients = clients

    @property
    def client_ids(self) -> npt.NDArray[Any] | None:
        """Who the clients are, [clients]; None where nothing says it."""
        return self._clients.client_ids if isinstance(self._clients, ClientBatches) else None

    def __len__(self) -> int:
        return len(self._clients)

    def __repr__(self) -> str:
        return f"{len(self)} clients"

    def cohort(self, clients: npt.ArrayLike, round_number: int = 0, *, replace: bool = False) -> Any:
        """The clients at these positions."""
        positions = np.asarray(clients, np.int64)
        if isinstance(self._clients, ClientBatches):
            return self._clients.select(positions)
        return [self._clients[position] for position in positions.tolist()]


def to_population(
    data: Any,
    batch_size: int | None = None,
    epochs: int | None = None,
    *,
    what: str = "data",
    default_batch_size: int = BATCH_SIZE,
) -> Any:
    """A population as `hansa.program.train` takes it, or a function of a round's number as it is.

    Args:
        data: the clients, in one of the forms that `hansa.fit` takes.
        batch_size: examples per batch, of data that is not in batches.
        epochs: how often a client goes through such data in a round.
        what: how messages call the data.
        default_batch_size: examples per batch where nothing says it.

    Raises:
        TypeError, ValueError: if the data has another form, or is in batches already and `batch_size` or `epochs` are
            given.
    """
    size = default_batch_size if batch_size is None else batch_size
    if isinstance(data, ClientData) and data._batching is None:
        return _batched(data, size, epochs, what)
    if _is_of_one_client(data):
        raise TypeError(
            f"{what} must be {_FORMS}; found the examples of one client: list them with those of others, "
            "[(x, y), …], or deal them out, hansa.simulation.ClientData.from_arrays({'x': x, 'y': y}, client_of)"
        )
    if isinstance(data, Mapping) and data:
        return _of_examples(data, size, epochs, what)
    listed = isinstance(data, list | tuple) and len(data)
    if listed and all(map(is_examples, data)):
        return _of_examples(dict(enumerate(data)), size, epochs, what)
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if value is not None:
            raise ValueError(
                f"{what} says itself in which batches a client goes through its examples; leave out {name}, or give "
                "each client's examples, {'x': x, 'y': y}"
            )
    if hasattr(data, "cohort") or (callable(data) and not isinstance(data, type)):
        return data
    if isinstance(data, ClientBatches):
        return GivenClients(data)
    if not listed:
        raise TypeError(f"{what} must be {_FORMS}; found {describe(data)}")
    for place, client in enumerate(data):
        _check_batches(client, f"{what}[{place}]", what)
    return GivenClients(data)


def _batched(data: ClientData, batch_size: int, epochs: int | None, what: str) -> ClientData:
    if epochs is not None and data._epochs != 1:
        raise ValueError(f"{what} says with repeat({data._epochs}) how often it is gone through; leave out epochs")
    return (data if epochs is None else data.repeat(epochs)).batch(batch_size)


def _of_examples(clients: Mapping[Any, Any], batch_size: int, epochs: int | None, what: str) -> Any:
    """A population of each client's examples by its id."""
    for name, client in clients.items():
        if not is_examples(client):
            raise TypeError(
                f"{what}[{name!r}] must be the examples of a client, arrays by name, {{'x': x, 'y': y}}, or a pair "
                f"(x, y); found {describe(client)}"
            )
    if all(isinstance(client, dict) and all(map(_is_array, client.values())) for client in clients.values()):
        return _batched(ClientData.from_clients(clients), batch_size, epochs, what)
    examples = [Examples(client) for client in clients.values()]
    for name, each in zip(clients, examples, strict=True):
        if each.kind != examples[0].kind:
            raise TypeError(
                f"{what}[{name!r}] has examples of the type {each.kind}, and the first client of {examples[0].kind}; "
                "convert them to one type"
            )
    arrays = jax.tree.map(lambda *parts: np.concatenate(parts), *(each.rows for each in examples))
    offsets = np.cumsum([0, *(each.size for each in examples)])
    return GivenClients(ClientBatches(arrays, offsets, batch_size, list(clients), 1 if epochs is None else epochs))


def is_examples(client: Any) -> bool:
    """Whether a client is arrays by name, or a pair (x, y) of arrays, of which `x` may be several by name."""
    if isinstance(client, Struct):
        return all(map(_is_array, client)) and None not in client._fields
    if isinstance(client, Mapping):
        return bool(client) and all(_is_array(value) or is_examples(value) for value in client.values())
    if isinstance(client, tuple) and len(client) == 2:
        return (_is_array(client[0]) or isinstance(client[0], Mapping)) and _is_array(client[1])
    return False


def _is_of_one_client(data: Any) -> bool:
    """Whether data is arrays of as many rows, where clients should be: `(x, y)`, `[x, y]` or `{"x": x, "y": y}`."""
    if isinstance(data, Mapping):
        data = list(data.values())
    if not isinstance(data, list | tuple) or len(data) < 2 or not all(map(_is_array, data)):
        return False
    return len({len(array) for array in data}) == 1


def _check_batches(client: Any, where: str, what: str) -> None:
    if isinstance(client, Iterator):
        raise TypeError(
            f"{where} is {describe(client)}, which can be gone through once only, and a client takes part in many "
            "rounds; make a list of its batches"
        )
    if is_examples(client):
        raise TypeError(f"{where} has examples, and other clients have batches; give all of them the same")
    if not hasattr(client, "__iter__") or _is_array(client):
        raise TypeError(f"{what} must be {_FORMS}; {where} is {describe(client)}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and bool(np.ndim(value))
