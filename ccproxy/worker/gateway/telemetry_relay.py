"""
Forwards telemetry from signed-in clients to an OTLP/HTTP collector.

Clients log an error for each failed export, so they get a success status even if the collector does
not respond; the batch is then dropped, and the loss is logged.
"""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import aiohttp
from structlog.typing import FilteringBoundLogger

from ccproxy.config.forward_proxy import proxy_for
from ccproxy.worker.upstream.connections import explain, open_session

USER_HEADER = "x-ccproxy-user"
MOST_AT_ONCE = 8
"""Maximum number of concurrent deliveries; a batch can be as large as 4 MiB."""
WARN_SECONDS = 60.0
DELIVERY_SECONDS = 5.0
"""Time limit for one delivery; OTLP exporters report an error after 10 s without a response."""


class TelemetryRelay:
    """Delivers batches to one collector."""

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: Path | None,
        proxy: str | None,
        log: FilteringBoundLogger,
    ) -> None:
        self._url = url
        self._ca_bundle = ca_bundle
        self._proxy = proxy_for(url, proxy)
        self._log = log
        self._running = 0
        self._dropped = 0
        self._warned_at = -WARN_SECONDS

    async def deliver(self, path: str, body: bytes, *, content_type: str, user: str) -> None:
        """Send a batch from *user* to *path* of the collector, or drop it."""
        if self._running >= MOST_AT_ONCE:
            self._drop("too many batches at once")
            return
        self._running += 1
        headers = {"Content-Type": content_type, USER_HEADER: user}
        timeout = aiohttp.ClientTimeout(total=DELIVERY_SECONDS)
        try:
            async with (
                open_session(self._ca_bundle, timeout=timeout) as session,
                session.post(
                    self._url + path,
                    data=BytesIO(body),  # plain bytes, up to 4 MiB, would be written all at once
                    headers=headers,
                    proxy=self._proxy,
                    allow_redirects=False,
                ) as answer,
            ):
                if not answer.ok:
                    self._drop(f"the collector answered with status {answer.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._drop(explain(error))
        finally:
            self._running -= 1

    def _drop(self, reason: str) -> None:
        """Count a lost batch, and log losses at most once a minute."""
        self._dropped += 1
        now = time.monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            self._log.warning("telemetry.dropped", batches=self._dropped, reason=reason)
            self._warned_at, self._dropped = now, 0
