"""
The messages of a conversation as input items.

Rules:
    1. An item depends only on what comes before it, so the input of the next request begins with
       the input of this one. Newer models drop earlier reasoning without notice when anything
       before it has changed, and the prompt cache needs it as well.
    2. The outputs of an assistant's calls follow the calls directly, in their order. Other messages
       that arrive meanwhile wait until they are written.
    3. A call without a result gets an output that says so; a result without a call becomes text.
    4. Ids of calls are unique in the conversation and have 1 to 64 characters.
    5. A reasoning item is followed by an item of the same answer, or it is left out.
    6. Nothing is empty: an empty message is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.content_parts import NO_RESULT, Part, block_to_parts, orphan_result
from ccproxy.convert.chat.system_prompt import to_system_message
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.request_cache import Checkpoint, ConvertedPrefix
from ccproxy.convert.common.tool_names import ToolIds, id_literal
from ccproxy.convert.responses.content import Item, input_content, tool_output
from ccproxy.convert.responses.output_items import SEARCH_ID_PREFIX
from ccproxy.convert.responses.reasoning_items import ReasoningItems
from ccproxy.errors import Problem
from ccproxy.protocol.literals import (
    EMPTY,
    join_literals,
    required_string,
    text_of,
    to_arguments,
    with_path,
)
from ccproxy.protocol.messages import Block, Message, blocks_of

_NO_CONTENT = Raw(b'"(no content)"')
_SEARCH_BLOCKS = frozenset(("server_tool_use", "web_search_tool_result"))

_IDS = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


def message_item(role: str, content: Raw | list[Item]) -> Item:
    """Return a message item; `type` is optional at OpenAI and required by some gateways."""
    return {"type": "message", "role": role, "content": content}


class InputWriter:
    """Converts the messages of one request. Used once: `add` each, then `finish`."""

    def __init__(
        self,
        conversion: Conversion,
        *,
        system: Item | None = None,
        refused_reasoning: Collection[str] = (),
    ) -> None:
        self._conversion = conversion
        self._quirks = conversion.quirks
        self._refused_reasoning = refused_reasoning
        self._head: list[Item] = [system] if system else []
        # The items that can no longer change, as JSON; and the items after them.
        self._written = bytearray()
        self._items: list[Item] = []
        self._checkpoints: list[Checkpoint] = []
        self._begun_with = 0
        self._ids = ToolIds(self._quirks.tool_ids)
        self._client_ids: list[bytes] = []
        self._sent_ids: list[bytes] = []
        self._names: dict[bytes, str] = {}
        # The open calls: the client's id of each, and its output, content still to come.
        self._calls: list[tuple[bytes, Item]] = []
        self._has_results = False
        self._waiting: list[Item] = []

    def known_ids(self) -> frozenset[str]:
        """Return the client's ids of all calls."""
        return frozenset(_IDS.decode(b"[%b]" % b",".join(self._client_ids)))

    def resume(self, prefix: ConvertedPrefix) -> int:
        """Continue after *prefix*; return the index of the message that must be added next."""
        point = prefix.checkpoints[-1]
        self._checkpoints = list(prefix.checkpoints)
        self._begun_with = len(self._checkpoints)
        self._written += memoryview(prefix.written)[: point.written]
        self._client_ids += prefix.client_ids[: point.calls]
        self._sent_ids += prefix.sent_ids[: point.calls]
        self._ids.reserve(self._sent_ids)
        for client_id, sent_id in zip(
            self._client_ids[-point.open :], self._sent_ids[-point.open :], strict=True
        ):
            self._open(client_id, Raw(sent_id))
        self._conversion.dropped |= dict.fromkeys(prefix.dropped[: point.dropped])
        self._conversion.tool_names |= dict(prefix.tool_names[: point.tool_names])
        return point.messages

    def prefix(self) -> ConvertedPrefix | None:
        """Return what a later request can continue after, None if nothing was added to it."""
        if len(self._checkpoints) == self._begun_with:
            return None
        return ConvertedPrefix(
            checkpoints=self._checkpoints,
            written=bytes(memoryview(self._written)[: self._checkpoints[-1].written]),
            client_ids=self._client_ids,
            sent_ids=self._sent_ids,
            dropped=tuple(self._conversion.dropped),
            tool_names=tuple(self._conversion.tool_names.items()),
        )

    def add(self, message: Message, index: int) -> None:
        """Convert the message at *index* of the request."""
        try:
            blocks = blocks_of(message.content)
            match message.role:
                case "assistant":
                    self._assistant(blocks)
                    if self._calls:
                        self._note(index + 1)
                case "system" | "developer":
                    self._system(blocks)
                case _:
                    self._user(blocks)
        except Problem as problem:
            raise with_path(problem, "messages", index) from problem

    def finish(self) -> list[Item | Raw]:
        """Return the input items, several of them in one `Raw`."""
        self._settle()
        is_system_only = all(item.get("role") in ("system", "developer") for item in self._items)
        if not self._written and is_system_only:
            self._items.append(message_item("user", _NO_CONTENT))
        written = [Raw(self._written)] if self._written else []
        return [*self._head, *written, *self._items]

    def _note(self, messages: int) -> None:
        """Record that *messages* messages are written, their last calls being open."""
        if self._items:
            if self._written:
                self._written += b","
            self._written += memoryview(_encode(self._items))[1:-1]
            self._items = []
        conversion = self._conversion
        point = Checkpoint(
            messages=messages,
            written=len(self._written),
            calls=len(self._client_ids),
            open=len(self._calls),
            dropped=len(conversion.dropped),
            tool_names=len(conversion.tool_names),
        )
        self._checkpoints.append(point)

    # System and user messages...

    def _system(self, blocks: list[Block]) -> None:
        first = not (self._head or self._written or self._items or self._waiting)
        message = to_system_message(blocks, self._conversion, first=first)
        if message is None:
            return
        role = message["role"]
        if role == "system":
            role = self._quirks.system_role
        self._append(message_item(role, message["content"]))

    def _user(self, blocks: list[Block]) -> None:
        media: list[Part] = []
        parts: list[Part] = []
        index = 0
        try:
            for index, block in enumerate(blocks):  # noqa: B007 - the error needs it
                if block.type == "tool_result":
                    self._result(block, media, parts)
                else:
                    parts += block_to_parts(block, self._conversion)
        except Problem as problem:
            raise with_path(problem, "content", index) from problem
        if parts := media + parts:
            content = input_content(parts, flat=self._quirks.flat_text)
            self._append(message_item("user", content))

    def _append(self, item: Item) -> None:
        (self._waiting if self._calls else self._items).append(item)

    def _result(self, block: Block, media: list[Part], parts: list[Part]) -> None:
        """Put a result into the output of its call; what fits in no output is *media* after it."""
        client_id = id_literal(block.tool_use_id)
        for open_id, output in self._calls:
            if open_id == client_id and output["output"] is None:
                output["output"], others = tool_output(block, self._conversion)
                media += others
                self._has_results = True
                return
        parts += orphan_result(block, self._conversion)

    # ...what the assistant answered...

    def _assistant(self, blocks: list[Block]) -> None:
        if self._has_results or self._waiting:
            self._settle()
        reasoning = ReasoningItems(blocks, self._conversion, refused=self._refused_reasoning)
        items: list[Item] = []
        texts: list[Raw] = []
        for index, block in enumerate(blocks):
            item = reasoning.before(index)
            if item is not None or block.type == "tool_use":
                self._add_text(texts, items)
            if item is not None:
                items.append(item)
            if block.type == "tool_use":
                items.append(self._call(block))
            elif block.type == "text":
                self._add_text(texts, items)
                texts.append(required_string(block.text, "text"))
            elif block.type not in ("thinking", "redacted_thinking"):
                texts += self._other_texts(block)
        self._add_text(texts, items)
        while items and items[-1]["type"] == "reasoning":
            items.pop()
        if self._quirks.message_phase:
            _add_phases(items)
        self._items += items

    def _add_text(self, texts: list[Raw], items: list[Item]) -> None:
        content = [text for text in texts if text != EMPTY]
        texts.clear()
        if content:
            items.append(message_item("assistant", join_literals("\\n\\n", content)))

    def _other_texts(self, block: Block) -> list[Raw]:
        """Return the texts of a block of another type; the provider's own searches have none."""
        if block.type in _SEARCH_BLOCKS and (
            text_of(block.id) or text_of(block.tool_use_id)
        ).startswith(SEARCH_ID_PREFIX):
            return []
        parts = block_to_parts(block, self._conversion)
        return [part["text"] for part in parts if part["type"] == "text"]

    # ...with its calls...

    def _call(self, block: Block) -> Item:
        client_id = id_literal(block.id)
        sent_id = Raw(self._ids.assign(client_id))
        self._client_ids.append(client_id)
        self._sent_ids.append(bytes(sent_id))
        self._open(client_id, sent_id)
        literal_name = bytes(block.name)
        name = self._names.get(literal_name)
        if name is None:
            name = self._conversion.sent_name(text_of(required_string(block.name, "name")))
            self._names[literal_name] = name
        arguments = to_arguments(block.input)
        return {"type": "function_call", "call_id": sent_id, "name": name, "arguments": arguments}

    def _open(self, client_id: bytes, sent_id: Raw) -> None:
        output = {"type": "function_call_output", "call_id": sent_id, "output": None}
        self._calls.append((client_id, output))

    # ...and how the calls are settled.

    def _settle(self) -> None:
        """Write the outputs of the open calls, then what waited for them."""
        for _, output in self._calls:
            if output["output"] is None:
                output["output"] = NO_RESULT
            self._items.append(output)
        self._items += self._waiting
        self._calls, self._waiting, self._has_results = [], [], False


def _add_phases(items: list[dict[str, Any]]) -> None:
    """
    Mark the assistant's messages that were remarks before a call.

    The API sends the phase with each message and asks for it back; it follows from the order.
    """
    phase = "final_answer"
    for item in reversed(items):
        if item["type"] == "function_call":
            phase = "commentary"
        elif item["type"] == "message":
            item["phase"] = phase
