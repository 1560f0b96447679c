"""
A strict client of the Messages API.

`read_stream` asserts every rule of the event order, so a test that reads a stream with it fails at
the first violation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

STOP_REASONS = {
    "end_turn",
    "max_tokens",
    "model_context_window_exceeded",
    "pause_turn",
    "refusal",
    "stop_sequence",
    "tool_use",
}
ERROR_TYPES = {
    "api_error",
    "authentication_error",
    "billing_error",
    "conflict_error",
    "invalid_request_error",
    "not_found_error",
    "overloaded_error",
    "permission_error",
    "rate_limit_error",
    "request_too_large",
    "timeout_error",
}
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "web_search_tool_result": set(),
    "tool_search_tool_result": set(),
}
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one request, checked against every rule of the API."""

    status: int
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes
    events: tuple[Event, ...] = ()
    """The events of a stream, without pings."""
    message: dict[str, Any] | None = None
    """The message, or the received part of it if the stream broke."""
    error: dict[str, Any] | None = None
    """`{"type", "message"}` of an error answer or of an error as the last event."""

    @property
    def text(self) -> str:
        """The text of all text blocks."""
        blocks = (self.message or {}).get("content", ())
        return "".join(block["text"] for block in blocks if block["type"] == "text")

    def blocks(self, kind: str) -> list[dict[str, Any]]:
        """The content blocks of one type."""
        blocks = (self.message or {}).get("content", ())
        return [block for block in blocks if block["type"] == kind]


async def ask(
    session: aiohttp.ClientSession,
    base_url: str,
    body: Mapping[str, Any] | bytes,
    *,
    headers: Mapping[str, str] | None = None,
    path: str = "/v1/messages",
) -> Answer:
    """Send *body* and read the answer, whole or streamed, checking every rule of the API."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    outgoing = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    async with session.post(
        base_url + path, data=data, headers={**outgoing, **(headers or {})}
    ) as got:
        return read_answer(got.status, got.headers, await got.read())


def prompt(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return a small request; *fields* are added to its body."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-1", "max_tokens": 100, "messages": messages, **fields}


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read an answer of the Messages endpoint; fails if it breaks a rule."""
    lower = {name.lower(): value for name, value in headers.items()}
    answer: dict[str, Any] = {"status": status, "headers": lower, "body": body}
    if lower.get("content-type", "").startswith("text/event-stream"):
        assert status == 200, f"an event stream with status {status}"
        stream = read_stream(body)
        answer |= {"message": stream.message, "error": stream.error}
        return Answer(**answer, events=tuple(stream.events))
    content = json.loads(body)
    if status == 200:
        _check_message(content)
        return Answer(**answer, message=content)
    assert content["type"] == "error", content
    _check_error(content["error"])
    return Answer(**answer, error=content["error"])


def _check_message(message: dict[str, Any]) -> None:
    assert message["type"] == "message", message
    assert message["role"] == "assistant"
    assert isinstance(message["id"], str)
    assert isinstance(message["model"], str)
    assert message["stop_reason"] in STOP_REASONS, message["stop_reason"]
    _check_usage(message["usage"])
    _check_ids(message["content"])
    for block in message["content"]:
        assert block["type"] in DELTAS, block
        if block["type"] == "tool_use":
            assert isinstance(block["input"], dict), block
        if block["type"] == "thinking":
            assert isinstance(block["signature"], str), block


def _check_usage(usage: dict[str, Any]) -> None:
    for name in ("input_tokens", "output_tokens"):
        assert type(usage[name]) is int, f"usage.{name} is {usage.get(name)!r}"


def _check_ids(blocks: list[dict[str, Any]]) -> None:
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len(set(ids)) == len(ids), f"two tool calls share an id: {ids}"
    assert all(TOOL_ID.fullmatch(one) for one in ids), ids


def _check_error(error: dict[str, Any]) -> None:
    assert error["type"] in ERROR_TYPES, error
    assert isinstance(error["message"], str), error
    assert error["message"], "an error without words"


# Streams.


