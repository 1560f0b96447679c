"""The scenarios, and the code that takes one sample."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from bench import clocks, payloads
from bench.load import Outcome, Plan, get, percentile, play, post
from bench.targets import FIVE_KEYS, Target

CHUNK_DELAY_MS = 20
"""Milliseconds between two chunks of a paced stream: about fifty tokens a second."""

Sample = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The state that every scenario needs."""

    upstream_port: int
    seconds: float
    """The duration of one sample in a busy scenario."""

    async def set_mode(self, **mode: int | str) -> None:
        """Set the form and pace of the upstream's next streams."""
        query = "&".join(f"{name}={value}" for name, value in mode.items())
        await get(self.upstream_port, f"/mode?{query}")


Take = Callable[[Rig, Target], Awaitable[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table."""

    name: str
    title: str
    take: Take
    figure: str = "cpu_us_request"
    """The compared field of a sample; lower is better."""
    unit: str = "µs CPU"
    others: Mapping[str, str] = field(default_factory=lambda: {"p50_ms": "ms p50"})
    """Other fields to show, with their units."""
    family: str
    """Scenarios of one family are in ascending order; after a failure the rest are skipped."""
    converts_only: bool = False
    """Skip direct mode."""
    ours_only: bool = False
    """Measure ccproxy only."""
    with_keys: bool = False
    """Measure only the targets with five keys, which other scenarios skip."""
    parts: int = 1
    """
    The number of samples per round. The targets alternate after each sample, so that a difference
    of one per cent is larger than the noise of the machine.
    """

    def suits(self, target: Target) -> bool:
        """Return True if the scenario applies to *target*."""
        if self.with_keys or target.name in FIVE_KEYS:
            return self.with_keys and target.name in FIVE_KEYS
        if target.direct and self.converts_only:
            return False
        return not self.ours_only or target.name.startswith("ccproxy")


async def measured(target: Target, request: bytes, plan: Plan) -> tuple[Outcome, float]:
    """Play *plan*; return its results and the target's CPU seconds."""
    pids = clocks.tree(target.pid)
    before = clocks.cpu_seconds(pids)
    outcome = await play(target.port, request, plan)
    return outcome, clocks.cpu_seconds(pids) - before


def _sample(outcome: Outcome, cpu: float) -> Sample:
    return {
        "answers": outcome.answers,
        "failures": outcome.failures,
        "cpu_us_request": cpu / max(1, outcome.answers) * 1e6,
        "cpu_us_chunk": cpu / max(1, outcome.chunks) * 1e6,
        "p50_ms": percentile(outcome.latencies, 0.5) * 1e3,
        "p99_ms": percentile(outcome.latencies, 0.99) * 1e3,
        "first_p50_ms": percentile(outcome.first_chunks, 0.5) * 1e3,
        "first_p99_ms": percentile(outcome.first_chunks, 0.99) * 1e3,
        "lag_p50_ms": percentile(outcome.lags, 0.5) * 1e3,
        "lag_p99_ms": percentile(outcome.lags, 0.99) * 1e3,
        "answers_per_second": outcome.answers / outcome.wall,
        "busy": cpu / outcome.wall,
    }


def whole(name: str, payload: str, *, at_once: int) -> Scenario:
    """Measure whole answers; each connection repeats its request immediately."""

    async def take(rig: Rig, target: Target) -> Sample:
        request = post(target.port, target.path, payloads.request(payload, stream=False))
        await play(target.port, request, Plan(connections=at_once, seconds=rig.seconds / 10))
        plan = Plan(connections=at_once, seconds=rig.seconds)
        return _sample(*await measured(target, request, plan))

    size = len(payloads.request(payload, stream=False))
    title = f"{payload} request ({_bytes(size)}), {at_once} at once"
    return Scenario(name=name, title=title, take=take, family=name)


def with_keys(payload: str, *, at_once: int) -> Scenario:
    """Measure whole answers with five keys: rotation, session affinity, and Redis."""
    plain = whole(payload, payload, at_once=at_once)
    title = f"{plain.title}, five keys"
    name = f"keys-{payload}-{at_once}"
    return replace(plain, name=name, title=title, family=name, with_keys=True, parts=10)


def streamed(kind: str, chunks: int, *, at_once: int = 8) -> Scenario:
    """Measure streams at full speed."""

    async def take(rig: Rig, target: Target) -> Sample:
        request = post(target.port, target.path, payloads.request("small", stream=True))
        await rig.set_mode(chunks=min(20, chunks), kind=kind)
        await play(target.port, request, Plan(connections=at_once))
        await rig.set_mode(chunks=chunks, kind=kind)
        plan = Plan(connections=at_once, seconds=rig.seconds, marks=chunks)
        return _sample(*await measured(target, request, plan))

    return Scenario(
        name=f"{kind}-{chunks}",
        title=f"{kind} stream, {chunks} chunks, {at_once} at once",
        take=take,
        figure="cpu_us_chunk",
        unit="µs CPU/chunk",
        others={},
        family=f"{kind}-{chunks}",
    )


def paced(streams: int) -> Scenario:
    """Measure streams at the speed of a model; each chunk contains the time when it was sent."""

    async def take(rig: Rig, target: Target) -> Sample:
        request = post(target.port, target.path, payloads.request("small", stream=True))
        chunks = max(10, int(rig.seconds * 2000 / CHUNK_DELAY_MS))
        await rig.set_mode(chunks=chunks, delay_ms=CHUNK_DELAY_MS, stamp=1)
        spread = min(2.0, streams / 400)
        plan = Plan(connections=streams, marks=chunks, spread=spread, patience=rig.seconds * 4 + 10)
        return _sample(*await measured(target, request, plan))

    return Scenario(
        name=f"paced-{streams}",
        title=f"{streams} streams, a chunk every {CHUNK_DELAY_MS} ms",
        take=take,
        figure="cpu_us_chunk",
        unit="µs CPU/chunk",
        others={"lag_p50_ms": "ms lag p50", "lag_p99_ms": "ms lag p99"},
        family="paced",
    )


def first_token(payload: str) -> Scenario:
    """Measure the time to the first chunk, with one stream at a time."""

    async def take(rig: Rig, target: Target) -> Sample:
        request = post(target.port, target.path, payloads.request(payload, stream=True))
        await rig.set_mode(chunks=5, delay_ms=2)
        await play(target.port, request, Plan(requests=5, marks=5))
        plan = Plan(requests=int(60 * rig.seconds), marks=5, pause=0.005)
        return _sample(*await measured(target, request, plan))

    return Scenario(
        name=f"first-{payload}",
        title=f"first token, {payload} request",
        take=take,
        figure="first_p50_ms",
        unit="ms p50",
        others={"first_p99_ms": "ms p99"},
        family="first",
    )


def count_tokens(payload: str) -> Scenario:
    """Measure token estimates, which ccproxy computes itself."""

    async def take(rig: Rig, target: Target) -> Sample:
        body = payloads.request(payload, stream=False)
        request = post(target.port, target.path + "/count_tokens", body)
        plan = Plan(connections=4, seconds=rig.seconds, marks=0)
        return _sample(*await measured(target, request, plan))

    return Scenario(
        name=f"count-{payload}",
        title=f"count_tokens, {payload} request",
        take=take,
        family="count",
        converts_only=True,
        ours_only=True,
    )


def memory(streams: int) -> Scenario:
    """Measure the idle memory and the memory per open stream."""

    async def take(rig: Rig, target: Target) -> Sample:
        idle = clocks.resident_mib(clocks.tree(target.pid))
        request = post(target.port, target.path, payloads.request("small", stream=True))
        await rig.set_mode(chunks=30, delay_ms=200)
        plan = Plan(connections=streams, marks=30, spread=2.0, patience=40)
        playing = asyncio.create_task(play(target.port, request, plan))
        peak = idle
        while not playing.done():
            await asyncio.wait([playing], timeout=0.25)
            peak = max(peak, clocks.resident_mib(clocks.tree(target.pid)))
        outcome = await playing
        grown = (peak - idle) * 1024 / streams
        counts = {"answers": float(outcome.answers), "failures": float(outcome.failures)}
        return counts | {"idle_mib": idle, "peak_mib": peak, "kib_stream": grown}

    return Scenario(
        name=f"memory-{streams}",
        title=f"memory with {streams} open streams",
        take=take,
        figure="kib_stream",
        unit="KiB/stream",
        others={"idle_mib": "MiB before", "peak_mib": "MiB at most"},
        family="memory",
    )


def _bytes(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"


SCENARIOS = (
    # Memory first: the other scenarios keep a worker busier than a user does.
    memory(800),
    whole("request-small", "small", at_once=32),
    whole("request-turn", "turn", at_once=8),
    with_keys("turn", at_once=8),
    with_keys("small", at_once=1),
    with_keys("small", at_once=16),
    whole("request-long", "long", at_once=2),
    whole("request-image", "image", at_once=4),
    whole("request-endless", "endless", at_once=1),
    streamed("text", 50),
    streamed("text", 500),
    streamed("text", 5000),
    streamed("tool", 50),
    streamed("tool", 500),
    paced(1),
    paced(200),
    paced(800),
    paced(1000),
    first_token("turn"),
    count_tokens("turn"),
)
QUICK = ("request-small", "request-turn", "text-500", "tool-500", "paced-200", "first-turn")
"""A selection that reveals regressions in about a minute."""


async def take_sample(rig: Rig, scenario: Scenario, target: Target) -> Sample:
    """Take one sample; it has no figures if the target has exited."""
    if not clocks.tree(target.pid):
        return {"failures": 1.0}
    began = time.monotonic()
    sample = await scenario.take(replace(rig, seconds=rig.seconds / scenario.parts), target)
    return sample | {"took_s": time.monotonic() - began}
