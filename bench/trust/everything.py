"""All at once: mixed streams, a rate-limited and a rejected key, clients that disconnect."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import aiohttp
from aiohttp import web

from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, Provider, failure, serving
from bench.trust.worker import Worker, is_complete, question, running

REQUESTS = 2000
LEAVING = 0.05
GOOD = [f"sk-good-key-of-trust-{n:04}" for n in range(3)]
LIMITED, REFUSED = "sk-limited-key-of-trust-0429", "sk-refused-key-of-trust-0401"


async def one_good_key() -> list[Figure]:
    """Send 2,000 requests: of 3 keys one gets 429, one 401; 5 % of the clients disconnect."""
    return await _run([LIMITED, REFUSED, GOOD[0]])


async def three_good_keys() -> list[Figure]:
    """Send the same requests with three good keys, to measure their distribution."""
    return await _run([GOOD[0], LIMITED, GOOD[1], REFUSED, GOOD[2]])


async def _run(keys: list[str]) -> list[Figure]:
    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        if call.key == LIMITED:
            return failure(429, "slow down, too many requests", **{"Retry-After": "0.3"})
        if call.key == REFUSED:
            return failure(401, "invalid api key")
        pause = random.uniform(0.001, 0.02)
        return await provider.good(request, call, chunks=20, pause=pause)

    room = {"MAX_CONNECTIONS": str(2 * REQUESTS)}
    async with serving(behave) as provider, running(provider.url, keys, **room) as worker:
        await asyncio.gather(*(worker.post(10**6 + n, stream=True) for n in range(200)))
        before = worker.resident()
        provider.by_key.clear()
        ends = await _load(worker)
        leases = await worker.settled()
        await worker.session.close()
        await asyncio.sleep(0.5)
        return _figures(provider, worker, ends, leases=leases, before=before)


async def _load(worker: Worker) -> Counter[str]:
    ends: Counter[str] = Counter()
    chance = random.Random(4)

    async def one(mark: int, leaves: bool, stream: bool) -> None:
        if leaves:
            await _leave(worker, mark, stream, after=chance.uniform(0, 0.4))
            ends["left"] += 1
            return
        try:
            status, body = await worker.post(mark, stream=stream)
        except aiohttp.ClientError as error:
            ends[f"broken: {type(error).__name__}"] += 1
            return
        whole = is_complete(status, body, mark)
        ends["whole" if whole else f"failed: {status} {body[-200:]!r}"] += 1

    draws = [(n, chance.random() < LEAVING, chance.random() < 0.7) for n in range(REQUESTS)]
    await asyncio.gather(*(one(*draw) for draw in draws))
    return ends


async def _leave(worker: Worker, mark: int, stream: bool, *, after: float) -> None:
    """Send a request and close the connection *after* some seconds."""
    request = asyncio.ensure_future(
        worker.session.post(
            worker.url, json=question(mark, stream), headers={"Connection": "close"}
        )
    )
    await asyncio.wait([request], timeout=after)
    if request.done():
        request.result().close()
    else:
        request.cancel()
        await asyncio.wait([request])


def _figures(
    provider: Provider,
    worker: Worker,
    ends: Counter[str],
    *,
    leases: int,
    before: float,
) -> list[Figure]:
    by_key = {key: count for key, count in provider.by_key.items() if key in GOOD}
    mean = sum(by_key.values()) / len(by_key)
    spread = max(abs(count - mean) / mean for count in by_key.values())
    bad = {text: count for text, count in ends.items() if text not in ("whole", "left")}
    again = sum(count > 1 for mark, count in provider.by_mark.items() if mark < REQUESTS)
    return [
        exactly("requests that failed though a key was good", sum(bad.values()), 0, str(bad or "")),
        exactly("answers begun twice for one request", again, 0),
        at_most("unfairness among good keys", round(spread, 3), 0.05, str(sorted(by_key.values()))),
        exactly("leases at the end", leases, 0),
        exactly("answers still open at the provider", provider.open, 0),
        at_most("MiB of additional memory than before", round(worker.resident() - before, 1), 64),
        at_most("calls with the limited key", provider.by_key[LIMITED], 100),
        at_most("calls with the refused key", provider.by_key[REFUSED], 100),
    ]
