"""
The provider: a separate process that answers with prepared bytes.

    python -m bench.upstream PORT SECONDS

It serves Chat Completions, Responses and Messages, whole and streamed. Every streamed chunk
contains the mark `~k`, which the client counts. A request to
`GET /mode?chunks=500&delay_ms=20&kind=tool&stamp=1` sets the form of later streams: the number of
chunks, the milliseconds between them (0: full speed), text or tool call, and whether each chunk
contains the time when it was sent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import uvloop

MARK = "~k"
STAMP = "~k@"
"""Followed by sixteen digits: microseconds of the machine's monotonic clock."""

_CHAT_ID = "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012"
_TEXT = MARK + " Hello there! " + "word " * 120


@dataclass(frozen=True, slots=True)
class Mode:
    """The form and pace of streams."""

    chunks: int = 50
    delay_ms: float = 0
    kind: str = "text"
    stamp: int = 0


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _whole(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_1\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nx-request-id: req_1\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


# Chat Completions.


def _chat(**fields: Any) -> dict[str, Any]:
    return {"id": _CHAT_ID, "created": 1_700_000_000, "model": "gpt-4o-2024-08-06", **fields}


CHAT_WHOLE = _whole(
    _json(
        _chat(
            object="chat.completion",
            choices=[
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": _TEXT, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            usage={
                "prompt_tokens": 30,
                "completion_tokens": 122,
                "total_tokens": 152,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        )
    )
)


def _chat_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = _chat(object="chat.completion.chunk", system_fingerprint="fp_01", choices=[choice])
    return b"data: " + _json(chunk) + b"\n\n"


def _chat_delta(kind: str, text: str) -> bytes:
    if kind == "text":
        return _chat_chunk({"content": text})
    return _chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})


