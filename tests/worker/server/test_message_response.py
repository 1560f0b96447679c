"""The bytes of our own answers on the client's socket."""

from __future__ import annotations

import json

import pytest

from tests.provider import chunk, completion, stream

BODY = '{"model":"m","max_tokens":9,"stream":%s,"messages":[{"role":"user","content":"x"}]}'


def request(*, streams, version="1.1", extra=""):
    body = BODY % ("true" if streams else "false")
    lines = [f"POST /v1/messages HTTP/{version}", "Host: localhost", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *extra.splitlines(), "", body]).encode()


def parted(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return status, {name.lower(): value for name, value in fields.items()}, body


async def test_a_whole_answer(proxy, provider):
    provider.script(completion("Hello"))
    answer = await proxy.exchange(request(streams=False, extra="Connection: close"))
    status, fields, body = parted(answer)
    assert status == "HTTP/1.1 200 OK"
    assert fields["content-type"] == "application/json"
    assert int(fields["content-length"]) == len(body)
    assert fields["connection"] == "close"
    assert fields["date"].endswith(" GMT")
    assert fields["request-id"].startswith("req_")
    assert json.loads(body)["content"] == [{"type": "text", "text": "Hello"}]


async def test_a_stream_is_sent_in_chunks(proxy, provider):
    provider.script(stream(chunk("Hello"), chunk("", finish="stop")))
    answer = await proxy.exchange(request(streams=True, extra="Connection: close"))
    status, fields, body = parted(answer)
    assert status == "HTTP/1.1 200 OK"
    assert fields["transfer-encoding"] == "chunked"
    assert fields["content-type"] == "text/event-stream; charset=utf-8"
    assert body.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_an_old_client_gets_no_chunks_and_its_connection_ends(proxy, provider, streams):
    provider.script(completion("Hello"))
    _, fields, body = parted(await proxy.exchange(request(streams=streams, version="1.0")))
    assert "transfer-encoding" not in fields
    assert fields["connection"] == "close"
    assert body.startswith(b"event: message_start" if streams else b'{"id"')


async def test_a_connection_serves_one_request_after_the_other(proxy, provider):
    provider.script(completion("Hello"))
    twice = request(streams=False) + request(streams=True, extra="Connection: close")
    answer = await proxy.exchange(twice)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"Connection: close") == 1
