"""How a contribution comes in: all at once, or in parts that may be gone on with, and what is said of it.

In this order: whose it is, whether it was asked for, how large it says it is, whether there is room; then it is read,
and then looked at (`hansa.network.boundary`). What the device is told is on the disk before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hansa.network import rounds
from hansa.network.boundary import DamagedError, InvalidError
from hansa.network.coordinator import Coordinator
from hansa.network.phases import Running
from hansa.network.registry import Device
from hansa.network.tasks import Outcome

SMALL = 2**16
"""Bytes of a contribution that lies in the ledger itself."""

_WRITTEN = 2**20
"""Bytes that are written at a time, where so many come."""

_OTHER_DIGEST = "another contribution was counted"


@dataclass(frozen=True)
class Told:
    """What is answered to an upload.

    Attributes:
        status: of HTTP.
        body: JSON.
        seconds: when to try again, where it is to be.
    """

    status: int
    body: dict[str, Any]
    seconds: int | None = None


class Uploads:
    """The contributions that come in.

    Args:
        coordinator: to whom.
        budget: how many bytes may be on their way at a time.
    """

    def __init__(self, coordinator: Coordinator, budget: int = 2**28) -> None:
        self._coordinator, self._budget, self._coming = coordinator, budget, 0

    def offset(self, running: Running, device: Device, digest: str) -> int:
        """How many bytes of a contribution are here."""
        return self._coordinator.spool.offset(running.key, device.name, digest)

    async def take(
        self,
        running: Running,
        device: Device,
        digest: str,
        offset: int,
        total: int,
        pieces: AsyncIterator[bytes],
        through_proxy: bool = False,
    ) -> Told:
        """A contribution, all of it or from an offset on.

        Args:
            running: the phase, in which the device has a task.
            device: whose it is.
            digest: SHA-256 of all of it.
            offset: where these bytes begin.
            total: how many there are in all.
            pieces: the bytes.
            through_proxy: whether somebody on the way may have added bytes, which then is no fault of the device.
        """
        if through_proxy:
            pieces = _no_more(pieces, total - offset)
        if running.phase.tasks[device.name].outcome is not None:
            return await self._told(running, rounds.Stored(device.name, digest, total))
        most = running.work.boundary.most_bytes
        if total > most:
            return await self._invalid(running, device, f"{total} bytes are more than the {most} of what is declared")
        if device.name in running.busy or (self._coming and self._coming + total > self._budget):
            return Told(503, {"error": "not now"}, random.randint(1, 5))
        with self._room(running, device, total):
            if offset == 0 and total <= SMALL:
                return await self._small(running, device, digest, total, pieces)
            return await self._large(running, device, digest, offset, total, pieces)

    async def _small(
        self, running: Running, device: Device, digest: str, total: int, pieces: AsyncIterator[bytes]
    ) -> Told:
        data = bytearray()
        async for piece in pieces:
            data += piece
            if len(data) > total:
                return await self._invalid(running, device, "more bytes than were announced")
        if len(data) < total:
            return Told(202, {"offset": 0})
        try:
            running.work.boundary.check(bytes(data), digest)
        except DamagedError as error:
            return Told(422, {"again": True, "error": str(error)})
        except InvalidError as error:
            return await self._invalid(running, device, str(error), digest)
        return await self._told(running, rounds.Stored(device.name, digest, total), bytes(data))

    async def _large(
        self, running: Running, device: Device, digest: str, offset: int, total: int, pieces: AsyncIterator[bytes]
    ) -> Told:
        spool, key, name = self._coordinator.spool, running.key, device.name
        here = spool.offset(key, name, digest)
        if offset > here:
            return Told(409, {"offset": here})
        loop = asyncio.get_running_loop()
        with spool.writing(key, name, digest, offset) as file:
            async for several in _together(pieces):
                offset += sum(map(len, several))
                if offset > total:
                    spool.discard(key, name, digest)
                    return await self._invalid(running, device, "more bytes than were announced")
                await loop.run_in_executor(None, file.writelines, several)
        if offset < total:
            return Told(202, {"offset": offset})

        def look() -> None:
            running.work.boundary.check(spool.mapped(spool.part(key, name, digest)), digest)
            spool.finish(key, name, digest)

        try:
            await loop.run_in_executor(None, look)
        except DamagedError as error:
            spool.discard(key, name, digest)
            return Told(422, {"again": True, "error": str(error)})
        except InvalidError as error:
            spool.discard(key, name, digest)
            return await self._invalid(running, device, str(error), digest)
        return await self._told(running, rounds.Stored(name, digest, total))

    async def _invalid(self, running: Running, device: Device, reason: str, digest: str | None = None) -> Told:
        return await self._told(running, rounds.Ended(device.name, Outcome.INVALID, reason, digest))

    async def _told(self, running: Running, event: rounds.Event, data: bytes | None = None) -> Told:
        answer = await self._coordinator.happened(running, event, data)
        assert isinstance(answer, rounds.Answer)
        return Told(200, {"outcome": answer.outcome, "reason": answer.reason})

    @contextmanager
    def _room(self, running: Running, device: Device, total: int) -> Iterator[None]:
        running.busy.add(device.name)
        self._coming += total
        try:
            yield
        finally:
            self._coming -= total
            running.busy.discard(device.name)


async def _together(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Pieces as they come, so many of them together that it is worth another thread's while."""
    several: list[bytes] = []
    size = 0
    async for piece in pieces:
        several.append(piece)
        size += len(piece)
        if size >= _WRITTEN:
            yield several
            several, size = [], 0
    if several:
        yield several


async def _no_more(pieces: AsyncIterator[bytes], left: int) -> AsyncIterator[bytes]:
    """The first bytes; the digest tells whether they are the right ones."""
    async for piece in pieces:
        if left:
            yield piece[:left]
            left -= len(piece[:left])


def told_before(outcome: Outcome | None, reason: str | None, digest: str | None, asked: str) -> Told:
    """What is answered to an upload to a phase that is over."""
    if outcome is Outcome.COUNTED and digest != asked:
        return Told(200, {"outcome": Outcome.REFUSED, "reason": _OTHER_DIGEST})
    return Told(200, {"outcome": outcome or Outcome.LATE, "reason": reason})
