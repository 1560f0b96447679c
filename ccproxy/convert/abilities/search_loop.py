"""
A request whose model may search, as several rounds: model, search, model.

The model gets a function in place of the API's search tool. Its calls become `server_tool_use`
blocks, the results `web_search_tool_result` blocks, and the streams of all rounds one stream. A
round that also calls the client's tools is the last one: the client sends the results of its tools
and, in its history, those of the searches.

The caller feeds a round's Messages stream, runs `searches`, passes the outcomes to `resolve`, and
repeats that while `needs_round`; then `close` returns the end of the answer. It works on the
Messages API, so it is the same for every dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.abilities.search_answer import (
    Content,
    found_text,
    outcome_text,
    result_block,
    use_block,
)
from ccproxy.convert.abilities.search_results import SearchOutcome, failed
from ccproxy.convert.abilities.search_tool import SearchTool, without_search
from ccproxy.convert.chat.answer import fold
from ccproxy.convert.chat.tool_calls import to_input
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.messages import Event

MAX_ROUNDS: Final = 10
"""Requests to the model for one answer; the last one has no search."""
TOO_MANY: Final = "The limit of searches for this request is reached; answer with what was found."
_RESULT: Final = "web_search_tool_result"
_DESCRIPTION: Final = (
    "Search the web for current information. Returns titles, addresses and excerpts of pages. "
    "Cite the addresses that the answer uses."
)
_QUERY: Final = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for"}},
    "required": ["query"],
}
_CHOICE: Final = Raw(b'{"type":"auto"}')


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSearch:
    """A search that the model wants."""

    call_id: str
    """Id of the model's call."""
    use_id: str
    """Id of the block that the client sees."""
    query: str


