"""A worker in the test's event loop, on a real socket, with a scripted provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from ccproxy.config.fleet import Entry
from ccproxy.config.secrets import secrets_of
from ccproxy.config.worker_config import load_worker
from ccproxy.redaction import Redactor
from ccproxy.worker.lifecycle import Lifecycle, bind
from ccproxy.worker.worker import Worker, make_worker
from tests.fleet import eventually
from tests.messages import Answer, ask, prompt

KEY = "sk-provider-0123456789"


class Proxy:
    """A running worker and its client."""

    def __init__(self, worker: Worker, lifecycle: Lifecycle, log: list[dict[str, Any]]) -> None:
        self.worker = worker
        self.lifecycle = lifecycle
        self.log = log
        """Every event that the worker logged."""
        self.port: int = lifecycle.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = aiohttp.ClientSession()

    async def ask(self, body: Mapping[str, Any] | bytes | None = None, **how: Any) -> Answer:
        """Send a Messages request and check the answer against every rule of the API."""
        return await ask(self.session, self.url, prompt() if body is None else body, **how)

    def post(self, path: str, body: Mapping[str, Any], **how: Any) -> Any:
        """Post JSON; to be used in `async with`."""
        return self.session.post(self.url + path, json=body, **how)

    def get(self, path: str, **how: Any) -> Any:
        """Send a GET request; to be used in `async with`."""
        return self.session.get(self.url + path, **how)

    async def exchange(self, data: bytes) -> bytes:
        """Write *data* to a new connection, and return all data until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        received = await reader.read()
        writer.close()
        return received

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for *event*, and return its last line."""
        return (await eventually(lambda: self.lines(event)))[-1]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of *event* so far."""
        return [line for line in self.log if line["event"] == event]


@asynccontextmanager
async def running(
    home: Path, provider_url: str, *, label: str = "Test", **settings: str
) -> AsyncIterator[Proxy]:
    """Run a worker with *settings* from an env file."""
    environ = {
        "PROVIDER_BASE_URL": provider_url,
        "PROVIDER_API_KEY": KEY,
        "MAX_RETRIES": "0",
        **settings,
    }
    entry = Entry(port=1, env_file=home / "x.env", label=label)
    config = load_worker(None, entry=entry, environ=environ)
    log: list[dict[str, Any]] = []
    logger = structlog.wrap_logger(
        None,
        processors=[_append_to(log)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    worker = make_worker(config, home=home, log=logger, redact=Redactor(secrets_of(config)))
    await worker.open()
    lifecycle = Lifecycle(worker, bind("127.0.0.1", 0))
    await lifecycle.start()
    proxy = Proxy(worker, lifecycle, log)
    task = asyncio.get_running_loop().create_task(lifecycle.run())
    try:
        yield proxy
    finally:
        await proxy.session.close()
        lifecycle.stop()
        await task
        lifecycle.listener.close()
        await worker.close()


def _append_to(log: list[dict[str, Any]]) -> Any:
    def append(_logger: object, level: str, event: dict[str, Any]) -> Any:
        log.append({**event, "level": level})
        raise structlog.DropEvent

    return append
