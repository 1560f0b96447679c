"""
A Chat Completions request for a provider of that API, passed on.

Request and answer keep every byte but the model's name. The stream gets its end, `[DONE]`, and an
error object if it is interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ccproxy.convert.common.usage import CHARS_PER_TOKEN, to_usage
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.openai_clients.openai_errors import openai_error
from ccproxy.convert.openai_clients.stream_passthrough import CUT, StreamPassthrough
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol.chat import DONE
from ccproxy.protocol.conversation_outline import ConversationOutline, read_outline
from ccproxy.protocol.json_splice import replace_value
from ccproxy.protocol.messages import check_model
from ccproxy.providers.quirks import Api

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class _RequestOutline(msgspec.Struct):
    model: str
    stream: bool | None = None


class _AnswerOutline(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_REQUEST = msgspec.json.Decoder(_RequestOutline)
_ANSWER = msgspec.json.Decoder(_AnswerOutline)
_CHUNK = msgspec.json.Decoder(_Chunk)


class CompletionsPassthrough:
    """One request and its answer; see `Exchange` for those that are converted."""

    api: Api = "chat"
    headers: Mapping[str, str] = {}
    dropped: tuple[str, ...] = ()
    removed_reasoning: tuple[str, ...] = ()
    stop_reason: str | None = None
    ended = stopped = False
    """The stream is always read to its end."""

    def __init__(
        self,
        body: bytes,
        *,
        rules: ConversionContext,
        request_id: str,
        model: str | None = None,
        requested: str = "",
        is_recorded: bool = False,
    ) -> None:
        """
        Read *body*; *model* and *requested* override its `model`.

        `asked` keeps it only if the exchange *is_recorded*, because it may be large.

        Raises:
            Problem: If it is not a request.
        """
        outline = _read_outline(body)
        self.requested = requested or outline.model
        self.model = model or rules.pick_model(outline.model)
        self.streams = self.asks_stream = bool(outline.stream)
        self.asked = body if is_recorded else b""
        self.body = body
        if self.model != outline.model:
            self.body = replace_value(body, ("model",), msgspec.json.encode(self.model))
        self._quirks = rules.target(self.model).quirks
        self._request_id = request_id
        self._events = StreamPassthrough(self._read)
        self._is_finished = self._is_done = False
        self._counts: Mapping[str, Any] | None = None
        self._chars = 0

    def conversation(self) -> ConversationOutline | None:
        """Return the parts of the request that identify its conversation; None if unreadable."""
        return read_outline(self.body)

    @property
    def usage(self) -> Mapping[str, Any]:
        """
        The token counts in the Messages API's sense; empty if they are unknown.

        Those of a stream are estimated, if the client did not ask for them or left before its end.
        """
        counts, chars = self._counts, self._chars
        if not counts and not chars:
            return {}
        estimate = 0 if counts else len(self.body) // CHARS_PER_TOKEN
        return to_usage(counts, self._quirks, input_estimate=estimate, chars=chars)

    @property
    def known_dropped(self) -> tuple[str, ...]:
        """The parts of the request that are not sent to the provider."""
        return self.dropped

    def revise(self, _problem: Problem) -> bool:
        """Return False: the request is the client's own."""
        return False

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer unchanged."""
        self._note(body)
        return body

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete."""
        return self._events.feed(data)

    def close(self) -> bytes:
        """
        Return `[DONE]`, unless the provider has sent it.

        Raises:
            BadAnswer: If the answer has no end.
        """
        rest = self._events.rest()
        if not (self._is_finished or self._is_done):
            raise BadAnswer(CUT)
        return rest if self._is_done else rest + b"data: " + DONE + b"\n\n"

    def fail(self, problem: Problem) -> bytes:
        """Return an error object, as OpenAI sends it."""
        return b"data: " + openai_error(problem, self._request_id) + b"\n\n"

    def _read(self, data: bytes) -> bytes:
        self._is_done = self._is_done or data == DONE
        self._is_finished = self._is_finished or _FINISH.search(data) is not None
        if _USAGE.search(data):
            self._note(data)
        self._chars += _chars_of(data)
        return data

    def _note(self, data: bytes) -> None:
        try:
            self._counts = _ANSWER.decode(data).usage or self._counts
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return


def _chars_of(data: bytes) -> int:
    """Return how long the texts of a chunk are."""
    try:
        choices = _CHUNK.decode(data).choices or ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0 if data == DONE else len(data) // CHARS_PER_TOKEN  # of another form
    chars = 0
    for delta in filter(None, (choice.delta for choice in choices)):
        for text in (delta.content, delta.reasoning_content or delta.reasoning):
            chars += len(text or "")
        for call in delta.tool_calls or ():
            chars += len((call.function and call.function.arguments) or "")
    return chars


def _read_outline(body: bytes) -> _RequestOutline:
    try:
        outline = _REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a Chat Completions request: {error}"
        raise Problem("invalid_request_error", text) from error
    check_model(outline.model)
    return outline
