"""
The items of one answer as they arrive, with the text that is not yet written.

Each class collects the pieces of one type of item. Which of them is written when is decided in
`stream.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec

from ccproxy.convert.chat.tool_calls import ToolCall, to_input
from ccproxy.convert.responses.reasoning_items import PART_SEPARATOR
from ccproxy.protocol.json_splice import NOT_JSON, object_of
from ccproxy.protocol.lenient_json import objects, string
from ccproxy.protocol.responses import Item

PartKey = tuple[str, Any]
"""Field of the item and index of the part in it."""

_WRAPPER_NAMES = frozenset(("parallel", "multi_tool_use.parallel", "multi_tool_use_parallel"))
"""OpenAI's internal tool for several calls; its models sometimes call it unasked."""
_NAMESPACE = "functions."

SEARCH_ID_PREFIX = "srvtoolu_ws_"
"""Begins the ids of searches that a provider made itself; they are not sent back to it."""


class OutputItem:
    """An item; one whose type has no counterpart is skipped."""

    def __init__(self, item: Item, index: int) -> None:
        self.type = string(item.type)
        self.index = index
        self.pieces: list[str] = []
        """Text that is not written yet."""
        self.is_done = False
        self.lengths: dict[PartKey, int] = {}
        """Characters of each part so far, in the order of the parts."""

    def add_delta(self, part: PartKey, text: str) -> None:
        """Add *text* to the end of a part."""
        if text:
            self.add_length(part, len(text))
            self.pieces.append(text)

    def add_length(self, part: PartKey, characters: int) -> None:
        """Count characters of a part that are written already."""
        self.lengths[part] = self.lengths.get(part, 0) + characters

    def add_rest(self, part: PartKey, text: str) -> None:
        """Add what the whole *text* of a part has beyond its deltas."""
        self.add_delta(part, text[self.lengths.get(part, 0) :])

    def finish(self, item: Item | None) -> None:
        """Store the completed *item*; None if no more of it will come."""
        if item is not None:
            self.read(item)
        self.is_done = True

    def read(self, item: Item) -> None:
        """Store what the completed *item* adds."""


class MessageItem(OutputItem):
    """A message: parts of text and refusals."""

    is_refusal = False

    def read(self, item: Item) -> None:
        """Add text that no delta had."""
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
    """Index of the block that it became, or before which it would have been one."""

    def add_delta(self, part: PartKey, text: str) -> None:
        """Add *text*; parts are separated, and of summary and reasoning only the first is read."""
        if not text or (self.lengths and next(iter(self.lengths))[0] != part[0]):
            return
        if self.lengths and part not in self.lengths:
            self.pieces.append(PART_SEPARATOR)
        super().add_delta(part, text)

    def read(self, item: Item) -> None:
        """Store the encrypted content, and text that no delta had."""
        self.encrypted_content = string(item.encrypted_content)
        for field, parts in (("summary", item.summary), ("content", item.content)):
            for number, part in enumerate(objects(parts)):
                self.add_rest((field, number), string(part.get("text")))

    def summary_lengths(self) -> list[int]:
        """Return the lengths of the summary's parts."""
        return [length for (field, _), length in self.lengths.items() if field == "summary"]


class FunctionCall(OutputItem):
    """A call of one of the client's tools."""

    def __init__(self, item: Item, index: int) -> None:
        super().__init__(item, index)
        self.name = string(item.name)
        self._call_id = string(item.call_id)
        self._arguments: object = None
        self._is_incomplete = False

    def set_arguments(self, arguments: object) -> None:
        """Store the whole arguments; they replace the deltas."""
        if arguments:
            self._arguments = arguments

    def read(self, item: Item) -> None:
        """Store name, id and arguments."""
        self.name = string(item.name) or self.name
        self._call_id = string(item.call_id) or self._call_id
        self._is_incomplete = item.status == "incomplete"
        self.set_arguments(item.arguments)

    @cached_property  # the completed item is looked at with every later event
    def is_doubtful(self) -> bool:
        """True: the call may have been cut off within its arguments, or before its name."""
        text = self._text()
        return self._is_incomplete or not self.name or (bool(text.strip()) and not _is_json(text))

    def calls(self) -> Iterator[ToolCall]:
        """Return the call, or those that it contains if it is OpenAI's wrapper."""
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
    """A web search that the provider made itself."""

    def __init__(self, item: Item, index: int) -> None:
        super().__init__(item, index)
        self._item = item

    def read(self, item: Item) -> None:
        """Store the query and the sources."""
        self._item = item

    def blocks(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Return the search and its result as blocks, each with its input as JSON."""
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
    if arguments and not _is_json(arguments):
        arguments = msgspec.json.encode(to_input(arguments)).decode()
    call.add(arguments)
    return call


def _wrapped_calls(text: str) -> list[tuple[str, str]]:
    """Return name and arguments of the calls in a wrapper's arguments; none for other text."""
    uses = objects((object_of(text) or {}).get("tool_uses"))
    names = [string(use.get("recipient_name")) for use in uses]
    if not all(name.startswith(_NAMESPACE) for name in names):
        return []
    return [
        (name.removeprefix(_NAMESPACE), msgspec.json.encode(use.get("parameters") or {}).decode())
        for name, use in zip(names, uses, strict=True)
    ]


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except NOT_JSON:
        return False
    return True
