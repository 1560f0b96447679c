"""Requests on aiohttp's connections to a scripted provider on a real socket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest

from ccproxy.worker.aiohttp_internals import ProviderProtocol
from ccproxy.worker.upstream import connections, liveness, transport
from ccproxy.worker.upstream.connections import open_transport
from ccproxy.worker.upstream.transport import READ_BUFFER
from tests.provider import hang_up, raw, stream
from tests.traced import kept_by

HEADERS = (("Authorization", "Bearer sk-1"), ("Content-Type", "application/json"))


@asynccontextmanager
async def transport_to(proxy=None):
    opened = open_transport(None, proxy=proxy)
    try:
        yield opened
    finally:
        await opened.close()


async def post(way, provider, *, body=b"{}", patience=5.0, headers=HEADERS):
    return await way.post(f"{provider.url}/x?a=b", headers, body, patience=patience)


async def rest_of(reply):
    pieces = []
    assert await reply.pump(lambda data: pieces.append(data) is None)
    return b"".join(pieces)


async def test_head_and_body_arrive_unchanged(provider):
    body = b'{"a":"%b"}' % (b"x" * 200_000)
    async with transport_to() as way:
        reply = await post(way, provider, body=body)
        await rest_of(reply)
    (call,) = provider.calls
    assert (call.method, call.path, call.query, call.body) == ("POST", "/v1/x", "a=b", body)
    assert call.headers["authorization"] == "Bearer sk-1"
    assert call.headers["content-length"] == str(len(body))
    assert call.headers["host"] == provider.url.split("/")[2]


async def test_after_a_complete_answer_the_connection_is_reused(provider):
    async with transport_to() as way:
        for _ in range(3):
            reply = await post(way, provider)
            await rest_of(reply)
            assert reply.is_over
    assert {call.connection for call in provider.calls} == {provider.calls[0].connection}


async def test_an_abandoned_answer_closes_its_connection(provider):
    gate = asyncio.Event()
    provider.script(stream("data: 1\n\n", gate), raw(b"{}"))
    async with transport_to() as way:
        reply = await post(way, provider)
        assert await reply.read() == b"data: 1\n\n"
        reply.close()
        async with asyncio.timeout(30):
            await provider.calls[0].gone.wait()
        await rest_of(await post(way, provider))
    assert provider.calls[0].connection != provider.calls[1].connection


async def test_a_dead_idle_connection_is_silently_replaced(provider):
    provider.script(raw(b"{}"), hang_up(), raw(b'{"again":1}'))
    async with transport_to() as way:
        await rest_of(await post(way, provider))
        assert await rest_of(await post(way, provider)) == b'{"again":1}'


async def test_a_fresh_connection_that_dies_is_an_error(provider):
    provider.script(hang_up())
    async with transport_to() as way:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(way, provider)
    assert len(provider.calls) == 1


async def test_silence_before_the_answer_is_a_timeout(provider):
    provider.script(raw(b"{}", gate=asyncio.Event()))
    async with transport_to() as way:
        with pytest.raises(TimeoutError):
            await post(way, provider, patience=0.05)


async def read_on(reply):
    while await reply.read():
        pass


@pytest.mark.parametrize("how", [read_on, rest_of], ids=["read", "pump"])
async def test_silence_within_the_answer_is_a_timeout(provider, how):
    provider.script(stream("data: 1\n\n", asyncio.Event()))
    async with transport_to() as way:
        reply = await post(way, provider)
        reply.allow(0.05)
        with pytest.raises(TimeoutError):
            await how(reply)


async def test_time_without_a_reader_does_not_count_as_silence(provider):
    gate = asyncio.Event()
    provider.script(stream("data: 1\n\n", gate, "data: 2\n\n"))
    async with transport_to() as way:
        reply = await post(way, provider)
        reply.allow(0.05)
        await reply.read()
        loop = asyncio.get_running_loop()
        forwarded = loop.create_future()
        loop.call_later(0.2, forwarded.set_result, None)
        await forwarded
        gate.set()
        assert (await reply.read()).startswith(b"data: 2\n\n")
        reply.close()


async def test_a_paused_pump_continues_where_it_stopped(provider):
    pieces = [f"data: {number} {'x' * READ_BUFFER}\n\n" for number in range(12)]
    provider.script(stream(*pieces))
    got = []

    def take(data):
        got.append(data)
        return len(got) % 2 == 1

    async with transport_to() as way:
        reply = await post(way, provider)
        pauses = 0
        while not await reply.pump(take):
            pauses += 1
    outgoing = "".join(pieces).encode()
    assert b"".join(got)[: len(outgoing)] == outgoing
    assert pauses == len(got) // 2


async def test_only_a_paused_transport_is_resumed(provider, monkeypatch):
    reads = []
    received = ProviderProtocol.data_received
    monkeypatch.setattr(
        ProviderProtocol,
        "data_received",
        lambda line, data: (reads.append(data), received(line, data)),
    )
    provider.script(stream(*("data: 1\n\n" for _ in range(20))))
    async with transport_to() as way:
        await rest_of(await post(way, provider))
    assert b"" not in reads
    assert b"".join(reads).count(b"data: 1") == 20


async def test_exceptions_of_the_receiver_are_raised_by_the_pump(provider):
    provider.script(stream("data: 1\n\n", asyncio.Event()))

    def take(_data):
        raise KeyError("no")

    async with transport_to() as way:
        reply = await post(way, provider)
        with pytest.raises(KeyError):
            await reply.pump(take)
        reply.close()


async def test_a_pump_reports_an_answer_that_breaks_off(provider):
    provider.script(stream("data: 1\n\n", end="cut"))
    async with transport_to() as way:
        reply = await post(way, provider)
        with pytest.raises(aiohttp.ClientPayloadError):
            await rest_of(reply)
        reply.close()


async def test_a_line_break_in_a_header_is_never_sent(provider):
    async with transport_to() as way:
        with pytest.raises(ValueError, match="control character"):
            await post(way, provider, headers=(("X-A", "1\r\nX-B: 2"),))
    assert not provider.calls


async def test_a_forward_proxy_gets_the_complete_address_and_its_login(provider):
    address = provider.url.split("/")[2]
    async with transport_to(proxy=f"http://me:se%20cret@{address}") as way:
        reply = await way.post("http://api.example:1/v1/x", HEADERS, b"{}", patience=5)
        await rest_of(reply)
    (call,) = provider.calls
    assert call.headers["host"] == "api.example:1"
    assert call.headers["proxy-authorization"] == "Basic bWU6c2UgY3JldA=="


# A provider that sends unrequested data.

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHER = ANSWER.replace(b"ok", b"no")


class Odd:
    """A server that answers each request with fixed bytes, and can send more without a request."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.lines: list[asyncio.StreamWriter] = []
        """All connections."""
        self.ended = asyncio.Event()
        """Set when a client closes its connection."""

    @property
    def url(self):
        host, port = self.server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for line in self.lines:
            line.close()

    async def _serve(self, reader, writer):
        self.lines.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n{}"):
                writer.write(self.pieces.pop(0) if self.pieces else ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()


async def reply_to_odd(way, odd, patience=5.0):
    reply = await post(way, odd, patience=patience)
    body = b"".join([piece async for piece in pieces_of(reply)])
    return reply.status, body


async def pieces_of(reply):
    while data := await reply.read():
        yield data


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(OTHER, id="an answer"),
        pytest.param(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", id="a 408"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="the half of one"),
        pytest.param(b"garbage", id="garbage"),
    ],
)
async def test_an_unrequested_response_answers_no_request(more):
    async with Odd(ANSWER) as odd, transport_to() as way:
        assert await reply_to_odd(way, odd) == (200, b"ok")
        odd.lines[0].write(more)
        async with asyncio.timeout(30):
            await odd.ended.wait()
        for _ in range(3):
            assert await reply_to_odd(way, odd) == (200, b"ok")
        assert len(odd.lines) == 2


