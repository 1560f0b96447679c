"""Requests to a provider on a real socket: keys, attempts, and the final error."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from ccproxy.config.worker_config import load_worker
from ccproxy.errors import Problem
from ccproxy.keys.breaker import OUTAGE_PATIENCE
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.pool import KeyPool
from ccproxy.protocol.sse import Decoder
from ccproxy.worker.upstream import provider_answer
from ccproxy.worker.upstream.provider_client import Outgoing, ProviderClient
from tests.provider import chunk, completion, failure, hang_up, raw, stream

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def config_for(provider, **changes):
    environ = {
        "PROVIDER_BASE_URL": provider.url,
        "PROVIDER_API_KEY": ",".join(KEYS),
        "BIG_MODEL": "big",
        "SMALL_MODEL": "small",
        "REQUEST_TIMEOUT": "30",
        "MAX_RETRIES": "0",
    }
    return replace(load_worker(None, environ=environ), **changes)


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
    # So much jitter that retries have no delay.
    upstream = ProviderClient(config, pool=pool, clock=clock, jitter=lambda: 4.0)
    upstream.pool, upstream.clock, upstream.config = pool, clock, config  # type: ignore[attr-defined]
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
    """Return the answer, with the keys of all attempts, and its body."""
    keys: list[str] = []
    outgoing = msgspec.structs.replace(outgoing, on_attempt=keys.append)
    async with upstream.send(outgoing) as answer:
        answer.keys = keys
        return answer, await answer.read()


async def pieces_of(answer):
    """Yield the pieces of the answer as they arrive."""
    pieces: list[bytes] = []
    ended = False
    while not ended:
        ended = await answer.pump(pieces.append)
        for piece in pieces:
            yield piece
        pieces.clear()


async def refusal(upstream, outgoing):
    with pytest.raises(Problem) as caught:
        await fetch(upstream, outgoing)
    return caught.value


def keys_of(provider):
    return [call.key for call in provider.calls]


async def test_a_whole_answer_has_the_key_that_was_used(provider):
    provider.script(completion("hello"))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider))
    assert b"hello" in body
    assert (answer.keys, answer.is_stream, answer.status) == (["…aaaa"], False, 200)


async def test_a_stream_without_end_is_not_read_as_a_whole_answer(provider, monkeypatch):
    """A provider may send a stream that was not requested."""
    monkeypatch.setattr(provider_answer, "MAX_WHOLE", 100_000)
    provider.script(stream(*[chunk("x" * 50_000)] * 4, asyncio.Event()))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert problem.message.endswith("was cut off: its response is larger than 0 MiB")
    assert problem.status == 502


@pytest.fixture
def every_level():
    """Enable all log levels, because a worker of another test may have set one."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("every_level")
@pytest.mark.parametrize("own_key", [None, "sk-the-clients-own-key-9999"])
async def test_at_debug_requests_are_logged_without_keys(own_key, provider):
    changes = {"log_level": "DEBUG", "custom_headers": {"X-Team": "blue"}, "api_keys": KEYS[:1]}
    outgoing = ask(provider, path="/chat/completions?key=hidden", client_key=own_key)
    with capture_logs() as lines:
        async with way(provider, **changes) as upstream:
            await fetch(upstream, outgoing)
    [request] = [line for line in lines if line["event"] == "upstream.sent"]
    assert request["log_level"] == "debug"
    assert request["url"] == f"{provider.url}/chat/completions?key=…"
    assert (request["model"], request["stream"], request["bytes"]) == (
        "big",
        False,
        len(outgoing.body),
    )
    assert request["headers"]["Authorization"] == request["headers"]["X-Team"] == "…"
    assert request["headers"]["Accept"] == "application/json"
    assert not any(secret in str(lines) for secret in (KEYS[0], "the-clients-own", "hidden"))


async def test_at_info_no_request_dump_is_created(provider):
    with capture_logs() as lines:
        async with way(provider) as upstream:
            await fetch(upstream, ask(provider))
    assert lines == []


