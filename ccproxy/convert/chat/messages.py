"""
The messages of a conversation, from Messages to Chat Completions.

Rules:
    1. An assistant's tool calls are followed by one tool message each, in the order of the
       calls, before anything else: results come in any order, with text before or after them,
       with system messages in between. What stands beside them waits until they are out.
    2. A call without a result gets one that says so; a result without a call becomes text.
    3. The ids of the calls occur once in the conversation.
    4. Neighbouring assistant messages are one message; neighbouring user messages stay apart.
    5. A message depends only on those before it, so that the beginning of a conversation converts
       to the same bytes in every turn (prompt caches). Only the last message may carry a flag.
    6. Nothing is empty: an empty message is left out.

Theory of operation: `add` takes one message after the other. An assistant's blocks are collected
until somebody else speaks; then the message is written and its calls are open. While calls are
open, whatever comes waits in `_waiting`; the next assistant message or the end settles them.

This runs over every message of every request: what is common takes the short way (a text is
appended, a result that is a string is taken as it is), everything else goes through `parts`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.checkpoint import Point, Start
from ccproxy.convert.chat.content_parts import Part, block_to_parts, content_of, texts_of
from ccproxy.convert.chat.system_prompt import to_system_message
from ccproxy.convert.chat.thinking_history import (
    UNKNOWN_SIGNATURE,
    content_with_thoughts,
    reasoning_fields,
    thought_signatures,
)
from ccproxy.convert.chat.tool_results import NO_RESULT, to_orphan, to_result
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.names import ToolIds, id_literal
from ccproxy.errors import Problem
from ccproxy.protocol.literals import (
    EMPTY,
    is_present,
    join_literals,
    required_string,
    text_of,
    to_arguments,
    with_path,
)
from ccproxy.protocol.messages import Block, Message, blocks_of

ChatMessage = dict[str, Any]
"""A message of the request to the provider; its texts are `Raw` string literals."""

_NOTHING_SAID = Raw(b'"(no content)"')
_ACKNOWLEDGED = Raw(b'"Understood."')

_IDS = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


class Conversation:
    """Converts the messages of one request. Used once: `add` each, then `finish`."""

    def __init__(self, conversion: Conversion, *, system: ChatMessage | None = None) -> None:
        self._conversion = conversion
        self._quirks = conversion.quirks
        self._head: list[ChatMessage] = [system] if system else []
        # What cannot change any more, as JSON; and the messages behind it.
        self._written = bytearray()
        self._messages: list[ChatMessage] = []
        self._points: list[Point] = []
        self._begun_with = 0
        self._ids = ToolIds(self._quirks.tool_ids)
        self._client_ids: list[bytes] = []
        self._sent_ids: list[bytes] = []
        self._names: dict[bytes, str] = {}
        self._said: list[Block] = []
        self._said_at = 0
        # The open calls: the client's id of each, and its tool message, content still to come.
        self._calls: list[tuple[bytes, ChatMessage]] = []
        self._waiting: list[ChatMessage] = []

    def known_ids(self) -> frozenset[str]:
        """Return the client's ids of all calls."""
        return frozenset(_IDS.decode(b"[%b]" % b",".join(self._client_ids)))

    def resume(self, start: Start) -> int:
        """Go on behind *start*; return the index of the message that must be added next."""
        point = start.points[-1]
        self._points = list(start.points)
        self._begun_with = len(self._points)
        self._written += memoryview(start.written)[: point.written]
        self._client_ids += start.client_ids[: point.calls]
        self._sent_ids += start.sent_ids[: point.calls]
        self._ids.know(self._sent_ids)
        for client_id, sent_id in zip(
            self._client_ids[-point.open :], self._sent_ids[-point.open :], strict=True
        ):
            self._open(client_id, Raw(sent_id))
        self._conversion.dropped |= dict.fromkeys(start.dropped[: point.dropped])
        self._conversion.tool_names |= dict(start.tool_names[: point.tool_names])
        return point.messages

    def start(self) -> Start | None:
        """Return what a later turn can go on behind, None if that is not more than was known."""
        if len(self._points) == self._begun_with:
            return None
        return Start(
            points=self._points,
            written=bytes(memoryview(self._written)[: self._points[-1].written]),
            client_ids=self._client_ids,
            sent_ids=self._sent_ids,
            dropped=tuple(self._conversion.dropped),
            tool_names=tuple(self._conversion.tool_names.items()),
        )

    def add(self, message: Message, index: int) -> None:
        """Take the message at *index* of the request."""
        if self._said and message.role != "assistant":
            written = self._write_assistant()
            if written and self._calls:
                self._note(index)
        try:
            blocks = blocks_of(message.content)
            if message.role == "assistant":
                self._said = [*self._said, *blocks] if self._said else blocks
                self._said_at = index
                return
            if message.role in ("system", "developer"):
                first = not (self._head or self._written or self._messages or self._waiting)
                said = to_system_message(blocks, self._conversion, first=first)
            else:
                said = self._user(blocks)
        except Problem as problem:
            raise with_path(problem, "messages", index) from problem
        if said is not None:
            (self._waiting if self._calls else self._messages).append(said)

    def finish(self) -> list[ChatMessage | Raw]:
        """Return the converted messages, several of them in one `Raw`."""
        if self._said:
            self._write_assistant()
        self._settle(self._calls)
        said = (message["role"] != "system" for message in self._messages)
        if not self._written and not any(said):
            self._messages.append({"role": "user", "content": _NOTHING_SAID})
        last = self._messages[-1]
        if last["role"] == "assistant" and self._quirks.prefill != "plain":
            last[self._quirks.prefill] = True
        written = [Raw(self._written)] if self._written else []
        return [*self._head, *written, *self._messages]

    def _note(self, index: int) -> None:
        """Note that the messages up to *index* are written, their last calls being open."""
        if self._written:
            self._written += b","
        self._written += memoryview(_encode(self._messages))[1:-1]
        self._messages = []
        conversion = self._conversion
        point = Point(
            messages=index,
            written=len(self._written),
            calls=len(self._client_ids),
            open=len(self._calls),
            dropped=len(conversion.dropped),
            tool_names=len(conversion.tool_names),
        )
        self._points.append(point)

    # What the user says...

    def _user(self, blocks: list[Block]) -> ChatMessage | None:
        shown: list[Part] = []
        parts: list[Part] = []
        index = 0
        try:
            for index, block in enumerate(blocks):  # noqa: B007 - the error needs it
                if block.type == "tool_result":
                    self._result(block, shown, parts)
                else:
                    parts += block_to_parts(block, self._conversion)
        except Problem as problem:
            raise with_path(problem, "content", index) from problem
        if shown:
            parts = shown + parts
        if not parts:
            return None
        return {"role": "user", "content": content_of(parts, flat=self._quirks.flat_text)}

    def _result(self, block: Block, shown: list[Part], parts: list[Part]) -> None:
        """Put a result into its tool message; what is no text is *shown* after it."""
        client_id = id_literal(block.tool_use_id)
        for open_id, answer in self._calls:
            if open_id == client_id and answer["content"] is None:
                answer["content"], others = to_result(block, self._conversion)
                shown += others
                if self._quirks.cache_control and is_present(block.cache_control):
                    mark = {"cache_control": block.cache_control}
                    answer["content"] = [{"type": "text", "text": answer["content"], **mark}]
                return
        parts += to_orphan(block, self._conversion)

    # ...what the assistant said...

    def _write_assistant(self) -> bool:
        """Write the assistant message that is complete now, unless it says nothing."""
        said, self._said = self._said, []
        before, self._calls = self._calls, []
        try:
            message = self._assistant(said, in_tool_turn=bool(before))
        except Problem as problem:
            raise with_path(problem, "messages", self._said_at, "content") from problem
        if message is None:
            self._calls = before
            return False
        self._settle(before)
        self._messages.append(message)
        return True

    def _assistant(self, said: list[Block], *, in_tool_turn: bool) -> ChatMessage | None:
        texts, calls, thoughts = self._taken_apart(said)
        if not texts and not calls:
            return None
        content = join_literals("\\n\\n", texts) if texts else None
        message: ChatMessage = {"role": "assistant", "content": content}
        required = self._quirks.history_required and (in_tool_turn or bool(calls))
        if thoughts or required:
            self._give_thoughts_back(message, thoughts, required=required)
        if message["content"] is None and not self._quirks.null_content:
            message["content"] = EMPTY
        if calls:
            message["tool_calls"] = calls
            if self._quirks.thought_signatures:
                self._sign(calls, thoughts)
        return message

    def _taken_apart(
        self, said: list[Block]
    ) -> tuple[list[Raw], list[dict[str, Any]], list[Block]]:
        """Return the texts, the converted calls and the thinking of an assistant's blocks."""
        texts: list[Raw] = []
        calls: list[dict[str, Any]] = []
        thoughts: list[Block] = []
        for block in said:
            if block.type == "tool_use":
                calls.append(self._tool_call(block))
            elif block.type == "thinking":
                thoughts.append(block)
            elif block.type == "text":
                texts.append(required_string(block.text, "text"))
            else:
                parts = block_to_parts(block, self._conversion)
                texts += [part["text"] for part in parts if part["type"] == "text"]
        if EMPTY in texts:
            texts = [text for text in texts if text != EMPTY]
        return texts, calls, thoughts

    def _give_thoughts_back(
        self, message: ChatMessage, thoughts: list[Block], *, required: bool
    ) -> None:
        conversion = self._conversion
        message["content"] = content_with_thoughts(message["content"], thoughts, conversion)
        message |= reasoning_fields(thoughts, conversion, required=required and conversion.thinks)

    # ...with its tool calls...

    def _tool_call(self, block: Block) -> dict[str, Any]:
        client_id = id_literal(block.id)
        sent_id = Raw(self._ids.take(client_id))
        self._client_ids.append(client_id)
        self._sent_ids.append(bytes(sent_id))
        self._open(client_id, sent_id)
        said = bytes(block.name)
        name = self._names.get(said)
        if name is None:
            name = self._conversion.sent_name(text_of(required_string(block.name, "name")))
            self._names[said] = name
        function = {"name": name, "arguments": to_arguments(block.input)}
        return {"id": sent_id, "type": "function", "function": function}

    def _open(self, client_id: bytes, sent_id: Raw) -> None:
        self._calls.append((client_id, {"role": "tool", "tool_call_id": sent_id, "content": None}))

    def _sign(self, calls: list[dict[str, Any]], thoughts: list[Block]) -> None:
        """Give the calls, which are the open ones, Gemini's signatures back."""
        known = thought_signatures(thoughts, self._conversion)
        for index, (call, (client_id, _)) in enumerate(zip(calls, self._calls, strict=True)):
            # Only the first call of a step must have one (Gemini 3).
            signature = known.get(text_of(Raw(client_id)))
            if signature or not index:
                signature = signature or UNKNOWN_SIGNATURE
                call["extra_content"] = {"google": {"thought_signature": signature}}

    # ...and how the calls are settled.

    def _settle(self, calls: list[tuple[bytes, ChatMessage]]) -> None:
        """Write the results of *calls*, then what waited for them."""
        if not calls:
            return
        for _, answer in calls:
            if answer["content"] is None:
                answer["content"] = NO_RESULT
            self._messages.append(answer)
        waiting, self._waiting = self._waiting, []
        if waiting and not self._quirks.user_after_tool:
            waiting = _folded_into(self._messages[-1], waiting)
        self._messages += waiting


def _folded_into(answer: ChatMessage, waiting: list[ChatMessage]) -> list[ChatMessage]:
    """
    Move the texts that follow a tool message into it; return what cannot move.

    Mistral refuses a user message there (error 3230), so an image waits for a word of the
    assistant. Text does not: the model would learn from its own empty words.
    """
    texts = texts_of(answer["content"]) or []
    movable = 0
    for message in waiting:
        said = texts_of(message["content"])
        if said is None:
            break
        texts += said
        movable += 1
    answer["content"] = join_literals("\\n\\n", texts)
    rest = waiting[movable:]
    return [{"role": "assistant", "content": _ACKNOWLEDGED}, *rest] if rest else []
