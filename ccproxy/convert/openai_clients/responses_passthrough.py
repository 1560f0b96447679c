"""
Pass a Responses request through to a provider that serves the model with the same API.

Conversion to the Messages API and back would lose features that only this API has: hosted tools,
enforced grammars, phases and item ids. The request and the answer are unchanged, except that

* the model name is mapped, and `store` is false, because the keys of several accounts cannot share
  stored responses;
* encrypted reasoning is sealed for the client, and only the model that created it receives it again
  (`sealed_reasoning.py`). If other reasoning is omitted, so are all item ids, which would make the
  API look up the omitted reasoning;
* parameters that the model is known to refuse are omitted (`convert/responses/learning.py`).
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.context import ConversionContext
from ccproxy.convert.openai_clients.passed_exchange import PassedExchange
from ccproxy.convert.openai_clients.response_writer import (
    KEEP_ALIVE,
    failed_response,
    new_response,
)
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.responses.reasoning_items import digest
from ccproxy.convert.responses.stream import chat_usage
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.conversation_outline import ConversationOutline, read_responses_outline
from ccproxy.protocol.json_splice import NOT_JSON, fields_of, object_of
from ccproxy.protocol.lenient_json import objects, string
from ccproxy.protocol.responses import FINAL_EVENTS
from ccproxy.protocol.responses_request import ResponsesOutline
from ccproxy.providers.quirks import Api

_FALSE: Final = Raw(b"false")
_ENCRYPTED: Final = b'"encrypted_content"'
_DELTA: Final = b'"delta":'
_READ_TYPES: Final = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:created|completed|incomplete|failed|cancelled)|error)"'
)
_ITEMS = msgspec.json.Decoder(list[Raw])


class _DeltaEvent(msgspec.Struct):
    delta: str = ""


_DELTA_EVENT = msgspec.json.Decoder(_DeltaEvent)
_encode = msgspec.json.Encoder().encode


class ResponsesPassthrough(PassedExchange):
    """A Responses request and its answer."""

    api: Api = "responses"

    def __init__(
        self,
        body: bytes,
        outline: ResponsesOutline,
        *,
        rules: ConversionContext,
        response_id: str,
        created_at: int,
        model: str | None = None,
        requested: str = "",
        is_recorded: bool = False,
    ) -> None:
        """
        Read the request *body*; see `PassedExchange`.

        *response_id* and *created_at* are used for a response that fails before it has started.
        """
        super().__init__(
            body, outline, rules=rules, model=model, requested=requested, is_recorded=is_recorded
        )
        self._rules = rules
        self._seal = ReasoningSeal(rules.signer, self._target)
        self._received = self.body
        self._is_stateless = outline.store is False
        self.body = self._sent_body()
        self._has_begun = False
        self._response = new_response(response_id, created_at, self.requested)

    def conversation(self) -> ConversationOutline | None:
        """Return the parts of the request that identify its conversation, or None if unreadable."""
        return read_responses_outline(self.body)

    def revise(self, problem: Problem) -> bool:
        """Permanently omit the feature that *problem* refuses; return False if it names none."""
        refusals, refused = self._rules.refusals, self.body
        if not refusals.learn(problem, refused, self.model):
            return False
        self.body = self._sent_body()
        return self.body != refused

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer with sealed reasoning."""
        response = object_of(body)
        if response is None:
            return body
        self._counts = chat_usage(response.get("usage"))
        if self._seal_items(response.get("output")):
            return _encode(response)
        return body

    def fail(self, problem: Problem) -> bytes:
        """Return `response.failed`, or nothing if the answer has already ended."""
        if self._is_finished:
            return b""
        self._is_finished = True
        return failed_response(self._response, problem, has_begun=self._has_begun)

    def keep_alive(self) -> bytes:
        """Return an event that clients ignore, or a comment before the first event."""
        return KEEP_ALIVE if self._has_begun and not self._is_finished else sse.COMMENT

    # The request

    def _sent_body(self) -> bytes:
        body = self._received
        has_reasoning = _ENCRYPTED in body
        features = self._rules.learned.features("responses", self.model)
        if self._is_stateless and not has_reasoning and not features:
            return body
        fields = {**(fields_of(body) or {}), "store": _FALSE}
        if has_reasoning:
            fields["input"] = self._opened_input(fields.get("input"))
        if features:
            decoded: dict[str, Any] = {
                name: msgspec.json.decode(raw) if bytes(raw)[:1] == b"{" else raw
                for name, raw in fields.items()
            }
            return _encode(self._rules.refusals.apply(decoded, self.model))
        return _encode(fields)

    def _opened_input(self, raw: Raw | None) -> Any:  # noqa: ANN401 - JSON
        """Return the input with this model's reasoning unsealed and other reasoning removed."""
        if raw is None or bytes(raw)[:1] != b"[":
            return raw
        items: list[Any] = []
        is_complete = True
        for item in _ITEMS.decode(raw):
            opened = self._opened(item) if _ENCRYPTED in bytes(item) else item
            if opened is None:
                is_complete = False
            else:
                items.append(opened)
        if is_complete:
            return items
        self.dropped = ("input.reasoning",)
        return [_without_id(item) for item in items]

    def _opened(self, raw: Raw) -> Raw | dict[str, Any] | None:
        item = object_of(bytes(raw))
        if item is None or item.get("type") != "reasoning":
            return raw
        content = self._seal.open_item(string(item.get("encrypted_content")))
        if content is None or digest(content) in self._rules.refusals.refused_reasoning:
            return None
        return {**item, "encrypted_content": content}

    # The answer

    def _read(self, data: bytes) -> bytes:
        is_sealed = _ENCRYPTED in data
        if _DELTA in data:
            self._chars += _chars_of(data)
        if not is_sealed and not _READ_TYPES.search(data):
            return data
        event = object_of(data)
        if event is None:
            return data  # not JSON: pass it on unchanged
        response = event.get("response")
        if isinstance(response, dict):
            self._has_begun = True
            self._response = response
            self._counts = chat_usage(response.get("usage")) or self._counts
        kind = string(event.get("type"))
        if kind in FINAL_EVENTS or kind == "error":
            self._is_finished = True
        output = response.get("output") if isinstance(response, dict) else [event.get("item")]
        return _encode(event) if is_sealed and self._seal_items(output) else data

    def _seal_items(self, output: object) -> bool:
        """Seal the reasoning in *output*; return False if there is none."""
        has_reasoning = False
        for item in objects(output):
            encrypted = string(item.get("encrypted_content"))
            if item.get("type") == "reasoning" and encrypted:
                lengths = [len(string(part.get("text"))) for part in objects(item.get("summary"))]
                item["encrypted_content"] = self._seal.seal_item(encrypted, lengths)
                has_reasoning = True
        return has_reasoning


def _chars_of(data: bytes) -> int:
    """Return the number of characters in the text of an event."""
    try:
        return len(_DELTA_EVENT.decode(data).delta)
    except NOT_JSON:
        return 0


def _without_id(item: Raw | dict[str, Any]) -> Raw | dict[str, Any]:
    fields: dict[str, Any] | None = item if isinstance(item, dict) else dict(fields_of(item) or {})
    return {name: value for name, value in fields.items() if name != "id"} if fields else item
