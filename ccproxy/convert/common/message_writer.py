"""
The events of one Messages stream, written in the only order that there is.

Rules (Messages API, "Streaming messages"):

* message_start first, message_delta and message_stop last, each once.
* Blocks are numbered from 0 without gaps, and one is open at a time.
* A block opens with its first visible character. White space before it waits; white space alone is
  no block. A signature closes every thinking block, and arguments that make an object every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ccproxy.convert.chat.tool_calls import ToolCall
from ccproxy.convert.common.thinking import (
    REASONING_DETAILS,
    THOUGHT_SIGNATURES,
    Origin,
    Signer,
    has_content,
    is_opaque,
    merge_detail,
    pack_details,
)
from ccproxy.providers.quirks import Target

Event = dict[str, Any]
"""An event of the Messages stream; its "type" is its name."""
TextKind = Literal["thinking", "text"]


class AnswerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the conversion of an answer must know of its request."""

    message_id: str
    model: str
    """The name that the client asked for."""
    target: Target
    signer: Signer
    tool_names: Mapping[str, str] = {}
    """Name that was sent -> the client's name, where they differ."""
    stop_sequences: tuple[str, ...] = ()
    hide_thinking: bool = False
    known_ids: frozenset[str] = frozenset()
    """Tool call ids that the conversation has already."""
    input_estimate: int = 0
    """Tokens of the request, for message_start."""


def new_message(context: AnswerContext) -> dict[str, Any]:
    """Return a message as it begins: nothing is said yet, and the numbers are estimates."""
    return {
        "id": context.message_id,
        "type": "message",
        "role": "assistant",
        "model": context.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": context.input_estimate,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        },
    }


class MessageWriter:
    """Writes one message; `take` hands out the events written since the last time."""

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._out: list[Event] = []
        self.block: Literal["thinking", "text", "tool_use"] | None = None
        """What is open."""
        self.index = -1
        """The number of the latest block."""
        self.call: ToolCall | None = None
        """The call whose block is open."""
        self.has_tools = False
        self.chars = 0
        """Length of all that the model said, hidden or not."""
        self._blank = {"thinking": "", "text": ""}
        self._details: list[dict[str, Any]] = []
        self._signatures: dict[str, str] = {}
        self._carried: dict[str, Any] = {}

    def take(self) -> list[Event]:
        """Return the new events."""
        out, self._out = self._out, []
        return out

    def start(self) -> None:
        """Begin the message."""
        self._out.append({"type": "message_start", "message": new_message(self._context)})

    def end(self, stop_reason: str, stop_sequence: str | None, usage: dict[str, Any]) -> None:
        """End the message."""
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        self._out.append({"type": "message_delta", "delta": delta, "usage": usage})
        self._out.append({"type": "message_stop"})

    # Blocks...

    def write(self, kind: TextKind, text: str) -> None:
        """Add *text* to the block of this *kind*; opens it if there is something to see."""
        if kind == "thinking" and self._context.hide_thinking:
            self.chars += len(text)
            return
        if self.block != kind:
            text = self._blank[kind] + text
            is_blank = not text.strip()
            self._blank[kind] = text if is_blank else ""
            if is_blank:
                return
            self._open_spoken(kind)
        self._send(text)

    def open_call(self, call: ToolCall, call_id: str) -> None:
        """Open the block of *call*, behind whatever must go back with it."""
        call.id = call_id
        self.queue_signature(call)
        owed = self._signatures or any(map(has_content, self._details))
        if owed and self.block != "thinking":
            self._open_spoken("thinking")
        name = self._context.tool_names.get(call.name, call.name)
        self._open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
        self.block = "tool_use"
        self.call = call
        self.has_tools = True
        self._send(call.take())

    def continue_call(self) -> None:
        """Send on what has come of the open call."""
        if self.call is not None:
            self._send(self.call.take())

    def end_block(self) -> None:
        """Close the open block, if there is one."""
        if self.block is None:
            return
        if self.call is not None:
            self._send(self.call.rest())
            self.call.is_closed = True
            self.call = None
        elif self.block == "thinking":
            self._add_delta({"type": "signature_delta", "signature": self._sign()})
        self._out.append({"type": "content_block_stop", "index": self.index})
        self.block = None

    def add_block(self, block: Event, *, input_json: str = "") -> None:
        """Write a whole block of a kind of its own, such as a server tool's call or result."""
        self._open(block)
        if input_json:
            self._add_delta({"type": "input_json_delta", "partial_json": input_json})
        self._out.append({"type": "content_block_stop", "index": self.index})

    def _open_spoken(self, kind: TextKind) -> None:
        if kind == "thinking":
            self._open({"type": "thinking", "thinking": "", "signature": ""})
        else:
            self._open({"type": "text", "text": ""})
        self.block = kind

    def _open(self, block: Event) -> None:
        self.end_block()
        self.index += 1
        self._out.append(
            {"type": "content_block_start", "index": self.index, "content_block": block}
        )

    def _send(self, text: str) -> None:
        if not text:
            return
        self.chars += len(text)
        if self.block == "text":
            self._add_delta({"type": "text_delta", "text": text})
        elif self.block == "thinking":
            self._add_delta({"type": "thinking_delta", "thinking": text})
        else:
            self._add_delta({"type": "input_json_delta", "partial_json": text})

    def _add_delta(self, delta: Event) -> None:
        self._out.append({"type": "content_block_delta", "index": self.index, "delta": delta})

    # ...and what their signatures carry.

    def queue_details(self, details: list[dict[str, Any]]) -> None:
        """Carry reasoning *details* with the next signature."""
        if not self._context.hide_thinking:
            for detail in details:
                merge_detail(self._details, detail)

    def queue_signature(self, call: ToolCall) -> None:
        """Carry the thought signature of *call*, whose id is known by now."""
        if call.thought_signature is not None and not call.is_signed:
            self._signatures[call.id] = call.thought_signature
            call.is_signed = True

    def carry(self, name: str, value: object) -> None:
        """Carry *value* with the signature of the next thinking block that closes."""
        if not self._context.hide_thinking:
            self._carried[name] = value

    def close_thinking(self) -> None:
        """Close the thinking block; write an empty one if something must be carried."""
        if self._carried and self.block != "thinking":
            self._open_spoken("thinking")
        if self.block == "thinking":
            self.end_block()

    def flush_pending(self) -> None:
        """
        Carry what must go back but came when the block that it belongs to was open already.

        Behind the call is the wrong place, but without it the provider refuses to go on, and
        Claude Code returns an empty signed thinking block wherever it stands (measured with
        2.1.329). An answer without calls owes nothing.
        """
        self.end_block()
        if self._signatures or (self.has_tools and any(map(is_opaque, self._details))):
            self._open_spoken("thinking")
            self.end_block()

    def _sign(self) -> str:
        carried, self._carried = self._carried, {}
        if self._signatures:
            carried[THOUGHT_SIGNATURES] = self._signatures
        if self._details:
            carried[REASONING_DETAILS] = pack_details(self._details)
        self._signatures, self._details = {}, []
        target = self._context.target
        origin = Origin(provider=target.provider, model=target.model, carried=carried)
        return self._context.signer.mint(origin)
