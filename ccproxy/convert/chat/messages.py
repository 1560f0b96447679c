"""
Conversion of a conversation from Messages to Chat Completions.

Rules:
    1. One tool message for each tool call follows the assistant message, in the order of the calls,
       before anything else. The client's results come in any order, mixed with text and system
       messages; these wait until the tool messages are written.
    2. A call without a result gets a result that says so; a result without a call becomes text.
    3. Each call ID occurs once in the conversation.
    4. Consecutive assistant messages are merged; consecutive user messages stay separate, unless
       the provider's chat templates require alternating roles.
    5. The conversion of a message depends only on the messages before it, so that the beginning of
       a conversation becomes the same bytes in every turn (prompt caches). Only the last message
       may get a flag.
    6. Empty messages are left out.

`add` takes one message after the other. The blocks of the assistant are collected until a message
of another role comes; then the assistant message is written and its calls are open. While calls
are open, messages wait in `_waiting`; the next assistant message or the end closes the calls.

This runs over every message of every request, so frequent cases take a short path: texts are
appended, and results that are strings are copied; other blocks go through `content_parts`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.content_parts import (
    NO_RESULT,
    Part,
    block_to_parts,
    cache_mark,
    content_of,
    orphan_result,
    text_part,
    texts_of,
    tool_result,
)
from ccproxy.convert.chat.reasoning import UNKNOWN_SIGNATURE, EarlierThinking
from ccproxy.convert.chat.system_prompt import to_system_message
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.request_cache import Checkpoint, ConvertedPrefix
from ccproxy.convert.common.token_estimate import unsent_characters
from ccproxy.convert.common.tool_names import ToolIds, id_literal
from ccproxy.errors import Problem
from ccproxy.protocol.literals import (
    EMPTY,
    join_literals,
    required_string,
    text_of,
    to_arguments,
    with_path,
)
from ccproxy.protocol.messages import NO_CHARACTERS, Block, Message, blocks_of

ChatMessage = dict[str, Any]
"""A message for the provider; its texts are `Raw` string literals."""

_NO_CONTENT = Raw(b'"(no content)"')
_ACKNOWLEDGED = Raw(b'"Understood."')

_IDS = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


class ChatConversation:
    """Converts the messages of one request. Use once: `add` each message, then `finish`."""

    def __init__(self, conversion: Conversion, *, system: ChatMessage | None = None) -> None:
        self._conversion = conversion
        self._quirks = conversion.quirks
        self._head: list[ChatMessage] = [system] if system else []
        # The final part of the messages as JSON, and the messages after it.
        self._written = bytearray()
        self._messages: list[ChatMessage] = []
        self._checkpoints: list[Checkpoint] = []
        self._resumed_checkpoints = 0
        self._ids = ToolIds(self._quirks.tool_ids)
        self._client_ids: list[bytes] = []
        self._sent_ids: list[bytes] = []
        self._names: dict[bytes, str] = {}
        self._pending: list[Block] = []
        self._pending_index = 0
        # Open calls: the client's ID and the tool message, whose content is None until the result.
        self._calls: list[tuple[bytes, ChatMessage]] = []
        self._waiting: list[ChatMessage] = []
        self.unsent = NO_CHARACTERS
        """Characters of the thinking that is not sent, and of all signatures."""

    def known_ids(self) -> frozenset[str]:
        """Return the client's IDs of all calls."""
        return frozenset(_IDS.decode(b"[%b]" % b",".join(self._client_ids)))

    def resume(self, prefix: ConvertedPrefix) -> int:
        """Continue after *prefix*; return the index of the message to add next."""
        point = prefix.checkpoints[-1]
        self._checkpoints = list(prefix.checkpoints)
        self._resumed_checkpoints = len(self._checkpoints)
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
        self.unsent = point.unsent
        return point.messages

    def prefix(self) -> ConvertedPrefix | None:
        """Return the converted beginning for later turns, None without a new checkpoint."""
        if len(self._checkpoints) == self._resumed_checkpoints:
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
        if self._pending and message.role != "assistant":
            written = self._write_assistant()
            if written and self._calls:
                self._add_checkpoint(index)
        try:
            blocks = blocks_of(message.content)
            if message.role == "assistant":
                self._pending = [*self._pending, *blocks] if self._pending else blocks
                self._pending_index = index
                return
            if message.role in ("system", "developer"):
                first = not (self._head or self._written or self._messages or self._waiting)
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
        """Append *message*, or merge it into a user message before it if templates require it."""
        last = self._messages[-1] if self._messages else message
        if not self._quirks.merge_user_messages or last is message or not _are_users(last, message):
            self._messages.append(message)
            return
        parts = [*_parts_of(last["content"]), *_parts_of(message["content"])]
        has_marks = any("cache_control" in part for part in parts)
        self._messages[-1] = {"role": "user", "content": content_of(parts, flat=not has_marks)}

    def finish(self) -> list[ChatMessage | Raw]:
        """Return the converted messages; one `Raw` may hold several of them."""
        if self._pending:
            self._write_assistant()
        self._close_calls(self._calls)
        has_turn = any(message["role"] != "system" for message in self._messages)
        if not self._written and not has_turn:
            self._messages.append({"role": "user", "content": _NO_CONTENT})
        last = self._messages[-1]
        if last["role"] == "assistant" and self._quirks.prefill != "plain":
            last[self._quirks.prefill] = True
        written = [Raw(self._written)] if self._written else []
        return [*self._head, *written, *self._messages]

    def _add_checkpoint(self, index: int) -> None:
        """Add a checkpoint: messages before *index* are written, the last calls are open."""
        if self._written:
            self._written += b","
        self._written += memoryview(_encode(self._messages))[1:-1]
        self._messages = []
        conversion = self._conversion
        point = Checkpoint(
            messages=index,
            written=len(self._written),
            calls=len(self._client_ids),
            open=len(self._calls),
            dropped=len(conversion.dropped),
            tool_names=len(conversion.tool_names),
            unsent=self.unsent,
        )
        self._checkpoints.append(point)

    # User messages.

    def _user(self, blocks: list[Block]) -> ChatMessage | None:
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
        if media:
            parts = media + parts
        if not parts:
            return None
        return {"role": "user", "content": content_of(parts, flat=self._quirks.flat_text)}

    def _result(self, block: Block, media: list[Part], parts: list[Part]) -> None:
        """Put a result into its tool message; *media* collects its images and files."""
        client_id = id_literal(block.tool_use_id)
        for open_id, answer in self._calls:
            if open_id == client_id and answer["content"] is None:
                answer["content"], others = tool_result(block, self._conversion)
                media += others
                if mark := cache_mark(block, self._conversion):
                    answer["content"] = [{"type": "text", "text": answer["content"], **mark}]
                return
        parts += orphan_result(block, self._conversion)

    # Assistant messages.

    def _write_assistant(self) -> bool:
        """Write the pending assistant message unless it is empty; return True if written."""
        blocks, self._pending = self._pending, []
        before, self._calls = self._calls, []
        try:
            message = self._assistant(blocks, in_tool_turn=bool(before))
        except Problem as problem:
            raise with_path(problem, "messages", self._pending_index, "content") from problem
        if message is None:
            self._calls = before
            return False
        self._close_calls(before)
        self._messages.append(message)
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
        """Return the texts, the converted calls and the thinking among *blocks*."""
        texts: list[Raw] = []
        calls: list[dict[str, Any]] = []
        thinking: list[Block] = []
        for block in blocks:
            if block.type == "tool_use":
                calls.append(self._tool_call(block))
            elif block.type == "thinking":
                thinking.append(block)
            elif block.type == "text":
                texts.append(required_string(block.text, "text"))
            else:
                parts = block_to_parts(block, self._conversion)
                texts += [part["text"] for part in parts if part["type"] == "text"]
        if EMPTY in texts:
            texts = [text for text in texts if text != EMPTY]
        return texts, calls, thinking

    # Tool calls.

    def _tool_call(self, block: Block) -> dict[str, Any]:
        raw_name = bytes(block.name)
        name = self._names.get(raw_name)
        if name is None:
            name = self._conversion.sent_name(text_of(required_string(block.name, "name")))
            self._names[raw_name] = name
        client_id = id_literal(block.id)
        sent_id = Raw(self._ids.assign(client_id, name))
        self._client_ids.append(client_id)
        self._sent_ids.append(bytes(sent_id))
        self._open(client_id, sent_id)
        function = {"name": name, "arguments": to_arguments(block.input)}
        return {"id": sent_id, "type": "function", "function": function}

    def _open(self, client_id: bytes, sent_id: Raw) -> None:
        self._calls.append((client_id, {"role": "tool", "tool_call_id": sent_id, "content": None}))

    def _sign(self, calls: list[dict[str, Any]], thinking: EarlierThinking) -> None:
        """Add Gemini's signatures to *calls*, which are the open ones."""
        signatures = thinking.signatures()
        for index, (call, (client_id, _)) in enumerate(zip(calls, self._calls, strict=True)):
            # Required for the first call of a step only (Gemini 3).
            signature = signatures.get(text_of(Raw(client_id)))
            if signature or not index:
                signature = signature or UNKNOWN_SIGNATURE
                call["extra_content"] = {"google": {"thought_signature": signature}}

    def _close_calls(self, calls: list[tuple[bytes, ChatMessage]]) -> None:
        """Write the results of *calls*, then the messages that waited for them."""
        if not calls:
            return
        for _, answer in calls:
            if answer["content"] is None:
                answer["content"] = NO_RESULT
            self._messages.append(answer)
        waiting, self._waiting = self._waiting, []
        if waiting and not (self._quirks.user_after_tool and not self._quirks.merge_user_messages):
            waiting = _fold_into(self._messages[-1], waiting)
            if waiting and not self._quirks.user_after_tool:
                self._messages.append({"role": "assistant", "content": _ACKNOWLEDGED})
        for message in waiting:
            self._append(message)


def _fold_into(answer: ChatMessage, waiting: list[ChatMessage]) -> list[ChatMessage]:
    """
    Append the texts that follow a tool message to it; return the rest.

    Mistral refuses a user message after a tool message (error 3230), and so do templates with
    alternating roles. Only messages with images stay; an assistant message before each text would
    be imitated by the model.
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


def _are_users(*messages: ChatMessage) -> bool:
    return all(message["role"] == "user" for message in messages)


def _parts_of(content: Raw | list[Part]) -> list[Part]:
    return [text_part(content)] if isinstance(content, Raw) else content
