"""
Scenarios with a worker and a provider on a network that silently drops packets.

    unshare -rn python -m tests.worker.upstream.packet_loss

It needs its own network namespace, in which it may set packet filters (nftables). It prints the
results as JSON, one object per scenario, for `test_packet_loss.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccproxy.worker.upstream import connections, liveness
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import Provider, chunk, completion, stream
from tests.worker.proxy import Proxy, running

POOLED = 10
ESTABLISHED = "01"


def nft(*words: str) -> str:
    """Run `nft`."""
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


class Loss:
    """Drops packets between this machine's ports and the provider's *port*, in both directions."""

    def __init__(self, port: int) -> None:
        self._port = port
        nft("add table inet loss")
        nft("add chain inet loss out { type filter hook output priority 0; }")

    def begin(self, ports: list[int] | None = None) -> None:
        """Start dropping packets, only those of the client's *ports* if there are any."""
        some = f"{{ {', '.join(map(str, ports or ()))} }}"
        for own, other in (("sport", "dport"), ("dport", "sport")):
            scope = f"tcp {own} {some} " if ports else ""
            nft(f"add rule inet loss out {scope}tcp {other} {self._port} counter drop")

    def end(self) -> None:
        """Stop dropping packets."""
        nft("flush chain inet loss out")

    @property
    def dropped(self) -> int:
        """Return the number of packets that the current rules have dropped."""
        counts = re.findall(r"counter packets (\d+)", nft("list table inet loss"))
        return sum(map(int, counts))


def client_ports(port: int) -> list[int]:
    """Return the client's ports of the established connections to *port*."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[1].partition(":")[2], 16)
        for row in rows
        if row[3] == ESTABLISHED and int(row[2].partition(":")[2], 16) == port
    ]


async def fill_pool(proxy: Proxy, provider: Provider) -> None:
    """Create idle connections in the worker's pool."""
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    before = len(provider.calls)
    requests = [asyncio.create_task(proxy.ask()) for _ in range(POOLED)]
    await provider.called(before + POOLED)
    gate.set()
    await asyncio.gather(*requests)


async def pooled_connections(proxy: Proxy, provider: Provider, loss: Loss) -> dict[str, Any]:
    """Drop the packets of all idle connections, like a load balancer that has forgotten them."""
    await fill_pool(proxy, provider)
    port = urlsplit(provider.url).port or 0
    dead = client_ports(port)
    loss.begin(dead)
    calls = len(provider.calls)
    first = await proxy.ask()
    second = await proxy.ask()
    await eventually(lambda: not set(dead) & set(client_ports(port)))
    loss.end()
    return {
        "dead": len(dead),
        "statuses": [first.status, second.status],
        "calls": len(provider.calls) - calls,
    }


async def short_loss(proxy: Proxy, provider: Provider, loss: Loss) -> dict[str, Any]:
    """Drop packets for a while in the middle of a stream, while the provider sends."""
    more = asyncio.Event()
    provider.script(stream(chunk("one "), more, chunk("two")))
    task = asyncio.create_task(proxy.ask(prompt(stream=True)))
    await eventually(lambda: any(record.has_begun for record in running_requests(proxy)))
    loss.begin()
    more.set()
    # Longer than the limit for unacknowledged data on a probed connection.
    await eventually(lambda: loss.dropped > 3)
    loss.end()
    answer = await task
    return {"status": answer.status, "text": answer.text}


async def long_loss(proxy: Proxy, provider: Provider, loss: Loss) -> dict[str, Any]:
    """Drop all packets from the middle of a stream on."""
    port = urlsplit(provider.url).port or 0
    more = asyncio.Event()
    provider.script(stream(chunk("one "), more, chunk("two")))
    task = asyncio.create_task(proxy.ask(prompt(stream=True)))
    await eventually(lambda: any(record.has_begun for record in running_requests(proxy)))
    ports = client_ports(port)
    loss.begin()
    more.set()
    async with proxy.get("/livez") as alive:
        health = alive.status
    answer = await task
    await eventually(lambda: not set(ports) & set(client_ports(port)))
    loss.end()
    provider.script(completion("ok"))
    after = await proxy.ask()
    return {
        "health": health,
        "error": answer.error and answer.error["type"],
        "text": answer.text,
        "after": after.status,
    }


def running_requests(proxy: Proxy) -> list[Any]:
    """Return the records of the worker's running requests."""
    return list(proxy.worker.activity._running.values())


async def main() -> None:
    """Run every scenario."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    liveness.UNACKNOWLEDGED_SECONDS, liveness.CHECK_SECONDS = 1.0, 0.1
    results = {}
    for scenario in (pooled_connections, short_loss, long_loss):
        if scenario is long_loss:  # two and a half minutes by default
            connections._KEEP_ALIVE.update(TCP_KEEPIDLE=1, TCP_KEEPINTVL=1, TCP_KEEPCNT=3)
        with tempfile.TemporaryDirectory() as home:
            async with (
                Provider() as provider,
                running(Path(home), provider.url) as proxy,
            ):
                loss = Loss(urlsplit(provider.url).port or 0)
                results[scenario.__name__] = await scenario(proxy, provider, loss)
                nft("delete table inet loss")
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
