"""`hansa serve`: a coordinator, and the run that it has devices work for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hansa
from hansa._lock import InUseError
from hansa._printing import in_a_line
from hansa.cli import _places
from hansa.cli._errors import Misuse
from hansa.cli._experiment import Experiment, identity
from hansa.cli._output import print_json, say
from hansa.cli._train import Job, execute
from hansa.cli.config import ConfigError, RunConfig, config_file, read_config
from hansa.cli.network.running import Running
from hansa.network.network import Network
from hansa.network.network import serve as serve_devices
from hansa.network.operating import Operator
from hansa.network.schema import NewerLedgerError
from hansa.network.settings import NetworkError, Settings
from hansa.simulation import PlanError
from hansa.types.elsewhere import Elsewhere

_FOR_EVER = 10.0**8
"""Seconds for which enough devices are waited for."""


@dataclass(frozen=True)
class Asked:
    """How devices are asked in each round.

    Attributes:
        devices: how many.
        least: see `hansa.network.Devices`, as for the two that follow.
        over_select: how many times as many.
        deadline: seconds of a round.
    """

    devices: int
    least: int
    over_select: float
    deadline: float


def asked_for(devices: int, least: int, over_select: float, deadline: float) -> Asked:
    """What the options say.

    Raises:
        Misuse: if they do not go together.
    """
    if least > devices:
        raise Misuse(f"--least {least} is more than --devices {devices}, with which a round ends")
    return Asked(devices, least, over_select, deadline)


def serve(
    folder: Path,
    config: Path | None,
    asked: Asked,
    page_port: int,
    allow_changes: bool,
    as_json: bool,
) -> bool:
    """Serve until Ctrl-C, or until the run is done.

    Returns:
        Whether the run came to its end; without one, True.

    Raises:
        NetworkError: if the folder cannot be served from.
        ConfigError: if the run cannot be made with devices.
    """
    settings = Settings.read(folder)
    job = None if config is None else _job(config, asked)
    with _network(folder, settings, page_port) as network:
        page = network.show_page(page_port)
        facts = {"event": "serving", "url": network.url, "page": page, "enrolled": len(network.enrolled())}
        if as_json:
            print_json(facts)
        else:
            say(f"Devices   {network.url}, {facts['enrolled']} enrolled", f"Page      {page}")
        if job is None:
            if not as_json:
                say(f"hansa network invite {folder} invites a device. Ctrl-C stops.")
            with Running(network, _tell_run(as_json)):
                threading.Event().wait()
            return True
        _wait(network, asked.devices, as_json)
        with hansa.runtime(network):
            return execute(job(network), as_json, allow_changes)


def _tell_run(as_json: bool) -> Callable[[str, Mapping[str, Any]], None]:
    def tell(name: str, line: Mapping[str, Any]) -> None:
        if as_json:
            print_json({"run": name, **line})
        else:
            number = "" if line.get("round") is None else f" {line['round']}"
            why = "" if line.get("reason") is None else f": {in_a_line(line['reason'])[:300]}"
            say(f"{name}  {line['event']}{number}{why}")

    return tell


@contextlib.contextmanager
def _network(folder: Path, settings: Settings, page_port: int) -> Iterator[Network]:
    with Operator(folder):  # whose folder it is, and that its ledger can be read
        pass
    try:
        network = serve_devices(
            folder,
            host=settings.host,
            port=settings.port,
            names=settings.names,
            unprotected=settings.unprotected,
            keep_rounds=settings.keep_rounds,
            proxy=settings.before(folder),
        )
    except (InUseError, NewerLedgerError) as error:
        raise NetworkError(f"{folder}: {error}") from error
    with network:
        yield network


def no_simulation(config: RunConfig) -> list[str]:
    """What of a configuration is for simulations, and not for devices."""
    training, problems = config.training, []
    if training.cohort_size is not None:
        problems.append("training.cohort_size is for simulations: --devices says how many are asked in a round")
    if training.sampler != "uniform" or training.with_replacement:
        problems.append("training.sampler and training.with_replacement are for simulations: who is there is asked")
    if config.runtime.kind != "in-process":
        problems.append(f'runtime.kind = "{config.runtime.kind}": devices compute')
    return problems


def _job(path: Path, asked: Asked) -> Callable[[Network], Job]:
    file = config_file(path)
    config = read_config(file, [])
    training, problems = config.training, no_simulation(config)
    if config.output.folder is None:
        problems.append("output.folder must be set, so that the run goes on after a kill")
    if problems:
        raise ConfigError(file, problems)
    assert config.output.folder is not None
    folder = _places.named(config.output.folder)

    def job(network: Network) -> Job:
        return Job(
            config,
            folder,
            identity(config),
            training.rounds,
            ["serve", network.folder, path],
            head=lambda experiment: _head(experiment, asked),
            made=lambda config: OnDevices(config, network, asked),
        )

    return job


@dataclass(frozen=True)
class OnDevices(Experiment):
    """A run whose clients are devices.

    Attributes:
        config: the configuration.
        network: whose devices.
        asked: how they are asked.
    """

    network: Network
    asked: Asked

    @property
    def clients(self) -> Elsewhere:
        """The devices.

        Raises:
            ConfigError: if what is done with examples before a round calls functions, which do not travel.
        """
        asked = self.asked
        try:
            plan = self.populations.training.plan()
        except PlanError as error:
            raise ConfigError("data", [str(error)]) from None
        return self.network.devices(
            asked.devices,
            data=plan,
            over_select=asked.over_select,
            least=asked.least,
            deadline=asked.deadline,
            patience=_FOR_EVER,
        )

    @property
    def draws_cohorts(self) -> bool:
        """Who answers takes part."""
        return False

    def sampling(self) -> tuple[int | float | None, Callable[[int], Any] | None]:
        """Who is there is asked."""
        return None, None

    @contextlib.contextmanager
    def runtime(self) -> Iterator[None]:
        """The network, which is set already."""
        yield

    def sinks(self, folder: Path) -> list[Any]:
        """Those of the configuration, and the page."""
        return [*super().sinks(folder), self.network.monitor]


def _head(experiment: Experiment, asked: Asked) -> str:
    populations, training = experiment.populations, experiment.config.training
    lines = [f"Examples  like those of {populations.training!r}"]
    if populations.evaluation is not None:
        lines.append(f"Evaluated on {populations.what}: {int(populations.evaluation.sizes.sum()):,} examples, here")
    lines.append(f"Training  {training.rounds} rounds, {asked.devices} devices in each")
    return "\n".join([*lines, ""])


def _wait(network: Network, devices: int, as_json: bool) -> None:
    """Wait until so many devices are there, and say how many are whenever that changes."""
    told = None
    while (there := len(network.there())) < devices:
        if there != told and not as_json:
            say(f"Waiting for {devices} devices; {there} there.")
        if there != told and as_json:
            print_json({"event": "waiting", "devices": devices, "there": there})
        told = there
        time.sleep(0.1)