async def test_a_stream_arrives_as_it_is_sent(provider):
    gate = asyncio.Event()
    provider.script(stream(chunk("one"), gate, chunk("two", finish="stop")))
    async with way(provider) as upstream, upstream.send(ask(provider, streams=True)) as answer:
        assert answer.is_stream
        pieces = pieces_of(answer)
        assert b"one" in await anext(pieces)
        gate.set()
        rest = b"".join([piece async for piece in pieces])
    assert b"two" in rest
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_keys_rotate(provider):
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
async def test_another_key_serves_requests_that_the_first_may_not(provider, first, streams):
    provider.script(first, completion("served"))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider, streams=streams))
    assert keys_of(provider) == [KEYS[0], KEYS[1]]
    assert answer.keys == ["…aaaa", "…bbbb"]
    assert b"ser" in body


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_faulty_request_is_sent_once(provider, status):
    provider.script(failure(status, "your fault"))
    async with way(provider, max_retries=3) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert upstream.pool.counts() == (3, 3)
    assert len(provider.calls) == 1
    assert "your fault" in problem.message


async def test_a_403_is_tried_with_one_other_key_and_then_returned(provider):
    provider.script(failure(403, "not for you"))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert upstream.pool.counts() == (3, 3)
    assert len(provider.calls) == 2
    assert (problem.status, problem.kind) == (403, "permission_error")
    assert "not for you" in problem.message


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("answer", [failure(500, "oops"), failure(529, "busy"), hang_up()])
async def test_retries_are_exactly_max_retries(provider, retries, answer):
    provider.script(answer)
    async with way(provider, max_retries=retries) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert len(provider.calls) == 1 + retries
    assert problem.status >= 500


async def test_a_refused_connection_is_reported_with_the_address(provider, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with way(provider, base_url=url) as upstream:
        problem = await refusal(upstream, ask(provider, url=f"{url}/chat/completions"))
    assert (problem.kind, problem.status) == ("api_error", 502)
    assert f"127.0.0.1:{unused_tcp_port}" in problem.message
    assert problem.should_retry is False, "a server that was never reached is not waited for"


async def test_clients_may_retry_at_a_provider_that_was_reached_before(provider, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with way(provider) as upstream:
        await fetch(upstream, ask(provider))
        problem = await refusal(upstream, ask(provider, url=f"{url}/chat/completions"))
        assert problem.should_retry is None
        upstream.clock.now += OUTAGE_PATIENCE
        problem = await refusal(upstream, ask(provider, url=f"{url}/chat/completions"))
        assert problem.should_retry is False


async def test_silence_before_the_first_byte_is_a_504_and_not_retried(provider):
    never = asyncio.Event()
    provider.script(completion(gate=never))
    async with way(provider, request_timeout=0.05, max_retries=2) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert (problem.kind, problem.status) == ("timeout_error", 504)
        await provider.calls[0].gone.wait()
    assert len(provider.calls) == 1


async def test_the_error_reports_that_all_keys_are_rejected(provider):
    provider.script(failure(401, "bad key"))
    async with way(provider) as upstream:
        first = await refusal(upstream, ask(provider))
        second = await refusal(upstream, ask(provider))
    assert len(provider.calls) == 3
    for problem in (first, second):
        assert (problem.kind, problem.status) == ("authentication_error", 401)
        assert problem.should_retry is False
        assert "all 3 keys of Test are rejected (401)" in problem.message
    assert "bad key" in first.message


async def test_a_single_key_never_cools_down(provider):
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
        pytest.param(raw("{{{{"), "JSON", id="braces"),
        pytest.param(raw("null"), "JSON", id="null"),
        pytest.param(raw("it works!"), "JSON", id="some text"),
        pytest.param(stream(), "JSON", id="a stream without events"),
        pytest.param(stream(": hello\n\n", end="eof"), "JSON", id="comments only"),
        pytest.param(
            raw(b"\x1f\x8bbroken", headers={"Content-Encoding": "gzip"}), "broke", id="broken gzip"
        ),
    ],
)
async def test_an_invalid_answer_is_an_api_error(provider, answer, words):
    provider.script(answer)
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider, streams=True))
    assert problem.kind == "api_error"
    assert words in problem.message


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_broken_stream_is_a_problem_after_its_content(provider, end):
    provider.script(stream(chunk("half"), end=end))
    async with (
        way(provider, max_retries=2) as upstream,
        upstream.send(ask(provider, streams=True)) as answer,
    ):
        with pytest.raises(Problem) as caught:
            await answer.read()
    assert caught.value.kind == "api_error"
    assert "was cut off" in caught.value.message
    assert len(provider.calls) == 1


