"""
Decompression bombs and oversized bodies: the worker's memory stays bounded.

The worker runs in its own process, so that its memory can be measured. `test_http.py` sends the
same bodies one by one and checks the answers and their time.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from pathlib import Path

import psutil
import pytest

from tests.fleet import FleetHome
from tests.security.test_http import BOMBS, NUMBERS, message, request, status_of

pytestmark = pytest.mark.xdist_group("processes")

MIB = 2**20
MOST_GROWTH = 80 * MIB
PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions")


def packed(size: int) -> bytes:
    """Return *size* zero bytes, compressed to about a thousandth."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


def members(count: int, value: bytes = b"1") -> bytes:
    return b"{%s}" % b",".join(b'"k%d":%s' % (number, value) for number in range(count))


def call(arguments: bytes) -> bytes:
    return message(b'[{"type":"tool_use","id":"t","name":"n","input":%s}]' % arguments)


def image(data: bytes) -> bytes:
    source = b'{"type":"base64","media_type":"image/png","data":"%s"}' % data
    return message(b'[{"type":"image","source":%s}]' % source)


UNPACKED = 500 * MIB
# An image with the largest possible size in its header.
HUGE_PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(
    ">I4sIIBBBBB", 13, b"IHDR", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0
)
REFUSED = {
    **{one.id: one.values[0] for one in BOMBS},
    "a million members": members(10**6),
    "huge numbers": members(10**5, b"9" * 50),
}
VALID = {
    **{one.id: one.values[0] for one in NUMBERS},
    "a million keys": call(members(10**6)),
    "a number of a million digits": call(b'{"a":%s}' % (b"9" * 10**6)),
    "numbers beyond all": call(b"[%s]" % b",".join([b"1e999"] * 10**5)),
    "a picture of 2^31 columns": image(base64.b64encode(HUGE_PNG)),
    "a picture that is a bomb": image(base64.b64encode(HUGE_PNG + packed(UNPACKED))),
    "8 MB of picture": image(b"A" * 8_000_000),
    "8 MB of no base64": image(b"!" * 8_000_000),
}


class Target:
    """A worker in its own process, and its memory before the attack."""

    def __init__(self, home: FleetHome, pid: int) -> None:
        self.port = home.ports["one"]
        self.process = psutil.Process(pid)
        self.before = self.process.memory_info().rss

    async def ask(self, body: bytes, path: str = PATHS[0], *headers: str) -> int:
        """Send a body; return the status of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(path, *headers, body=body))
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return status_of(answer)

    def growth(self) -> int:
        """Return the growth of its peak memory in bytes, if the system reports the peak."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except FileNotFoundError:
            return self.process.memory_info().rss - self.before
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 - self.before


@pytest.fixture
async def target(tmp_path, provider):
    async with FleetHome(tmp_path) as home:
        key = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-0123456789abcdef"}
        home.write(one={**key, "BIG_MODEL": "m"})
        started = await home.ccproxy("start")
        assert started.code == 0, started.err
        target = Target(home, await home.worker_pid("one"))
        assert await target.ask(message(b'"hello"')) == 200
        yield target
        assert await target.ask(message(b'"still there?"')) == 200
        assert await home.worker_pid("one") == target.process.pid


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br"])
async def test_bodies_are_never_decompressed(packing, target, provider):
    bomb = packed(UNPACKED)
    assert len(bomb) < UNPACKED / 900
    for path in PATHS:
        assert await target.ask(bomb, path, f"Content-Encoding: {packing}") in (400, 413, 415)
    assert len(provider.calls) == 1, "nothing but the greeting"
    assert target.growth() <= MOST_GROWTH


async def test_refused_bodies_cost_little_memory(target, provider):
    for name, body in REFUSED.items():
        for path in PATHS:
            assert await target.ask(body, path) in (400, 413), f"{name} to {path}"
            assert target.growth() <= MOST_GROWTH, f"{name} to {path}"
    assert len(provider.calls) == 1, "nothing but the greeting"


async def test_accepted_bodies_cost_little_more_than_their_size(target):
    for name, body in VALID.items():
        for path in PATHS:
            assert await target.ask(body, path) in (200, 400), f"{name} to {path}"
            assert target.growth() <= MOST_GROWTH, f"{name} to {path}"
