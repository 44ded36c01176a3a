"""The coordinator's port: HTTP over TLS 1.3, of which devices are the callers. Every request may be repeated.

POST /v1/enrol                     token, request for a certificate -> certificate, authority, client; no certificate
POST /v1/renew                     request -> certificate
GET  /v1/tag                       -> what signed requests are signed with (`hansa.network.proxies`); no certificate
GET  /v1/poll?wait=25              -> an order, or 204
GET  /v1/preview                   -> an order that need not be done, or 204
GET  /v1/blobs/DIGEST              -> bytes; Range
POST /v1/tasks/TASK/progress       figure -> lease, or how the task has ended
HEAD /v1/tasks/TASK/DIGEST         -> Upload-Offset
PUT  /v1/tasks/TASK/DIGEST         bytes from Upload-Offset on, of Upload-Length in all -> outcome
POST /v1/tasks/TASK/outcome        crashed or refused, and why -> outcome

What operators ask for is in `hansa.network.operations`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from hansa._extras import require
from hansa.network import requests, rounds
from hansa.network.authority import Authority
from hansa.network.blobs import is_digest
from hansa.network.connections import Loop, listening
from hansa.network.coordinator import Coordinator
from hansa.network.operations import Operations
from hansa.network.phases import CoordinatorError, Running
from hansa.network.proxies import digest_header
from hansa.network.registry import Device, EnrolmentError
from hansa.network.signed_requests import SignedRequests
from hansa.network.submissions import SubmissionError
from hansa.network.tasks import TOLD, Outcome
from hansa.network.uploads import Told, Uploads, told_before

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")

_log = logging.getLogger("hansa.network")

_LONGEST_POLL = 25.0
_MOST_TEXT = 20_000
_MOST_JSON = 2**20


class Server:
    """The port of a coordinator, in a thread of its own.

    Args:
        coordinator: whose it is.
        authority: who makes certificates.
        context: TLS.
        host: the address to listen at.
        port: the port; 0 for any that is free.
        most_held: how many polls are held at a time.
        signed: who knows whose requests are that come through a proxy which ends TLS; None where there is none.
        plain_port: on which that proxy comes from this machine, without TLS; 0 for none.

    Attributes:
        port: the port.
        submissions: the runs that operators have submitted.

    Raises:
        OSError: if it is in use.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        authority: Authority,
        context: ssl.SSLContext,
        host: str,
        port: int,
        most_held: int = 5000,
        signed: SignedRequests | None = None,
        plain_port: int = 0,
    ) -> None:
        self._web: Any = require("aiohttp.web", "network", "the coordinator of devices")
        self._coordinator, self._authority, self._context = coordinator, authority, context
        self._signed, self._plain_port = signed, plain_port
        self._uploads, self._held, self._most_held = Uploads(coordinator), 0, most_held
        self._operations = Operations(coordinator, authority)
        self.submissions = self._operations.submissions
        self._loop = Loop()
        self._thread = threading.Thread(target=self._run, name="hansa-network", daemon=True)
        self._thread.start()
        try:
            self.port = self.run(self._start(host, port)).result()
        except BaseException:
            self._end()
            raise

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Answers nobody any more."""
        self.run(self._stop()).result()
        self._end()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _start(self, host: str, port: int) -> int:
        @self._web.middleware  # type: ignore[untyped-decorator, unused-ignore]
        async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
            if self._signed is None or "Signature" not in request.headers:
                return await self._guarded(request, handler)
            return await self._verified(self._signed, request, handler)

        app = self._web.Application(client_max_size=_MOST_JSON, middlewares=[guarded])
        for method, path, handler in (
            ("POST", "/v1/enrol", self._enrol),
            ("POST", "/v1/renew", self._renew),
            ("GET", "/v1/tag", self._tag),
            ("GET", "/v1/poll", self._poll),
            ("GET", "/v1/preview", self._preview),
            ("GET", "/v1/blobs/{digest}", self._blob),
            ("POST", "/v1/tasks/{task}/progress", self._progress),
            ("POST", "/v1/tasks/{task}/outcome", self._outcome),
            ("HEAD", "/v1/tasks/{task}/{digest}", self._offset),
            ("PUT", "/v1/tasks/{task}/{digest}", self._contribute),
            *self._operations.routes,
            ("*", "/{anything:.*}", self._nothing),
        ):
            app.router.add_route(method, path, handler, expect_handler=self._expected)
        self._runner = self._web.AppRunner(app, access_log=None, keepalive_timeout=75.0, shutdown_timeout=1.0)
        await self._runner.setup()
        self._listening = await listening(self._runner.server, host, port, self._context)
        self._plainly = None
        if self._plain_port:
            self._plainly = await listening(self._runner.server, "127.0.0.1", self._plain_port, None)
        self._ticking = asyncio.create_task(self._tick())
        return int(self._listening.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._ticking.cancel()
        self._coordinator.release()
        self._listening.close()
        if self._plainly is not None:
            self._plainly.close()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            try:
                await self._coordinator.tick()
            except CoordinatorError:
                return  # those who wait have been told

    async def _verified(self, signed: SignedRequests, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answers a request that says who has signed it; of one that was not signed so, the answer is not signed."""
        try:
            request[requests.CALLER] = signed.verify(request)
        except EnrolmentError as error:
            return self._json({"error": str(error)}, 401)
        except OSError as error:
            return self._json({"error": str(error)}, 503, random.randint(5, 30))
        response = await self._guarded(request, handler)
        if isinstance(response, self._web.Response):
            body = response.body if isinstance(response.body, bytes) else b""
            signed.sign(request, response, digest_header(hashlib.sha256(body).digest()))
        elif (digest := response.headers.get("Content-Digest")) is not None:
            signed.sign(request, response, digest)
        return response

    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answers what is no request of ours, and what cannot be done now, without a trace of why it is so inside."""
        try:
            return await handler(request)
        except EnrolmentError as error:
            return self._json({"error": str(error)}, 401)
        except SubmissionError as error:
            return self._json({"error": str(error)}, 409)
        except CoordinatorError as error:
            return self._json({"error": str(error)}, 503, random.randint(5, 30))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            return self._json({"error": f"this is no such request: {error!r:.200}"}, 400)
        except OSError as error:
            _log.error("%s %s: %s", request.method, request.path, error)
            return self._json({"error": "the coordinator cannot do it now"}, 503, random.randint(5, 30))

    async def _expected(self, request: web.Request) -> web.Response | None:
        """Answers what a request expects: that it may go on. aiohttp's own answer fails on some bytes."""
        if request.headers.get("Expect", "").lower() != "100-continue":
            return self._json({"error": "no other expectation than 100-continue is met"}, 417)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    async def _nothing(self, request: web.Request) -> web.Response:
        return self._json({"error": "there is nothing of this name and method"}, 404)

    def _caller(self, request: web.Request) -> Device:
        device = self._coordinator.known(*requests.certificate_of(request))
        if device is None:
            raise EnrolmentError("this certificate is no device's, or the device was revoked")
        return device

    async def _tag(self, request: web.Request) -> web.Response:
        if self._signed is None:
            return self._json({"error": "no proxy before this coordinator ends TLS"}, 404)
        return self._json({"tag": self._signed.tag})

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = await requests.asked(request)
        csr, client = requests.text(asked, "request"), asked.get("client_id")
        if client is not None and type(client) not in (int, str):
            raise TypeError("client_id is a text or an integer")

        def enrol() -> Any:
            registry = self._coordinator.registry
            token, key = requests.invited(asked, registry.token, client_id=client), self._authority.key_of(csr)
            found = registry.enrol(token, client, key, lambda name: self._authority.device(csr, name))
            self._coordinator.add(found[0])
            return token, *found

        token, device, certificate = await asyncio.get_running_loop().run_in_executor(None, enrol)
        told = {"name": device.name, "client_id": device.client_id, "certificate": certificate.pem}
        return self._json(requests.enrolled(asked, token, told))

    async def _renew(self, request: web.Request) -> web.Response:
        device, csr = self._caller(request), requests.text(await requests.asked(request), "request")

        def renew() -> str:
            certificate = self._authority.device(csr, device.name)
            self._coordinator.registry.renew(device.name, certificate.fingerprint)
            self._coordinator.refresh()
            return certificate.pem

        return self._json({"certificate": await asyncio.get_running_loop().run_in_executor(None, renew)})

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        device: Device = self._caller(request)
        wait = min(_LONGEST_POLL, max(0.0, float(request.query.get("wait", _LONGEST_POLL))))
        if self._held >= self._most_held:
            return self._json({"error": "too many devices wait"}, 503, random.randint(10, 60))
        await self._confirm(request, device)
        self._held += 1
        try:
            order = await self._coordinator.poll(device, wait)
        finally:
            self._held -= 1
        return self._web.Response(status=204) if order is None else self._json(order.to_json())

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        order = self._coordinator.preview(self._caller(request))
        return self._web.Response(status=204) if order is None else self._json(order.to_json())

    async def _confirm(self, request: web.Request, device: Device) -> None:
        """A device that comes with its new certificate needs the one before no more."""
        if device.next_fingerprint is not None and requests.certificate_of(request)[1] == device.next_fingerprint:

            def confirm() -> None:
                self._coordinator.registry.came_with_next(device.name)
                self._coordinator.refresh()

            await asyncio.get_running_loop().run_in_executor(None, confirm)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        self._caller(request)
        digest = request.match_info["digest"]
        if not is_digest(digest) or not self._coordinator.blobs.has(digest):
            return self._json({"error": "there is no such blob"}, 404)
        response: web.StreamResponse = self._web.FileResponse(self._coordinator.blobs.path(digest))
        return response

    async def _progress(self, request: web.Request) -> web.Response:
        running, device, over = await self._task(request)
        if running is None:
            return over
        figure = (await requests.asked(request)).get("figure")
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure < float("inf"):
            raise ValueError("figure is a number that only grows")
        answer = await self._coordinator.happened(running, rounds.Progressed(device.name, float(figure)))
        assert isinstance(answer, rounds.Answer)
        return self._json({"outcome": answer.outcome, "lease": running.phase.terms.lease})

    async def _outcome(self, request: web.Request) -> web.Response:
        running, device, over = await self._task(request)
        if running is None:
            return over
        asked = await requests.asked(request)
        outcome, reason = Outcome(asked["outcome"]), requests.text(asked, "reason")[:_MOST_TEXT]
        if outcome not in TOLD:
            raise ValueError(f"a device says itself that it has {' or '.join(TOLD)}")
        answer = await self._coordinator.happened(running, rounds.Ended(device.name, outcome, reason))
        assert isinstance(answer, rounds.Answer)
        return self._json({"outcome": answer.outcome, "reason": answer.reason})

    async def _offset(self, request: web.Request) -> web.Response:
        running, device, over = await self._task(request)
        digest = requests.digest(request)
        if running is None:
            return over
        offset = await asyncio.get_running_loop().run_in_executor(None, self._uploads.offset, running, device, digest)
        headers = {"Upload-Offset": str(offset)}
        if (outcome := running.phase.tasks[device.name].outcome) is not None:
            headers["Hansa-Outcome"] = str(outcome)
        response: web.Response = self._web.Response(headers=headers)
        return response

    async def _contribute(self, request: web.Request) -> web.Response:
        running, device, over = await self._task(request)
        digest = requests.digest(request)
        if running is None:
            return over
        offset, total = int(request.headers.get("Upload-Offset", 0)), int(request.headers["Upload-Length"])
        if not 0 <= offset <= total:
            raise ValueError("Upload-Offset is of 0 to Upload-Length")
        through_proxy = requests.CALLER in request
        told = await self._uploads.take(running, device, digest, offset, total, requests.pieces(request), through_proxy)
        return self._json(told.body, told.status, told.seconds)

    async def _task(self, request: web.Request) -> tuple[Running | None, Device, web.Response]:
        """The phase of the device's task; where it is over, or was never its own, what is answered."""
        device: Device = self._caller(request)
        self._coordinator.seen(device)
        name = request.match_info["task"]
        running = self._coordinator.running(name, device)
        if running is not None:
            return running, device, self._json({})
        task = await self._coordinator.ended(name, device)
        if task is None:
            told = Told(403, {"error": "this was not asked of this device"})
        elif task.outcome is None:
            told = Told(503, {"error": "not now"}, random.randint(1, 5))  # the coordinator is on its way there
        else:
            told = told_before(task.outcome, task.reason, task.digest, request.match_info.get("digest", ""))
        response = self._json(told.body, told.status, told.seconds)
        if told.status == 200:
            response.headers["Hansa-Outcome"] = str(told.body["outcome"])
        return None, device, response

    def _json(self, body: Any, status: int = 200, seconds: int | None = None) -> web.Response:
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        response: web.Response = self._web.json_response(body, status=status, headers=headers)
        return response
