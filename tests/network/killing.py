"""A run on devices whose processes are killed: `python -m tests.network.killing ROLE FOLDER PORT`.

setup         serves, and waits until the devices of the two files of settings that it writes are enrolled
coordinator   serves, and trains with them, or goes on with it
host          has the devices of the first file of settings
alone         trains in this process, for comparison
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import hansa
from hansa.network import device, hosting
from hansa.network.durable import Disk
from tests.program.digits import averaging, population

ROUNDS, DEVICES = 8, 4


def data():
    return population(DEVICES).shuffle(seed=5)


def settings_of(folder: Path, number: int) -> Path:
    return folder / f"settings-{number}.json"


def setup(folder: Path, port: int) -> None:
    with hansa.network.serve(folder / "coordinator", port=port) as network:
        settings = []
        for client in data().client_ids:
            own = folder / f"device-{client}"
            own.mkdir()
            np.savez(own / "data.npz", **data().own_arrays(client))
            text = network.invite(client).to_text()
            arrays = str(own / "data.npz")
            each = {"folder": str(own), "invitation": text, "data": arrays, "unprotected": False, "confined": False}
            settings.append(each)
        for number in range(2):
            settings_of(folder, number).write_text(json.dumps(settings[number::2]))
        while len(network.enrolled()) < DEVICES:
            time.sleep(0.05)


def train(devices, folder: Path) -> None:
    hansa.program.train(averaging(), devices, ROUNDS, run_dir=folder / "run", checkpoint_every=1, progress=False)


class Mortal(Disk):
    """A disk whose process dies at its n-th durable step: before or after an fsync, a rename, a commit."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def reached(self, point: str) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def coordinator(folder: Path, port: int) -> None:
    disk = Mortal(int(os.environ.get("DIE_AT", "0")))
    with hansa.network.serve(folder / "coordinator", port=port, disk=disk) as network, hansa.runtime(network):
        # Everybody, so that the state does not depend on who was there.
        train(network.devices(data=data().plan(), least=DEVICES, deadline=3000.0, patience=300.0), folder)


def host(folder: Path, port: int) -> None:
    """The devices of the first file of settings, whose process dies at its n-th durable step."""
    disk = Mortal(int(os.environ.get("DIE_AT", "0")))
    device.Disk = lambda: disk  # type: ignore[misc, assignment]
    hosting.main([str(settings_of(folder, 0))])


def alone(folder: Path, port: int) -> None:
    train(data(), folder)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
