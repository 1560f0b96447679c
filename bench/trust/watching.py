"""Streams that are watched: what `ui`, `top` and watchers of events cost a worker."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bench import clocks
from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, piece, serving
from bench.trust.worker import Worker, question, running

KEYS = ["sk-a-key-of-trust-0000"]
STREAMS = 500
EVENTS = 40
PAUSE = 0.25
"""Seconds between two events of a stream; an answer takes ten."""
ROUNDS = 5
"""Of each kind, alternately. The best ones are compared: other load only adds to a round."""
WATCHERS = 5
STATUS_SECONDS = 4.0
TOP_SECONDS = 2.0
"""Of `top` and of `ui`, which is one reader whatever number of pages is open."""
VIEWS = 2
_STAMP = re.compile(rb"at-(\d+)-")


async def watched_streams() -> list[Figure]:
    """500 streams with `ui`, `top` and 5 watchers, compared with 500 streams alone."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep((call.mark % 100) / 1000)
        for _ in range(EVENTS):
            await response.write(piece(f"at-{time.monotonic_ns()}-"))
            await asyncio.sleep(PAUSE)
        await response.write(b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    async with serving(behave) as provider, running(provider.url, KEYS) as worker:
        await _round(worker)  # warm-up
        alone, watched, control = [], [], []
        lines = [0]
        for _ in range(ROUNDS):
            alone.append(await _round(worker))
            async with _watching(worker, lines):
                watched.append(await _round(worker))
            control.append(await _round(worker))
        cpu = [min(one.cpu for one in rounds) for rounds in (alone, watched)]
        lags = [min(one.p99 for one in rounds) for rounds in (alone, watched)]
        more = (cpu[1] / cpu[0] - 1) * 100
        noise = (min(one.cpu for one in control) / cpu[0] - 1) * 100
        note = f"{cpu[0]:.1f}, then {cpu[1]:.1f} µs; without watchers again {noise:+.1f} %"
        lag_note = f"{lags[0]:.1f}, then {lags[1]:.1f} ms"
        expected = ROUNDS * STREAMS * 2 * (WATCHERS + VIEWS)
        return [
            at_most("per cent more CPU time of the worker per chunk", round(more, 2), 2, note),
            at_most("ms more in the slowest hundredth", round(lags[1] - lags[0], 1), 5, lag_note),
            exactly("events that did not come", expected - lines[0], 0),
        ]


class Round:
    """The cost of one round: CPU time in µs per chunk, and the slowest hundredth in ms."""

    def __init__(self, cpu: float, lags: list[float]) -> None:
        self.cpu = cpu / len(lags) * 1e6
        self.p99 = statistics.quantiles(lags, n=100)[98]


async def _round(worker: Worker) -> Round:
    lags: list[float] = []

    async def one(mark: int) -> None:
        async with worker.session.post(worker.url, json=question(mark, True)) as answer:
            async for data in answer.content.iter_any():
                now = time.monotonic_ns()
                lags.extend((now - int(at)) / 1e6 for at in _STAMP.findall(data))

    before = clocks.cpu_seconds([worker.pid])
    await asyncio.gather(*map(one, range(STREAMS)))
    await asyncio.sleep(0.7)  # the last events are sent after half a second
    return Round(clocks.cpu_seconds([worker.pid]) - before, lags)


@asynccontextmanager
async def _watching(worker: Worker, lines: list[int]) -> AsyncIterator[None]:
    """Read all events by `ui`, `top` and the watchers, and ask for the state as they do."""

    async def watch() -> None:
        reader, writer = await asyncio.open_unix_connection(worker.control, limit=2**20)
        writer.write(b'{"op": "watch"}\n')
        try:
            while line := await reader.readline():
                event = json.loads(line)["event"]
                lines[0] += event in ("request.started", "request.finished")
        finally:
            writer.close()

    async def ask(seconds: float) -> None:
        while True:
            await worker.reason()
            await asyncio.sleep(seconds)

    tasks = [asyncio.ensure_future(watch()) for _ in range(WATCHERS + VIEWS)]
    tasks += [asyncio.ensure_future(ask(STATUS_SECONDS)) for _ in range(WATCHERS)]
    tasks += [asyncio.ensure_future(ask(TOP_SECONDS)) for _ in range(VIEWS)]
    await asyncio.sleep(0.2)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
