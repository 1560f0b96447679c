"""The event stream: pings, stalled clients, and errors that still have a status."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ccproxy.worker.server import event_stream, http
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import chunk, completion, stream

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@pytest.mark.parametrize(
    ("streams", "answer", "error"),
    [
        pytest.param(
            b"true",
            stream(*[chunk("x" * 500_000)] * 60, chunk("", finish="stop")),
            "client_left",
            id="stream",
        ),
        # A whole answer is logged before it is written.
        pytest.param(b"false", completion("x" * 30_000_000), None, id="whole"),
    ],
)
async def test_a_reader_that_stalls_for_too_long_is_cut_off(
    proxy, provider, monkeypatch, streams, answer, error
):
    monkeypatch.setattr(http, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.1)
    provider.script(answer)
    body = b'{"model":"m","max_tokens":9,"stream":%b,"messages":[{"role":"user","content":"x"}]}'
    body %= streams
    with socket.create_connection(("127.0.0.1", proxy.port)) as reader:
        head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        reader.sendall(head % len(body) + body)
        await provider.called()
        await proxy.logged("request.finished")
        await eventually(lambda: not proxy.lifecycle.http.connections)
    (line,) = proxy.lines("request.finished")
    assert line.get("error") == error


async def test_never_committing_early_keeps_the_status(start, provider, monkeypatch):
    proxy = await start(EARLY_COMMIT="0")
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.02)
    gate = asyncio.Event()
    provider.script(completion("late", gate=gate))
    asking = asyncio.ensure_future(proxy.ask(prompt(stream=True)))
    call = await provider.called()
    done, _ = await asyncio.wait({asking}, timeout=0.2)
    assert not done
    gate.set()
    answer = await asking
    assert answer.body.startswith(b"event: message_start")
    assert not call.gone.is_set()


async def test_a_provider_that_sends_only_comments_does_not_delay_the_commit(start, provider):
    proxy = await start(EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    provider.script(stream(": WAITING\n\n", gate, chunk("x", finish="stop")))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        assert await response.content.readuntil(b"\n\n") == PING
        gate.set()
        assert (await response.read()).endswith(b'"message_stop"}\n\n')


@pytest.mark.parametrize("streams", [1, 40])
async def test_many_concurrent_streams_all_make_progress(proxy, provider, streams):
    gate = asyncio.Event()
    provider.script(stream(chunk("a"), gate, chunk("b", finish="stop")))
    asking = [asyncio.ensure_future(proxy.ask(prompt(stream=True))) for _ in range(streams)]
    await provider.called(streams)
    assert len(proxy.worker.requests.tasks) == streams
    gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.text for answer in answers} == {"ab"}


async def test_a_provider_that_keeps_the_connection_open_does_not_delay_the_answer(proxy, provider):
    done = stream(chunk("x", finish="stop"), "data: [DONE]\n\n", asyncio.Event())
    provider.script(done)
    async with asyncio.timeout(30):
        assert (await proxy.ask(prompt(stream=True))).text == "x"
        assert (await proxy.ask(prompt(stream=True))).text == "x"
