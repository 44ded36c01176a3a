"""What operators ask the coordinator for, over the same port: each request shows a certificate of that role.

POST /v1/operators/enrol           token, request for a certificate -> certificate, name; no certificate
POST /v1/operators/renew           request -> certificate
GET  /v1/runs                      -> all runs that were submitted
PUT  /v1/runs/NAME                 size of the terms (8 bytes, little-endian), terms as JSON, program -> the run
POST /v1/runs/NAME/stop            -> the run
GET  /v1/runs/NAME/log?from=BYTE   -> lines of JSON; Hansa-Next says from where to go on
GET  /v1/runs/NAME/checkpoint      -> the newest; Range
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hansa._extras import require
from hansa.network import requests
from hansa.network.authority import Authority
from hansa.network.coordinator import Coordinator
from hansa.network.operators import Operators, Person
from hansa.network.proxies import digest_header
from hansa.network.registry import EnrolmentError
from hansa.network.submissions import RunTerms, Submission, SubmissionError, Submissions

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")

SIZE = struct.Struct("<Q")
MOST_TERMS, _MOST_PROGRAM = 2**20, 2**32
"""Bytes."""


class Operations:
    """The handlers of operators.

    Args:
        coordinator: whose they are.
        authority: who makes certificates.

    Attributes:
        routes: method, path and handler of each.
        submissions: the runs.
    """

    def __init__(self, coordinator: Coordinator, authority: Authority) -> None:
        self._web: Any = require("aiohttp.web", "network", "the coordinator of devices")
        self._authority, self._operators = authority, Operators(coordinator.ledger)
        self._registry = coordinator.registry
        self.submissions = Submissions(coordinator.ledger, coordinator.folder)
        self._coming: set[str] = set()
        self.routes: tuple[tuple[str, str, Any], ...] = (
            ("POST", "/v1/operators/enrol", self._enrol),
            ("POST", "/v1/operators/renew", self._renew),
            ("GET", "/v1/runs", self._runs),
            ("PUT", "/v1/runs/{run}", self._submit),
            ("POST", "/v1/runs/{run}/stop", self._stop),
            ("GET", "/v1/runs/{run}/log", self._log),
            ("GET", "/v1/runs/{run}/checkpoint", self._checkpoint),
        )

    async def _caller(self, request: web.Request) -> Person:
        name, fingerprint = requests.certificate_of(request)
        found = await _in_thread(lambda: self._operators.known(name, fingerprint))
        if found is None:
            raise EnrolmentError("this certificate is no operator's, or the operator was revoked")
        return found

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = await requests.asked(request)
        csr = requests.text(asked, "request")

        def enrol() -> Any:
            token, key = requests.invited(asked, self._registry.token), self._authority.key_of(csr)
            return token, *self._operators.enrol(token, key, lambda name: self._authority.device(csr, name))

        token, person, certificate = await _in_thread(enrol)
        told = {"name": person.name, "who": person.who, "certificate": certificate.pem}
        return self._json(requests.enrolled(asked, token, told))

    async def _renew(self, request: web.Request) -> web.Response:
        person, csr = await self._caller(request), requests.text(await requests.asked(request), "request")

        def renew() -> str:
            certificate = self._authority.device(csr, person.name)
            self._operators.renew(person.name, certificate.fingerprint)
            return certificate.pem

        return self._json({"certificate": await _in_thread(renew)})

    async def _runs(self, request: web.Request) -> web.Response:
        await self._caller(request)
        return self._json([each.to_json() for each in await _in_thread(self.submissions.all)])

    async def _submit(self, request: web.Request) -> web.Response:
        person = await self._caller(request)
        seen = hashlib.sha256()
        body = _seen(requests.pieces(request), seen)
        terms, begun = await _terms(body)
        if terms.name != request.match_info["run"]:
            raise ValueError("the terms have another name than the path")
        if terms.name in self._coming or len(self._coming) >= 4:
            raise SubmissionError("it is being submitted already, or others are: try again")
        self._coming.add(terms.name)
        try:
            with self.submissions.coming(terms).open("w+b") as file:
                file.write(begun)
                size = len(begun)
                async for piece in body:
                    size += len(piece)
                    if size > _MOST_PROGRAM:
                        raise ValueError(f"a program has {_MOST_PROGRAM} bytes at most")
                    await _in_thread(lambda piece=piece: file.write(piece))  # type: ignore[misc]
                requests.check_digest(request, seen.digest())
                found = await _in_thread(lambda: self.submissions.submit(terms, _of(person), file))
        finally:
            self._coming.discard(terms.name)
            self.submissions.coming(terms).unlink(missing_ok=True)
        return self._run(found)

    async def _stop(self, request: web.Request) -> web.Response:
        person, name = await self._caller(request), request.match_info["run"]
        return self._run(await _in_thread(lambda: self.submissions.stop(name, _of(person))))

    async def _log(self, request: web.Request) -> web.Response:
        await self._caller(request)
        name, offset = request.match_info["run"], int(request.query.get("from", 0))
        if not 0 <= offset < 2**62:
            raise ValueError("from is a byte of the log")
        lines, after = await _in_thread(lambda: self.submissions.log(name, offset))
        found: web.Response = self._web.Response(body=lines, headers={"Hansa-Next": str(after)})
        return found

    async def _checkpoint(self, request: web.Request) -> web.StreamResponse:
        await self._caller(request)
        path = await _in_thread(lambda: self.submissions.checkpoint(request.match_info["run"]))
        if path is None:
            raise SubmissionError("the run has no checkpoint yet")
        headers = {"Hansa-Checkpoint": path.name}
        if requests.CALLER in request:
            headers["Content-Digest"] = digest_header(await _in_thread(lambda: _digest_of(path)))
        found: web.StreamResponse = self._web.FileResponse(path, headers=headers)
        return found

    def _run(self, submission: Submission) -> web.Response:
        return self._json(submission.to_json())

    def _json(self, body: Any) -> web.Response:
        response: web.Response = self._web.json_response(body)
        return response


async def _seen(pieces: AsyncIterator[bytes], seen: Any) -> AsyncIterator[bytes]:
    async for piece in pieces:
        seen.update(piece)
        yield piece


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def _terms(body: Any) -> tuple[RunTerms, bytes]:
    """The terms at the beginning of a body, and what has come of the program."""
    data, size = bytearray(), None
    async for piece in body:
        data += piece
        if size is None and len(data) >= SIZE.size:
            (size,) = SIZE.unpack(data[: SIZE.size])
            if size > MOST_TERMS:
                raise ValueError(f"terms have {MOST_TERMS} bytes at most")
        if size is not None and len(data) >= SIZE.size + size:
            break
    if size is None or len(data) < SIZE.size + size:
        raise ValueError("the body ends before the terms do")
    try:
        terms = RunTerms.from_json(json.loads(data[SIZE.size : SIZE.size + size]))
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return terms, bytes(data[SIZE.size + size :])


def _of(person: Person) -> str:
    return f"{person.who} ({person.name})"


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function)
