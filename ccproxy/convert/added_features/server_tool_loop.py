"""
Run a server tool for the model: ccproxy answers its calls in several rounds within one stream.

The model's calls become `server_tool_use` blocks, ccproxy's results become the API's result blocks,
and the streams of all rounds become one. A round that also calls client tools is the last one: the
client's next request contains the results of its tools, and those of the server tool as history.

The caller feeds the Messages stream of a round, resolves `searches`, and repeats both steps while
`needs_round` is true. Finally, `close` returns the end of the answer. The loop uses the Messages
API only, so it works with every dialect.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.added_features.media_blocks import Content, text_block
from ccproxy.convert.added_features.search_answer import USE_PREFIX, use_block
from ccproxy.convert.chat.answer import fold
from ccproxy.convert.chat.tool_calls import to_input
from ccproxy.convert.common.held_text import check_held
from ccproxy.convert.direct.message_events import (
    block_events,
    encode_event,
    problem_of,
    reading_events,
)
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import fields_of, object_of
from ccproxy.protocol.lenient_json import string
from ccproxy.protocol.messages import Event

MAX_ROUNDS: Final = 10
"""The maximum number of requests to the model per answer; the last one offers no search."""
_CALL: Final = "_call_"
"""Precedes the hexadecimal id of the model's call in the ids of the client's blocks."""
_OWN_ID = re.compile(rf"{USE_PREFIX}\w*{_CALL}((?:[0-9a-f]{{2}})+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSearch:
    """A search that the model has requested."""

    call_id: str
    """The id of the model's call."""
    use_id: str
    """The id of the client's block."""
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTool:
    """A server tool that the model uses as a function."""

    name: str
    """The function's name."""
    server_names: frozenset[str]
    """The names of the tool in `server_tool_use` blocks."""
    result: str
    """The type of its result blocks."""
    model_content: Callable[[object], object]
    """Converts the content of a result block into the content of a `tool_result`."""


class ServerToolLoop(ABC):
    """The rounds of one request. Not reusable."""

    USAGE: str
    """The field of `usage.server_tool_use` that counts the searches."""

    def __init__(self, body: bytes, tool: ServedTool, *, new_id: Callable[[], str]) -> None:
        self._served = tool
        self._new_id = new_id
        self._fields = fields_of(body) or {}
        self._messages = with_calls(body, tool)
        self._rounds = 0
        self._index = 0  # index of the client's next block
        self._usage: dict[str, Any] = {}
        self._searched = 0
        self._start_round()

    def _start_round(self) -> None:
        self._rounds += 1
        self._decoder = sse.Decoder()
        self._held = 0
        self._events: list[Event] = []
        self._pieces: list[str] | None = None  # input of the open search call
        self._call: Content = {}
        self._delta: Event | None = None
        self._offset = self._index
        self.searches: list[PendingSearch] = []
        """The searches of this round."""

    @property
    @abstractmethod
    def body(self) -> bytes:
        """The request of this round."""

    def _use_block(self, search: PendingSearch) -> Content:
        """Return the block that shows *search* to the client."""
        return use_block(search.use_id, self._served.name, search.query)

    # One round

    def feed(self, data: bytes) -> bytes:
        """Convert bytes of the round's stream into bytes for the client."""
        self._held += len(data)
        check_held(self._held, share=0.1)  # an event of 120 bytes has a token of text
        out: list[bytes] = []
        with reading_events():
            for event in self._decoder.feed(data):
                if event.event != b"ping":
                    out += map(encode_event, self._take(object_of(event.data) or {}))
        return b"".join(out)

    def _take(self, event: Event) -> Iterator[Event]:
        match event["type"]:
            case "message_start":
                self._events.append(event)
                if self._rounds == 1:
                    yield event
            case "content_block_start" | "content_block_delta" | "content_block_stop":
                self._events.append(event)
                yield from self._take_block(event)
            case "message_delta":
                self._events.append(event)
                usage = {**(event.get("usage") or {})}
                self._delta = {**event, "delta": {**event["delta"]}, "usage": usage}
            case "error":
                raise problem_of(event["error"])
            case "message_stop":
                pass  # the client receives one for all rounds
            case _:
                yield event

    def _take_block(self, event: Event) -> Iterator[Event]:
        """Yield a block's event with its index in the whole answer; collect search calls."""
        kind = event["type"]
        if kind == "content_block_start":
            block = event["content_block"]
            if block.get("type") == "tool_use" and block.get("name") == self._served.name:
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
        search = PendingSearch(
            call_id=self._call["id"],
            use_id=f"{self._new_id()}{_CALL}{self._call['id'].encode().hex()}",
            query=string(to_input(arguments).get("query")),
        )
        self.searches.append(search)
        self._index = index + 1
        yield from block_events(self._use_block(search), index)

    # Between rounds

    def end_round(self) -> None:
        """Add the usage of the round. Raises BadAnswer if its stream is incomplete."""
        if self._delta is None:
            raise BadAnswer("the provider's stream was cut off before the end of the answer")
        self._usage = add_usage(self._usage, self._delta["usage"])

    def _resolve(self, answers: list[tuple[Content, object]]) -> bytes:
        """
        Return the events of the result blocks, and start another round if one is needed.

        *answers* has a result block and the content of the model's `tool_result` for each search.
        """
        events: list[bytes] = []
        results: list[Content] = []
        for search, (block, shown_content) in zip(self.searches, answers, strict=True):
            events += [encode_event(event) for event in block_events(block, self._index)]
            self._index += 1
            results.append(_tool_result(search.call_id, shown_content))
        if self.needs_round:
            answer = {"role": "assistant", "content": fold(self._events)["content"]}
            self._messages = [*self._messages, *map(_encoded, (answer, _user_message(results)))]
            self._start_round()
        return b"".join(events)

    @property
    def needs_round(self) -> bool:
        """Whether the model needs another round with the results of its searches."""
        return self._has_only_searches and self._rounds < MAX_ROUNDS

    @property
    def _has_only_searches(self) -> bool:
        """Whether all calls of the round are searches, so none is left to the client."""
        starts = (event for event in self._events if event["type"] == "content_block_start")
        types = [event["content_block"].get("type") for event in starts]
        return 0 < len(self.searches) == types.count("tool_use")

    def close(self) -> bytes:
        """Return the end of the answer."""
        end = dict(self._delta or {})
        if self._has_only_searches:
            end["delta"] = {**end["delta"], "stop_reason": "end_turn"}  # no call is pending
        usage = add_usage(self._usage, {"server_tool_use": {self.USAGE: self._searched}})
        return encode_event({**end, "usage": usage}) + encode_event({"type": "message_stop"})


