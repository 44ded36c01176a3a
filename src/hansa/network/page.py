"""The live page of a coordinator, on a port of this machine alone, and its figures for Prometheus.

    GET /          the page, which loads nothing from elsewhere
    GET /events    what it shows, as server-sent events, whenever something of it has changed
    GET /metrics   figures for Prometheus

Everything asks for the token of the page's address, once: as `?token=`, which becomes a cookie, or as a bearer token.
Nothing can be changed here.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa.network.monitoring import Monitor

if TYPE_CHECKING:
    from aiohttp import web

_EVERY = 1.0
"""Seconds between two looks for a change."""
_QUIET = 15.0
"""Seconds after which a listener is told that nothing has changed."""
_MOST_LISTENERS = 50
_COOKIE = "hansa_page"


class Page:
    """The page, in the loop of a server.

    Args:
        monitor: what it shows.

    Attributes:
        token: without which nothing is shown.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._web: Any = require("aiohttp.web", "network", "the page of a coordinator")
        self._monitor, self.token = monitor, secrets.token_urlsafe(24)
        self._listeners = 0
        self._html = files("hansa.network").joinpath("page.html").read_text("utf-8")

    async def start(self, port: int) -> str:
        """Serves it; gives its address, with the token.

        Raises:
            OSError: if the port is in use.
        """

        @self._web.middleware  # type: ignore[untyped-decorator, unused-ignore]
        async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
            refused = self._refused(request)
            response: web.StreamResponse = refused if refused is not None else await handler(request)
            return response

        app = self._web.Application(client_max_size=1024, middlewares=[guarded])
        app.router.add_get("/", self._page)
        app.router.add_get("/events", self._events)
        app.router.add_get("/metrics", self._metrics)
        self._runner = self._web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._web.TCPSite(self._runner, "127.0.0.1", port).start()
        self._port = int(self._runner.addresses[0][1])
        return f"http://127.0.0.1:{self._port}/?token={self.token}"

    async def stop(self) -> None:
        """Shows it no more."""
        await self._runner.cleanup()

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.host not in (f"127.0.0.1:{self._port}", f"localhost:{self._port}"):  # another name leads here
            return self._text("this is not the address of the page", 403)
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        shown = (request.query.get("token"), request.cookies.get(_COOKIE), bearer if scheme == "Bearer" else None)
        if not any(each is not None and hmac.compare_digest(each.encode(), self.token.encode()) for each in shown):
            return self._text("the page asks for its token: open the address that hansa serve has printed", 401)
        return None

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:  # out of the address, so that it is in no history and no picture
            moved: web.StreamResponse = self._web.Response(status=303, headers={"Location": "/"})
            moved.set_cookie(_COOKIE, self.token, httponly=True, samesite="Strict", path="/")
            return moved
        nonce = secrets.token_urlsafe(12)
        rules = f"default-src 'none'; connect-src 'self'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        response: web.StreamResponse = self._web.Response(
            text=self._html.replace("NONCE", nonce),
            content_type="text/html",
            headers={
                "Content-Security-Policy": rules + "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            },
        )
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._listeners >= _MOST_LISTENERS:
            return self._text("too many pages are open", 503)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        response: web.StreamResponse = self._web.StreamResponse(headers=headers)
        await response.prepare(request)
        self._listeners += 1
        loop, last, quiet = asyncio.get_running_loop(), "", 0.0
        try:
            while True:
                found = json.dumps(await loop.run_in_executor(None, self._monitor.snapshot), default=str)
                if found != last:
                    last, quiet = found, 0.0
                    await response.write(f"data: {found}\n\n".encode())
                elif quiet >= _QUIET:
                    quiet = 0.0
                    await response.write(b": nothing new\n\n")
                await asyncio.sleep(_EVERY)
                quiet += _EVERY
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._listeners -= 1

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        text = await asyncio.get_running_loop().run_in_executor(None, self._monitor.prometheus)
        response: web.StreamResponse = self._web.Response(
            body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
        return response

    def _text(self, text: str, status: int) -> web.Response:
        response: web.Response = self._web.Response(text=text + "\n", status=status)
        return response
