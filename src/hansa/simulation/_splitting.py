"""Which clients of a population are held out."""

from __future__ import annotations

import itertools

import numpy as np

from hansa.simulation._random import generator
from hansa.simulation._sources import Source
from hansa.simulation._steps import Sizes, rows


def held_out(source: Source, share: float, seed: int) -> tuple[Sizes, Sizes]:
    """The positions of the clients that stay, and of those that are held out; int64, ascending.

    Those that are held out have examples. Where that is not known, they are read one after another until there are
    enough.

    Raises:
        ValueError: if one of the two would have no clients with examples.
    """
    clients = len(source.client_ids)
    sizes = source.sizes if source.in_memory else source.counted
    candidates = clients if sizes is None else int(np.count_nonzero(sizes))
    count = int(np.floor(candidates * share + 0.5))
    order = generator(seed, "split clients").permutation(clients)
    has_examples = (p for p in order.tolist() if (rows(source.read(p)) if sizes is None else sizes[p]))
    chosen = np.sort(np.fromiter(itertools.islice(has_examples, count), np.int64))
    if not 0 < len(chosen) == count < candidates:
        raise ValueError(
            f"held_out={share} of {candidates} clients with examples is {count}, which leaves one part without "
            "clients; choose another fraction, or by='examples'"
        )
    return np.setdiff1d(order, chosen), chosen
