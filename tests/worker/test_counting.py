"""Claude Code's /context requests many token counts at once; nothing else may wait for them."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.messages import prompt
from tests.provider import chunk, stream

COUNTS = 50
SLOWEST = 1.0
"""The limit for one chunk during the counts, in seconds: far above normal, far below a stall."""

LONG = "def f(x):\n    return x + 1  # 計算する\n" * 4000
"""A prompt of more than 150 KB."""


@pytest.mark.timed
async def test_fifty_concurrent_counts_do_not_disturb_a_stream(proxy, provider):
    gates = [asyncio.Event() for _ in range(20)]
    parts = [part for number, gate in enumerate(gates) for part in (gate, chunk(f"<{number}>"))]
    provider.script(stream(chunk("Begun."), *parts, chunk(finish="stop")))
    assert len(LONG.encode()) > 150_000

    async def count() -> int:
        async with proxy.post("/v1/messages/count_tokens", prompt(LONG)) as response:
            return int((await response.json())["input_tokens"])

    body = prompt(stream=True)
    async with proxy.post("/v1/messages", body) as response:
        counts = [asyncio.create_task(count()) for _ in range(COUNTS)]
        waits = []
        for number, gate in enumerate(gates):
            released = time.monotonic()
            gate.set()
            await response.content.readuntil(f"<{number}>".encode())
            waits.append(time.monotonic() - released)
        rest = await response.content.read()
        counted = await asyncio.gather(*counts)

    assert b"message_stop" in rest
    assert max(waits) < SLOWEST, waits
    assert len(set(counted)) == 1
    assert counted[0] > 20_000
    assert len(provider.calls) == 1, "counting asks nobody"
