"""What a run's folder says about its clients: who they are and what they have, in a small file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.program.run_file import MOST_COUNT, POPULATION, RunError, is_count, read_json

if TYPE_CHECKING:
    from hansa.simulation import ClientData

MOST_CLIENTS = 1000
"""So many clients are listed at most; of more, the distribution of their sizes is given."""
MOST_LABELS = 100
_MOST_EXAMPLES = 1_000_000


def summary(data: Any) -> dict[str, Any]:
    """The clients of a population, as values that JSON has. Reads no client that is not in memory.

    Args:
        data: a `hansa.simulation.ClientData`, or another population, of which only the number of clients is known.

    Returns:
        `clients`, their number, and, where it is known:

        - `sizes`: of the numbers of examples the `total` and, least first, the minimum, deciles and maximum,
          `quantiles` [11];
        - of up to 1000 clients `client_ids`, as strings, and `examples`, [clients];
        - of those, if they are in memory and have integers `y`: `labels`, [labels], and `label_counts`,
          [clients, labels].
    """
    import numpy as np

    from hansa.simulation import ClientData

    result: dict[str, Any] = {"clients": len(data)}
    if not isinstance(data, ClientData):
        return result
    few = len(data) <= MOST_CLIENTS
    if few:
        result["client_ids"] = [str(client_id) for client_id in data.client_ids]
    sizes = data.known_sizes
    if sizes is None:
        return result
    quantiles = np.quantile(sizes, np.linspace(0, 1, 11)) if len(sizes) else np.zeros(11)
    result["sizes"] = {"total": int(sizes.sum()), "quantiles": quantiles.tolist()}
    if few:
        result["examples"] = sizes.tolist()
    if few and data.is_in_memory and sizes.sum() <= _MOST_EXAMPLES:
        result.update(_labels(data))
    return result


def _labels(data: ClientData) -> dict[str, Any]:
    from hansa.simulation import count_labels

    try:
        labels, counts = count_labels(data)
    except (KeyError, TypeError):  # there are none
        return {}
    if not 0 < len(labels) <= MOST_LABELS:
        return {}
    return {"labels": labels.tolist(), "label_counts": counts.tolist()}


def read_population(folder: Path) -> dict[str, Any]:
    """What `summary` said of the clients of the run in a folder; empty if that is not there.

    Raises:
        RunError: if the file is damaged.
    """
    path = folder / POPULATION
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    problem = _problem(found)
    if problem is not None:
        raise RunError(f"{path} is damaged: {problem}")
    return found


def _problem(found: Mapping[str, Any]) -> str | None:
    """Which field is not what `summary` gives, in a few words."""
    if not found:  # of data that a function gives
        return None
    clients, labels = found.get("clients"), found.get("labels")
    if not is_count(clients):
        return "`clients` is no number of clients"
    checks: dict[str, Callable[[Any], bool]] = {
        "sizes": _are_sizes,
        "client_ids": lambda value: clients <= MOST_CLIENTS and _is_list(value, clients, _is_text),
        "examples": lambda value: clients <= MOST_CLIENTS and _is_list(value, clients, is_count),
        "labels": lambda value: isinstance(value, list) and 0 < len(value) <= MOST_LABELS,
        "label_counts": lambda value: (
            0 < clients <= MOST_CLIENTS
            and isinstance(labels, list)
            and _is_list(value, clients, lambda row: _is_list(row, len(labels), is_count))
        ),
    }
    wrong = [name for name, check in checks.items() if name in found and not check(found[name])]
    return f"`{wrong[0]}` is not what a run writes" if wrong else None


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and is_count(value.get("total"))
        and _is_list(value.get("quantiles"), 11, lambda size: type(size) in (int, float) and 0 <= size < MOST_COUNT)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any, length: int, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(check, value))
