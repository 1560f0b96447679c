"""Header values of a hostile provider over HTTP: none stops the worker or a key, or misleads."""

from __future__ import annotations

import json
import re
import time

import pytest

from ccproxy.keys.cooldown import LONGEST_COOLDOWN
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure
from tests.worker.raw_provider import RawProvider
from tests.worker.upstream.test_provider_client import KEYS

TWO = ",".join(KEYS[:2])
VALUES = {
    "huge": b"1e308",
    "300 digits": b"9" * 300,
    "negative": b"-1",
    "zero": b"0",
    "not a number": b"NaN",
    "infinite": b"Infinity",
    "the past": b"Thu, 01 Jan 1970 00:00:00 GMT",
    "the year 9999": b"Fri, 31 Dec 9999 23:59:59 GMT",
    "no such date": b"2026-99-99T99:99:99Z",
    "seconds since 1970": b"4000000000",
    "not ASCII": "五秒".encode(),
    "not UTF-8": b"5\xe9",
    "markup": b"<script>alert(1)</script>",
    "an escape sequence": b"5\x1b[31m",
    "folded": b"5\r\n 6",
    "64 KiB": b"9" * 65_000,
    "64 KiB of parts": b"1s" * 32_000,
    "nothing": b"",
}
NAMES = (
    b"Retry-After",
    b"Retry-After-Ms",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-remaining-requests",
    b"anthropic-ratelimit-tokens-reset",
)
WHOLE = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
LIMITED = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}


def response(status: int, headers: dict[bytes, bytes]) -> bytes:
    body = json.dumps(WHOLE if status == 200 else LIMITED).encode()
    lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
        status,
        len(body),
    )
    return head + lines + b"\r\n" + body


async def exchange(proxy) -> tuple[int, bytes]:
    """Return the status and the raw head of one answer."""
    body = json.dumps(prompt()).encode()
    head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    data = await proxy.exchange(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return int(data.split()[1]), data.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
async def test_a_refusal_is_a_429_and_its_cooldown_ends(start, name):
    """`…-remaining-…` is 0 as well, so that the reset headers count."""
    used_up = {
        b"x-ratelimit-remaining-requests": b"0",
        b"anthropic-ratelimit-tokens-remaining": b"0",
    }
    answers = [response(429, {**used_up, name: value}) for value in VALUES.values() for _ in (1, 2)]
    async with RawProvider(*answers) as provider:
        proxy = await start(provider.url, PROVIDER_API_KEY=TWO, PROVIDER_API="messages")
        pool = proxy.worker.pool
        for number, story in enumerate(VALUES, start=1):
            status, head = await exchange(proxy)
            assert (status, provider.requests) == (429, 2 * number), story
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            assert 1 <= int(headers[b"retry-after"]) <= LONGEST_COOLDOWN, story
            for key in pool.snapshot():
                assert [0 < one.seconds <= LONGEST_COOLDOWN for one in key.cooldowns] == [True]
                pool.enable(key.id)


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
async def test_an_answer_is_served_without_control_characters(start, name):
    answers = [response(200, {name: value}) for value in VALUES.values()]
    async with RawProvider(*answers) as provider:
        proxy = await start(provider.url, PROVIDER_API="messages")
        for story in VALUES:
            status, head = await exchange(proxy)
            assert status == 200, story
            assert len(head) < 16 * 1024, story
            assert re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", head) is None, story


async def test_invalid_http_in_a_header_is_an_error_of_the_provider(start):
    async with RawProvider(response(429, {b"Retry-After": b"5\x00"})) as provider:
        proxy = await start(provider.url, PROVIDER_API_KEY=TWO)
        assert (await exchange(proxy))[0] == 502
        assert not any(key.cooldowns for key in proxy.worker.pool.snapshot())


async def test_many_long_headers_do_not_block_the_worker(start):
    """aiohttp accepts 128 headers of 64 KiB; parsing each would take 40 ms."""
    headers = {
        b"x-ratelimit-reset-%b" % bytes([97 + i % 26, 97 + i // 26]): b"1s" * 32_000
        for i in range(100)
    }
    async with RawProvider(response(429, headers)) as provider:
        proxy = await start(provider.url, PROVIDER_API_KEY=TWO)
        began = time.process_time()
        status, _ = await exchange(proxy)
        assert status == 429
        assert time.process_time() - began < 3.0


async def test_a_key_whose_cooldown_is_already_over_is_no_authentication_error(start, provider):
    """The answer of the second key arrives after the cooldown of the first."""
    proxy = await start(PROVIDER_API_KEY=TWO)
    provider.script(lambda _call: failure(429, "slow down", headers={"Retry-After-Ms": "0.001"}))
    answer = await proxy.ask()
    assert (answer.status, answer.error["type"]) == (429, "rate_limit_error")
    provider.script(completion("Hello"))
    await eventually(lambda: all(one.state == "ready" for one in proxy.worker.pool.snapshot()))
    assert (await proxy.ask()).status == 200
