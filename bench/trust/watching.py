"""
Watched streams: the cost of `ui`, `top` and watchers of events for a worker.

500 streams run all the time. Time windows with and without watchers alternate, and each window with
watchers is compared with the two next to it, so that other load on the machine affects both.
Windows without watchers are compared with their neighbours in the same way, as a control. Windows
in which the machine could not keep up with the streams are excluded: there, the watchers' costs per
second and per request are divided by fewer chunks.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Literal

from aiohttp import web

from bench import clocks
from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import Call, read_lags, serving, stamped
from bench.trust.worker import Worker, question, running

KEYS = ["sk-a-key-of-trust-0000"]
STREAMS = 500
EVENTS = 40
PAUSE = 0.25
"""Seconds between two events of a stream; an answer takes ten."""
WINDOWS = 61
WINDOW_SECONDS = 2.0
LEAST_CHUNKS = 0.9 * STREAMS * WINDOW_SECONDS / PAUSE
"""The fewest chunks in a window that counts."""
LEAST_COMPARED = 10
SETTLE_SECONDS = 1.0
"""The wait after watchers connect or leave; a new watcher first gets all running requests."""
WATCHERS = 5
STATUS_SECONDS = 4.0
TOP_SECONDS = 2.0
"""The interval for `top` and for `ui`, which is one reader for any number of open pages."""
VIEWS = 2


async def watched_streams() -> list[Figure]:
    """Compare 500 streams with `ui`, `top` and 5 watchers to 500 streams alone."""

    async def behave(request: web.Request, call: Call) -> web.StreamResponse:
        delay = (call.mark % STREAMS) / STREAMS * PAUSE
        return await stamped(request, delay=delay, chunks=EVENTS, pause=PAUSE)

    async with (
        serving(behave) as provider,
        running(provider.url, KEYS) as worker,
        _streaming(worker) as lags,
    ):
        await asyncio.sleep(EVENTS * PAUSE)  # warm-up
        windows: list[Window] = []
        seen: list[tuple[int, int]] = []
        for number in range(WINDOWS):
            if number % 2:
                async with _watching(worker) as readers:
                    windows.append(await _window(worker, lags))
                seen += [(reader.started, reader.finished) for reader in readers]
            else:
                windows.append(await _window(worker, lags))
    compared, controls = _neighbours(windows, step=2), _neighbours(windows[::2], step=1)
    if min(len(compared), len(controls)) < LEAST_COMPARED:
        kept_up = sum(window.counts for window in windows)
        note = "too much other load: run it again"
        return [exactly("windows in which the machine kept up", kept_up, WINDOWS, note)]
    costs, noise = (_higher(triples, "cpu") for triples in (compared, controls))
    delays, delay_noise = (_higher(triples, "p99") for triples in (compared, controls))
    typical = statistics.median(before.cpu for before, _, _ in compared)
    lag = statistics.median(before.p99 for before, _, _ in compared)
    note = f"of {typical:.1f} µs; without watchers {noise * 100:+.2f} %"
    lag_note = f"of {lag:.1f} ms; without watchers {delay_noise * lag:+.1f} ms"
    return [
        at_most("per cent more CPU time of the worker per chunk", round(costs * 100, 2), 2, note),
        at_most("ms more in the slowest hundredth", round(delays * lag, 1), 5, lag_note),
        exactly("watchers without events", sum(not all(counts) for counts in seen), 0),
    ]


class Window:
    """The cost of one window: CPU time in µs per chunk, and 99th percentile of the delays in ms."""

    def __init__(self, cpu: float, lags: list[float]) -> None:
        self.cpu = cpu / len(lags) * 1e6
        self.p99 = statistics.quantiles(lags, n=100)[98]
        self.counts = len(lags) >= LEAST_CHUNKS


Triple = tuple[Window, Window, Window]


def _neighbours(windows: Sequence[Window], *, step: int) -> list[Triple]:
    """Return each *step*-th window with the two after it, if all three count."""
    triples = list(zip(windows, windows[1:], windows[2:], strict=False))[::step]
    return [triple for triple in triples if all(window.counts for window in triple)]


def _higher(triples: Iterable[Triple], name: Literal["cpu", "p99"]) -> float:
    """Return the median relative excess of the middle window over its neighbours."""
    values = [[getattr(window, name) for window in triple] for triple in triples]
    shares: list[float] = [2 * value / (before + after) - 1 for before, value, after in values]
    return statistics.median(shares)


async def _window(worker: Worker, lags: list[float]) -> Window:
    await asyncio.sleep(SETTLE_SECONDS)
    lags.clear()
    before = clocks.cpu_seconds([worker.pid])
    await asyncio.sleep(WINDOW_SECONDS)
    return Window(clocks.cpu_seconds([worker.pid]) - before, lags)


@asynccontextmanager
async def _streaming(worker: Worker) -> AsyncIterator[list[float]]:
    """Keep 500 streams open, and replace each that ends; yield the list of delays in ms."""
    lags: list[float] = []
    marks = count()

    async def one(place: int) -> None:
        await asyncio.sleep(place / STREAMS * EVENTS * PAUSE)
        while True:
            body = question(next(marks), True)
            async with worker.session.post(worker.url, json=body) as answer:
                await read_lags(answer, lags)

    async with _cancelled_at_the_end(asyncio.ensure_future(one(place)) for place in range(STREAMS)):
        yield lags


class _Reader:
    """
    One watcher, which counts its events.

    It decodes nothing, because it runs in the process that measures the delays.
    """

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0

    async def watch(self, worker: Worker) -> None:
        reader, writer = await asyncio.open_unix_connection(worker.control, limit=2**20)
        writer.write(b'{"op": "watch"}\n')
        try:
            while data := await reader.read(2**20):
                self.started += data.count(b'"request.started"')
                self.finished += data.count(b'"request.finished"')
        finally:
            writer.close()


@asynccontextmanager
async def _watching(worker: Worker) -> AsyncIterator[list[_Reader]]:
    """Read all events and request the state as often as `ui`, `top` and the watchers do."""

    async def ask(seconds: float, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            await worker.reason()
            await asyncio.sleep(seconds)

    readers = [_Reader() for _ in range(WATCHERS + VIEWS)]
    coroutines = [reader.watch(worker) for reader in readers]
    for number, seconds in ((WATCHERS, STATUS_SECONDS), (VIEWS, TOP_SECONDS)):
        coroutines += [ask(seconds, seconds * (n + 0.5) / number) for n in range(number)]
    async with _cancelled_at_the_end(map(asyncio.ensure_future, coroutines)):
        yield readers


@asynccontextmanager
async def _cancelled_at_the_end(started: Iterable[asyncio.Future[None]]) -> AsyncIterator[None]:
    tasks = list(started)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
