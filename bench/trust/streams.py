"""Many streams: stalled readers, 500 streams at once, silent clients, broken streams."""

from __future__ import annotations

import asyncio
import statistics
import time

from aiohttp import web

from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, begun, piece, read_lags, serving, stamped
from bench.trust.worker import Worker, question, running

KEYS = ["sk-a-key-of-trust-0000"]
STALLED = 20
STREAMS = 500
EVENTS = 20


async def stalled_readers() -> list[Figure]:
    """Stall 20 readers, each with a stream of 300 MB."""

    async def behave(request: web.Request, _call: Call) -> web.StreamResponse:
        response = await begun(request)
        chunk = piece("x" * 60_000)
        for _ in range(300_000_000 // len(chunk)):
            await response.write(chunk)
            progress[0] += len(chunk)
        return response

    progress = [0]
    async with serving(behave) as provider, running(provider.url, KEYS) as worker:
        before = worker.resident()
        connections = [await worker.begin(mark, stream=True) for mark in range(STALLED)]
        for reader, _ in connections:
            await reader.readuntil(b"200 OK")
        await _until_still(progress)
        most = worker.resident() - before
        still_open = provider.open
        for _, writer in connections:
            writer.transport.abort()
        await asyncio.sleep(1)
        return [
            at_most("MiB of additional memory", round(most, 1), 64),
            exactly("streams that wait", still_open, STALLED),
            exactly("streams open a second after the readers disconnected", provider.open, 0),
            exactly("leases", await worker.settled(), 0),
        ]


async def _until_still(progress: list[int]) -> None:
    """Wait until the provider's writes are blocked."""
    last = -1
    while progress[0] != last:
        last = progress[0]
        await asyncio.sleep(1)


async def many_streams() -> list[Figure]:
    """Read 500 streams at once, each with an event every 250 ms."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        delay = (call.mark % 250) / 1000
        return await stamped(request, delay=delay, chunks=EVENTS, pause=0.25)

    async with serving(behave) as provider, running(provider.url, KEYS) as worker:
        direct = await _lags(worker, provider.url + "/chat/completions")
        lags = await _lags(worker, worker.url)
        added = _p99(lags) - _p99(direct)
        note = f"through {_p99(lags):.1f}, direct {_p99(direct):.1f}, middle {_middle(lags):.1f}"
        return [
            exactly("events that came", len(lags), STREAMS * EVENTS),
            at_most("ms that the slowest hundredth takes longer", round(added, 1), 20, note),
        ]


async def _lags(worker: Worker, url: str) -> list[float]:
    """Read 500 streams; return the delay of each event in ms."""
    lags: list[float] = []

    async def one(mark: int) -> None:
        headers = {"Authorization": "Bearer x"}
        body = question(mark, True)
        async with worker.session.post(url, json=body, headers=headers) as answer:
            await read_lags(answer, lags)

    await asyncio.gather(*map(one, range(STREAMS)))
    return lags


def _p99(lags: list[float]) -> float:
    return statistics.quantiles(lags, n=100)[98]


def _middle(lags: list[float]) -> float:
    return statistics.median(lags)


async def silent_clients() -> list[Figure]:
    """Measure the effect of 500 partial requests and 500 silent connections on others."""
    async with serving() as provider, running(provider.url, KEYS) as worker:
        alone = await _latencies(worker)
        crowd = [
            await _open(worker, b"POST /v1/messages HTT" if n % 2 else b"") for n in range(990)
        ]
        among = await _latencies(worker)
        began = time.monotonic()
        last = [await _until_closed(reader) for reader, _ in crowd]
        seconds = time.monotonic() - began
        for _, writer in crowd:
            writer.transport.abort()
        timeouts = sum(line.startswith(b"HTTP/1.1 408") for line in last)
        longer = (_middle(among) / _middle(alone) - 1) * 100
        slowest = f"slowest hundredth {_p99(alone):.1f}, then {_p99(among):.1f} ms"
        return [
            at_most("per cent that an answer takes longer", round(longer, 1), 10, slowest),
            exactly("connections that did not get 408", len(crowd) - timeouts, 0),
            at_most("seconds until all are closed", round(seconds, 1), 31),
        ]


async def _latencies(worker: Worker) -> list[float]:
    latencies = []
    for mark in range(400):
        began = time.perf_counter()
        await worker.post(mark, stream=False)
        latencies.append((time.perf_counter() - began) * 1000)
    return latencies


async def _open(worker: Worker, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(data)
    return reader, writer


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(60):
        return await reader.read()


async def broken_streams() -> list[Figure]:
    """Let the provider fail after the first chunk, 300 times in three ways."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        provider.by_mark[call.mark] += 1
        response = await begun(request)
        await response.write(piece("begun"))
        await asyncio.sleep(0.005)  # a reset discards unread data
        if call.mark % 3 == 0 and request.transport is not None:
            request.transport.abort()
        elif call.mark % 3 == 1:
            await response.write(b'data: {"error":{"message":"burnt"}}\n\n')
        return response

    async with serving(behave) as provider, running(provider.url, KEYS) as worker:
        slowest, odd = 0.0, 0
        for mark in range(300):
            began = time.monotonic()
            _, body = await worker.post(mark, stream=True)
            slowest = max(slowest, time.monotonic() - began)
            odd += body.count(b"event: error") != 1
            odd += b"message_stop" in body
        return [
            exactly("answers without their one error event", odd, 0),
            exactly("requests sent twice", sum(n > 1 for n in provider.by_mark.values()), 0),
            at_most("seconds until the end", round(slowest, 2), 1),
            exactly("leases", await worker.settled(), 0),
        ]
