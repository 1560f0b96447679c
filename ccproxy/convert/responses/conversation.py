"""
Convert the messages of a conversation into input items.

Rules:
    1. An item depends only on the messages before it, so the input of the next request begins with
       the input of this one. Newer models silently drop earlier reasoning if anything before it
       has changed, and the prompt cache needs a stable prefix as well.
    2. The outputs of the assistant's calls directly follow the calls, in the same order. Messages
       between a call and its result are written after the outputs.
    3. A call without a result gets a placeholder output; a result without a call becomes text.
    4. Call ids are unique in the conversation and have 1 to 64 characters.
    5. A reasoning item without a following item of the same answer is omitted.
    6. Empty messages are omitted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Raw

from ccproxy.convert.chat.content_parts import Part, block_to_parts
from ccproxy.convert.chat.system_prompt import to_system_message
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.dialects.conversation_writer import ConversationWriter
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


def message_item(role: str, content: Raw | list[Item]) -> Item:
    """Return a message item with its `type`, which OpenAI infers and some gateways require."""
    return {"type": "message", "role": role, "content": content}


class InputWriter(ConversationWriter):
    """Converts the messages of one request: `add` each of them, then `finish`. Not reusable."""

    RESULT_FIELD = "output"

    def __init__(
        self,
        conversion: Conversion,
        *,
        system: Item | None = None,
        refused_reasoning: Collection[str] = (),
    ) -> None:
        super().__init__(conversion, system=system)
        self._refused_reasoning = refused_reasoning
        self._has_results = False

    def add(self, message: Message, index: int) -> None:
        """Convert the message at *index* of the request."""
        try:
            blocks = blocks_of(message.content)
            match message.role:
                case "assistant":
                    self._assistant(blocks)
                    if self._calls:
                        self._add_checkpoint(index + 1)
                case "system" | "developer":
                    self._system(blocks)
                case _:
                    self._user(blocks)
        except Problem as problem:
            raise with_path(problem, "messages", index) from problem

    def finish(self) -> list[Item | Raw]:
        """Return the input items; one `Raw` can hold several of them."""
        self._settle()
        is_system_only = all(item.get("role") in ("system", "developer") for item in self._entries)
        if not self._written and is_system_only:
            self._entries.append(message_item("user", _NO_CONTENT))
        written = [Raw(self._written)] if self._written else []
        return [*self._head, *written, *self._entries]

    # System and user messages

    def _system(self, blocks: list[Block]) -> None:
        first = not (self._head or self._written or self._entries or self._waiting)
        message = to_system_message(blocks, self._conversion, first=first)
        if message is None:
            return
        role = message["role"]
        if role == "system":
            role = self._quirks.system_role
        self._append(message_item(role, message["content"]))

    def _user(self, blocks: list[Block]) -> None:
        if parts := self._user_parts(blocks):
            content = input_content(parts, flat=self._quirks.flat_text)
            self._append(message_item("user", content))

    def _append(self, item: Item) -> None:
        (self._waiting if self._calls else self._entries).append(item)

    def _result_entry(self, sent_id: Raw) -> Item:
        return {"type": "function_call_output", "call_id": sent_id, "output": None}

    def _fill(self, entry: Item, block: Block) -> list[Part]:
        entry["output"], media = tool_output(block, self._conversion)
        self._has_results = True
        return media

    # Assistant messages

    def _assistant(self, blocks: list[Block]) -> None:
        if self._has_results or self._waiting:
            self._settle()
        reasoning = ReasoningItems(blocks, self._conversion, refused=self._refused_reasoning)
        items: list[Item] = []
        texts: list[Raw] = []
        index = 0
        try:
            for index, block in enumerate(blocks):
                if (item := reasoning.before(index)) is not None:
                    self._add_text(texts, items)
                    items.append(item)
                self._add_block(block, texts, items)
        except Problem as problem:
            raise with_path(problem, "content", index) from problem
        self._add_text(texts, items)
        while items and items[-1]["type"] == "reasoning":
            items.pop()
        if self._quirks.message_phase:
            _add_phases(items)
        self._entries += items

    def _add_block(self, block: Block, texts: list[Raw], items: list[Item]) -> None:
        if block.type == "tool_use":
            self._add_text(texts, items)
            items.append(self._call(block))
        elif block.type == "text":
            self._add_text(texts, items)
            texts.append(required_string(block.text, "text"))
        elif block.type not in ("thinking", "redacted_thinking"):
            texts += self._other_texts(block)

    def _add_text(self, texts: list[Raw], items: list[Item]) -> None:
        content = [text for text in texts if text != EMPTY]
        texts.clear()
        if content:
            items.append(message_item("assistant", join_literals("\\n\\n", content)))

    def _other_texts(self, block: Block) -> list[Raw]:
        """Return the texts of a block of another type; the provider's searches have no text."""
        if block.type in _SEARCH_BLOCKS and (
            text_of(block.id) or text_of(block.tool_use_id)
        ).startswith(SEARCH_ID_PREFIX):
            return []
        parts = block_to_parts(block, self._conversion)
        return [part["text"] for part in parts if part["type"] == "text"]

    # Tool calls and their results

    def _call(self, block: Block) -> Item:
        sent_id, name = self._begin_call(block)
        arguments = to_arguments(block.input)
        return {"type": "function_call", "call_id": sent_id, "name": name, "arguments": arguments}

    def _settle(self) -> None:
        """Write the outputs of the open calls, then the messages that waited for them."""
        self._write_results(self._calls)
        self._entries += self._waiting
        self._calls, self._waiting, self._has_results = [], [], False


def _add_phases(items: list[dict[str, Any]]) -> None:
    """
    Set the phase of the assistant's messages: commentary before a call, otherwise final answer.

    The API sends a phase with each message and expects it back; the phase follows from the order of
    messages and calls.
    """
    phase = "final_answer"
    for item in reversed(items):
        if item["type"] == "function_call":
            phase = "commentary"
        elif item["type"] == "message":
            item["phase"] = phase
