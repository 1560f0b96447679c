"""The routes of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import msgspec
from aiohttp import web

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.ui.browser_guard import BrowserGuard, add_headers
from ccproxy.ui.bundle import static_files
from ccproxy.ui.fleet_feed import FleetFeed
from ccproxy.ui.page_actions import COMMANDS
from ccproxy.ui.page_data import VIEWS
from ccproxy.ui.sign_in import SESSION_SECONDS, SignIn

MAX_BODY = 64 * 1024
WRITE_SECONDS = 30.0
MAX_WORK = 8
"""The maximum number of concurrent views and actions, each in a thread."""


class WebApp:
    """Serves the page of the fleet that *read* returns, which may change between requests."""

    def __init__(
        self,
        read: Callable[[], Fleet],
        feed: FleetFeed,
        sign_in: SignIn,
        *,
        port: Callable[[], int],
    ) -> None:
        self._read = read
        self._feed = feed
        self._sign_in = sign_in
        self._guard = BrowserGuard(sign_in, port=port)
        self._work = asyncio.Semaphore(MAX_WORK)
        self.on_sign_in: Callable[[], None] = lambda: None
        """Called when a code is used."""

    def application(self) -> web.Application:
        """Return the application for an aiohttp runner."""
        app = web.Application(middlewares=[self._guard.middleware()], client_max_size=MAX_BODY)
        app.on_response_prepare.append(add_headers)
        app.add_routes([
            web.post("/session", self._begin_session),
            web.delete("/session", self._end_session),
            web.get("/api/events", self._events),
            web.get("/api/{name}", self._view),
            web.post("/api/{name}", self._command),
            web.get("/{path:.*}", self._file_of_page),
        ])  # fmt: skip
        return app

    # Sign-in.

    async def _begin_session(self, request: web.Request) -> web.Response:
        try:
            code = msgspec.json.decode(await request.read(), type=dict[str, str]).get("code", "")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _refused(400, "not JSON")
        session = self._sign_in.exchange(code)
        if session is None:
            return _refused(403, "this code has already been used or has expired")
        response = web.json_response({"token": session.token})
        response.set_cookie(
            self._guard.cookie_name,
            session.cookie,
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="Strict",
        )
        self.on_sign_in()
        return response

    async def _end_session(self, request: web.Request) -> web.Response:
        self._sign_in.end(request.cookies.get(self._guard.cookie_name, ""))
        response = web.json_response({})
        response.del_cookie(self._guard.cookie_name)
        return response

    # Files.

    async def _file_of_page(self, request: web.Request) -> web.Response:
        path = f"/{request.match_info['path']}"
        if path == "/":
            path = "/index.html" if self._guard.has_session(request) else "/sign_in.html"
        file = static_files().get(path)
        if file is None:
            return _refused(404, "there is no such file")
        return web.Response(body=file.content, content_type=file.content_type, charset="utf-8")

    # Data and actions.

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._feed.is_full:
            return _refused(503, "too many ccproxy ui pages are open")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        # A closed page, or one that has stopped reading.
        with suppress(ConnectionResetError, TimeoutError):
            async with aclosing(self._feed.messages()) as messages:
                async for message in messages:
                    await asyncio.wait_for(response.write(message), WRITE_SECONDS)
        return response

    async def _view(self, request: web.Request) -> web.Response:
        view = VIEWS.get(request.match_info["name"])
        if view is None:
            return _refused(404, "there is no such view")
        return await self._answer(lambda: view(self._read(), request.query))

    async def _command(self, request: web.Request) -> web.Response:
        decode = COMMANDS.get(request.match_info["name"])
        if decode is None:
            return _refused(404, "there is no such command")
        if request.content_type != "application/json":
            return _refused(415, "the body must be application/json")
        try:
            command = decode(await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _refused(400, str(error))
        return await self._answer(lambda: command.run(self._read()))

    async def _answer(self, work: Callable[[], Any]) -> web.Response:
        try:
            async with self._work:
                content = await asyncio.to_thread(work)
        except (CcproxyError, OSError) as error:
            return _refused(400, str(error))
        return web.Response(body=msgspec.json.encode(content), content_type="application/json")


def _refused(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