async def test_a_disconnect_closes_the_connection_and_returns_the_lease(provider):
    never = asyncio.Event()
    provider.script(stream(chunk("one"), never))
    async with way(provider) as upstream:
        async with upstream.send(ask(provider, streams=True)) as answer:
            await anext(pieces_of(answer))
            assert sum(key.in_flight for key in upstream.pool.snapshot()) == 1
        await asyncio.wait_for(provider.calls[0].gone.wait(), 30)
        assert sum(key.in_flight for key in upstream.pool.snapshot()) == 0


async def test_cancelling_while_the_provider_is_silent_closes_the_connection(provider):
    provider.script(completion(gate=asyncio.Event()))
    async with way(provider) as upstream:
        task = asyncio.create_task(fetch(upstream, ask(provider)))
        call = await provider.called()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(call.gone.wait(), 30)
        assert sum(key.in_flight for key in upstream.pool.snapshot()) == 0


# Connections.


async def test_a_dead_pooled_connection_is_silently_replaced(provider):
    provider.script(
        lambda call: hang_up() if call.number in (1, 3) else completion(f"answer {call.number}")
    )
    async with way(provider) as upstream:
        answers = [await fetch(upstream, ask(provider)) for _ in range(3)]
    assert [len(answer.keys) for answer, _ in answers] == [1, 2, 2], "each time that it is sent"
    connections = [call.connection for call in provider.calls]
    assert connections[0] == connections[1]  # the dead connection has served a request before
    assert len(provider.calls) == 5


async def test_a_connection_that_never_served_a_request_is_not_replaced(provider):
    provider.script(hang_up(), completion("never asked"))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert "closed the connection without a response" in problem.message
    assert len(provider.calls) == 1


async def test_connections_that_the_provider_closed_when_idle_do_no_harm(provider):
    async with way(provider) as upstream:
        for _ in range(20):
            await fetch(upstream, ask(provider))
            provider.drop_connections()
    assert len(provider.calls) == 20


async def test_connections_are_reused(provider):
    async with way(provider) as upstream:
        for streams in (False, True, False, True):
            await fetch(upstream, ask(provider, streams=streams))
    assert {call.connection for call in provider.calls} == {0}


async def test_a_body_of_three_mebibytes_is_sent_completely(provider):
    body = b'{"x":"%s"}' % (b"y" * 3 * 2**20)
    async with way(provider) as upstream:
        await fetch(upstream, ask(provider, body=body))
    assert provider.calls[0].body == body
    assert provider.calls[0].headers["content-length"] == str(len(body))


async def test_redirects_are_not_followed(provider):
    provider.script(failure(307, "", headers={"Location": f"{provider.url}/elsewhere"}))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert "redirects" in problem.message
    assert len(provider.calls) == 1
    assert provider.other == []


async def test_cookies_are_not_stored(provider):
    provider.script(completion("x", headers={"Set-Cookie": "a=b"}))
    async with way(provider) as upstream:
        await fetch(upstream, ask(provider))
        await fetch(upstream, ask(provider))
    assert "cookie" not in provider.calls[1].headers


@pytest.mark.parametrize(("size", "passes"), [(60_000, True), (70_000, False)])
async def test_headers_of_64_kib(provider, size, passes):
    provider.script(completion("x", headers={"X-Large": "y" * size}))
    async with way(provider) as upstream:
        if passes:
            answer, _ = await fetch(upstream, ask(provider))
            assert len(answer.headers["X-Large"]) == size
        else:
            problem = await refusal(upstream, ask(provider))
            assert problem.kind == "api_error"


# Sent requests.


