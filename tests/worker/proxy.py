"""A worker inside the test's own event loop, on a real socket, before a scripted provider."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from ccproxy.config.fleet import Entry
from ccproxy.config.secrets import secrets_of
from ccproxy.config.worker import load_worker
from ccproxy.redaction import Redactor
from ccproxy.worker.assembly import make_worker
from ccproxy.worker.lifecycle import Service, bind
from ccproxy.worker.state import Worker
from tests.fleet import eventually
from tests.messages import Answer, ask, prompt

KEY = "sk-provider-0123456789"


class Proxy:
    """A running worker, and the client that asks it."""

    def __init__(self, worker: Worker, service: Service, log: list[dict[str, Any]]) -> None:
        self.worker = worker
        self.service = service
        self.log = log
        """Every line that the worker logged."""
        self.port = service.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = aiohttp.ClientSession()

    async def ask(self, body: Mapping[str, Any] | bytes | None = None, **how: Any) -> Answer:
        """Send a Messages request and read the answer by every rule."""
        return await ask(self.session, self.url, prompt() if body is None else body, **how)

    def post(self, path: str, body: Mapping[str, Any], **how: Any) -> Any:
        """Post JSON; use in `async with`."""
        return self.session.post(self.url + path, json=body, **how)

    def get(self, path: str, **how: Any) -> Any:
        """Get; use in `async with`."""
        return self.session.get(self.url + path, **how)

    async def exchange(self, data: bytes) -> bytes:
        """Write *data* to a new connection and return all that comes until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        received = await reader.read()
        writer.close()
        return received

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for the last line of *event*."""
        return (await eventually(lambda: self.lines(event)))[-1]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of *event* so far."""
        return [line for line in self.log if line["event"] == event]


@asynccontextmanager
async def running(
    home: Path, provider_url: str, *, label: str = "Test", **settings: str
) -> AsyncIterator[Proxy]:
    """Run a worker with these env file *settings*."""
    environ = {
        "PROVIDER_BASE_URL": provider_url,
        "PROVIDER_API_KEY": KEY,
        "MAX_RETRIES": "0",
        **settings,
    }
    config = load_worker(
        None, entry=Entry(port=1, env_file=home / "x.env", label=label), environ=environ
    )
    log: list[dict[str, Any]] = []
    logger = structlog.wrap_logger(
        None,
        processors=[_keep_in(log)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    redact = Redactor(secrets_of(config))
    worker = make_worker(config, home=home, log=logger, redact=redact)
    await worker.upstream.open()
    service = Service(worker, bind("127.0.0.1", 0))
    await service.start()
    proxy = Proxy(worker, service, log)
    task = asyncio.get_running_loop().create_task(service.run())
    try:
        yield proxy
    finally:
        await proxy.session.close()
        service.stop()
        await task
        service.listener.close()
        await worker.upstream.close()
        await worker.session.close()
        if worker.keeper is not None:
            await worker.keeper.close()


def _keep_in(log: list[dict[str, Any]]) -> Any:
    def keep(_logger: object, level: str, event: dict[str, Any]) -> Any:
        log.append({**event, "level": level})
        raise structlog.DropEvent

    return keep


def dead_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
