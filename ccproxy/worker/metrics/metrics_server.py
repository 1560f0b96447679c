"""
The server of GET /metrics, on a separate port or socket, never on the clients' port.

As on the clients' port, requests from web pages are refused, including those that use DNS
rebinding. The same limits on time and size apply, because the port requires no key.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from aiohttp import web

from ccproxy.config.parsers import is_loopback
from ccproxy.config.services.monitoring_addresses import MetricsAddress
from ccproxy.errors import Problem
from ccproxy.worker.metrics.exposition import CONTENT_TYPE
from ccproxy.worker.metrics.worker_metrics import WorkerMetrics
from ccproxy.worker.server.authentication import Authenticator
from ccproxy.worker.server.http import ClientRequest, ClientServer
from ccproxy.worker.worker import Worker

MAX_SCRAPERS = 16
"""Maximum number of connections, so that they cannot use up the worker's file descriptors."""


class MetricsServer:
    """Answers scrapes."""

    def __init__(self, worker: Worker, address: MetricsAddress) -> None:
        self._metrics = WorkerMetrics(worker)
        self._address = address
        # On addresses other than loopback, any host name is accepted from a scraper.
        allowed = worker.config.allowed_hosts if is_loopback(address.host) else ()
        self._authenticator = Authenticator((), host=address.host, allowed_hosts=allowed)
        self._http = ClientServer(self._answer, worker)
        self._http.max_connections = MAX_SCRAPERS
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening; raise OSError if the address is not available."""
        loop, address = asyncio.get_running_loop(), self._address
        if address.path:
            listener = _private_socket(Path(address.path))
            self._server = await loop.create_unix_server(self._http, sock=listener)
        else:
            self._server = await loop.create_server(self._http, address.host, address.port)

    async def close(self) -> None:
        """Stop listening and close the connections."""
        if self._server is not None:
            self._server.close()
        self._http.pre_shutdown()
        await self._http.shutdown(timeout=0.1)

    async def _answer(self, request: ClientRequest) -> web.Response:
        if request.path != "/metrics" or request.method not in ("GET", "HEAD"):
            return web.Response(status=404, text="only GET /metrics is served here\n")
        try:
            self._authenticator.check_origin(request.headers, request.raw_path)
        except Problem as problem:
            return web.Response(status=problem.status, text=f"{problem.message}\n")
        body = self._metrics.text().encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def _private_socket(path: Path) -> socket.socket:
    """Bind a socket to which only the user can connect; replace one left by an exited worker."""
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old_mask)
    return listener
