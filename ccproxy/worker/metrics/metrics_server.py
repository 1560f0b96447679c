"""
The server of GET /metrics, on a separate port or socket, never on the clients' port.

Requests from web pages are refused as on the clients' port, including those that use DNS rebinding.
"""

from __future__ import annotations

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
from ccproxy.worker.worker import Worker


class MetricsServer:
    """Answers scrapes."""

    def __init__(self, worker: Worker, address: MetricsAddress) -> None:
        self._metrics = WorkerMetrics(worker)
        self._address = address
        # On addresses other than loopback, a scraper may use any host name.
        allowed = worker.config.allowed_hosts if is_loopback(address.host) else ()
        self._authenticator = Authenticator((), host=address.host, allowed_hosts=allowed)
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Start listening; OSError if the address is not available."""
        await self._runner.setup()
        address = self._address
        if address.path:
            await web.SockSite(self._runner, _private_socket(Path(address.path))).start()
        else:
            await web.TCPSite(self._runner, address.host, address.port).start()

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            self._authenticator.check_origin(request.headers, request.raw_path)
        except Problem as problem:
            return web.Response(status=problem.status, text=f"{problem.message}\n")
        body = self._metrics.text().encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def _private_socket(path: Path) -> socket.socket:
    """Bind a socket that only the user can connect to; replace the socket of an exited worker."""
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