@pytest.mark.parametrize("cut", [0, len(ANSWER) - 1, len(ANSWER) - 2])
async def test_bytes_after_an_answer_are_discarded(cut):
    async with Odd(ANSWER[: cut or None] + (b"" if cut else OTHER)) as odd, transport_to() as way:
        reply = await post(way, odd)
        if cut:
            odd.lines[0].write(ANSWER[cut:] + OTHER)
        assert b"".join([piece async for piece in pieces_of(reply)]) == b"ok"
        assert await reply_to_odd(way, odd) == (200, b"ok")
        assert len(odd.lines) == 2


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, id="interim answers without end"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            id="another protocol",
        ),
        pytest.param(ANSWER.replace(b"200", b"000"), id="status 0"),
        pytest.param(ANSWER.replace(b"200", b"600"), id="status 600"),
    ],
)
async def test_an_invalid_answer_is_an_immediate_error(head):
    async with Odd(head) as odd, transport_to() as way:
        with pytest.raises(aiohttp.ClientResponseError):
            await post(way, odd, patience=60)


async def test_a_few_interim_responses_are_skipped():
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with Odd(hints * 3 + ANSWER) as odd, transport_to() as way:
        assert await reply_to_odd(way, odd) == (200, b"ok")


async def test_connecting_has_a_total_time_limit(monkeypatch):
    """The forward proxy accepts CONNECT and sends nothing."""
    monkeypatch.setattr(connections, "_TIMEOUT", aiohttp.ClientTimeout(connect=0.05))
    async with Odd() as odd, transport_to(proxy=odd.url) as way:
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await way.post("https://api.example/v1/x", HEADERS, b"{}", patience=60)