async def test_chat_headers(provider):
    async with way(provider, custom_headers={"X-Mine": "v"}) as upstream:
        await fetch(upstream, ask(provider, headers={"x-initiator": "agent"}))
    headers = provider.calls[0].headers
    assert headers["authorization"] == f"Bearer {KEYS[0]}"
    assert headers["x-mine"] == "v"
    assert headers["x-initiator"] == "agent"
    assert headers["accept-encoding"] == "identity"


async def test_direct_headers(provider):
    client = {"anthropic-beta": "b1", "authorization": "Bearer client", "cookie": "c"}
    async with way(provider, api="messages", auth="x-api-key") as upstream:
        await fetch(upstream, ask(provider, path="/messages", headers={}, client_headers=client))
    headers = provider.calls[0].headers
    assert headers["x-api-key"] == KEYS[0]
    assert headers["anthropic-beta"] == "b1"
    assert "authorization" not in headers
    assert "cookie" not in headers


async def test_the_clients_own_key_is_sent_instead_of_the_pools(provider):
    provider.script(completion("x"), failure(401, "bad key"))
    async with way(provider, pass_client_key=True) as upstream:
        answer, _ = await fetch(upstream, ask(provider, client_key="sk-of-the-client-9999"))
        assert (provider.calls[0].key, answer.keys) == ("sk-of-the-client-9999", ["…9999"])
        problem = await refusal(upstream, ask(provider, client_key="sk-of-the-client-9999"))
        assert upstream.pool.counts() == (3, 3)
    assert (problem.status, problem.should_retry) == (401, False)
    assert len(provider.calls) == 2


async def test_no_key_at_all_is_a_401(provider):
    async with way(provider, api_keys=(), pass_client_key=True) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert (problem.status, problem.kind) == (401, "authentication_error")
    assert problem.should_retry is False
    assert provider.calls == []


# Waiting.


async def test_comments_extend_the_timeout(provider):
    ticks = [asyncio.Event() for _ in range(5)]
    parts = [part for tick in ticks for part in (": working\n\n", tick)]
    provider.script(stream(*parts, chunk("at last", finish="stop")))
    async with way(provider, request_timeout=0.3) as upstream:
        task = asyncio.create_task(fetch(upstream, ask(provider, streams=True)))
        await provider.called()
        begun = asyncio.get_running_loop().time()
        for tick in ticks:
            await asyncio.sleep(0.1)  # this test needs real time
            tick.set()
        _, body = await task
        assert asyncio.get_running_loop().time() - begun > 0.3
    assert b"at last" in body


async def test_pings_before_the_answer_are_not_an_answer(provider):
    ping = 'event: ping\ndata: {"type": "ping"}\n\n'
    error = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    provider.script(stream(ping, error, end="eof"), completion("ok"))
    async with way(provider, api="messages", max_retries=1) as upstream:
        answer, _ = await fetch(upstream, ask(provider, path="/messages", streams=True))
    assert len(answer.keys) == 2


