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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from ccproxy.convert.conversion import Conversion, Path
from ccproxy.convert.history import (
    UNKNOWN_SIGNATURE,
    content_with_thoughts,
    reasoning_fields,
    thought_signatures,
)
from ccproxy.convert.names import ToolIds
from ccproxy.convert.parts import Part, block_to_parts, content_of, required_string, texts_of
from ccproxy.convert.results import NO_RESULT, to_orphan, to_result
from ccproxy.convert.system import to_system_message
from ccproxy.protocol.literals import EMPTY, is_given, is_object, joined, quoted, text_of
from ccproxy.protocol.messages import Block, Message, blocks_of

ChatMessage = dict[str, Any]
"""A message of the request to the provider; its texts are `Raw` string literals."""

_NO_INPUT = "{}"
_NOTHING_SAID = Raw(b'"(no content)"')
_ACKNOWLEDGED = Raw(b'"Understood."')


@dataclass(slots=True)
class _Call:
    """A tool call that waits for its result."""

    client_id: str
    sent_id: str
    result: Raw | list[Part] | None = None


class Conversation:
    """Converts the messages of one request. Used once: `add` each, then `finish`."""

    def __init__(self, conversion: Conversion, *, system: ChatMessage | None = None) -> None:
        self.known_ids: set[str] = set()
        """The client's ids of all calls."""
        self._conversion = conversion
        self._quirks = conversion.quirks
        self._messages: list[ChatMessage] = [system] if system else []
        self._ids = ToolIds(self._quirks.tool_ids)
        self._said: list[tuple[Block, Path]] = []
        self._calls: list[_Call] = []
        self._waiting: list[ChatMessage] = []

    def add(self, message: Message, index: int) -> None:
        """Take the message at *index* of the request."""
        path: Path = ("messages", index, "content")
        blocks = blocks_of(message.content, *path)
        if message.role == "assistant":
            self._said += [(block, (*path, at)) for at, block in enumerate(blocks)]
            return
        self._write_assistant()
        if message.role in ("system", "developer"):
            first = not self._messages and not self._waiting
            said = to_system_message(blocks, self._conversion, first=first)
            self._put(said)
        else:
            self._put(self._user(blocks, path))

    def finish(self) -> list[ChatMessage]:
        """Return the converted messages."""
        self._write_assistant()
        self._settle()
        if all(message["role"] == "system" for message in self._messages):
            self._messages.append({"role": "user", "content": _NOTHING_SAID})
        last = self._messages[-1]
        if last["role"] == "assistant" and self._quirks.prefill != "plain":
            last[self._quirks.prefill] = True
        return self._messages

    # What the user and the system say...

    def _put(self, message: ChatMessage | None) -> None:
        """Append *message*, or let it wait while tool calls are open."""
        if message is not None:
            (self._waiting if self._calls else self._messages).append(message)

    def _user(self, blocks: list[Block], path: Path) -> ChatMessage | None:
        shown: list[Part] = []
        parts: list[Part] = []
        for index, block in enumerate(blocks):
            if block.type != "tool_result":
                parts += block_to_parts(block, self._conversion, (*path, index))
            elif call := self._open_call(block):
                call.result, others = to_result(block, self._conversion, (*path, index))
                shown += others
                self._keep_cache_mark(call, block)
            else:
                parts += to_orphan(block, self._conversion, (*path, index))
        parts = shown + parts
        if not parts:
            return None
        return {"role": "user", "content": content_of(parts, flat=self._quirks.flat_text)}

    def _open_call(self, block: Block) -> _Call | None:
        client_id = text_of(block.tool_use_id)
        for call in self._calls:
            if call.client_id == client_id and call.result is None:
                return call
        return None

    def _keep_cache_mark(self, call: _Call, block: Block) -> None:
        if self._quirks.cache_control and is_given(block.cache_control):
            mark = {"cache_control": block.cache_control}
            call.result = [{"type": "text", "text": call.result, **mark}]

    # ...what the assistant said...

    def _write_assistant(self) -> None:
        """Write the assistant message that is complete now."""
        if not self._said:
            return
        said, self._said = self._said, []
        in_tool_turn = bool(self._calls)
        self._settle()
        message = self._assistant(said, in_tool_turn=in_tool_turn)
        if message is not None:
            self._messages.append(message)

    def _assistant(
        self, said: list[tuple[Block, Path]], *, in_tool_turn: bool
    ) -> ChatMessage | None:
        conversion = self._conversion
        thoughts = [block for block, _ in said if block.type == "thinking"]
        uses = [(block, path) for block, path in said if block.type == "tool_use"]
        texts = self._texts(said)
        if not texts and not uses:
            return None
        content = joined("\\n\\n", texts) if texts else None
        message: ChatMessage = {
            "role": "assistant",
            "content": content_with_thoughts(content, thoughts, conversion),
        }
        if message["content"] is None and not self._quirks.null_content:
            message["content"] = EMPTY
        required = (
            self._quirks.history_required and conversion.thinks and (in_tool_turn or bool(uses))
        )
        message |= reasoning_fields(thoughts, conversion, required=required)
        if uses:
            message["tool_calls"] = self._tool_calls(uses, thoughts)
        return message

    def _texts(self, said: list[tuple[Block, Path]]) -> list[Raw]:
        texts: list[Raw] = []
        for block, path in said:
            if block.type in ("tool_use", "thinking"):
                continue
            for part in block_to_parts(block, self._conversion, path):
                texts += texts_of([part]) or ()
        return texts

    # ...with its tool calls...

    def _tool_calls(
        self, uses: list[tuple[Block, Path]], thoughts: list[Block]
    ) -> list[dict[str, Any]]:
        calls = [self._tool_call(block, path) for block, path in uses]
        if self._quirks.thought_signatures:
            known = thought_signatures(thoughts, self._conversion)
            opened = self._calls[-len(calls) :]
            for index, (call, use) in enumerate(zip(calls, opened, strict=True)):
                # Only the first call of a step must have one (Gemini 3).
                signature = known.get(use.client_id) or (UNKNOWN_SIGNATURE if not index else None)
                if signature:
                    call["extra_content"] = {"google": {"thought_signature": signature}}
        return calls

    def _tool_call(self, block: Block, path: Path) -> dict[str, Any]:
        name = self._conversion.sent_name(text_of(required_string(block.name, *path, "name")))
        client_id = text_of(block.id)
        self.known_ids.add(client_id)
        call = _Call(client_id, self._ids.take(client_id))
        self._calls.append(call)
        arguments = quoted(block.input) if is_object(block.input) else _NO_INPUT
        function = {"name": name, "arguments": arguments}
        return {"id": call.sent_id, "type": "function", "function": function}

    # ...and how the calls are settled.

    def _settle(self) -> None:
        """Write the results of the open calls, then what waited for them."""
        if not self._calls:
            return
        for call in self._calls:
            content = NO_RESULT if call.result is None else call.result
            answer = {"role": "tool", "tool_call_id": call.sent_id, "content": content}
            self._messages.append(answer)
        waiting, self._waiting, self._calls = self._waiting, [], []
        if not self._quirks.user_after_tool:
            waiting = _folded_into(self._messages[-1], waiting)
        self._messages += waiting


def _folded_into(answer: ChatMessage, waiting: list[ChatMessage]) -> list[ChatMessage]:
    """
    Move the texts that follow a tool message into it; return what cannot move.

    Mistral refuses a user message there (error 3230), so an image waits for a word of the
    assistant. Text does not: the model would learn from its own empty words.
    """
    texts = [answer["content"]]
    for index, message in enumerate(waiting):
        said = texts_of(message["content"])
        if said is None:
            bridge = {"role": "assistant", "content": _ACKNOWLEDGED}
            answer["content"] = joined("\\n\\n", texts)
            return [bridge, *waiting[index:]]
        texts += said
    answer["content"] = joined("\\n\\n", texts)
    return []
