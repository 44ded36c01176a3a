"""The workers: processes of a Ray cluster, each with one device. Who is lost is replaced, and joins when it is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError

from hansa._errors import UserError
from hansa._warnings import warn
from hansa.runtimes.ray import machine
from hansa.runtimes.ray.copies import Copies
from hansa.runtimes.ray.member import LOST, Member
from hansa.runtimes.ray.session import environment
from hansa.runtimes.ray.stored import StoredBlock
from hansa.runtimes.ray.wire import Plain
from hansa.runtimes.ray.worker import Worker


class WorkersError(UserError):
    """There are no workers that a call could go on with.

    Examples:
        >>> raise WorkersError("no worker has started in 600 s")
        Traceback (most recent call last):
            ...
        hansa.runtimes.ray.pool.WorkersError: no worker has started in 600 s
    """


class Pool:
    """Some workers.

    Args:
        workers: how many.
        resources: what each asks Ray for, as options of an actor.
        mixed: what is done about a worker whose versions, or whose kind of device, are others.
        patience: for how many seconds a call waits for the first worker.

    Attributes:
        members: all that are up or are starting.
        lost: how many have been lost.
        copies: what they keep for each other.
    """

    def __init__(
        self, workers: int, resources: Mapping[str, Any], mixed: Literal["refuse", "warn"], patience: float
    ) -> None:
        self._size, self._mixed, self._patience = workers, mixed, patience
        options = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD", **resources}
        options["runtime_env"] = {"env_vars": environment(), **options.get("runtime_env", {})}
        self._kind = ray.remote(Worker).options(**options)
        self._forgotten: list[str] = []
        self.copies = Copies(self.forget)
        self.lost = 0
        self.members: list[Member] = []
        self.replace()

    def replace(self) -> None:
        """Starts a worker for each that is missing."""
        while len(self.members) < self._size:
            actor: Any = self._kind.remote()
            self.members.append(Member(actor, actor.described.remote()))

    def gone(self, member: Member) -> None:
        """Takes a worker for lost, and starts another one."""
        self.lost += 1
        if member in self.members:
            self.members.remove(member)
        self.replace()

    def up(self) -> list[Member]:
        """The workers that are up, of which at least one is waited for.

        Raises:
            WorkersError: if none comes up.
            ValueError: if one is not like the others, and that is refused.
        """
        end = time.monotonic() + self._patience
        while True:
            found = self.arrived()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise WorkersError(
                    f"no worker has started in {self._patience:g} s; `ray status` tells what the cluster has, and each "
                    f"of {self._size} workers asks for {self._asked()}"
                )
            ray.wait([member.starting for member in self.members], timeout=min(left, 1.0))

    def all_up(self) -> list[Member]:
        """All workers, once they are up, or those that are when patience ends."""
        ray.wait(
            [member.starting for member in self.members if member.starting is not None] or [ray.put(None)],
            num_returns=max(1, sum(member.starting is not None for member in self.members)),
            timeout=self._patience,
        )
        return self.up()

    def arrived(self) -> list[Member]:
        """The workers that are up by now."""
        for member in [member for member in self.members if member.starting is not None]:
            try:
                member.described = ray.get(member.starting, timeout=0)
            except GetTimeoutError:
                continue
            except LOST:
                self._fell(member)
                continue
            member.starting = None
            self._check(member)
        return [member for member in self.members if member.starting is None]

    def _fell(self, member: Member) -> None:
        """A worker that has been lost before it was up: another one is started, but not without end."""
        self.gone(member)
        if self.lost > _MOST_LOST * self._size:
            raise WorkersError(
                f"{self.lost} workers have ended, the last ones as they started; Ray's logs tell why (in "
                "/tmp/ray/session_latest/logs, or `ray logs actor`)"
            )

    def _check(self, member: Member) -> None:
        here = machine.described()
        others = [other.described for other in self.members if other.starting is None and other is not member]
        found = machine.differences(here, member.described)
        found += machine.unlike(others[0], member.described) if others and not found else []
        if not found:
            return
        message = (
            f"a worker on {member.described['node']} differs: {'; '.join(found)}; results would depend on who works "
            "for whom"
        )
        if self._mixed == "refuse":
            raise ValueError(f"{message}; make them alike, or say mixed='warn' to go on")
        warn(message)

    def news(self, member: Member, programs: Mapping[str, Any], populations: Mapping[str, Plain]) -> Plain:
        """What a worker has to be told before it works.

        Args:
            member: the worker.
            programs: by key, the bytes, the forms of sums, and how often they have been widened.
            populations: by key, how to get at their arrays.
        """
        told = {}
        for name, (artifact, forms, times) in programs.items():
            if member.known.get(name) != times:
                told[name] = artifact, forms
                member.known[name] = times
        more = {name: found for name, found in populations.items() if name not in member.known}
        member.known.update(dict.fromkeys(more, 0))
        gone = [name for name in self._forgotten if member.known.pop(name, None) is not None]
        return told, more, gone

    def gather(self, blocks: list[Plain], block: Any, row: Any) -> tuple[Any, str, Callable[[StoredBlock], None]]:
        """Has a worker put rows together: see `hansa.runtimes.ray.stored.Gather`."""
        for _ in range(_MOST_AGAIN):
            worker = self.up()[0]
            done, found = worker.actor.gather.options(num_returns=2).remote(blocks, block, row)
            try:
                ray.get(done)
                return found, worker.node, self.keep
            except LOST:
                self.gone(worker)
        raise RuntimeError(
            f"{_MOST_AGAIN} workers have ended, one after another, while they put clients' rows together"
        )

    def keep(self, *blocks: StoredBlock) -> None:
        """Has blocks on a second node, where there is one, from now on and as long as there are these blocks.

        Raises:
            ray.exceptions.ObjectLostError: if a node is lost before.
        """
        new = [self.copies.keep(block) for block in blocks]
        while self.copies and (lost := self.copies.mend(self.up(), new)):
            for member in lost:
                self.gone(member)

    def forget(self, name: str) -> None:
        """Has workers let a program or a population go, at the next call."""
        self._forgotten = [*self._forgotten[-_MOST_FORGOTTEN:], name]

    def stop(self) -> None:
        """Ends all workers."""
        members, self.members, self._size = self.members, [], 0
        for member in members:
            stop: Callable[..., None] = ray.kill
            stop(member.actor)

    def _asked(self) -> str:
        options = self._kind._default_options if hasattr(self._kind, "_default_options") else {}
        asked = {name: options[name] for name in ("num_cpus", "num_gpus", "resources") if name in options}
        return ", ".join(f"{name}={value}" for name, value in asked.items()) or "its resources"


_MOST_LOST, _MOST_AGAIN = 20, 3
_MOST_FORGOTTEN = 1000
