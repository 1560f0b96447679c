"""Clients that disconnect, in every phase of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, Provider, begun, failure, piece, serving
from bench.trust.worker import Worker, running

KEYS = ["sk-a-key-of-trust-0000"]
TIMES = 100
AT_ONCE = 20
OTHERS = 10**6
"""Clients with this mark or a higher one wait for the answer."""


async def six_phases() -> list[Figure]:
    """Disconnect 100 clients in each of six phases; the provider's work must end with them."""
    figures = []
    for phase in ("upload", "queued", "headers", "backoff", "stream", "whole"):
        figures += await _in(phase)
    return figures


async def _in(phase: str) -> list[Figure]:
    """Disconnect clients in *phase*; return the delay, the remaining leases and the calls."""
    settings = {"MAX_RETRIES": "3", "KEY_MAX_IN_FLIGHT": "1" if phase == "queued" else "1000"}
    holding = asyncio.Event()

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        if phase == "backoff" and call.mark < OTHERS:
            return failure(503, "busy", **{"Retry-After": "4"})
        if phase == "stream":
            response = await begun(request)
            while True:
                await response.write(piece("on and on "))
                await asyncio.sleep(0.02)
        if call.mark < OTHERS:
            await holding.wait()
        return await provider.good(request, call)

    async with serving(behave) as provider, running(provider.url, KEYS, **settings) as worker:
        holder = None
        if phase == "queued":
            holder = asyncio.ensure_future(worker.post(-5, stream=False))
            await _until(lambda: provider.open == 1)
        if phase == "backoff":  # successful requests refill the retry budget
            await asyncio.gather(*(worker.post(OTHERS + n, stream=False) for n in range(600)))
        before = sum(provider.by_key.values())
        slowest = 0.0
        for start in range(0, TIMES, AT_ONCE):
            slowest = max(slowest, await _leave(worker, provider, phase, start))
        calls = sum(provider.by_key.values()) - before
        holding.set()
        if holder is not None:
            await holder
        leases = await worker.settled()
        expected = {"upload": 0, "queued": 0}.get(phase, TIMES)
        return [
            at_most(f"{phase}: seconds until the last one was released", round(slowest, 2), 1.0),
            exactly(f"{phase}: leases", leases, 0),
            exactly(f"{phase}: calls of the provider", calls, expected),
        ]


async def _leave(worker: Worker, provider: Provider, phase: str, start: int) -> float:
    """Connect and disconnect clients; return the seconds until all their resources are released."""
    base, requests = provider.open, sum(provider.by_key.values())
    is_stream, missing = phase in ("headers", "stream", "backoff"), 1000 * (phase == "upload")
    connections = [
        await worker.begin(start + n, stream=is_stream, missing=missing) for n in range(AT_ONCE)
    ]
    if phase in ("headers", "stream", "whole"):
        await _until(lambda: provider.open == base + AT_ONCE)
    elif phase == "backoff":
        await _until(lambda: sum(provider.by_key.values()) == requests + AT_ONCE)
        await _until(lambda: provider.open == base)
    else:
        await asyncio.sleep(0.05)
    began = time.monotonic()
    for _, writer in connections:
        writer.transport.abort()
    await _until(lambda: provider.open <= base)
    if phase != "queued":
        while await worker.permits():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)
