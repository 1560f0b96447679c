"""Keys and retries under load: fairness, rate limits, a dead provider, closed connections."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from aiohttp import web

from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, failure, serving
from bench.trust.worker import Worker, is_complete, running

KEYS = [f"sk-a-key-of-trust-{n:04}" for n in range(10)]


async def fairness() -> list[Figure]:
    """Send 3,000 requests with 3 keys and random latencies: 100 at once, then one by one."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        return await provider.good(request, call, chunks=1, pause=random.uniform(0, slowest))

    async with serving(behave) as provider, running(provider.url, KEYS[:3]) as worker:
        slowest = 0.05
        gate = asyncio.Semaphore(100)
        at_once = await _asked(worker, range(3000), gate)
        counts = sorted(provider.by_key.values())
        provider.by_key.clear()
        slowest = 0.0
        serial = await _asked(worker, range(3000, 3300), asyncio.Semaphore(1))
        return [
            exactly("requests that failed", at_once + serial, 0),
            at_most("unfairness", max(abs(n / 1000 - 1) for n in counts), 0.05, str(counts)),
            exactly(
                "unfairness one by one", sum(abs(n - 100) for n in provider.by_key.values()), 0
            ),
        ]


async def failover() -> list[Figure]:
    """Measure the delay of a switch to another key: median of 200."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        if call.mark % 2 == 0 and call.mark not in limited:
            limited.add(call.mark)
            return failure(429, "slow down", **{"Retry-After": "0.001"})
        return await provider.good(request, call, chunks=1)

    async with serving(behave) as provider, running(provider.url, KEYS[:2]) as worker:
        limited: set[int] = set()
        durations: dict[bool, list[float]] = {True: [], False: []}
        for mark in range(400):
            began = time.perf_counter()
            await worker.post(mark, stream=False)
            seconds = time.perf_counter() - began
            durations[mark in limited].append(seconds * 1000)
        added = statistics.median(durations[True]) - statistics.median(durations[False])
        usual = statistics.median(durations[False])
        note = f"{len(durations[True])} times; an answer takes {usual:.1f} ms"
        return [at_most("ms that another key costs", round(added, 1), 20, note)]


async def limited_address() -> list[Figure]:
    """Use 10 keys at a rate-limited address: few calls, and no key goes into cooldown."""

    async def behave(_request: web.Request, _call: Call) -> web.StreamResponse:
        return failure(429, "too many requests", **{"Retry-After": "12"})

    async with serving(behave) as provider, running(provider.url, KEYS) as worker:
        status, _ = await worker.post(1, stream=False)
        calls = sum(provider.by_key.values())
        later = await asyncio.gather(*(worker.post(n, stream=False) for n in range(50)))
        rows = await worker.keys()
        reason = await worker.reason()
        return [
            exactly("status", status, 429),
            at_most("calls for the request", calls, 3),
            exactly("calls for the 50 that followed", sum(provider.by_key.values()) - calls, 0),
            exactly("of these not answered 429", sum(status != 429 for status, _ in later), 0),
            exactly("keys that rest", sum(row["state"] != "ready" for row in rows), 0, reason),
        ]


async def dead_provider() -> list[Figure]:
    """Send 100 requests a second for a minute to a provider that fails always or often."""
    figures = []
    for share, name in ((1.0, "always"), (0.33, "a third of the time")):
        requests, calls = await _pour(share)
        figures.append(
            at_most(f"calls per request, failing {name}", round(calls / requests, 3), 1.2)
        )
    return figures


async def _pour(share: float, *, seconds: float = 60.0, rate: float = 100.0) -> tuple[int, int]:
    chance = random.Random(12)

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        if chance.random() < share:
            return failure(503, "down")
        return await provider.good(request, call, chunks=1)

    async with serving(behave) as provider, running(provider.url, KEYS[:2]) as worker:
        tasks: list[asyncio.Future[tuple[int, bytes]]] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            tasks.append(asyncio.ensure_future(worker.post(len(tasks), stream=False)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*tasks)
        return len(tasks), sum(provider.by_key.values())


async def dying_connections() -> list[Figure]:
    """Let the provider close each pooled connection after its answer, 1,000 times."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        response = await provider.good(request, call, chunks=1)
        transport = request.transport
        assert transport is not None
        # Close it between two requests or as the next one arrives; the answer has been sent.
        asyncio.get_running_loop().call_later(0.0005 * (call.mark % 4), transport.close)
        return response

    async with serving(behave) as provider, running(provider.url, KEYS[:1]) as worker:
        worker_failures = 0
        for mark in range(1000):
            status, body = await worker.post(mark, stream=mark % 2 == 0)
            worker_failures += not is_complete(status, body, mark)
        # A request on a closing connection is retried, because no part of an answer has arrived.
        again = sum(count > 2 for count in provider.by_mark.values())
        return [
            exactly("requests that failed", worker_failures, 0),
            exactly("requests sent more than twice", again, 0),
        ]


async def _asked(worker: Worker, marks: range, gate: asyncio.Semaphore) -> int:
    """Send a request for every mark; return the number of incomplete answers."""

    async def one(mark: int) -> bool:
        async with gate:
            return is_complete(*await worker.post(mark, stream=False), mark)

    return sum(not done for done in await asyncio.gather(*map(one, marks)))