async def test_only_small_heads_are_remembered():
    async with transport_to() as way:

        def work():
            for number in range(40):
                way.head("http://api.example/x", (("x-a", f"{number}" + "x" * 2**16),))

        assert kept_by(work) < 2**20


# Dead connections in the pool.


async def idle_connections(way, provider, count):
    """Create *count* idle connections in the pool."""
    replies = await asyncio.gather(*(post(way, provider) for _ in range(count)))
    for reply in replies:
        await rest_of(reply)


async def test_one_dead_connection_closes_all_idle_ones(provider):
    """The cause probably affects all of them, and the next request needs no retry."""
    gate = asyncio.Event()
    provider.script(raw(b"{}", gate=gate))
    async with transport_to() as way:
        asking = asyncio.ensure_future(idle_connections(way, provider, 12))
        await provider.called(12)
        gate.set()
        await asking
        provider.script(lambda call: hang_up() if call.connection < 12 else raw(b"{}"))
        for _ in range(3):
            await rest_of(await post(way, provider))
    assert len(provider.calls) == 12 + 2 + 1 + 1


async def test_a_reused_connection_that_ends_later_may_have_been_served(provider, monkeypatch):
    """The provider has worked on the request, so a retry would cause a second generation."""
    monkeypatch.setattr(transport, "AT_ONCE_SECONDS", 0.0)
    sends = []
    async with transport_to() as way:
        await rest_of(await post(way, provider))
        provider.script(hang_up())
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await way.post(
                f"{provider.url}/x", HEADERS, b"{}", patience=5.0, on_send=lambda: sends.append(1)
            )
    assert len(sends) == 1
    assert len(provider.calls) == 2


async def test_a_provider_may_read_a_large_body_late(monkeypatch):
    """Unread data is still acknowledged, even if the receive window is full."""
    monkeypatch.setattr(liveness, "UNACKNOWLEDGED_SECONDS", 1.0)
    monkeypatch.setattr(liveness, "CHECK_SECONDS", 0.1)
    body = b"x" * 8_000_000
    served = 0
    lines: list[asyncio.StreamWriter] = []

    async def serve(reader, writer):
        nonlocal served
        lines.append(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if served:
                writer.transport.pause_reading()
                await asyncio.sleep(2.0)  # twice the limit; this test needs real time
                writer.transport.resume_reading()
            await reader.readexactly(length)
            served += 1
            writer.write(ANSWER)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with transport_to() as way:
        for outgoing in (b"{}", body):
            reply = await way.post(url, HEADERS, outgoing, patience=30.0)
            assert await rest_of(reply) == b"ok"
    assert served == 2
    server.close()
    for line in lines:
        line.close()
