"""
The items of an incoming answer, with their unwritten text.

Each class collects the pieces of one type of item; `stream.py` decides when they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec

from ccproxy.convert.chat.tool_calls import ToolCall, parse_json, to_input
from ccproxy.convert.common.held_text import check_held
from ccproxy.convert.responses.reasoning_items import PART_SEPARATOR
from ccproxy.protocol.json_splice import object_of
from ccproxy.protocol.lenient_json import objects, string
from ccproxy.protocol.responses import Item

PartKey = tuple[str, Any]
"""The item's field, and the index of the part in this field."""

_WRAPPER_NAMES = frozenset(("parallel", "multi_tool_use.parallel", "multi_tool_use_parallel"))
"""OpenAI's internal tool for parallel calls; its models sometimes call it unprompted."""
_NAMESPACE = "functions."

SEARCH_ID_PREFIX = "srvtoolu_ws_"
"""Prefix of the ids of the provider's own searches, which are not sent back to it."""


class OutputItem:
    """An item; the base class itself represents types that are skipped."""

    def __init__(self, item: Item, index: int) -> None:
        self.type = string(item.type)
        self.index = index
        self.pieces: list[str] = []
        """The unwritten text."""
        self.is_done = False
        self.lengths: dict[PartKey, int] = {}
        """The number of characters received for each part, in the order of the parts."""

    def add_delta(self, part: PartKey, text: str) -> None:
        """Add *text* to the end of a part."""
        if text:
            self.add_length(part, len(text))
            self.pieces.append(text)

    def add_length(self, part: PartKey, characters: int) -> None:
        """Count *characters* that were received for a part."""
        self.lengths[part] = self.lengths.get(part, 0) + characters

    def add_rest(self, part: PartKey, text: str) -> None:
        """Add the end of a part's complete *text* that its deltas did not contain."""
        self.add_delta(part, text[self.lengths.get(part, 0) :])

    def finish(self, item: Item | None) -> None:
        """Mark the item as done, after storing the completed *item* if the provider sent it."""
        if item is not None:
            self.read(item)
        self.is_done = True

    def read(self, item: Item) -> None:
        """Store the fields of the completed *item*."""


class MessageItem(OutputItem):
    """A message, made of text parts and refusal parts."""

    is_refusal = False

    def read(self, item: Item) -> None:
        """Add the text that was in no delta."""
        for number, part in enumerate(objects(item.content)):
            text = string(part.get("text"))
            if part.get("type") == "refusal":
                self.is_refusal = True
                text = string(part.get("refusal"))
            self.add_rest(("content", number), text)


class ReasoningItem(OutputItem):
    """Reasoning: a summary in parts, or the reasoning itself (open models), and its ciphertext."""

    encrypted_content = ""
    block: int | None = None
    """Index of the item's thinking block, or of the next block if it has none."""

    def add_delta(self, part: PartKey, text: str) -> None:
        """Add *text*, separating the parts; after a summary, ignore reasoning, and vice versa."""
        if not text or (self.lengths and next(iter(self.lengths))[0] != part[0]):
            return
        if self.lengths and part not in self.lengths:
            self.pieces.append(PART_SEPARATOR)
        super().add_delta(part, text)

    def read(self, item: Item) -> None:
        """Store the encrypted content, and add the text that was in no delta."""
        self.encrypted_content = string(item.encrypted_content)
        for field, parts in (("summary", item.summary), ("content", item.content)):
            for number, part in enumerate(objects(parts)):
                self.add_rest((field, number), string(part.get("text")))

    def summary_lengths(self) -> list[int]:
        """Return the number of characters of each part of the summary."""
        return [length for (field, _), length in self.lengths.items() if field == "summary"]


class FunctionCall(OutputItem):
    """A call to one of the client's tools."""

    def __init__(self, item: Item, index: int) -> None:
        super().__init__(item, index)
        self.name = string(item.name)
        self._call_id = string(item.call_id)
        self._arguments: object = None
        self._is_incomplete = False

    def add_delta(self, part: PartKey, text: str) -> None:
        """Add *text* to the arguments."""
        super().add_delta(part, text)
        check_held(sum(self.lengths.values()))

    def set_arguments(self, arguments: object) -> None:
        """Store the complete arguments, which replace the deltas."""
        if arguments:
            self._arguments = arguments

    def read(self, item: Item) -> None:
        """Store the name, id and arguments."""
        self.name = string(item.name) or self.name
        self._call_id = string(item.call_id) or self._call_id
        self._is_incomplete = item.status == "incomplete"
        self.set_arguments(item.arguments)

    @cached_property  # every later event reads it
    def is_doubtful(self) -> bool:
        """Whether the call may have been cut off in its arguments or before its name."""
        if self._is_incomplete or not self.name:
            return True
        text = self._text()
        return bool(text.strip()) and parse_json(text) is None

    def calls(self) -> Iterator[ToolCall]:
        """Yield the call, or the calls inside it if it is OpenAI's wrapper."""
        text = self._text()
        wrapped = _wrapped_calls(text) if self.name in _WRAPPER_NAMES else []
        if not wrapped:
            yield _tool_call(self.name, self._call_id, text)
        for number, (name, arguments) in enumerate(wrapped):
            call_id = f"{self._call_id}_{number}" if number else self._call_id
            yield _tool_call(name, call_id, arguments)

    def _text(self) -> str:
        if self._arguments is None:
            return "".join(self.pieces)
        if isinstance(self._arguments, str):
            return self._arguments
        return msgspec.json.encode(self._arguments).decode()


class HostedSearch(OutputItem):
    """A web search run by the provider."""

    def __init__(self, item: Item, index: int) -> None:
        super().__init__(item, index)
        self._item = item

    def read(self, item: Item) -> None:
        """Store the query and the sources."""
        self._item = item

    def blocks(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the search and its result as blocks, each with its input as JSON."""
        action = self._item.action if isinstance(self._item.action, dict) else {}
        if action.get("type", "search") != "search":
            return
        seed = f"{self.index} {string(self._item.id)}".encode()
        use_id = SEARCH_ID_PREFIX + hashlib.sha256(seed).hexdigest()[:20]
        query = {"query": string(action.get("query"))}
        use = {"type": "server_tool_use", "id": use_id, "name": "web_search", "input": {}}
        yield use, msgspec.json.encode(query).decode()
        results = [
            {
                "type": "web_search_result",
                "url": source["url"],
                "title": string(source.get("title")) or source["url"],
                "encrypted_content": "",
                "page_age": None,
            }
            for source in objects(action.get("sources"))
            if isinstance(source.get("url"), str)
        ]
        yield {"type": "web_search_tool_result", "tool_use_id": use_id, "content": results}, ""


def _tool_call(name: str, call_id: str, arguments: str) -> ToolCall:
    call = ToolCall()
    call.name = name
    call.provider_id = call_id
    call.is_whole = True
    if arguments and parse_json(arguments) is None:
        arguments = msgspec.json.encode(to_input(arguments)).decode()
    call.add(arguments)
    return call


def _wrapped_calls(text: str) -> list[tuple[str, str]]:
    """Return the names and arguments of the calls in a wrapper's arguments *text*."""
    uses = objects((object_of(text) or {}).get("tool_uses"))
    names = [string(use.get("recipient_name")) for use in uses]
    if not all(name.startswith(_NAMESPACE) for name in names):
        return []
    return [
        (name.removeprefix(_NAMESPACE), msgspec.json.encode(use.get("parameters") or {}).decode())
        for name, use in zip(names, uses, strict=True)
    ]
