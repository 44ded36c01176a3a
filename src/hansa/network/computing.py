"""The process that computes for a device: `python -m hansa.network.computing`, which a device starts.

It reads what is to be done from its input, and writes what came of it to its output. It has no network, and no more
memory and seconds than it is given. What it is told by the device is believed; what it tells is not (`hansa.network.
confined`).
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import traceback
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

SIZE = struct.Struct("<Q")


def write_frame(file: IO[bytes], *pieces: Any) -> None:
    """Writes bytes after their number."""
    views = [memoryview(piece).cast("B") for piece in pieces]
    file.write(SIZE.pack(sum(view.nbytes for view in views)))
    for view in views:
        file.write(view)
    file.flush()


def read_frame(file: IO[bytes], most: int) -> bytes:
    """The bytes of one frame.

    Raises:
        EOFError: if the other side has ended.
        ValueError: if there are too many.
    """
    size = SIZE.unpack(_read(file, SIZE.size))[0]
    if size > most:
        raise ValueError(f"{size} bytes are more than {most}")
    return _read(file, size)


def _read(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Does what is asked for until the input ends."""
    from hansa.network import confinement

    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    confinement.leave_no_core()
    has_network = not confinement.without_network()
    asked = pickle.loads(read_frame(source, 2**20))

    from hansa.network.holdings import RefusedError
    from hansa.network.worker import Worker

    is_limited = asked["memory"] is None or confinement.limit_memory(asked["memory"])
    _tell(target, {"has_network": has_network, "is_limited": is_limited})
    worker, holdings = Worker(), {}
    while True:
        try:
            kind, *rest = pickle.loads(read_frame(source, 2**62))
        except EOFError:
            return
        if kind == "hold":
            holdings = dict([rest])
            continue
        order, program, sent, held, kept, state, seconds = rest
        confinement.limit_seconds(seconds)
        try:
            done = worker.work(order, program, sent, holdings[held], partial(_kept, kept), state)
            keeps = done.keeps()
            _tell(target, {"outcome": "done"})
            for pieces in (done.contribution, keeps):
                write_frame(target, *pieces)
        except RefusedError as error:
            _tell(target, {"refused": str(error)})
        except Exception:
            _tell(target, {"crashed": traceback.format_exc()[-10_000:]})
        finally:
            confinement.limit_seconds(None)


def _kept(kept: Mapping[tuple[int, int], Any], stage: int, index: int) -> Any:
    return kept[stage, index]


def _tell(target: IO[bytes], found: dict[str, Any]) -> None:
    write_frame(target, json.dumps(found).encode())


if __name__ == "__main__":
    main()