PING = b"event: ping\ndata: {}\n\n"
MANY = 64 * 1024


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        # Every write ends in the middle of an event.
        pytest.param(PING[:9], PING[9:] + PING * (MANY // len(PING)) + PING[:9], id="pings"),
        pytest.param(b"event: x\n", b": still here\n" * (MANY // 13), id="comments in an event"),
        pytest.param(b"", b": still here\n" * (MANY // 13), id="comments that do not end"),
    ],
)
async def test_endless_preambles_do_not_fill_the_memory(provider, monkeypatch, begin, part):
    """Their size exceeds the limit for one event; further reading would end in a timeout (504)."""
    monkeypatch.setattr(provider_answer, "LIMIT", 16 * MANY)
    monkeypatch.setattr(provider_answer, "Decoder", partial(Decoder, 16 * MANY))
    provider.script(stream(begin, *[part] * 20, asyncio.Event()))
    async with way(provider, api="messages", request_timeout=5) as upstream:
        problem = await refusal(upstream, ask(provider, path="/messages", streams=True))
    assert (problem.kind, problem.status) == ("api_error", 502)


async def test_pings_before_the_answer_may_continue(provider, monkeypatch):
    monkeypatch.setattr(provider_answer, "LIMIT", 16 * MANY)
    parts = [PING * (MANY // len(PING))] * 20
    start = 'event: message_start\ndata: {"type":"message_start"}\n\n'
    start += 'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
    provider.script(stream(*parts, start, end="eof"))
    async with way(provider, api="messages") as upstream:
        _, body = await fetch(upstream, ask(provider, path="/messages", streams=True))
    assert body.endswith(start.encode())
    assert len(body) < 4 * MANY


async def test_a_stream_with_another_content_type_is_still_a_stream(provider):
    provider.script(stream(chunk("x", finish="stop"), headers={"Content-Type": "text/plain"}))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider, streams=True))
    assert answer.is_stream
    assert b"[DONE]" in body


async def test_a_whole_answer_to_a_streaming_request_is_whole(provider):
    provider.script(raw('{"choices":[{"message":{"content":"x"}}]}'))
    async with way(provider) as upstream:
        answer, body = await fetch(upstream, ask(provider, streams=True))
    assert not answer.is_stream
    assert body.startswith(b'{"choices"')


async def test_json_with_the_content_type_of_a_stream_is_read_as_an_error(provider):
    error = '{"error":{"code":429,"message":"slow down"}}'
    provider.script(raw(error, headers={"Content-Type": "text/event-stream"}))
    async with way(provider) as upstream:
        problem = await refusal(upstream, ask(provider, streams=True))
    assert problem.status == 429
    assert "slow down" in problem.message


async def test_a_short_retry_after_of_an_overload_delays_the_next_attempt(provider):
    provider.script(failure(503, "busy", retry_after=0.01), completion("ok"))
    async with way(provider, max_retries=1) as upstream:
        answer, _ = await fetch(upstream, ask(provider))
    assert len(answer.keys) == 2


async def test_a_long_retry_after_of_an_overload_is_passed_to_the_client(provider):
    provider.script(failure(503, "busy", retry_after=30))
    async with way(provider, max_retries=2) as upstream:
        problem = await refusal(upstream, ask(provider))
    assert (problem.status, problem.retry_after) == (529, 30)
    assert len(provider.calls) == 1


# Cooldowns, limits, breaker.


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "20"},
        {"Retry-After": "19.5"},
        {"Retry-After-Ms": "20000"},
        {"X-RateLimit-Reset-Requests": "20s"},
    ],
)
async def test_a_limited_key_is_not_used_before_its_time(provider, headers):
    provider.script(failure(429, "slow", headers=headers), completion("ok"))
    async with way(provider, api_keys=KEYS[:2]) as upstream:
        for _ in range(5):
            await fetch(upstream, ask(provider))
        upstream.clock.now += 19.4
        await fetch(upstream, ask(provider))
        assert keys_of(provider) == [KEYS[0], *[KEYS[1]] * 6]
        upstream.clock.now += 1
        await fetch(upstream, ask(provider))
        assert provider.calls[-1].key == KEYS[0]


async def test_without_a_ready_key_no_request_is_sent(provider):
    provider.script(failure(429, "slow", retry_after=41))
    async with way(provider) as upstream:
        await refusal(upstream, ask(provider))
        request = len(provider.calls)
        problem = await refusal(upstream, ask(provider))
        assert len(provider.calls) == request == 3
    assert (problem.status, problem.retry_after) == (429, 41)


async def test_a_limit_of_the_address_costs_three_calls_and_no_key(provider):
    provider.script(failure(429, "too many requests from your IP"))
    keys = tuple(f"sk-key-number-{n:02}" for n in range(10))
    async with way(provider, api_keys=keys) as upstream:
        problem = await refusal(upstream, ask(provider))
        assert upstream.pool.counts() == (10, 10)
        await refusal(upstream, ask(provider))
    assert len(provider.calls) == 3
    assert problem.status == 429
    assert "from your IP" in problem.message


async def test_a_failing_provider_is_left_alone_after_five_requests(provider):
    provider.script(failure(500, "down"))
    async with way(provider) as upstream:
        for _ in range(20):
            problem = await refusal(upstream, ask(provider))
        assert len(provider.calls) == 5
        assert upstream.pool.counts() == (3, 3)
        assert problem.kind == "overloaded_error"
        assert problem.retry_after == 10
        upstream.clock.now += 10
        provider.script(completion("back"))
        await fetch(upstream, ask(provider))
        assert upstream.breakers.open() == []


async def test_a_failing_model_does_not_stop_requests_for_another(provider):
    provider.script(failure(500, "down"))
    async with way(provider) as upstream:
        for _ in range(5):
            await refusal(upstream, ask(provider))
        assert "big at" in (await refusal(upstream, ask(provider))).message
        assert len(provider.calls) == 5
        provider.script(completion("fine"))
        await fetch(upstream, ask(provider, model="small"))


async def test_after_a_long_outage_of_the_connection_requests_succeed_within_ten_seconds(
    provider, unused_tcp_port
):
    nowhere = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
    async with way(provider) as upstream:
        for _ in range(240):
            await refusal(upstream, ask(provider, url=nowhere))
            upstream.clock.now += 1
        provider.script(completion("back"))
        upstream.clock.now += 9
        await fetch(upstream, ask(provider))


LIMITED_MODEL = "Rate limit reached for small in organization org-1"


@pytest.mark.parametrize("text", ["too many requests", LIMITED_MODEL, "quota exceeded"])
async def test_a_limit_of_one_model_does_not_affect_others(provider, text):
    provider.script(failure(429, text, retry_after=300))
    async with way(provider) as upstream:
        first = await refusal(upstream, ask(provider, model="small"))
        assert (first.status, first.retry_after, first.should_retry) == (429, 300, False)
        provider.script(completion("fine"))
        for _ in range(3):
            await fetch(upstream, ask(provider))
        assert (await refusal(upstream, ask(provider, model="small"))).status == 429
        assert len(provider.calls) == 6


async def test_two_limited_models_are_a_limited_account(provider):
    provider.script(failure(429, "too many requests", retry_after=30))
    async with way(provider) as upstream:
        await refusal(upstream, ask(provider, model="small"))
        await refusal(upstream, ask(provider))
        problem = await refusal(upstream, ask(provider, model="third"))
        assert "limits this address or account, regardless of the key" in problem.message
        assert len(provider.calls) == 4
        upstream.clock.now += 31
        provider.script(completion("fine"))
        await fetch(upstream, ask(provider, model="third"))


async def test_invalid_requests_do_not_open_the_breaker(provider):
    provider.script(failure(400, "wrong"))
    async with way(provider) as upstream:
        for _ in range(20):
            await refusal(upstream, ask(provider))
    assert len(provider.calls) == 20


async def test_no_key_has_more_in_flight_than_allowed(provider):
    gate = asyncio.Event()
    provider.script(completion("x", gate=gate))
    async with way(provider, api_keys=KEYS[:2], limits=KeyLimits(in_flight=4)) as upstream:
        tasks = [asyncio.create_task(fetch(upstream, ask(provider))) for _ in range(40)]
        await provider.called(8)
        assert [key.in_flight for key in upstream.pool.snapshot()] == [4, 4]
        gate.set()
        await asyncio.gather(*tasks)
        assert [key.in_flight for key in upstream.pool.snapshot()] == [0, 0]
    assert len(provider.calls) == 40


# Clients that disconnect.


async def phase_queued(provider, upstream):
    gate = asyncio.Event()
    provider.script(completion("x", gate=gate))
    first = asyncio.create_task(fetch(upstream, ask(provider)))
    await provider.called(1)
    task = asyncio.create_task(fetch(upstream, ask(provider)))
    await asyncio.sleep(0)
    return task, [first, gate]


async def phase_before_headers(provider, upstream):
    provider.script(completion("x", gate=asyncio.Event()))
    task = asyncio.create_task(fetch(upstream, ask(provider)))
    await provider.called(1)
    return task, None


async def phase_before_the_first_event(provider, upstream):
    provider.script(stream(": wait\n\n", asyncio.Event()))
    task = asyncio.create_task(fetch(upstream, ask(provider, streams=True)))
    await provider.called(1)
    return task, None


async def phase_in_the_stream(provider, upstream):
    provider.script(stream(chunk("x"), asyncio.Event()))
    begun = asyncio.Event()

    async def read():
        async with upstream.send(ask(provider, streams=True)) as answer:
            async for _ in pieces_of(answer):
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    return task, None


async def phase_before_a_repeat(provider, upstream):
    provider.script(failure(503, "busy", retry_after=4))
    task = asyncio.create_task(fetch(upstream, ask(provider)))
    await provider.called(1)
    await provider.calls[0].done.wait()
    return task, None


@pytest.mark.parametrize(
    "phase",
    [
        phase_queued,
        phase_before_headers,
        phase_before_the_first_event,
        phase_in_the_stream,
        phase_before_a_repeat,
    ],
)
async def test_a_client_that_disconnects_releases_connection_and_lease(provider, phase):
    limits = KeyLimits(in_flight=1)
    async with way(provider, api_keys=KEYS[:1], limits=limits, max_retries=1) as upstream:
        task, others = await phase(provider, upstream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if others:
            first, gate = others
            gate.set()
            await first
        else:
            call = provider.calls[-1]
            if not call.done.is_set():
                await asyncio.wait_for(call.gone.wait(), 30)
        assert upstream.pool.snapshot()[0].in_flight == 0
        assert len(provider.calls) == 1
        assert upstream.breakers.open() == []


# Secrets.


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_a_key_that_the_provider_echoes_is_masked(provider, api):
    provider.script(failure(401, f"Incorrect key {KEYS[0]} and {KEYS[0][:14]}…"))
    async with way(provider, api=api, api_keys=KEYS[:1]) as upstream:
        problem = await refusal(upstream, ask(provider))
    message = problem.message + (problem.body or b"").decode()
    assert not any(KEYS[0][at : at + 8] in message for at in range(len(KEYS[0]) - 7))
    assert "…aaaa" in message


async def test_direct_mode_relays_status_and_body(provider):
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": "m", "x": 1}}
    provider.script(failure(422, body))
    async with way(provider, api="messages") as upstream:
        problem = await refusal(upstream, ask(provider, path="/messages"))
    assert problem.status == 422
    assert problem.body == json.dumps(body).encode()


async def test_chat_mode_relays_no_body(provider):
    provider.script(failure(400, "x"))
    async with way(provider) as upstream:
        assert (await refusal(upstream, ask(provider))).body is None


async def test_the_log_describes_the_attempts_without_the_key(provider):
    provider.script(failure(429, "slow"), failure(401, KEYS[1]), completion("ok"))
    with capture_logs() as lines:
        async with way(provider) as upstream:
            await fetch(upstream, ask(provider))
    assert [line["event"] for line in lines] == [
        "upstream.refused",
        "key.cooldown",
        "upstream.refused",
        "key.rejected",
    ]
    assert [line["key"] for line in lines] == ["…aaaa", "…aaaa", "…bbbb", "…bbbb"]
    assert not any(key in str(lines) for key in KEYS)


async def test_limited_and_rejected_keys_cost_no_request(
    provider,
):
    def answer(call):
        if call.key == KEYS[0]:
            return failure(429, "slow")
        return failure(401, "bad") if call.key == KEYS[1] else completion("ok")

    provider.script(answer)
    async with way(provider) as upstream:
        results = await asyncio.gather(*(fetch(upstream, ask(provider)) for _ in range(200)))
        assert [key.in_flight for key in upstream.pool.snapshot()] == [0, 0, 0]
    assert {answer.keys[-1] for answer, _ in results} == {"…cccc"}
    good = [call for call in provider.calls if call.key == KEYS[2]]
    assert len(good) == 200


async def test_500_concurrent_streams(provider):
    gate = asyncio.Event()
    provider.script(stream(chunk("a"), gate, chunk("b", finish="stop")))
    # A group, because a request that fails is no call, and the wait would never end.
    async with way(provider) as upstream, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(fetch(upstream, ask(provider, streams=True))) for _ in range(500)
        ]
        await provider.called(500)
        gate.set()
    assert all(task.result()[1].endswith(b"data: [DONE]\n\n") for task in tasks)