class SearchLoop:
    """The rounds of one request. Used once."""

    def __init__(self, body: bytes, tool: SearchTool, *, new_id: Callable[[], str]) -> None:
        self._tool = tool
        self._new_id = new_id
        self._fields = fields_of(body) or {}
        self._messages = with_calls(body, tool.name)
        self._left = tool.uses
        self._rounds = 0
        self._index = 0  # of the client's next block
        self._usage: dict[str, Any] = {}
        self._searched = 0
        self._start_round()

    def _start_round(self) -> None:
        self._rounds += 1
        self._decoder = sse.Decoder()
        self._events: list[Event] = []
        self._pieces: list[str] | None = None  # input of the search call that is open
        self._call: Content = {}
        self._delta: Event | None = None
        self._is_over = False
        self._offset = self._index
        self.searches: list[PendingSearch] = []
        """The searches of this round."""

    @property
    def body(self) -> bytes:
        """The request of this round."""
        function = None
        if self._rounds < MAX_ROUNDS:
            parameters = {"description": _DESCRIPTION, "input_schema": _QUERY}
            function = Raw(msgspec.json.encode({"name": self._tool.name, **parameters}))
        fields: dict[str, Any] = {**self._fields, "messages": self._messages, "stream": True}
        tools = without_search(self._fields["tools"], function)
        if tools:
            fields["tools"] = tools
        if self._rounds > 1 and "tool_choice" in fields:
            fields["tool_choice"] = _CHOICE  # a forced search would never end
        if not tools:
            fields = {name: fields[name] for name in fields.keys() - {"tools", "tool_choice"}}
        return msgspec.json.encode(fields)

    # One round

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the round's stream and return the client's."""
        out: list[bytes] = []
        for event in self._decoder.feed(data):
            if event.event == b"ping":
                continue
            out += [_encoded(sent) for sent in self._take(_decoded(event.data))]
        return b"".join(out)

    def _take(self, event: Event) -> Iterator[Event]:
        match event.get("type"):
            case "message_start":
                self._events.append(event)
                if self._rounds == 1:
                    yield event
            case "content_block_start" | "content_block_delta" | "content_block_stop":
                self._events.append(event)
                yield from self._take_block(event)
            case "message_delta":
                self._events.append(event)
                self._delta = event
            case "message_stop":
                self._is_over = True
            case _:
                yield event

    def _take_block(self, event: Event) -> Iterator[Event]:
        """Pass a block on with its index in the whole answer; hold back a search."""
        kind = event["type"]
        if kind == "content_block_start":
            block = event["content_block"]
            if block.get("type") == "tool_use" and block.get("name") == self._tool.name:
                self._call, self._pieces = block, []
                return
        if self._pieces is None:
            index = self._offset + event["index"]
            self._index = index + 1
            yield {**event, "index": index}
        elif kind == "content_block_delta":
            self._pieces.append(event["delta"].get("partial_json", ""))
        else:
            yield from self._add_search("".join(self._pieces), self._offset + event["index"])
            self._pieces = None

    def _add_search(self, arguments: str, index: int) -> Iterator[Event]:
        query = to_input(arguments).get("query")
        search = PendingSearch(
            call_id=self._call["id"],
            use_id=self._new_id(),
            query=query if isinstance(query, str) else "",
        )
        self.searches.append(search)
        self._index = index + 1
        yield from _block_events(use_block(search.use_id, self._tool.name, search.query), index)

    # Between rounds

    def end_round(self) -> None:
        """
        Note the end of the round's stream.

        Raises:
            BadAnswer: If it has no end.
        """
        if self._delta is None:
            raise BadAnswer("the provider's stream broke off before the end of the answer")
        for name, count in self._delta.get("usage", {}).items():
            if type(count) is int:
                self._usage[name] = self._usage.get(name, 0) + count
            else:
                self._usage[name] = count

    def allowed(self) -> list[PendingSearch]:
        """Return the searches of the round that max_uses allows."""
        return [each for each in self.searches if each.query][: self._left]

    def resolve(self, outcomes: Sequence[SearchOutcome]) -> bytes:
        """Take the outcomes of the allowed searches, in their order; return their blocks."""
        by_id = dict(zip((each.use_id for each in self.allowed()), outcomes, strict=True))
        self._left -= len(by_id)
        self._searched += sum(not outcome.error for outcome in outcomes)
        sent: list[bytes] = []
        results: list[Content] = []
        for search in self.searches:
            outcome = by_id.get(search.use_id) or _refused(search)
            block = result_block(search.use_id, outcome)
            sent += [_encoded(event) for event in _block_events(block, self._index)]
            self._index += 1
            results.append(_tool_result(search.call_id, outcome_text(outcome)))
        if self.needs_round:
            message = fold(self._events)
            answer = {"role": "assistant", "content": message["content"]}
            self._messages = [
                *self._messages,
                Raw(msgspec.json.encode(answer)),
                Raw(msgspec.json.encode({"role": "user", "content": results})),
            ]
            self._start_round()
        return b"".join(sent)

    @property
    def needs_round(self) -> bool:
        """True: the model waits for the results of its searches, and for nothing else."""
        starts = (event for event in self._events if event["type"] == "content_block_start")
        calls = sum(event["content_block"].get("type") == "tool_use" for event in starts)
        return 0 < len(self.searches) == calls and self._rounds < MAX_ROUNDS

    def close(self) -> bytes:
        """Return the end of the answer."""
        end = dict(self._delta or {})
        if self._rounds == MAX_ROUNDS and self.searches:
            end["delta"] = {**end["delta"], "stop_reason": "end_turn"}  # no call is left to answer
        usage = {**self._usage, "server_tool_use": {"web_search_requests": self._searched}}
        return _encoded({**end, "usage": usage}) + _encoded({"type": "message_stop"})

    @property
    def usage(self) -> dict[str, Any]:
        """The token counts of all rounds."""
        return self._usage


def with_calls(body: bytes, name: str) -> list[Raw]:
    """
    Return the messages of *body* with earlier searches as calls of the function *name*.

    The model then sees its searches as it made them, with their results.
    """
    fields = fields_of(body) or {}
    messages = msgspec.json.decode(fields["messages"], type=list[Raw])
    if _RESULT.encode() not in bytes(fields["messages"]):
        return messages
    written: list[Raw] = []
    pending: list[Content] = []
    for raw in messages:
        message = msgspec.json.decode(raw)
        if message.get("role") == "assistant" and isinstance(message.get("content"), list):
            turns, pending = _turns(message, name)
        elif pending:
            turns, pending = [_with_results(message, pending)], []
        else:
            written.append(raw)
            continue
        written += [Raw(msgspec.json.encode(turn)) for turn in turns]
    if pending:
        written.append(Raw(msgspec.json.encode({"role": "user", "content": pending})))
    return written


def _turns(message: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], list[Content]]:
    """Return an assistant's message as turns, and the results that the next message begins with."""
    turns: list[dict[str, Any]] = []
    blocks: list[Content] = []
    results: list[Content] = []
    for block in message["content"]:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "server_tool_use" and block.get("name") == "web_search":
            use = {"type": "tool_use", "id": block.get("id"), "name": name}
            blocks.append({**use, "input": block.get("input") or {}})
        elif kind == _RESULT:
            text = found_text(block.get("content"))
            results.append(_tool_result(str(block.get("tool_use_id")), text))
        else:
            if results:
                turns += [{**message, "content": blocks}, {"role": "user", "content": results}]
                blocks, results = [], []
            blocks.append(block)
    if blocks:
        turns.append({**message, "content": blocks})
    return turns, results


def _with_results(message: dict[str, Any], results: list[Content]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return {**message, "content": [*results, *(content or [])]}


def _tool_result(use_id: str, text: str) -> Content:
    return {"type": "tool_result", "tool_use_id": use_id, "content": text}


def _refused(search: PendingSearch) -> SearchOutcome:
    if not search.query:
        return failed("The search has no query.", code="invalid_tool_input")
    return failed(TOO_MANY, code="max_uses_exceeded")


def _block_events(block: Content, index: int) -> Iterator[Event]:
    opening = {**block, "input": {}} if "input" in block else block
    yield {"type": "content_block_start", "index": index, "content_block": opening}
    if "input" in block:
        text = msgspec.json.encode(block["input"]).decode()
        delta = {"type": "input_json_delta", "partial_json": text}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _encoded(event: Event) -> bytes:
    return sse.encode(str(event["type"]).encode(), msgspec.json.encode(event))


def _decoded(data: bytes) -> Event:
    try:
        event = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer("the provider's stream has an event that is not JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise BadAnswer("the provider's stream has an event without a type")
    return event
