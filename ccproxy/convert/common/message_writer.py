"""
Writer of the events of one Messages stream, in the only valid order.

Rules (Messages API, "Streaming messages"):

* message_start comes first, message_delta and message_stop last, each once.
* Blocks are numbered from 0 without gaps, and one is open at a time.
* A block opens with its first visible character. White space before it is held back; white space
  alone makes no block. A thinking block ends with its signature. The arguments of a call are an
  object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ccproxy.convert.chat.tool_calls import ToolCall
from ccproxy.convert.common.held_text import check_held
from ccproxy.convert.common.thinking import (
    HIDDEN_TEXT,
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
    """The properties of a request that the conversion of its answer needs."""

    message_id: str
    model: str
    """The model name that the client requested."""
    target: Target
    signer: Signer
    tool_names: Mapping[str, str] = {}
    """The sent name -> the client's name, for renamed tools."""
    stop_sequences: tuple[str, ...] = ()
    hide_thinking: bool = False
    """True: reasoning is left out."""
    omit_thinking: bool = False
    """True: thinking blocks have no text (`display: "omitted"`); the signatures carry the text."""
    single_call: bool = False
    """True: the client accepts only one tool call (`disable_parallel_tool_use`)."""
    known_ids: frozenset[str] = frozenset()
    """IDs of the tool calls in the conversation."""
    input_estimate: int = 0
    """Estimated input tokens, for message_start."""


def new_message(context: AnswerContext) -> dict[str, Any]:
    """Return the message for message_start, without content and with estimated usage."""
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
    """Writes one message; `take` returns the events written since its last call."""

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._out: list[Event] = []
        self.block: Literal["thinking", "text", "tool_use"] | None = None
        """Type of the open block."""
        self.index = -1
        """The number of the latest block."""
        self.call: ToolCall | None = None
        """The call of the open block."""
        self.has_tools = False
        self.chars = 0
        """Characters of the model's output, including hidden ones."""
        self._held = 0
        """Number of characters held so far: blank or hidden text, and reasoning details."""
        self._blank: dict[TextKind, list[str]] = {"thinking": [], "text": []}
        self._omitted: list[str] = []  # hidden text of the open thinking block
        self._details: list[dict[str, Any]] = []
        self._signatures: dict[str, str] = {}
        self._carried: dict[str, Any] = {}

    def take(self) -> list[Event]:
        """Return the new events."""
        out, self._out = self._out, []
        return out

    def start(self) -> None:
        """Start the message."""
        self._out.append({"type": "message_start", "message": new_message(self._context)})

    def end(self, stop_reason: str, stop_sequence: str | None, usage: dict[str, Any]) -> None:
        """End the message."""
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        self._out.append({"type": "message_delta", "delta": delta, "usage": usage})
        self._out.append({"type": "message_stop"})

    # Blocks

    def write(self, kind: TextKind, text: str) -> None:
        """Add *text* to the block of this *kind*; if none is open, open one for visible text."""
        if kind == "thinking" and self._context.hide_thinking:
            self.chars += len(text)
            return
        if self.block != kind:
            blank = self._blank[kind]
            blank.append(text)
            if not text or text.isspace():
                self._hold(text)
                return
            text = "".join(blank)
            blank.clear()
            self._open_text(kind)
        self._send(text)

    def open_call(self, call: ToolCall, call_id: str) -> None:
        """Open the block of *call*, after a thinking block for any pending signature data."""
        call.id = call_id
        self.queue_signature(call)
        pending = self._signatures or self._carried or any(map(has_content, self._details))
        if pending and self.block != "thinking":
            self._open_text("thinking")
        name = self._context.tool_names.get(call.name, call.name)
        self._open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
        self.block = "tool_use"
        self.call = call
        self.has_tools = True
        self._send(call.take())

    def continue_call(self) -> None:
        """Send the newly arrived arguments of the open call."""
        if self.call is not None:
            self._send(self.call.take())

    def end_block(self) -> None:
        """Close the open block, if any."""
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
        """Write a whole block of another type, such as a server tool's call or result."""
        self._open(block)
        if input_json:
            self._add_delta({"type": "input_json_delta", "partial_json": input_json})
        self._out.append({"type": "content_block_stop", "index": self.index})

    def _open_text(self, kind: TextKind) -> None:
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
        if self.block == "thinking" and self._context.omit_thinking:
            self._omitted.append(text)
            self._hold(text)
        elif self.block == "text":
            self._add_delta({"type": "text_delta", "text": text})
        elif self.block == "thinking":
            self._add_delta({"type": "thinking_delta", "thinking": text})
        else:
            self._add_delta({"type": "input_json_delta", "partial_json": text})

    def _hold(self, *texts: str) -> None:
        self._held += sum(map(len, texts))
        check_held(self._held)

    def _add_delta(self, delta: Event) -> None:
        self._out.append({"type": "content_block_delta", "index": self.index, "delta": delta})

    # Data that signatures carry

    def queue_details(self, details: list[dict[str, Any]]) -> None:
        """Queue reasoning *details* for the next signature."""
        if not self._context.hide_thinking:
            for detail in details:
                merge_detail(self._details, detail)
                self._hold(*(value for value in detail.values() if isinstance(value, str)))

    def queue_signature(self, call: ToolCall) -> None:
        """Queue the thought signature of *call*; its id must be set."""
        if call.thought_signature is not None and not call.is_signed:
            self._signatures[call.id] = call.thought_signature
            call.is_signed = True

    def carry(self, name: str, value: object) -> None:
        """Queue *value* for the signature of the next thinking block that closes."""
        if not self._context.hide_thinking:
            self._carried[name] = value

    def close_thinking(self) -> None:
        """Close the thinking block; write an empty one if data is queued."""
        if self._carried and self.block != "thinking":
            self._open_text("thinking")
        if self.block == "thinking":
            self.end_block()

    def flush_pending(self) -> None:
        """
        Write an empty thinking block for data that arrived after its own block was closed.

        Its position after the call is unusual, but without the data the provider refuses the next
        request, and Claude Code sends back an empty signed thinking block from any position
        (measured with 2.1.329). An answer without calls needs no such block.
        """
        self.end_block()
        late = self._carried or any(map(is_opaque, self._details))
        if self._signatures or (self.has_tools and late):
            self._open_text("thinking")
            self.end_block()

    def _sign(self) -> str:
        carried, self._carried = self._carried, {}
        if self._signatures:
            carried[THOUGHT_SIGNATURES] = self._signatures
        if self._details:
            carried[REASONING_DETAILS] = pack_details(self._details)
        if self._omitted:
            carried[HIDDEN_TEXT] = "".join(self._omitted)
        self._signatures, self._details, self._omitted = {}, [], []
        target = self._context.target
        origin = Origin(provider=target.provider, model=target.model, carried=carried)
        return self._context.signer.mint(origin)
