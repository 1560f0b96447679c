"""
Pass a Chat Completions request through to a provider of the same API.

The request and the answer are unchanged, except for the model name in the request. A missing
`[DONE]` is added to the stream, and an error object if the stream is interrupted.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ccproxy.convert.common.usage import CHARS_PER_TOKEN
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.openai_clients.openai_errors import openai_error
from ccproxy.convert.openai_clients.passed_exchange import PassedExchange
from ccproxy.errors import Problem
from ccproxy.protocol.chat import DONE
from ccproxy.protocol.conversation_outline import ConversationOutline, read_outline
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import replace_lone_surrogates
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


class CompletionsPassthrough(PassedExchange):
    """A Chat Completions request and its answer."""

    api: Api = "chat"

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
        """Read *body*; see `PassedExchange`. Raises Problem if it is not a request."""
        super().__init__(
            body,
            _read_outline(body),
            rules=rules,
            model=model,
            requested=requested,
            is_recorded=is_recorded,
        )
        self._request_id = request_id
        self._is_done = False

    def conversation(self) -> ConversationOutline | None:
        """Return the parts of the request that identify its conversation, or None if unreadable."""
        return read_outline(self.body)

    def revise(self, _problem: Problem) -> bool:
        """Return False, because the client's request is never changed."""
        return False

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer unchanged."""
        self._note(body)
        return body

    def close(self) -> bytes:
        """Return the last event and a missing `[DONE]`. Raises BadAnswer for incomplete answers."""
        rest = super().close()
        return rest if self._is_done else rest + b"data: " + DONE + b"\n\n"

    def fail(self, problem: Problem) -> bytes:
        """Return an error object in OpenAI's format."""
        return b"data: " + openai_error(problem, self._request_id) + b"\n\n"

    def _read(self, data: bytes) -> bytes:
        self._is_done = self._is_done or data == DONE
        if self._is_done or _FINISH.search(data):
            self._is_finished = True
        if _USAGE.search(data):
            self._note(data)
        self._chars += _chars_of(data)
        return data

    def _note(self, data: bytes) -> None:
        try:
            self._counts = _ANSWER.decode(data).usage or self._counts
        except NOT_JSON:
            return


def _chars_of(data: bytes) -> int:
    """Return the number of characters in the text of a chunk."""
    try:
        choices = _CHUNK.decode(data).choices or ()
    except NOT_JSON:
        return 0 if data == DONE else len(data) // CHARS_PER_TOKEN  # an unknown format
    chars = 0
    for delta in filter(None, (choice.delta for choice in choices)):
        for text in (delta.content, delta.reasoning_content or delta.reasoning):
            chars += len(text or "")
        for call in delta.tool_calls or ():
            chars += len((call.function and call.function.arguments) or "")
    return chars


def _read_outline(body: bytes) -> _RequestOutline:
    try:
        outline = _REQUEST.decode(replace_lone_surrogates(body))
    except NOT_JSON as error:
        text = f"the request body is not a Chat Completions request: {error}"
        raise Problem("invalid_request_error", text) from error
    check_model(outline.model)
    return outline
