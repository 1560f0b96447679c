"""The server of GET /metrics: on a port or socket of its own, never the clients'."""

from __future__ import annotations

from aiohttp import web

from ccproxy.config.services.metrics_address import MetricsAddress
from ccproxy.worker.metrics.exposition import CONTENT_TYPE
from ccproxy.worker.metrics.worker_metrics import WorkerMetrics
from ccproxy.worker.worker import Worker


class MetricsServer:
    """Answers scrapes."""

    def __init__(self, worker: Worker, address: MetricsAddress) -> None:
        self._metrics = WorkerMetrics(worker)
        self._address = address
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Begin to listen; OSError if the address is not available."""
        await self._runner.setup()
        address = self._address
        site: web.BaseSite = (
            web.UnixSite(self._runner, address.path)
            if address.path
            else web.TCPSite(self._runner, address.host, address.port)
        )
        await site.start()

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        body = self._metrics.text().encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