def with_calls(body: bytes, tool: ServedTool) -> list[Raw]:
    """
    Return the messages of *body* with earlier uses of *tool* as calls of its function.

    The model sees its earlier searches in their original form, with the results.
    """
    fields = fields_of(body) or {}
    messages = msgspec.json.decode(fields["messages"], type=list[Raw])
    if tool.result.encode() not in bytes(fields["messages"]):
        return messages
    written: list[Raw] = []
    pending: list[Content] = []
    for raw in messages:
        message = msgspec.json.decode(raw)
        if pending and message.get("role") != "user":
            written.append(_encoded(_user_message(pending)))
            pending = []
        if message.get("role") == "assistant" and isinstance(message.get("content"), list):
            turns, pending = _turns(message, tool)
        elif pending:
            turns, pending = [_with_results(message, pending)], []
        else:
            written.append(raw)
            continue
        written += map(_encoded, turns)
    if pending:
        written.append(_encoded(_user_message(pending)))
    return written


def _turns(message: dict[str, Any], tool: ServedTool) -> tuple[list[dict[str, Any]], list[Content]]:
    """Split an assistant message into turns, and return the results for the next message."""
    turns: list[dict[str, Any]] = []
    blocks: list[Content] = []
    results: list[Content] = []
    for block in message["content"]:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "server_tool_use" and string(block.get("name")) in tool.server_names:
            use = {"type": "tool_use", "id": _call_id(block.get("id")), "name": tool.name}
            blocks.append({**use, "input": block.get("input") or {}})
        elif kind == tool.result:
            shown_content = tool.model_content(block.get("content"))
            results.append(_tool_result(_call_id(block.get("tool_use_id")), shown_content))
        else:
            if results:
                if blocks:
                    turns.append({**message, "content": blocks})
                turns.append(_user_message(results))
                blocks, results = [], []
            blocks.append(block)
    if blocks:
        turns.append({**message, "content": blocks})
    return turns, results


def _call_id(use_id: object) -> str:
    """Return the id of the model's original call, which keeps later prompts unchanged."""
    match = _OWN_ID.fullmatch(str(use_id))
    return bytes.fromhex(match[1]).decode(errors="replace") if match else str(use_id)


def _with_results(message: dict[str, Any], results: list[Content]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        content = [text_block(content)]
    return {**message, "content": [*results, *(content or [])]}


def _user_message(results: list[Content]) -> dict[str, Any]:
    return {"role": "user", "content": results}


def _encoded(message: Mapping[str, Any]) -> Raw:
    return Raw(msgspec.json.encode(message))


def _tool_result(use_id: str, content: object) -> Content:
    return {"type": "tool_result", "tool_use_id": use_id, "content": content}


def add_usage(total: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sum of the token counts in *total* and *usage*."""
    sums = dict(total)
    for name, count in usage.items():
        earlier = sums.get(name)
        if isinstance(count, dict):
            sums[name] = add_usage(earlier if isinstance(earlier, dict) else {}, count)
        else:
            is_count = type(count) is int and type(earlier) is int
            sums[name] = earlier + count if is_count else count
    return sums