def _chat_around(kind: str) -> tuple[list[bytes], list[bytes]]:
    usage = {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
    end = _chat(object="chat.completion.chunk", choices=[], usage=usage)
    tail = [b"data: " + _json(end) + b"\n\n", b"data: [DONE]\n\n"]
    if kind == "text":
        return [_chat_chunk({"role": "assistant", "content": ""})], [_chat_chunk({}, "stop"), *tail]
    function = {"name": "Read", "arguments": ""}
    call = {"index": 0, "id": "call_0123456789", "type": "function", "function": function}
    head = [
        _chat_chunk({"role": "assistant", "content": None}),
        _chat_chunk({"tool_calls": [call]}),
        _chat_delta(kind, '{"file_path":"'),
    ]
    return head, [_chat_delta(kind, '"}'), _chat_chunk({}, "tool_calls"), *tail]


# Messages.

_MESSAGE: dict[str, Any] = {
    "id": "msg_0123456789",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-20250514",
    "content": [{"type": "text", "text": _TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 30, "output_tokens": 122},
}
MESSAGE_WHOLE = _whole(_json(_MESSAGE))


def _event(name: str, **fields: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _json({"type": name, **fields}) + b"\n\n"


def _message_delta(kind: str, text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    if kind == "tool":
        delta = {"type": "input_json_delta", "partial_json": text}
    return _event("content_block_delta", index=0, delta=delta)


def _message_around(kind: str) -> tuple[list[bytes], list[bytes]]:
    block: dict[str, Any] = {"type": "text", "text": ""}
    if kind == "tool":
        block = {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {}}
    start = _MESSAGE | {"content": [], "stop_reason": None}
    stop = {"stop_reason": "tool_use" if kind == "tool" else "end_turn", "stop_sequence": None}
    head = [
        _event("message_start", message=start),
        _event("content_block_start", index=0, content_block=block),
        _event("ping"),
    ]
    tail = [
        _event("content_block_stop", index=0),
        _event("message_delta", delta=stop, usage={"output_tokens": 50}),
        _event("message_stop"),
    ]
    if kind == "tool":
        return [*head, _message_delta(kind, '{"file_path":"')], [_message_delta(kind, '"}'), *tail]
    return head, tail


# Responses.

_TEXT_ITEM: dict[str, Any] = {
    "type": "message",
    "id": "msg_0123456789",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": _TEXT, "annotations": []}],
}
_CALL_ITEM: dict[str, Any] = {
    "type": "function_call",
    "id": "fc_0123456789",
    "call_id": "call_0123456789",
    "name": "Read",
    "arguments": "",
    "status": "in_progress",
}
_RESPONSE: dict[str, Any] = {
    "id": "resp_0123456789",
    "object": "response",
    "created_at": 1_700_000_000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-4o-2024-08-06",
    "output": [_TEXT_ITEM],
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 122,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 152,
    },
}
RESPONSE_WHOLE = _whole(_json(_RESPONSE))


def _response_delta(kind: str, text: str) -> bytes:
    if kind == "tool":
        name, place = "function_call_arguments", {"item_id": _CALL_ITEM["id"], "output_index": 0}
        return _event(f"response.{name}.delta", sequence_number=7, **place, delta=text)
    place = {"item_id": _TEXT_ITEM["id"], "output_index": 0, "content_index": 0}
    return _event("response.output_text.delta", sequence_number=7, **place, delta=text, logprobs=[])


def _response_around(kind: str) -> tuple[list[bytes], list[bytes]]:
    begun = _RESPONSE | {"status": "in_progress", "output": [], "usage": None}
    item = _CALL_ITEM if kind == "tool" else _TEXT_ITEM | {"content": []}
    head = [
        _event("response.created", response=begun),
        _event("response.in_progress", response=begun),
        _event("response.output_item.added", output_index=0, item=item),
    ]
    # Without `output_item.done`, which would repeat the whole text: only deltas are measured.
    tail = [_event("response.completed", response=_RESPONSE | {"output": []})]
    if kind == "tool":
        first, last = _response_delta(kind, '{"file_path":"'), _response_delta(kind, '"}')
        return [*head, first], [last, *tail]
    return head, tail


# Streams.

_DIALECTS = {
    "chat": (_chat_around, _chat_delta),
    "messages": (_message_around, _message_delta),
    "responses": (_response_around, _response_delta),
}
_WHOLE = {"chat": CHAT_WHOLE, "messages": MESSAGE_WHOLE, "responses": RESPONSE_WHOLE}


@lru_cache(maxsize=32)
def script(api: str, kind: str, chunks: int) -> tuple[bytes, ...]:
    """Return the writes of a stream: the head, each marked chunk, the tail."""
    around, delta = _DIALECTS[api]
    head, tail = around(kind)
    marked = [_frame(delta(kind, f" {MARK}{number:04d} word")) for number in range(chunks)]
    return (
        STREAM_HEAD + b"".join(map(_frame, head)),
        *marked,
        b"".join(map(_frame, tail)) + END,
    )


@lru_cache(maxsize=4)
def stamped(api: str, kind: str) -> tuple[bytes, bytes]:
    """Return a chunk, split at its time stamp."""
    _, delta = _DIALECTS[api]
    head, tail = _frame(delta(kind, f"{STAMP}{0:016d}")).split(b"@" + b"0" * 16)
    return head + b"@", tail


class Connection(asyncio.Protocol):
    """One connection from a proxy, which sends one request at a time."""

    mode = Mode()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._left = -1  # remaining bytes of the body; -1 while the head is read
        self._head = b""
        self._writes: tuple[bytes, ...] = ()
        self._next = 0
        self._paused = False
        self._api = "chat"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class
        self._transport.set_write_buffer_limits(2**18)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._writes = ()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writes and not self._mode.delay_ms:
            self._loop.call_soon(self._write_next)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._head:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
        if self._body_is_whole():
            head, body = self._head, bytes(self._buffer)
            self._head = b""
            self._buffer.clear()
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _body_is_whole(self) -> bool:
        head = self._head.lower()
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            return len(self._buffer) >= int(head[at + 17 :].split(b"\r\n", 1)[0])
        return b"\r\ntransfer-encoding:" not in head or self._buffer.endswith(END)

    def _answer(self, path: str, body: bytes) -> None:
        if path.startswith("/mode"):
            Connection.mode = _read_mode(path)
            self._transport.write(_whole(b"{}"))
            return
        self._api = _dialect_of(path)
        if path.endswith("/models"):
            self._transport.write(_whole(b'{"object":"list","data":[]}'))
        elif b'"stream":true' in body.replace(b'"stream": true', b'"stream":true'):
            self._start_stream()
        else:
            self._transport.write(_WHOLE[self._api])

    def _start_stream(self) -> None:
        mode = self._mode = self.mode
        self._writes = script(self._api, mode.kind, mode.chunks)
        self._next = 1
        self._transport.write(self._writes[0])
        self._began = self._loop.time()
        if mode.delay_ms:
            self._loop.call_later(mode.delay_ms / 1000, self._write_paced, self._writes)
        else:
            self._loop.call_soon(self._write_next)

    def _write_next(self) -> None:
        """Write one chunk per iteration of the loop, so that each is one packet."""
        if self._paused or not self._writes:
            return
        self._transport.write(self._writes[self._next])
        self._next += 1
        if self._next < len(self._writes):
            self._loop.call_soon(self._write_next)
        else:
            self._writes = ()

    def _write_paced(self, writes: tuple[bytes, ...]) -> None:
        if writes is not self._writes:
            return  # the proxy closed the connection
        last = self._next == len(writes) - 1
        if self._mode.stamp and not last:
            head, tail = stamped(self._api, self._mode.kind)
            self._transport.write(head + b"%016d" % (time.monotonic_ns() // 1000) + tail)
        else:
            self._transport.write(writes[self._next])
        self._next += 1
        if last:
            self._writes = ()
            return
        delay = self._mode.delay_ms / 1000
        due = max(self._began + delay * self._next, self._loop.time() + delay / 4)
        self._loop.call_at(due, self._write_paced, writes)


def _dialect_of(path: str) -> str:
    if "/messages" in path:
        return "messages"
    return "responses" if path.endswith("/responses") else "chat"


def _read_mode(path: str) -> Mode:
    query = dict(parse_qsl(urlsplit(path).query))
    numbers: dict[str, Any] = {name: int(value) for name, value in query.items() if name != "kind"}
    return replace(Mode(kind=query.get("kind", "text")), **numbers)


async def serve(port: int, seconds: float) -> None:
    """Answer on *port* for at most *seconds*."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(loop), "127.0.0.1", port, backlog=4096)
    async with server:
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    for api in _DIALECTS:
        stamped(api, "text")
    gc.freeze()
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