@dataclass(slots=True)
class Stream:
    """The part of an event stream that has been read."""

    events: list[Event] = field(default_factory=list)
    message: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    ended: bool = False
    _open: int | None = None
    _arguments: str = ""

    def take(self, event: Event) -> None:
        """Read the next event; fails if it is not allowed here."""
        kind = event["type"]
        if kind == "ping":
            return
        assert not self.ended, f"{kind} after message_stop"
        assert self.error is None, f"{kind} after an error"
        self.events.append(event)
        if kind == "error":
            _check_error(event["error"])
            self.error = event["error"]
        elif kind == "message_start":
            self._start(event["message"])
        else:
            assert self.message is not None, f"{kind} before message_start"
            _READERS[kind](self, event)

    def _start(self, message: dict[str, Any]) -> None:
        assert self.message is None, "a second message_start"
        assert (message["type"], message["role"]) == ("message", "assistant")
        assert message["content"] == []
        assert message["stop_reason"] is None
        assert isinstance(message["id"], str)
        assert isinstance(message["model"], str)
        _check_usage(message["usage"])
        self.message = dict(message, content=[])

    def _start_block(self, event: Event) -> None:
        assert self._open is None, f"block {event['index']} starts while {self._open} is open"
        assert event["index"] == len(self._content), f"blocks come in order: {event}"
        block = dict(event["content_block"])
        assert block["type"] in DELTAS, block
        if block["type"] == "tool_use":
            assert block["input"] == {}, block
            assert block["name"], block
        if block["type"] == "text":
            assert block["text"] == "", block
        self._open = event["index"]
        self._arguments = ""
        self._content.append(block)

    def _take_delta(self, event: Event) -> None:
        assert event["index"] == self._open, f"delta for {event['index']}, open is {self._open}"
        block, delta = self._content[-1], event["delta"]
        assert delta["type"] in DELTAS[block["type"]], f"{delta['type']} in {block['type']}"
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = block.get("signature", "") + delta["signature"]
            case "input_json_delta":
                self._arguments += delta["partial_json"]

    def _stop_block(self, event: Event) -> None:
        assert event["index"] == self._open, f"stop of {event['index']}, open is {self._open}"
        block = self._content[-1]
        if block["type"] == "tool_use":
            block["input"] = json.loads(self._arguments) if self._arguments else {}
            assert isinstance(block["input"], dict), self._arguments
        if block["type"] == "thinking":
            assert isinstance(block["signature"], str), "thinking without a signature"
        self._open = None

    def _take_end(self, event: Event) -> None:
        assert self.message is not None
        assert self._open is None, f"message_delta while block {self._open} is open"
        assert self.message["stop_reason"] is None, "a second message_delta"
        assert event["delta"]["stop_reason"] in STOP_REASONS, event
        assert type(event["usage"]["output_tokens"]) is int, event
        self.message |= event["delta"]
        self.message["usage"] = {**self.message["usage"], **event["usage"]}

    def _stop(self, _event: Event) -> None:
        assert self.message is not None
        assert self.message["stop_reason"] is not None, "message_stop without message_delta"
        _check_ids(self._content)
        self.ended = True

    @property
    def _content(self) -> list[dict[str, Any]]:
        assert self.message is not None
        content: list[dict[str, Any]] = self.message["content"]
        return content


_READERS = {
    "content_block_start": Stream._start_block,
    "content_block_delta": Stream._take_delta,
    "content_block_stop": Stream._stop_block,
    "message_delta": Stream._take_end,
    "message_stop": Stream._stop,
}


def read_stream(data: bytes) -> Stream:
    """Read a complete stream; fails if it breaks the grammar or is incomplete."""
    stream = Stream()
    for event in parse_events(data):
        stream.take(event)
    assert stream.ended or stream.error, "the stream ends without message_stop or error"
    return stream


def parse_events(data: bytes) -> Iterator[Event]:
    """Split a stream into events; the name of each must match its data."""
    assert data.endswith(b"\n\n"), f"the last event is not closed: {data[-80:]!r}"
    for text in data.decode().split("\n\n")[:-1]:
        name, _, line = text.partition("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}", text
        yield event
