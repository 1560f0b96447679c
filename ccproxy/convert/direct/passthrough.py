"""
The exchange of direct mode: the Messages API on both sides, with only the model's name replaced.

The request is unchanged, except for the model's name, and for max_tokens if it exceeds the limit of
the model or the user. The answer is unchanged, except for the name in `message_start`. It is read
only to detect its end and its usage.

Only whole events are passed on. Incomplete ones are held back, so that a ping or an error can
follow at any time, and an interrupted answer does not end with incomplete JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from ccproxy.convert.common.usage import CHARS_PER_TOKEN
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.direct.body_scan import Head, head_at_ends, head_of
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.conversation_outline import ConversationOutline, read_outline
from ccproxy.protocol.json_splice import NOT_JSON, STRING, object_of, replace_value
from ccproxy.protocol.messages import check_model, error_body
from ccproxy.providers.quirks import Api

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_FIRST_MODEL = re.compile(rb'\s*\{\s*"model"\s*:\s*(%b)' % STRING)
_MODEL = re.compile(rb'("model"\s*:\s*)%b' % STRING)
_TYPE = re.compile(rb'"type"\s*:\s*"(message_start|message_delta|message_stop|error)"')

_DELTA = b"content_block_delta"
_DELTA_FRAME = 58
"""The bytes around an event's text, divided by two because its name occurs twice."""
_MOST_TOKENS = 2**53
"""The largest integer that every JSON parser reads exactly."""
_COUNTED = ("_tokens", "web_search_requests")
"""Suffixes of the names of billable counts."""
_MOST_COUNTS = 64
"""Maximum number of counts in a usage object; the provider chooses their names."""
_LONGEST_NAME = 64

CUT = "the provider's stream was cut off before the end of the answer"


