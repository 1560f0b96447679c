"""
Failing keys and providers over HTTP: a session continues as long as any key can serve it.

Load is measured in `bench/trust`.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import signal
import socket
import time

import pytest

from ccproxy.worker.server import event_stream
from ccproxy.worker.upstream import provider_answer as answer_module
from ccproxy.worker.upstream.connections import _socket
from tests.fleet import FleetHome, eventually
from tests.messages import prompt, read_answer
from tests.provider import chunk, completion, failure, hang_up, raw, stream
from tests.worker.test_process import Process, settings_for
from tests.worker.upstream.test_provider_client import KEYS, ask, fetch, refusal, way

THREE = ",".join(KEYS)


def permits(proxy):
    return sum(key.in_flight for key in proxy.worker.pool.snapshot())


def states(proxy):
    return [key.state for key in proxy.worker.pool.snapshot()]


# The provider fails in the middle of a stream.


@pytest.mark.parametrize(
    "death",
    [
        pytest.param(lambda: stream(chunk("begun"), end="reset"), id="reset"),
        pytest.param(lambda: stream(chunk("begun"), end="cut"), id="closed"),
        pytest.param(lambda: stream(chunk("begun"), end="eof"), id="no terminator"),
        pytest.param(
            lambda: stream(chunk("begun"), {"error": {"message": "burnt", "code": 500}}),
            id="an error instead of a chunk",
        ),
    ],
)
async def test_a_broken_stream_is_one_error_and_is_never_retried(start, provider, death):
    """There is one call and one `event: error`, the stream ends, and the usage is logged."""
    proxy = await start(PROVIDER_API_KEY=THREE, MAX_RETRIES="2")
    for number in range(1, 11):
        provider.script(death())
        async with asyncio.timeout(30):
            answer = await proxy.ask(prompt(stream=True))
        assert len(provider.calls) == number
        assert answer.body.count(b"event: error") == 1
        assert b"message_stop" not in answer.body
        assert b"begun" in answer.body or answer.status == 200
    line = await proxy.logged("request.finished")
    assert line["error"]
    assert permits(proxy) == 0


# The client disconnects.


async def come(proxy, body, *, missing=0):
    """Send a request on a new connection, without the last *missing* bytes of the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    data = json.dumps(body).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data) + missing}"
    writer.write(head.encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return reader, writer


async def in_upload(proxy, provider):
    _, writer = await come(proxy, prompt(), missing=10)
    await eventually(lambda: proxy.worker.requests.tasks)
    return writer


async def in_the_line(proxy, provider):
    gate = asyncio.Event()
    provider.script(completion("first", gate=gate))
    _, first = await come(proxy, prompt())
    await provider.called()
    _, writer = await come(proxy, prompt())
    await eventually(lambda: len(proxy.worker.requests.tasks) == 2)
    gate.set()
    first.transport.abort()
    return writer


async def before_headers(proxy, provider):
    provider.script(completion("late", gate=asyncio.Event()))
    _, writer = await come(proxy, prompt(stream=True))
    await provider.called()
    return writer


async def in_backoff(proxy, provider):
    provider.script(failure(503, "busy", retry_after=4))
    _, writer = await come(proxy, prompt(stream=True))
    call = await provider.called()
    await call.done.wait()
    await eventually(lambda: permits(proxy) == 0)
    return writer


async def in_the_stream(proxy, provider):
    provider.script(stream(chunk("a"), asyncio.Event()))
    reader, writer = await come(proxy, prompt(stream=True))
    await reader.readuntil(b"text_delta")
    return writer


async def in_a_whole_answer(proxy, provider):
    provider.script(completion("late", gate=asyncio.Event()))
    _, writer = await come(proxy, prompt())
    await provider.called()
    return writer


@pytest.mark.timed
@pytest.mark.parametrize(
    "phase",
    [in_upload, in_the_line, before_headers, in_backoff, in_the_stream, in_a_whole_answer],
    ids=lambda phase: phase.__name__,
)
async def test_a_client_that_disconnects_stops_the_provider(start, provider, phase):
    """In each of six phases (five times here, 100 in bench), sockets and leases are released."""
    settings = {"KEY_MAX_IN_FLIGHT": "1", "MAX_RETRIES": "1"}
    for _ in range(5):
        proxy = await start(**settings)
        provider.calls.clear()
        writer = await phase(proxy, provider)
        writer.transport.abort()
        began = time.monotonic()
        await eventually(lambda proxy=proxy: not proxy.worker.requests.tasks)
        await eventually(lambda: all(c.gone.is_set() or c.done.is_set() for c in provider.calls))
        assert time.monotonic() - began < 1.0
        assert permits(proxy) == 0
        assert len(provider.calls) <= 1


# Time.


async def test_a_long_silence_is_filled_with_pings(proxy, provider, monkeypatch):
    """The client gets pings while the provider is silent, then the unchanged answer."""
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.02)
    gate = asyncio.Event()
    provider.script(stream(chunk("before "), gate, chunk("after", finish="stop")))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        head = b""
        while head.count(b"event: ping") < 20:
            head += await response.content.readany()
        gate.set()
        body = head + await response.read()
    answer = read_answer(200, response.headers, body)
    assert answer.text == "before after"
    assert answer.error is None


