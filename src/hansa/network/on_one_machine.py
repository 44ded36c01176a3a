"""`local`: a coordinator in this process and devices in others of this machine, with real sockets and TLS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.counted import Counted
from hansa.language.occasions import Occasion
from hansa.network.devices import Devices
from hansa.network.network import Network, serve
from hansa.simulation.client_data import ClientData
from hansa.simulation.data_plan import DataPlan
from hansa.templates import IterativeProcess
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe

_PATIENCE = 120.0
"""Seconds in which all devices must be there."""


@boundaries
class LocalNetwork:
    """A network on this machine. `local` makes one; it ends with the `with` block, or with `close`.

    Attributes:
        network: the coordinator: a runtime.
        data: the plan of the clients' data; None if they have single values.
        processes: the processes of the devices.
        folder: where all of it lies.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def average(readings):
        ...     return hansa.federated_mean(readings)
        >>> network = hansa.network.local(average, {"ann": {"readings": 18.5}, "bo": {"readings": 20.5}}, processes=1)
        >>> with hansa.runtime(network):  # which calls network.invoke
        ...     print(average(network.devices()))
        19.5
        >>> network.reaches_elsewhere, network.counted(hansa.Occasion("another", 1))
        (True, None)
        >>> network.close()
    """

    def __init__(self, network: Network, data: DataPlan | None, folder: Path, is_own: bool) -> None:
        self.network, self.data = network, data
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folder, self._is_own = folder, is_own

    @property
    def reaches_elsewhere(self) -> bool:
        """True: it is a runtime for clients that are elsewhere."""
        return True

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Runs a computation; see `hansa.language.context.Runtime`."""
        return self.network.invoke(computation, argument)

    def counted(self, occasion: Occasion) -> Counted | None:
        """Who was counted in the last call; see `hansa.language.context.Runtime`."""
        return self.network.counted(occasion)

    def devices(
        self, clients: Sequence[ClientId] | npt.NDArray[Any] | int | None = None, **options: DataPlan | float
    ) -> Devices:
        """Devices as a value for `{T}@CLIENTS`; see `hansa.network.Network.devices`. Their plan is that of the data."""
        given: dict[str, Any] = {"data": self.data, **options}
        return self.network.devices(clients, **given)

    def _start(self, settings: list[dict[str, Any]]) -> None:
        """One more process, with these devices."""
        path = self.folder / f"process-{len(self.processes)}.json"
        path.write_text(json.dumps(settings))
        log = path.with_suffix(".log").open("ab")
        command = [sys.executable, "-m", "hansa.network.hosting", str(path), "--with-parent"]
        with log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log))

    def _wait(self, devices: int, seconds: float = _PATIENCE) -> None:
        """Waits until so many devices are there.

        Raises:
            RuntimeError: if one of the processes has ended, or they do not come.
        """
        until = time.monotonic() + seconds
        while len(self.network.there()) < devices:
            for i, process in enumerate(self.processes):
                if process.poll() is not None:
                    raise RuntimeError(f"process {i} of the devices has ended: {self._log(i)}")
            if time.monotonic() > until:
                raise RuntimeError(f"{len(self.network.there())} of {devices} devices are there: {self._log(0)}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the devices and the coordinator, and removes their folder if it was made for them."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.network.close()
        if self._is_own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> LocalNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalNetwork({len(self.processes)} processes of devices, {self.network!r})"

    def _log(self, number: int) -> str:
        return (self.folder / f"process-{number}.log").read_text(errors="replace")[-2000:] or "it has said nothing"


def local(
    process: IterativeProcess | Computation,
    clients: ClientData | Mapping[ClientId, Mapping[str, npt.ArrayLike]],
    processes: int = 4,
    *,
    folder: str | os.PathLike[str] | None = None,
    port: int = 0,
    unprotected: bool = False,
) -> LocalNetwork:
    """A coordinator in this process, and a device for each client in processes of their own, for notebooks and tests.

    Devices are enrolled and come over TLS, as they do from other machines.

    Args:
        process: what is to run on them; what of it does not travel is refused here.
        clients: a population in batches, each of whose clients gets its own examples, before all steps, and the plan
            of the steps with each task. Or single values by name for each client's id, `{"ann": {"reading": 18.5}}`.
        processes: how many processes the devices are in.
        folder: where all of it lies, to go on with later; by default a temporary one, removed at the end.
        port: of the coordinator; 0 for any that is free.
        unprotected: see `serve`.

    Raises:
        TypeError, ValueError: if the clients are no such thing, or something of the process does not travel.
        hansa.simulation.PlanError: if the population's steps call functions.
        RuntimeError: if the devices do not come.

    Examples:
        >>> hansa.network.local(process, {})
        Traceback (most recent call last):
            ...
        TypeError: clients must be a hansa.simulation.ClientData in batches, or a dict from each client's id to its ...
    """
    computation = process.next if isinstance(process, IterativeProcess) else process
    if not isinstance(computation, Computation):
        raise TypeError(f"process must be a process, or a computation with declared types; found {describe(process)}")
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise ValueError(f"processes must be how many there are, 1 or more; found {processes!r}")
    plan, arrays = _data(clients)
    is_own = folder is None
    where = Path(tempfile.mkdtemp(prefix="hansa-network-") if folder is None else folder).resolve()
    network = serve(where / "coordinator", port=port, unprotected=unprotected)
    made = LocalNetwork(network, plan, where, is_own)
    try:
        network.prepare(computation)
        settings = [_settings(network, where, i, *each, unprotected) for i, each in enumerate(arrays.items())]
        for number in range(min(processes, len(settings))):
            made._start(settings[number::processes])
        made._wait(len(settings))
    except BaseException:
        made.close()
        raise
    return made


def _data(clients: Any) -> tuple[DataPlan | None, dict[ClientId, dict[str, npt.NDArray[Any]]]]:
    """The plan of the clients' data, and each client's arrays."""
    if isinstance(clients, ClientData):
        return clients.plan(), {each: clients.own_arrays(each) for each in clients.client_ids}
    if isinstance(clients, Mapping) and clients and all(isinstance(each, Mapping) for each in clients.values()):
        found = {client: {name: _array(value) for name, value in values.items()} for client, values in clients.items()}
        return None, found
    raise TypeError(
        "clients must be a hansa.simulation.ClientData in batches, or a dict from each client's id to its values by "
        f"name, {{'ann': {{'reading': 18.5}}}}; found {describe(clients)}"
    )


def _array(value: Any) -> npt.NDArray[Any]:
    """A value as an array; numbers of Python are of 32 bits, as everywhere."""
    array = np.asarray(value)
    narrow = {"float64": np.float32, "int64": np.int32}
    return (
        array.astype(narrow[array.dtype.name])
        if isinstance(value, int | float) and array.dtype.name in narrow
        else array
    )


def _settings(
    network: Network,
    folder: Path,
    number: int,
    client_id: ClientId,
    arrays: Mapping[str, npt.NDArray[Any]],
    unprotected: bool,
) -> dict[str, Any]:
    """What a process needs to know of one device; its data is a file of its own."""
    own = folder / f"device-{number}"
    own.mkdir(mode=0o700, exist_ok=True)
    np.savez(own / "data.npz", **arrays)  # type: ignore[arg-type]
    return {
        "folder": str(own),
        "invitation": "" if (own / "device.json").exists() else network.invite(client_id).to_text(),
        "data": str(own / "data.npz"),
        "unprotected": unprotected,
        "confined": False,  # as the programs are those of this process
    }