class Passthrough:
    """A request in direct mode and its answer; see `Exchange` for converted ones."""

    api: Api = "messages"

    ended = False
    """Always False: the provider's stream is read to its end."""
    stopped = False

    def __init__(
        self,
        body: bytes,
        *,
        rules: ConversionContext,
        request_id: str,
        model: str | None = None,
        requested: str = "",
        dropped: tuple[str, ...] = (),
        is_recorded: bool = False,
    ) -> None:
        """
        Read the request *body*; *model* and *requested* override its `model`.

        `asked` keeps the body only if the exchange *is_recorded*, because it may be large.

        *dropped* lists the parts of the client's request that are missing from *body*.
        """
        body, filtered = rules.without_tools(body)
        self.asked = body if is_recorded else b""
        """The client's request, without filtered tools."""
        self.dropped = (*dropped, *filtered)
        self.known_dropped = self.dropped
        body, head = _read(body, rules)
        check_model(head.model)
        self.requested = requested or head.model
        self.model = model or rules.pick_model(head.model)
        self.streams = self.asks_stream = bool(head.stream)
        self.body = self._forwarded(body, head, rules)
        self._usage: dict[str, Any] = {}
        self.stop_reason: str | None = None
        self._request_id = request_id
        self._decoder = sse.Decoder()
        self._events = WholeEvents()
        self._named = self.requested == self.model
        self._ended = False
        self._written = 0

    def conversation(self) -> ConversationOutline | None:
        """Return the parts of the request that identify its conversation, or None if unreadable."""
        return read_outline(self.body)

    @property
    def usage(self) -> Mapping[str, Any]:
        """
        The usage that the provider has reported so far.

        A stream reports its output tokens at the end. If the client disconnects earlier, they are
        estimated, because the provider charges for them.
        """
        if not self._written or self._ended or self.stop_reason is not None:
            return self._usage
        output = max(self._usage.get("output_tokens", 0), self._written // CHARS_PER_TOKEN)
        return {**self._usage, "output_tokens": output}

    def feed(self, data: bytes) -> bytes:
        """Process bytes of the provider's stream, and return the bytes of complete events."""
        if names := data.count(_DELTA):
            self._written += max(0, len(data) - names * _DELTA_FRAME)
        if self._is_plain(data):
            self._decoder.begun = True
            return data
        self._read_events(self._decoder.feed(data))
        whole = self._events.feed(data)
        return self._with_name(whole) if whole and not self._named else whole

    def close(self) -> bytes:
        """
        Return the bytes held back when the provider's stream ends.

        A message_delta with a stop_reason also completes the answer: some servers omit the events
        after it, and Claude Code does not need them.

        Raises:
            Problem: If the answer is incomplete.
        """
        self._read_events(self._decoder.close())
        if not self._ended and self.stop_reason is None:
            raise BadAnswer(CUT)
        return self._events.rest()

    def fail(self, problem: Problem) -> bytes:
        """Return the error event that ends a started stream."""
        return sse.encode(b"error", error_body(problem, self._request_id))

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer with the client's name for the model."""
        if self.requested != self.model:
            body = replace_value(body, ("model",), msgspec.json.encode(self.requested))
        self._note(body)
        return body

    def _forwarded(self, body: bytes, head: Head, rules: ConversionContext) -> bytes:
        if self.model != head.model:
            body = _renamed(body, head.model, self.model)
        allowed = rules.clamp(head.max_tokens) or 0
        allowed = min(allowed, rules.target(self.model).max_output or allowed)
        if head.max_tokens and allowed != head.max_tokens:
            body = replace_value(body, ("max_tokens",), b"%d" % allowed)
        return body

    def _is_plain(self, data: bytes) -> bool:
        """Return True if *data* contains only whole events that neither start nor end an answer."""
        return (
            data.endswith(b"\n\n")
            and b"message_" not in data
            and b'"error"' not in data
            and b"\r" not in data
            and self._decoder.idle
            and self._events.is_between
        )

    def _with_name(self, whole: bytes) -> bytes:
        """Restore the client's name for the model in message_start, the first event with a name."""
        if b"message_start" not in whole:
            return whole
        self._named = True
        name = msgspec.json.encode(self.requested)
        return _MODEL.sub(lambda match: match[1] + name, whole, count=1)

    # Reading the answer

    def _read_events(self, events: list[sse.ServerEvent]) -> None:
        for event in events:
            if event.event == b"content_block_delta":
                continue
            type_match = _TYPE.search(event.data)
            if type_match is None:
                continue
            match type_match[1]:
                case b"message_stop" | b"error":
                    self._ended = True
                case _:
                    self._note(event.data)

    def _note(self, data: bytes) -> None:
        """Store the usage and the stop reason of a message or an event."""
        event = object_of(data) or {}
        for part in (event, event.get("message"), event.get("delta")):
            if isinstance(part, dict):
                self._take(part)

    def _take(self, part: Mapping[str, Any]) -> None:
        usage, reason = part.get("usage"), part.get("stop_reason")
        if isinstance(usage, dict):
            details = {
                name: _first(counts)
                for name, value in usage.items()
                if not name.endswith("_tokens")
                and len(name) <= _LONGEST_NAME
                and isinstance(value, dict)
                and (counts := _counts(value))
            }
            # The oldest names stay: every event may bring others.
            self._usage = _first(self._usage | _counts(usage) | details)
        if isinstance(reason, str):
            self.stop_reason = reason


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the billable counts in *usage*, ignoring strings, fractions and impossible values."""
    return {
        name: count
        for name, count in usage.items()
        if name.endswith(_COUNTED)
        and len(name) <= _LONGEST_NAME
        and type(count) is int
        and 0 < count <= _MOST_TOKENS
    }


def _first(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the first of *counts*, at most `_MOST_COUNTS`."""
    return dict(islice(counts.items(), _MOST_COUNTS)) if len(counts) > _MOST_COUNTS else counts


class WholeEvents:
    """Holds back incomplete events, up to a limit, until they are complete."""

    def __init__(self, limit: int = sse.LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._seam = b""  # the last bytes, because the end of an event may span two reads

    @property
    def is_between(self) -> bool:
        """Whether nothing is held back."""
        return not self._held

    def feed(self, data: bytes) -> bytes:
        """
        Return all bytes up to the last end of an event in *data*.

        Raises:
            Problem: api_error if an event is larger than the limit.
        """
        window = self._seam + data
        end = max(window.rfind(mark) + len(mark) if mark in window else 0 for mark in _EVENT_ENDS)
        cut = end - len(self._seam)
        self._seam = window[-3:]
        if cut <= 0:
            self._held += data
            if len(self._held) > self._limit:
                raise sse.too_large(self._limit)
            return b""
        whole, rest = data[:cut], data[cut:]
        if self._held:
            self._held += whole
            whole = bytes(self._held)
            self._held.clear()
        self._held += rest
        self._seam = rest[-3:]
        return whole

    def rest(self) -> bytes:
        """Return the bytes held back."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _renamed(body: bytes, old: str, new: str) -> bytes:
    """Replace the model's name, which is the first field in Claude Code's bodies."""
    name, first = msgspec.json.encode(new), _FIRST_MODEL.match(body)
    if first is None or first[1] != msgspec.json.encode(old):
        return replace_value(body, ("model",), name)
    view = memoryview(body)
    return b"".join((view[: first.start(1)], name, view[first.end(1) :]))


def _read(body: bytes, rules: ConversionContext) -> tuple[bytes, Head]:
    """
    Return *body* and its head, replacing lone surrogates in the body.

    Anthropic refuses JSON with lone surrogates, so all later requests of the session would fail.
    """
    body = rules.cache.scans.scan(body).body
    if (head := head_at_ends(body)) is not None:
        return body, head
    try:
        return body, head_of(body)
    except NOT_JSON as error:
        text = f"the request body is not a Messages request: {error}"
        raise Problem("invalid_request_error", text) from error