async def test_a_stream_has_no_total_time_limit(start, provider):
    """REQUEST_TIMEOUT bounds the silence before the first byte, not the stream."""
    proxy = await start(REQUEST_TIMEOUT="1")
    gates = [asyncio.Event() for _ in range(8)]
    parts = [part for gate in gates for part in (chunk("x"), gate)]
    provider.script(stream(*parts, chunk("", finish="stop")))
    began = time.monotonic()
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        body = await response.content.readuntil(b"text_delta")
        for gate in gates:
            await asyncio.sleep(0.2)  # the duration is the point of the test
            gate.set()
        body += await response.read()
    assert time.monotonic() - began > 1.5
    assert read_answer(200, response.headers, body).text == "x" * 8


# Keys in cooldown.


@pytest.mark.timed
async def test_the_next_key_answers_immediately(start, provider):
    """A failover adds no delay; it takes 20 ms on an idle machine."""
    proxy = await start(PROVIDER_API_KEY=THREE)
    durations = []
    for _ in range(15):
        provider.script(failure(429, "slow", retry_after=30), completion("ok"))
        began = time.monotonic()
        answer = await proxy.ask()
        durations.append(time.monotonic() - began)
        assert answer.text == "ok"
        proxy.worker.pool.reset()
    assert sorted(durations)[7] < 0.2


@pytest.mark.timed
@pytest.mark.parametrize(
    ("answer", "status", "kind", "words", "retry_after", "should_retry"),
    [
        pytest.param(
            failure(429, "slow", headers={"x-ratelimit-reset-requests": "20s"}),
            *(429, "rate_limit_error", "all 3 keys of {host} are rate-limited", "20", None),
            id="limited for a while",
        ),
        pytest.param(
            failure(429, "slow", headers={"x-ratelimit-reset-requests": "6m0s"}),
            *(429, "rate_limit_error", "all 3 keys of {host} are rate-limited", "360", "false"),
            id="limited for longer than a client waits",
        ),
        pytest.param(
            failure(401, "who are you"),
            *(
                401,
                "authentication_error",
                "all 3 keys of {host} are rejected (401)",
                None,
                "false",
            ),
            id="rejected",
        ),
    ],
)
async def test_without_a_ready_key_the_error_is_immediate(
    start, provider, answer, status, kind, words, retry_after, should_retry
):
    """Without a call, the error has Anthropic's form, the earliest retry time and the cause."""
    proxy = await start(PROVIDER_API_KEY=THREE)
    provider.script(answer)
    await proxy.ask()
    assert len(provider.calls) == 3
    durations = []
    for _ in range(5):
        began = time.monotonic()
        message = await proxy.ask()
        durations.append(time.monotonic() - began)
    assert len(provider.calls) == 3
    assert min(durations) < 0.05
    assert (message.status, message.error["type"]) == (status, kind)
    assert words.format(host=proxy.worker.config.provider_name) in message.error["message"]
    assert message.headers.get("retry-after") == retry_after
    assert message.headers.get("x-should-retry") == should_retry


# Failures of the provider and of the client.


async def test_a_failing_provider_costs_no_key_and_is_probed_once_per_window(provider):
    """After 100 failures of all kinds, no key is in cooldown; the breaker opens after five.."""
    statuses = iter([500, 503, 529] * 40)
    provider.script(lambda _call: failure(next(statuses), "down"))
    async with way(provider) as upstream:
        for _ in range(100):
            await refusal(upstream, ask(provider))
        assert len(provider.calls) == 5
        for window in (10, 20, 40, 80, 120, 120):
            upstream.clock.now += window
            before = len(provider.calls)
            for _ in range(10):
                await refusal(upstream, ask(provider))
            assert len(provider.calls) == before + 1
        assert upstream.pool.counts() == (3, 3)
        upstream.clock.now += 120
        provider.script(completion("back"))
        await fetch(upstream, ask(provider))
        assert upstream.breakers.open() == []


