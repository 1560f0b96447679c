"""
Conversion of a conversation from Messages to Chat Completions.

Rules:
    1. One tool message for each tool call follows the assistant message, in the order of the calls,
       before anything else. The client's results may be in any order and mixed with text and system
       messages, which wait until the tool messages are written.
    2. A call without a result gets a placeholder result; a result without a call becomes text.
    3. Each call has a unique ID in the conversation.
    4. Consecutive assistant messages are merged; consecutive user messages stay separate, unless
       the provider's chat templates require alternating roles.
    5. The conversion of a message depends only on the messages before it, so that the beginning of
       a conversation has the same bytes in every turn (for prompt caches). Only the last message
       may be flagged, as an answer to continue.
    6. Empty messages are left out.

`add` converts one message at a time. The assistant's blocks are collected until a message of
another role follows; then the assistant message is written and its calls are open. While calls are
open, messages wait in `_waiting`; the next assistant message or the end closes the calls.

This code processes every message of every request, so frequent cases have a fast path: text is
appended, and results that are strings are copied; other blocks go through `content_parts`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from ccproxy.convert.chat.content_parts import (
    Part,
    block_to_parts,
    cache_mark,
    content_of,
    text_part,
    texts_of,
    tool_result,
)
from ccproxy.convert.chat.reasoning import UNKNOWN_SIGNATURE, EarlierThinking
from ccproxy.convert.chat.system_prompt import to_system_message
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.token_estimate import unsent_characters
from ccproxy.convert.dialects.conversation_writer import ConversationWriter
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

ChatMessage = dict[str, Any]
"""A message for the provider; its strings are `Raw` literals."""

_NO_CONTENT = Raw(b'"(no content)"')
_ACKNOWLEDGED = Raw(b'"Understood."')


class ChatConversation(ConversationWriter):
    """Converts the messages of one request. Use once: `add` each message, then `finish`."""

    RESULT_FIELD = "content"

    def __init__(self, conversion: Conversion, *, system: ChatMessage | None = None) -> None:
        super().__init__(conversion, system=system)
        self._pending: list[Block] = []
        # Each pending message's index, and the position of its first block.
        self._pending_starts: list[tuple[int, int]] = []

    def add(self, message: Message, index: int) -> None:
        """Convert the message at *index* of the request."""
        if self._pending and message.role != "assistant":
            written = self._write_assistant()
            if written and self._calls:
                self._add_checkpoint(index)
        try:
            blocks = blocks_of(message.content)
            if message.role == "assistant":
                self._pending_starts.append((index, len(self._pending)))
                self._pending = [*self._pending, *blocks] if self._pending else blocks
                return
            if message.role in ("system", "developer"):
                first = not (self._head or self._written or self._entries or self._waiting)
                converted = to_system_message(blocks, self._conversion, first=first)
            else:
                converted = self._user(blocks)
        except Problem as problem:
            raise with_path(problem, "messages", index) from problem
        if converted is not None:
            if self._calls:
                self._waiting.append(converted)
            else:
                self._append(converted)

    def _append(self, message: ChatMessage) -> None:
        """Append *message*, or merge it into the preceding user message if templates require it."""
        last = self._entries[-1] if self._quirks.merge_user_messages and self._entries else None
        if last is None or not last["role"] == message["role"] == "user":
            self._entries.append(message)
            return
        parts = [*_parts_of(last["content"]), *_parts_of(message["content"])]
        has_marks = any("cache_control" in part for part in parts)
        self._entries[-1] = {"role": "user", "content": content_of(parts, flat=not has_marks)}

    def finish(self) -> list[ChatMessage | Raw]:
        """Return the converted messages; one `Raw` can contain several of them."""
        if self._pending:
            self._write_assistant()
        self._close_calls(self._calls)
        has_turn = any(message["role"] != "system" for message in self._entries)
        if not self._written and not has_turn:
            self._entries.append({"role": "user", "content": _NO_CONTENT})
        last = self._entries[-1]
        if last["role"] == "assistant" and self._quirks.prefill != "plain":
            last[self._quirks.prefill] = True
        written = [Raw(self._written)] if self._written else []
        return [*self._head, *written, *self._entries]

    # User messages.

    def _user(self, blocks: list[Block]) -> ChatMessage | None:
        parts = self._user_parts(blocks)
        if not parts:
            return None
        return {"role": "user", "content": content_of(parts, flat=self._quirks.flat_text)}

    def _result_entry(self, sent_id: Raw) -> ChatMessage:
        return {"role": "tool", "tool_call_id": sent_id, "content": None}

    def _fill(self, entry: ChatMessage, block: Block) -> list[Part]:
        entry["content"], media = tool_result(block, self._conversion)
        if mark := cache_mark(block, self._conversion):
            entry["content"] = [{"type": "text", "text": entry["content"], **mark}]
        return media

    # Assistant messages.

    def _write_assistant(self) -> bool:
        """Write the pending assistant message unless it is empty; return True if written."""
        blocks, self._pending = self._pending, []
        before, self._calls = self._calls, []
        message = self._assistant(blocks, in_tool_turn=bool(before))
        self._pending_starts = []
        if message is None:
            self._calls = before
            return False
        self._close_calls(before)
        self._entries.append(message)
        return True

    def _assistant(self, blocks: list[Block], *, in_tool_turn: bool) -> ChatMessage | None:
        texts, calls, thinking = self._split(blocks)
        in_tool_turn = in_tool_turn or bool(calls)
        is_in_scope = in_tool_turn or self._quirks.history_scope == "all"
        is_sent = is_in_scope and self._quirks.history != "drop" and bool(texts or calls)
        self.unsent = self.unsent.plus(unsent_characters(blocks, thinking_is_sent=is_sent))
        if not texts and not calls:
            return None
        content = join_literals("\\n\\n", texts) if texts else None
        message: ChatMessage = {"role": "assistant", "content": content}
        required = self._quirks.history_required and in_tool_turn
        if thinking and not is_in_scope:
            self._conversion.drop("messages.thinking")
            thinking = []
        earlier = EarlierThinking(thinking, self._conversion)
        if thinking or required:
            message["content"] = earlier.add_to(content)
            message |= earlier.fields(required=required and self._conversion.thinks)
        if message["content"] is None and not self._quirks.null_content:
            message["content"] = EMPTY
        if calls:
            message["tool_calls"] = calls
            if self._quirks.thought_signatures:
                self._sign(calls, earlier)
        return message

    def _split(self, blocks: list[Block]) -> tuple[list[Raw], list[dict[str, Any]], list[Block]]:
        """Return the text, the converted calls and the thinking in *blocks*."""
        texts: list[Raw] = []
        calls: list[dict[str, Any]] = []
        thinking: list[Block] = []
        position = 0
        try:
            for position, block in enumerate(blocks):  # noqa: B007 - the error needs it
                if block.type == "tool_use":
                    calls.append(self._tool_call(block))
                elif block.type == "thinking":
                    thinking.append(block)
                elif block.type == "text":
                    texts.append(required_string(block.text, "text"))
                else:
                    parts = block_to_parts(block, self._conversion)
                    texts += [part["text"] for part in parts if part["type"] == "text"]
        except Problem as problem:
            starts = reversed(self._pending_starts)
            index, start = next(each for each in starts if each[1] <= position)
            raise with_path(problem, "messages", index, "content", position - start) from problem
        if EMPTY in texts:
            texts = [text for text in texts if text != EMPTY]
        return texts, calls, thinking

    # Tool calls.

    def _tool_call(self, block: Block) -> dict[str, Any]:
        sent_id, name = self._begin_call(block)
        function = {"name": name, "arguments": to_arguments(block.input)}
        return {"id": sent_id, "type": "function", "function": function}

    def _sign(self, calls: list[dict[str, Any]], thinking: EarlierThinking) -> None:
        """Add Gemini's signatures to the open *calls*."""
        signatures = thinking.signatures()
        for index, (call, (client_id, _)) in enumerate(zip(calls, self._calls, strict=True)):
            # Required only for the first call of a step (Gemini 3).
            signature = signatures.get(text_of(Raw(client_id)))
            if signature or not index:
                signature = signature or UNKNOWN_SIGNATURE
                call["extra_content"] = {"google": {"thought_signature": signature}}

    def _close_calls(self, calls: list[tuple[bytes, ChatMessage]]) -> None:
        """Write the results of *calls*, then the messages that waited for them."""
        if not calls:
            return
        self._write_results(calls)
        waiting, self._waiting = self._waiting, []
        if waiting and not (self._quirks.user_after_tool and not self._quirks.merge_user_messages):
            waiting = _fold_into(self._entries[-1], waiting)
            if waiting and not self._quirks.user_after_tool:
                self._entries.append({"role": "assistant", "content": _ACKNOWLEDGED})
        for message in waiting:
            self._append(message)


def _fold_into(answer: ChatMessage, waiting: list[ChatMessage]) -> list[ChatMessage]:
    """
    Append text that follows a tool message to that message; return the remaining messages.

    Mistral refuses a user message after a tool message (error 3230), and so do chat templates that
    require alternating roles. Messages with images cannot be appended. No assistant message is
    inserted before the text, because the model would imitate it.
    """
    texts = texts_of(answer["content"]) or []
    movable = 0
    for message in waiting:
        message_texts = texts_of(message["content"])
        if message_texts is None:
            break
        texts += message_texts
        movable += 1
    answer["content"] = join_literals("\\n\\n", texts)
    return waiting[movable:]


def _parts_of(content: Raw | list[Part]) -> list[Part]:
    return [text_part(content)] if isinstance(content, Raw) else content
