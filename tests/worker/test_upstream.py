"""The way to the provider, on a real socket: which key, how often, and what is said in the end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from ccproxy.config.worker import WorkerConfig
from ccproxy.errors import Problem
from ccproxy.pipeline.keys import KeyPool
from ccproxy.pipeline.keystate import KeyLimits
from ccproxy.pipeline.models import ModelMap
from ccproxy.worker.upstream import Outgoing, Upstream
from tests.provider import chunk, completion, failure, hang_up, raw, stream

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def config_for(provider, **changes):
    settings = {
        "label": "test",
        "host": "127.0.0.1",
        "port": 0,
        "provider": "",
        "title": "",
        "api": "chat",
        "base_url": provider.url,
        "auth": "bearer",
        "api_keys": KEYS,
        "client_keys": (),
        "pass_client_key": False,
        "models": ModelMap(big="big", middle="big", small="small"),
        "log_level": "INFO",
        "max_tokens_limit": None,
        "min_tokens_limit": None,
        "context_window": None,
        "request_timeout": 30.0,
        "max_retries": 0,
        "early_commit": 15.0,
        "upstream_proxy": None,
        "ca_bundle": None,
        "custom_headers": {},
        "azure_api_version": "",
        "env_file": None,
    }
    return WorkerConfig(**{**settings, **changes})


@asynccontextmanager
async def way(provider, *, limits=None, **changes):
    config = config_for(provider, **changes)
    clock = Clock()
    pool = KeyPool(
        config.api_keys,
        provider="Test",
        clock=clock,
        wall=lambda: 1_700_000_000 + clock.now,
        jitter=lambda: 0.5,
        limits=limits or KeyLimits(),
    )
    # So much jitter that nothing is left of the delay between repeats.
    upstream = Upstream(config, pool=pool, clock=clock, jitter=lambda: 4.0)
    upstream.pool, upstream.clock, upstream.config = pool, clock, config
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()


def ask(provider, *, streams=False, **changes):
    path = changes.pop("path", "/chat/completions")
    fields = {
        "url": provider.url + path,
        "body": b'{"model":"big","stream":%s}' % (b"true" if streams else b"false"),
        "model": "big",
        "stream": streams,
        "headers": {},
    }
    return Outgoing(**{**fields, **changes})


async def fetch(upstream, outgoing):
    async with upstream.send(outgoing) as answer:
        return answer, await answer.read()


async def refusal(upstream, outgoing):
    with pytest.raises(Problem) as caught:
        await fetch(upstream, outgoing)
    return caught.value


def keys_of(provider):
    return [call.key for call in provider.calls]


async def test_a_whole_answer_is_read_and_says_who_gave_it(provider):
    provider.script(completion("hello"))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider))
    assert b"hello" in body
    assert (answer.key, answer.attempts, answer.is_stream, answer.status) == (
        "…aaaa",
        1,
        False,
        200,
    )


async def test_a_stream_comes_as_it_is_sent(provider):
    gate = asyncio.Event()
    provider.script(stream(chunk("one"), gate, chunk("two", finish="stop")))
    async with way(provider) as upstream, upstream.send(ask(provider, streams=True)) as answer:
        assert answer.is_stream
        pieces = answer.chunks()
        assert b"one" in await anext(pieces)
        gate.set()
        rest = b"".join([piece async for piece in pieces])
    assert b"two" in rest
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_keys_take_turns(provider):
    async with way(provider) as upstream:
        for _ in range(6):
            await fetch(upstream, ask(provider))
    assert keys_of(provider) == [*KEYS, *KEYS]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(failure(401, "no"), id="401"),
        pytest.param(failure(402, "no"), id="402"),
        pytest.param(failure(403, "no"), id="403"),
        pytest.param(failure(429, "slow down"), id="429"),
        pytest.param(raw('{"choices":null,"base_resp":{"status_code":1008}}'), id="in a 200"),
        pytest.param(stream({"error": {"code": 429, "message": "x"}}), id="in a stream"),
    ],
)
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_another_key_serves_what_the_first_may_not(provider, first, streams):
    provider.script(first, completion("served"))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider, streams=streams))
    assert keys_of(provider) == [KEYS[0], KEYS[1]]
    assert (answer.key, answer.attempts) == ("…bbbb", 2)
    assert b"ser" in body


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_is_wrong_with_the_request_is_asked_once(provider, status):
    provider.script(failure(status, "your fault"))
    async with way(provider, max_retries=3) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert upstream.pool.counts() == (3, 3)
    assert len(provider.calls) == 1
    assert "your fault" in problem.message


async def test_a_403_is_tried_with_one_other_key_and_then_told(provider):
    provider.script(failure(403, "not for you"))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert upstream.pool.counts() == (3, 3)
    assert len(provider.calls) == 2
    assert (problem.status, problem.kind) == (403, "permission_error")
    assert "not for you" in problem.message


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("answer", [failure(500, "oops"), failure(529, "busy"), hang_up()])
async def test_repeats_are_exactly_max_retries(provider, retries, answer):
    provider.script(answer)
    async with way(provider, max_retries=retries) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert len(provider.calls) == 1 + retries
    assert problem.status >= 500


async def test_nobody_listening_is_told_with_the_address(provider, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with way(provider, base_url=url) as upstream:
        problem = await refusal(upstream, ask(provider, url=f"{url}/chat/completions"))
    assert (problem.kind, problem.status) == ("api_error", 502)
    assert f"127.0.0.1:{unused_tcp_port}" in problem.message


async def test_silence_before_the_first_byte_is_a_504_and_not_repeated(provider):
    never = asyncio.Event()
    provider.script(completion(gate=never))
    async with way(provider, request_timeout=0.05, max_retries=2) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert (problem.kind, problem.status) == ("timeout_error", 504)
        await provider.calls[0].gone.wait()
    assert len(provider.calls) == 1


async def test_keys_all_rejected_are_told_as_such(provider):
    provider.script(failure(401, "bad key"))
    async with way(provider) as upstream:
        first = await refusal(upstream, ask(provider))
        second = await refusal(upstream, ask(provider))
    assert len(provider.calls) == 3
    for problem in (first, second):
        assert (problem.kind, problem.status) == ("authentication_error", 401)
        assert problem.should_retry is False
        assert "all 3 keys of Test rejected (401)" in problem.message
    assert "bad key" in first.message


async def test_one_key_never_rests(provider):
    provider.script(failure(429, "slow down", retry_after=7), completion("ok"))
    async with way(provider, api_keys=KEYS[:1]) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert (problem.status, problem.retry_after) == (429, 7)
        await fetch(upstream, ask(provider))
    assert len(provider.calls) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            raw("<html>hi</html>", headers={"Content-Type": "text/html"}), "JSON", id="html"
        ),
        pytest.param(raw(""), "JSON", id="nothing"),
        pytest.param(stream(), "JSON", id="a stream without events"),
        pytest.param(stream(": hello\n\n", end="eof"), "JSON", id="comments only"),
        pytest.param(
            raw(b"\x1f\x8bbroken", headers={"Content-Encoding": "gzip"}), "broke", id="broken gzip"
        ),
    ],
)
async def test_what_is_no_answer_is_an_api_error(provider, answer, words):
    provider.script(answer)
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider, streams=True))
    assert problem.kind == "api_error"
    assert words in problem.message


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_broken_stream_is_a_problem_after_what_came(provider, end):
    provider.script(stream(chunk("half"), end=end))
    async with way(provider) as upstream:
        seen = b""
        with pytest.raises(Problem) as caught:
            async with upstream.send(ask(provider, streams=True)) as answer:
                async for data in answer.chunks():
                    seen += data
    if end == "cut":
        assert b"half" in seen
    assert caught.value.kind == "api_error"
    assert len(provider.calls) == 1


async def test_leaving_hangs_up_and_gives_the_permit_back(provider):
    never = asyncio.Event()
    provider.script(stream(chunk("one"), never))
    async with way(provider) as upstream:
        async with upstream.send(ask(provider, streams=True)) as answer:
            await anext(answer.chunks())
            assert sum(key.in_flight for key in upstream.pool.snapshot()) == 1
        await asyncio.wait_for(provider.calls[0].gone.wait(), 1)
        assert sum(key.in_flight for key in upstream.pool.snapshot()) == 0


async def test_cancelling_while_the_provider_is_silent_hangs_up(provider):
    provider.script(completion(gate=asyncio.Event()))
    async with way(provider) as upstream:
        task = asyncio.create_task(fetch(upstream, ask(provider)))
        call = await provider.called()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(call.gone.wait(), 1)
        assert sum(key.in_flight for key in upstream.pool.snapshot()) == 0