async def test_failures_between_successes_never_cost_a_key(provider):
    """A failure and a success alternate 50 times; every request is served."""
    turns = iter([failure(500, "hiccup"), completion("ok")] * 50)
    provider.script(lambda _call: next(turns))
    async with way(provider, max_retries=1) as upstream:
        for _ in range(50):
            await fetch(upstream, ask(provider))
            assert upstream.pool.counts() == (3, 3)
            upstream.clock.now += 2
        assert upstream.breakers.open() == []
    assert len(provider.calls) == 100


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_an_invalid_request_affects_no_key(start, provider, status):
    """There is one call, the client gets the provider's message, and no key's state changes."""
    proxy = await start(PROVIDER_API_KEY=THREE, MAX_RETRIES="2")
    provider.script(failure(status, "tools.3.name is too long"))
    answer = await proxy.ask()
    assert len(provider.calls) == 1
    assert answer.status in (status, 400)
    assert "tools.3.name is too long" in answer.error["message"]
    assert states(proxy) == ["ready"] * 3


# Limits.


@pytest.mark.parametrize("mebibytes", [1.5, 32])
async def test_large_bodies_pass(proxy, provider, mebibytes):
    """Bodies of 1.5 MB and 32 MiB pass; test_http checks that more than 64 MiB is refused."""
    text = "x" * int(mebibytes * 2**20 - 4096)
    data = io.BytesIO(json.dumps(prompt(text)).encode())
    async with proxy.session.post(
        proxy.url + "/v1/messages", data=data, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 200, await response.text()
    assert len(provider.calls[0].body) > len(text)


async def test_no_key_exceeds_its_limit_in_flight(start, provider):
    """With KEY_MAX_IN_FLIGHT=4 and 40 requests at once, waiting requests are served in turn."""
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    proxy = await start(PROVIDER_API_KEY=THREE, KEY_MAX_IN_FLIGHT="4")
    asking = [asyncio.ensure_future(proxy.ask()) for _ in range(40)]
    await provider.called(12)
    await eventually(lambda: len(proxy.worker.requests.tasks) == 40)
    assert [key.in_flight for key in proxy.worker.pool.snapshot()] == [4, 4, 4]
    assert len(provider.calls) == 12
    gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {200}
    assert permits(proxy) == 0


async def test_the_queue_is_bounded(start, provider):
    """The hundred and first waiting request gets 429 immediately."""
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    proxy = await start(KEY_MAX_IN_FLIGHT="1")
    waiting = [await come(proxy, prompt()) for _ in range(101)]
    await eventually(lambda: len(proxy.worker.requests.tasks) == 101)
    answer = await proxy.ask()
    assert (answer.status, answer.error["type"]) == (429, "rate_limit_error")
    assert "requests in flight" in answer.error["message"]
    gate.set()
    for reader, writer in waiting:
        assert b" 200 " in await reader.readline()
        writer.transport.abort()


@pytest.mark.parametrize("name", ["KEY_PER_MINUTE", "KEY_PER_DAY"])
async def test_a_rate_limit_is_obeyed(start, provider, name):
    """The calls of a free key are counted, and an exhausted limit is reported."""
    proxy = await start(PROVIDER_API_KEY=THREE, **{name: "2"})
    assert [(await proxy.ask()).status for _ in range(7)] == [200] * 6 + [429]
    assert len(provider.calls) == 6


# A restart, a kill.


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_new_process_restores_cooldowns_and_refusals(tmp_path, provider, how):
    """Cooldowns and learned refusals survive; the file contains only salted names."""
    answers = {KEYS[0]: failure(429, "slow", retry_after=600), KEYS[1]: failure(401, "no")}
    provider.script(lambda call: answers.get(call.key, completion("ok")))
    settings = settings_for(provider, PROVIDER_API_KEY=THREE)
    stored = tmp_path / "state" / "test.keys.sqlite"
    old = Process(tmp_path)
    await old.start(settings=settings)
    assert await status_of(old) == 200
    await eventually(lambda: stored.exists() and _rests_in(stored) == 2)
    old.child.send_signal(how)
    await old.end()
    new = Process(tmp_path)
    try:
        await new.start(settings=settings)
        before = len(provider.calls)
        assert [await status_of(new) for _ in range(3)] == [200] * 3
        assert {call.key for call in provider.calls[before:]} == {KEYS[2]}
    finally:
        await new.end()
    data = b"".join(file.read_bytes() for file in (tmp_path / "state").glob("test.keys*"))
    assert not any(key.encode() in data for key in KEYS)


def _rests_in(path):
    from ccproxy.store.key_database import KeyStore

    store = KeyStore(path)
    result = sum(len(row["cooldowns"]) for row in store.load().values())
    store.close()
    return result


async def status_of(process):
    body = json.dumps(prompt()).encode()
    port = int(process.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


# After a suspend, or a change of the network.


def test_a_silent_connection_is_probed_but_has_no_limit_on_unacknowledged_data():
    """Such a limit would abort the upload of a large body to a provider that reads it late."""
    with _socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ())) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


