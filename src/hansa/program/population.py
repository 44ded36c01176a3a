"""What a run's folder says about its clients: who they are and what they have, in a small file."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.simulation import ClientData, count_labels

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
    try:
        labels, counts = count_labels(data)
    except (KeyError, TypeError):  # there are none
        return {}
    if not 0 < len(labels) <= MOST_LABELS:
        return {}
    return {"labels": labels.tolist(), "label_counts": counts.tolist()}
