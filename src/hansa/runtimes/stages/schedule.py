"""Which device works for which clients, in which order."""

from __future__ import annotations

import heapq
from functools import lru_cache

import numpy as np
import numpy.typing as npt


def schedule(work: npt.NDArray[np.int64], devices: int) -> list[npt.NDArray[np.int64]]:
    """The clients of each device, in the order they are worked on, which is that of the cohort.

    Clients are dealt to the device with the least work so far, the largest first (Graham 1969: at most 4/3 of the best
    possible makespan). It depends on nothing but the arguments, so the same cohort always gives the same sums.

    Args:
        work: the number of examples of each client, [clients].
        devices: how many devices there are.
    """
    if devices == 1:
        return [np.arange(len(work))]
    if len(work) > _FEW:
        return _snake(work, devices)
    return list(_deal(work.astype(np.int64).tobytes(), devices))


def _snake(work: npt.NDArray[np.int64], devices: int) -> list[npt.NDArray[np.int64]]:
    """The largest first, to the devices in turn, forth and back: nearly as even, where there are many clients."""
    turn = np.arange(len(work)) % (2 * devices)
    assigned = np.empty(len(work), np.int64)
    assigned[np.argsort(-work, kind="stable")] = np.minimum(turn, 2 * devices - 1 - turn)
    return [np.flatnonzero(assigned == device) for device in range(devices)]


@lru_cache(maxsize=64)
def _deal(given: bytes, devices: int) -> tuple[npt.NDArray[np.int64], ...]:
    """The largest first, each to the device that has least. The same cohort often comes again."""
    work = np.frombuffer(given, np.int64)
    order = np.argsort(-work, kind="stable")
    assigned = np.empty(len(work), np.int64)
    loads, dealt = [(0, device) for device in range(devices)], []
    for amount in work[order].tolist():
        load, device = loads[0]
        dealt.append(device)
        heapq.heapreplace(loads, (load + amount, device))
    assigned[order] = dealt
    return tuple(np.flatnonzero(assigned == device) for device in range(devices))


_FEW = 10_000