async def test_dead_pooled_connections_cost_no_request(start, provider):
    """The first requests after a suspend work, for any number of dead connections."""
    proxy = await start(MAX_RETRIES="0")
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    asking = [asyncio.ensure_future(proxy.ask()) for _ in range(20)]
    await provider.called(20)
    gate.set()
    await asyncio.gather(*asking)
    provider.script(lambda call: hang_up() if call.connection < 20 else completion("awake"))
    answers = await asyncio.gather(*(proxy.ask() for _ in range(20)))
    assert {answer.text for answer in answers} == {"awake"}


# Invalid answers.


async def test_the_wait_for_an_errors_body_is_limited(start, provider, monkeypatch):
    monkeypatch.setattr(answer_module, "ERROR_SECONDS", 0.05)
    words = '{"error":{"message":"out of order"}}'
    provider.script(stream(words, asyncio.Event(), status=500))
    got = await (await start()).ask()
    assert (got.status, "out of order" in got.error["message"]) == (500, True)


HTML = raw("<html>502 Bad Gateway</html>", headers={"Content-Type": "text/html"})
EMPTY = raw("")
PLAIN = raw("it works!", headers={"Content-Type": "text/plain"})
BROKEN_GZIP = raw(gzip.compress(b"{}" * 500)[:30], headers={"Content-Encoding": "gzip"})
HUGE_HEADER = raw("{}", headers={"X-Huge": "x" * (64 * 1024)})
NULL = raw("null")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(HTML, id="a page"),
        pytest.param(EMPTY, id="nothing"),
        pytest.param(PLAIN, id="some text"),
        pytest.param(BROKEN_GZIP, id="broken gzip"),
        pytest.param(HUGE_HEADER, id="a header of 64 KiB"),
        pytest.param(NULL, id="null"),
    ],
)
async def test_an_invalid_200_is_an_api_error(proxy, provider, answer, streams):
    """The client gets an api_error with the cause, not a 500 or a hang."""
    provider.script(answer)
    async with asyncio.timeout(30):
        message = await proxy.ask(prompt(stream=streams))
    assert message.error["type"] == "api_error"
    assert message.status in (200, 502)
    assert len(message.error["message"]) > 20
    assert permits(proxy) == 0
    assert states(proxy) == ["ready"]


async def test_an_html_page_is_reported_at_once_without_retries(start, provider):
    """A wrong base URL is not an outage: nothing is retried, and the breaker stays closed."""
    proxy = await start(MAX_RETRIES="2")
    provider.script(HTML)
    for _ in range(8):
        message = await proxy.ask()
        assert (message.status, message.headers["x-should-retry"]) == (502, "false")
        assert "Check PROVIDER_BASE_URL" in message.error["message"]
    assert len(provider.calls) == 8


# Changed keys.


async def test_a_reload_changes_the_keys_and_running_requests_keep_theirs(tmp_path, provider):
    """The new key is used immediately; only running requests still use the removed key."""
    gate = asyncio.Event()
    async with FleetHome(tmp_path) as home:
        settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": KEYS[0]}
        home.write(kimi=settings)
        assert (await home.ccproxy("start")).code == 0
        provider.script(stream(chunk("old "), gate, chunk("key", finish="stop")), completion("new"))
        running = asyncio.ensure_future(_post(home, stream=True))
        await provider.called(1)
        home.write(kimi={**settings, "PROVIDER_API_KEY": KEYS[1]})
        reloading = asyncio.ensure_future(home.ccproxy("reload"))
        await eventually(lambda: _used(home, provider, KEYS[1]))
        gate.set()
        assert b"message_stop" in await running
        assert (await reloading).code == 0
        before = len(provider.calls)
        for _ in range(5):
            await _post(home)
        assert {call.key for call in provider.calls[before:]} == {KEYS[1]}


async def _used(home, provider, key):
    await _post(home)
    return provider.calls[-1].key == key


async def _post(home, **fields):
    body = json.dumps(prompt(**fields)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", home.ports["kimi"])
    head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return answer
