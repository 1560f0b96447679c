"""
The state machine that converts a Responses answer into a Messages stream.

Theory of operation: an answer is a list of items, and each item becomes one block (reasoning,
function call) or several (text). Events belong to the item with their `output_index`, because some
servers (Copilot) change the item ids with every event. Items are written one at a time, in the
order of their indexes; the data of later items waits until the earlier ones are complete.

Rules:

* Deltas of text and summaries are written as they arrive. Text that only a `done` event or the
  final response contains is written when that event arrives, so an answer without deltas is
  complete.
* A function call is written when its arguments are complete. Its deltas are only previews: some
  servers encrypt them, and a call cut off by the token limit must not reach the client.
* Encrypted reasoning is read from the `done` event of its item, or from the final response.
* An answer ends with a final event. Without one, `close` raises.

A whole answer uses the same machine, which processes its items as if they had just been completed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, cast

from ccproxy.convert.chat.think_tags import ThinkTags
from ccproxy.convert.chat.tool_calls import ToolCalls
from ccproxy.convert.common.message_writer import AnswerContext, Event, MessageWriter, TextKind
from ccproxy.convert.common.stop_sequences import StopCutter
from ccproxy.convert.common.usage import to_usage
from ccproxy.convert.responses.output_items import (
    FunctionCall,
    HostedSearch,
    MessageItem,
    OutputItem,
    PartKey,
    ReasoningItem,
)
from ccproxy.convert.responses.reasoning_items import LATE_ITEMS, REASONING_ITEM, pack
from ccproxy.errors import BadAnswer
from ccproxy.protocol.lenient_json import string
from ccproxy.protocol.responses import FINAL_EVENTS, Item, Response, StreamEvent

Absorb = Callable[[list[str]], int | None]
"""Handles the text of deltas that bypass `feed`; see `absorber`."""

MAX_ITEMS = 4096
"""Maximum number of items in one answer; a model in a loop never stops."""

_ITEM_TYPES: Mapping[str, type[OutputItem]] = {
    "message": MessageItem,
    "reasoning": ReasoningItem,
    "function_call": FunctionCall,
    "web_search_call": HostedSearch,
}
_FAILED = frozenset(("queued", "in_progress", "cancelled", "failed"))
_UNFINISHED = _FAILED | {"incomplete"}
"""Statuses that override the type of the final event."""
_REFUSALS = frozenset(("response.refusal.delta", "response.refusal.done"))
_INCOMPLETE_REASONS = {"content_filter": "refusal"}
"""Reason for an incomplete answer -> stop_reason; every other reason means max_tokens."""


class _Text(NamedTuple):
    """How one type of event carries the text of an item."""

    item_type: str
    field: str
    """The field of the item that contains the text."""
    number: str
    """The field of the event that contains the index of the part."""
    source: str
    """The field of the event that contains the text."""
    is_whole: bool = False
    """Whether the event has the whole text of the part instead of a delta."""


_TEXTS: Mapping[str, _Text] = {
    "response.output_text.delta": _Text("message", "content", "content_index", "delta"),
    "response.output_text.done": _Text("message", "content", "content_index", "text", True),
    "response.refusal.delta": _Text("message", "content", "content_index", "delta"),
    "response.refusal.done": _Text("message", "content", "content_index", "refusal", True),
    "response.reasoning_summary_text.delta": _Text(
        "reasoning", "summary", "summary_index", "delta"
    ),
    "response.reasoning_summary_text.done": _Text(
        "reasoning", "summary", "summary_index", "text", True
    ),
    "response.reasoning_text.delta": _Text("reasoning", "content", "content_index", "delta"),
    "response.reasoning_text.done": _Text("reasoning", "content", "content_index", "text", True),
    "response.function_call_arguments.delta": _Text(
        "function_call", "arguments", "content_index", "delta"
    ),
}


class ResponsesToMessageStream:
    """
    Converts one answer.

    Feed every event or the whole response, then close; all of these methods return the events to
    send. An instance belongs to one request and is not thread-safe.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._writer = MessageWriter(context)
        self._items: list[OutputItem] = []
        self._by_index: dict[int, OutputItem] = {}
        self._last_index = -1
        self._next = 0  # position of the item being written
        self._tags = ThinkTags() if context.target.quirks.think_tags else None
        self._stops = StopCutter(context.stop_sequences)
        self._calls = ToolCalls(context.message_id, context.known_ids)
        self._late: list[tuple[int, dict[str, Any]]] = []
        self._begun = False
        self._ended = False
        self._final: Response | None = None
        self._status = ""
        self._refused = False
        self.removed_reasoning: list[dict[str, Any]] = []
        """The request's reasoning items that the API reports as removed."""

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence ended the answer, so the rest is not needed."""
        return self._stops.matched is not None

    @property
    def complete(self) -> bool:
        """Whether the end of the answer has arrived."""
        return self._final is not None or self.stopped or self._ended

    @property
    def usage(self) -> dict[str, Any]:
        """The usage in the Messages API's terms, estimated where the provider reported none."""
        return to_usage(
            chat_usage(self._final.usage if self._final else None),
            self._context.target.quirks,
            input_estimate=self._context.input_estimate,
            chars=self._writer.chars,
        )

    def feed(self, event: StreamEvent) -> list[Event]:
        """Process an event that is not an error, and return the resulting events."""
        self._start()
        if event.type in FINAL_EVENTS:
            self._take_final(event.response or Response(), event.type.removeprefix("response."))
        elif not self.complete:
            self._take_event(event)
        return self._writer.take()

    def absorber(self, event: StreamEvent) -> Absorb | None:
        """
        Return a function that handles further deltas like *event*, which must have been fed last.

        The function takes their text and returns the index of the block to write them to, or None
        if they are not written yet. If there is no such function, the deltas must be fed.
        """
        index = _index(event.output_index, default=-1)
        item = self._by_index.get(index)
        if item is None or item.is_done:
            return None
        if event.type == "response.function_call_arguments.delta":
            return lambda texts: item.add_delta(("arguments", 0), "".join(texts))
        writer = self._writer
        is_steady = (
            event.type == "response.output_text.delta"
            and writer.block == "text"
            and self._items[self._next] is item
            and not (self._stops.is_active or self._tags is not None)
        )
        if not is_steady:
            return None
        part = ("content", _index(event.content_index, default=0))
        return partial(_absorb_text, item, part, writer, writer.index)

    def feed_response(self, response: Response) -> list[Event]:
        """Process a whole answer and return its events, except those that end the message."""
        self._start()
        self._take_final(response, string(response.status) or "completed")
        return self._writer.take()

    def close(self) -> list[Event]:
        """
        Return the events that end the message, or none if it has already ended.

        Raises:
            BadAnswer: If the answer is incomplete.
        """
        if self._ended:
            return []
        if not self.complete:
            raise BadAnswer("The provider's answer was cut off before its end")
        if self._status in _FAILED:
            raise BadAnswer(f"The provider ended its answer with the status {self._status}")
        self._flush_text()
        self._writer.end_block()
        if self._late:
            self._writer.carry(LATE_ITEMS, self._late)
            self._writer.close_thinking()
        stop_reason = self._stop_reason()
        self._writer.end(stop_reason, self._stops.matched, self.usage)
        self._ended = True
        return self._writer.take()

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self._writer.start()

    # Item events

    def _take_event(self, event: StreamEvent) -> None:
        if (text := _TEXTS.get(event.type)) is not None:
            self._refused = self._refused or event.type in _REFUSALS
            item = self._item_of(event, text.item_type)
            part = (text.field, _index(getattr(event, text.number), default=0))
            add = item.add_rest if text.is_whole else item.add_delta
            add(part, string(getattr(event, text.source)))
        elif event.type == "response.function_call_arguments.done":
            item = cast("FunctionCall", self._item_of(event, "function_call"))
            item.set_arguments(event.arguments)
        elif event.type == "response.output_item.added" and event.item is not None:
            self._add_item(event.item, event.output_index)
        elif event.type == "response.output_item.done" and event.item is not None:
            self._item_done(event, event.item)
        else:
            return
        self._advance()

    def _item_done(self, event: StreamEvent, final: Item) -> None:
        item = self._by_index.get(_index(event.output_index, default=-1))
        if item is None or item.type != final.type:
            item = self._add_item(final, event.output_index)
        if not item.is_done:
            item.finish(final)

    def _item_of(self, event: StreamEvent, item_type: str) -> OutputItem:
        """Return the item of a delta, creating it if the server never announced it (LM Studio)."""
        index = _index(event.output_index, default=max(self._last_index, 0))
        item = self._by_index.get(index)
        if item is None or item.type != item_type or item.is_done:
            item = self._add_item(Item(type=item_type), index)
        return item

    def _add_item(self, item: Item, index: object) -> OutputItem:
        if len(self._items) == MAX_ITEMS:
            raise BadAnswer(f"The provider's answer has more than {MAX_ITEMS:,} items")
        number = _index(index, default=self._last_index + 1)
        self._last_index = max(self._last_index, number)
        added = _ITEM_TYPES.get(string(item.type), OutputItem)(item, number)
        self._by_index[number] = added
        # Insert it after all written items, the one being written, and all lower indexes.
        begun = self._next + (self._writer.block is not None)
        position = bisect_right(self._items, number, lo=begun, key=attrgetter("index"))
        self._items.insert(position, added)
        return added

    # The end of the answer

    def _take_final(self, response: Response, status: str) -> None:
        if self._final is not None:
            return
        self._final = response
        own_status = string(response.status)
        self._status = own_status if own_status in _UNFINISHED else status
        if isinstance(response.input_transformations, list):
            self.removed_reasoning = response.input_transformations
        if self.stopped:
            return
        self._match_output(response.output or [])
        for item in self._items[self._next :]:
            item.finish(None)
        self._advance()

    def _match_output(self, output: list[Item]) -> None:
        """
        Complete the streamed items from the final response, and add the missing ones.

        Items are matched by type and order, because some servers do not number them.
        """
        streamed: dict[str, deque[OutputItem]] = {}
        for item in self._items:
            streamed.setdefault(item.type, deque()).append(item)
        # The stream already contained these, in a different form or position.
        repeated = {"message"} & streamed.keys() | ({"reasoning"} if streamed else set())
        for final in output:
            kind = string(final.type)
            if unmatched := streamed.get(kind):
                item = unmatched.popleft()
                if not item.is_done:
                    item.finish(final)
                elif isinstance(item, ReasoningItem):
                    self._take_late(item, final)
            elif kind not in repeated:
                self._add_item(final, None).finish(final)

    def _take_late(self, item: ReasoningItem, final: Item) -> None:
        """Keep encrypted content that arrives after its block was closed (Azure)."""
        encrypted = string(final.encrypted_content)
        if encrypted and not item.encrypted_content and item.block is not None:
            packed = pack(encrypted, item.summary_lengths(), self._context.target)
            self._late.append((item.block, packed))

    # Writing items in order

    def _advance(self) -> None:
        while self._next < len(self._items) and not self.stopped:
            item = self._items[self._next]
            self._write_pieces(item)
            if not item.is_done or not self._write_end(item):
                return
            self._next += 1

    def _write_pieces(self, item: OutputItem) -> None:
        if isinstance(item, FunctionCall):
            return
        pieces, item.pieces = item.pieces, []
        for piece in pieces:
            if isinstance(item, ReasoningItem):
                self._writer.write("thinking", piece)
            else:
                self._show(piece)

    def _write_end(self, item: OutputItem) -> bool:
        """Write the end of *item*; return False if it must wait for the end of the answer."""
        match item:
            case MessageItem():
                self._refused = self._refused or item.is_refusal
                self._flush_text()
                self._writer.end_block()
            case ReasoningItem():
                self._end_reasoning(item)
            case FunctionCall():
                return self._write_call(item)
            case HostedSearch():
                for block, input_json in item.blocks():
                    self._writer.add_block(block, input_json=input_json)
        return True

    def _end_reasoning(self, item: ReasoningItem) -> None:
        writer = self._writer
        item.block = writer.index if writer.block == "thinking" else writer.index + 1
        if item.encrypted_content and not self._context.hide_thinking:
            target = self._context.target
            packed = pack(item.encrypted_content, item.summary_lengths(), target)
            writer.carry(REASONING_ITEM, packed)
        writer.close_thinking()

    def _write_call(self, item: FunctionCall) -> bool:
        if item.is_doubtful:
            if self._final is None:
                return False
            if self._status == "incomplete":
                return True  # cut off by the token limit: a partial call must not be run
        if not item.name:
            raise BadAnswer("The provider sent a tool call without a name")
        for call in item.calls():
            self._writer.open_call(call, self._calls.claim_id(call.provider_id))
            self._writer.end_block()
        return True

    # Writing text

    def _show(self, text: str) -> None:
        if self._tags is None:
            self._write_text(text)
            return
        for kind, piece in self._tags.feed(text):
            self._write_tagged(kind, piece)
        if self._tags.is_decided:
            self._tags = None

    def _flush_text(self) -> None:
        """Write the text held back for think tags and stop sequences."""
        if self._tags is not None:
            for kind, piece in self._tags.flush():
                self._write_tagged(kind, piece)
            if self._tags.is_decided:
                self._tags = None
        if held := self._stops.flush():
            self._writer.write("text", held)

    def _write_tagged(self, kind: TextKind, text: str) -> None:
        if kind == "text":
            self._write_text(text)
        else:
            self._writer.write("thinking", text)

    def _write_text(self, text: str) -> None:
        if visible := self._stops.feed(text):
            self._writer.write("text", visible)

    def _stop_reason(self) -> str:
        if self.stopped:
            return "stop_sequence"
        if self._status == "incomplete":
            details = self._final.incomplete_details if self._final else None
            return _INCOMPLETE_REASONS.get(string(details and details.reason), "max_tokens")
        if self._writer.has_tools:
            return "tool_use"
        return "refusal" if self._refused else "end_turn"


def _absorb_text(
    item: OutputItem, part: PartKey, writer: MessageWriter, block: int, texts: list[str]
) -> int:
    characters = sum(map(len, texts))
    writer.chars += characters
    item.add_length(part, characters)
    return block


def _index(value: object, *, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def chat_usage(usage: object) -> dict[str, Any] | None:
    """Return *usage* with the field names of Chat Completions, which `to_usage` reads."""
    if not isinstance(usage, dict):
        return None
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }
