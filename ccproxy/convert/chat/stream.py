"""
Conversion of a Chat Completions answer to a Messages stream: the state machine.

Each chunk contains pieces of reasoning, text and tool calls; each piece becomes a delta of a block.
A whole answer goes through the same machine as one chunk (`convert/chat/answer.py` folds the
events).

Rules:

* A tool block opens when its id and name are complete and stays open until its arguments are
  complete: clients run a tool when its block closes. Other output is queued until then.
* Arguments are passed on as they arrive. Claude Code reports invalid JSON to the model, which then
  has another turn; an error would only cause the same request and the same answer again.
* An answer ends with `[DONE]` or the end of the stream, and has a finish_reason. Output after a
  finish_reason still belongs to the answer: some servers send one with every chunk.
* With neither a finish_reason nor `[DONE]`, the answer is incomplete and `close` raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ccproxy.convert.chat.text_calls import TextCalls
from ccproxy.convert.chat.think_tags import ThinkTags
from ccproxy.convert.chat.tool_calls import ToolCall, ToolCalls
from ccproxy.convert.common.message_writer import AnswerContext, Event, MessageWriter, TextKind
from ccproxy.convert.common.stop_sequences import StopCutter
from ccproxy.convert.common.thinking import REASONING_OPAQUE, GrowingText, ReasoningReader
from ccproxy.convert.common.usage import is_usage, to_usage
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol.chat import Choice, Chunk, Delta, ToolCallDelta
from ccproxy.protocol.lenient_json import objects, string

STOP_REASON: Mapping[str, str] = {
    "stop": "end_turn",
    "eos": "end_turn",
    "end_turn": "end_turn",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "tool_use": "tool_use",
    "content_filter": "refusal",
    "content-filter": "refusal",
    "sensitive": "refusal",  # GLM
    "refusal": "refusal",
    "safety": "refusal",  # Gemini's values, as gateways relay them
    "recitation": "refusal",
    "prohibited_content": "refusal",
    "model_length": "model_context_window_exceeded",  # Mistral
    "model_context_window_exceeded": "model_context_window_exceeded",  # GLM
}
"""finish_reason in lower case -> stop_reason; any other value means a normal end."""

CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded"})
"""Stop reasons that are kept even with tool calls, because the last call may be incomplete."""

FAILED: Mapping[str, str] = {
    "error": "api_error",  # OpenRouter
    "network_error": "overloaded_error",  # GLM
    "insufficient_system_resource": "overloaded_error",  # DeepSeek
}
"""finish_reason (in lower case) of a failed answer -> error type."""


class ChatToMessageStream:
    """
    Converts one answer.

    Feed it every chunk, call `done` at `[DONE]`, then close it; feeding and closing return the
    events to send. Created per request, used once, not thread-safe.
    """

    def __init__(self, context: AnswerContext) -> None:
        quirks = context.target.quirks
        self._context = context
        self._writer = MessageWriter(context)
        self._has_started = False
        self._has_choice = False
        self._has_ended = False
        self._reasoning = ReasoningReader()
        self._tags = ThinkTags() if quirks.think_tags else None
        self._tagged = _TaggedReasoning()
        self._snapshots = _Snapshots() if quirks.reasoning_split else None
        self._text_calls = TextCalls() if quirks.text_calls else None
        self._stops = StopCutter(context.stop_sequences)
        self._calls = ToolCalls(context.message_id, context.known_ids)
        self._first_call: ToolCall | None = None
        self._queue: deque[ToolCall | tuple[TextKind, str]] = deque()
        self._has_deltas = False
        self._unread = ""
        """The type of the last content part that was skipped because its type is not supported."""
        self._is_finished = False  # there was a finish_reason, and no output since
        self._done = False
        self._stop_reason = ""
        self._server_stop: str | None = None  # the stop sequence that the server reports
        self._reported: Mapping[str, Any] | None = None

    @property
    def stopped(self) -> bool:
        """True: a stop sequence ended the answer; the rest of it is not needed."""
        return self._stops.matched is not None

    @property
    def complete(self) -> bool:
        """True: the answer may end here, and `close` will not raise."""
        return self._is_finished or self.stopped or self._has_ended

    @property
    def steady_block(self) -> int | None:
        """
        The index of the open block if its deltas change no other state.

        None while text is held back, queued or searched.
        """
        writer = self._writer
        if writer.block is None or self._queue or self._is_finished:
            return None
        if writer.block == "text" and (self._stops.is_active or self._text_calls is not None):
            return None
        if writer.block == "thinking" and self._context.omit_thinking:
            return None
        if self._tags is not None and not (writer.block == "thinking" and self._tags.is_untouched):
            return None
        if self._snapshots is not None and not self._snapshots.are_excluded:
            return None
        return writer.index

    @property
    def usage(self) -> dict[str, Any]:
        """The usage as the Messages API defines it; missing numbers are estimated."""
        return to_usage(
            self._reported,
            self._context.target.quirks,
            input_estimate=self._context.input_estimate,
            chars=self._writer.chars,
        )

    def feed(self, chunk: Chunk) -> list[Event]:
        """
        Process one chunk and return the resulting events.

        Raises:
            Problem: If the provider reports that the answer failed.
        """
        if not self._has_started:
            self._has_started = True
            self._writer.start()
        if chunk.usage is not None:
            self._read_usage(chunk.usage)
        if isinstance(chunk.x_groq, dict):
            self._read_usage(chunk.x_groq.get("usage"))
        for position, choice in enumerate(chunk.choices or ()):
            self._take_choice(choice, position)
        return self._writer.take()

    def absorb(self, texts: list[str]) -> None:
        """Record deltas of the steady block that were sent to the client directly."""
        size = sum(map(len, texts))
        self._writer.chars += size
        if self._writer.call is not None:
            self._writer.call.absorb(texts, size)

    def done(self) -> None:
        """Record `[DONE]`: the provider considers the answer complete."""
        self._done = True

    def close(self) -> list[Event]:
        """
        Return the events that end the message, or none if it has already ended.

        Raises:
            Problem: api_error if the answer is empty, incomplete or ends in the middle of a tool
            call.
        """
        if self._has_ended:
            return []
        if not self._has_choice:
            raise BadAnswer("The provider's answer is empty")
        if not self.complete and not self._done:
            raise BadAnswer("The provider's answer was cut off before its end")
        self._flush_text()
        for call in self._text_calls.calls() if self._text_calls is not None else ():
            self._take_call(call, 0, is_whole=True)
        self._drain(force=True)
        if self._writer.call is not None:
            self._check_whole(self._writer.call)
        self._writer.flush_pending()
        if self._unread and self._writer.index < 0 and not self._writer.chars:
            text = (
                f"The provider's answer contains only parts of the unsupported type {self._unread}"
            )
            raise BadAnswer(text)
        stop_reason = self._final_stop_reason()
        matched = self._stops.matched or self._server_stop
        sequence = matched if stop_reason == "stop_sequence" else None
        self._writer.end(stop_reason, sequence, self.usage)
        self._has_ended = True
        return self._writer.take()

    # Reading chunks

    def _read_usage(self, usage: object) -> None:
        if isinstance(usage, dict) and is_usage(usage):
            self._reported = usage  # the last one counts: some servers report it in every chunk

    def _take_choice(self, choice: Choice, position: int) -> None:
        self._has_choice = True
        index = choice.index if isinstance(choice.index, int) else position
        if choice.message is not None:
            index = position  # Copilot gives both halves of a whole answer index 0
        if choice.usage is not None:
            self._read_usage(choice.usage)
        if self._stops.matched is not None or self._has_ended:
            return
        if choice.delta is not None:
            self._has_deltas = True
            self._take_delta(choice.delta, index, is_whole=False)
        elif choice.message is not None and not self._has_deltas:
            # Not after deltas: MiniMax repeats the whole message at the end of a stream.
            self._take_delta(choice.message, index, is_whole=True)
        if isinstance(choice.finish_reason, str) and choice.finish_reason:
            self._take_finish(choice, choice.finish_reason)

    def _take_delta(self, delta: Delta, choice: int, *, is_whole: bool) -> None:
        if self._is_finished and _has_output(delta):
            self._is_finished = False
        self._take_reasoning(delta)
        if isinstance(delta.content, str):
            self._take_text(delta.content, is_whole=is_whole)
        elif delta.content:
            self._take_parts(delta.content)
        if isinstance(delta.refusal, str):
            self._take_text(delta.refusal)
        if delta.function_call is not None:
            self._take_call(ToolCallDelta(function=delta.function_call), choice, is_whole=is_whole)
        for call in delta.tool_calls or ():
            self._take_call(call, choice, is_whole=is_whole)

    def _take_reasoning(self, delta: Delta) -> None:
        plain = (delta.reasoning_content, delta.reasoning, delta.reasoning_text)
        details, blocks = delta.reasoning_details, delta.thinking_blocks
        opaque = delta.reasoning_opaque
        if plain == _NOTHING and details is None and blocks is None and opaque is None:
            return
        entries = objects(details)
        if self._snapshots is not None:
            entries = [self._snapshots.detail(entry) for entry in entries]
            plain = tuple(self._snapshots.text("reasoning", text) for text in plain)
        if entries:
            self._writer.queue_details(entries)
        if opaque:
            self._writer.carry(REASONING_OPAQUE, opaque)
        if blocks is not None and not entries:
            entries = objects(blocks)
        text = self._reasoning.read(plain, entries)
        if text and not (self._tagged.has_text and self._tagged.repeats(text)):
            self._emit("thinking", text)

    def _take_text(self, text: str, *, is_whole: bool = False) -> None:
        if self._snapshots is not None:
            text = self._snapshots.text("content", text)
        if self._tags is None:
            self._emit_text(text)
            return
        for kind, piece in self._tags.feed(text, is_whole=is_whole):
            self._take_tagged(kind, piece)
        if self._tags.is_decided:
            self._tags = None
            self._tagged.end()

    def _take_tagged(self, kind: TextKind, text: str) -> None:
        if kind == "text":
            self._emit_text(text)
        elif self._tagged.has_text or not self._reasoning.plain_seen:  # else it is a repetition
            self._tagged.add(text)
            self._emit("thinking", text)

    def _take_parts(self, parts: object) -> None:
        """Process a list of content parts: text, refusals, and Mistral's thinking."""
        if not isinstance(parts, list):
            raise BadAnswer("The provider sent content that is neither text nor a list of parts")
        for part in parts:
            if isinstance(part, str):
                self._take_text(part)
            elif isinstance(part, dict):
                self._take_part(part)

    def _take_part(self, part: Mapping[str, Any]) -> None:
        thinking = part.get("thinking")
        if isinstance(thinking, list):
            for inner in objects(thinking):
                self._emit("thinking", string(inner.get("text")))
        elif isinstance(thinking, str):
            self._emit("thinking", thinking)
        elif isinstance(part.get("refusal"), str):
            self._take_text(part["refusal"])
        elif isinstance(part.get("text"), str):
            self._take_text(part["text"])
        else:
            self._unread = str(part.get("type") or "none")[:_MAX_TYPE]

    def _take_call(self, delta: ToolCallDelta, choice: int, *, is_whole: bool) -> None:
        if self.stopped:
            return
        call, is_new = self._calls.find(delta, choice, is_whole=is_whole)
        self._first_call = self._first_call or call
        if self._context.single_call and call is not self._first_call:
            return
        if is_new:
            self._flush_text()
            self._queue.append(call)
        elif call.id:
            self._writer.queue_signature(call)
        if call is self._writer.call:
            self._writer.continue_call()
        if self._queue:
            self._drain()

    def _take_finish(self, choice: Choice, reason: str) -> None:
        reason_code = reason.lower()
        if kind := FAILED.get(reason_code):
            raise Problem(kind, f"The provider aborted the answer (finish_reason {reason})")
        stop_reason = STOP_REASON.get(reason_code, "end_turn")
        if stop_reason != "end_turn" or not self._is_finished:
            self._stop_reason = stop_reason
        self._is_finished = True
        for stop in (choice.stop_reason, choice.matched_stop):
            if isinstance(stop, str) and stop in self._context.stop_sequences:
                self._server_stop = stop

    # Writing blocks

    def _emit_text(self, text: str) -> None:
        """Write *text* up to a stop sequence, or up to a possible beginning of one."""
        if self._text_calls is not None:
            text = self._text_calls.feed(text)
        self._emit("text", self._stops.feed(text))

    def _flush_text(self) -> None:
        """Write the text that was held back."""
        if self._tags is not None:
            for kind, piece in self._tags.flush():
                self._take_tagged(kind, piece)
            if self._tags.is_decided:
                self._tags = None
        if self._text_calls is not None:
            self._emit("text", self._stops.feed(self._text_calls.flush()))
        self._emit("text", self._stops.flush())

    def _emit(self, kind: TextKind, text: str) -> None:
        if not text:
            return
        if self._writer.call is None and not self._queue:
            self._writer.write(kind, text)
        else:
            self._queue.append((kind, text))
            self._drain()

    def _drain(self, *, force: bool = False) -> None:
        """
        Write the queued items up to the first incomplete call.

        *force* means that no more data will arrive.
        """
        while self._queue:
            if not self._end_call(force=force):
                return
            item = self._queue[0]
            if not isinstance(item, ToolCall):
                self._writer.write(*item)
            elif not self._open_call(item, force=force):
                return
            self._queue.popleft()

    def _open_call(self, call: ToolCall, *, force: bool) -> bool:
        """
        Open the block of *call*, unless it repeats an earlier call.

        Return False if *call* is still incomplete.
        """
        if call.twins:
            if not call.is_complete and not force:
                return False
            if call.is_repetition:
                return True
        if call.is_named or (force and call.name):
            self._writer.open_call(call, self._calls.claim_id(call.provider_id))
        elif not force:
            return False
        elif call.has_arguments:
            raise BadAnswer("The provider sent a tool call without a name")
        return True

    def _end_call(self, *, force: bool) -> bool:
        """Close the open call if it is complete; return False if it is not."""
        call = self._writer.call
        if call is None:
            return True
        if force:
            self._check_whole(call)
        elif not call.is_settled:
            return False
        self._writer.end_block()
        return True

    def _check_whole(self, call: ToolCall) -> None:
        """Raise BadAnswer if *call* is incomplete and no finish_reason explains why."""
        is_cut = self._has_deltas and not self.complete
        if is_cut and call.has_arguments and not call.is_complete:
            raise BadAnswer("The provider's answer was cut off in the middle of a tool call")

    def _final_stop_reason(self) -> str:
        reason = self._stop_reason or "end_turn"
        if self.stopped:
            return "stop_sequence"
        if self._writer.has_tools:
            return reason if reason in CUT_SHORT else "tool_use"
        if self._server_stop is not None:
            return "stop_sequence"
        return "end_turn" if reason == "tool_use" else reason


class _TaggedReasoning:
    """Reasoning between think tags, stored so that its copy in a field is recognized (MiniMax)."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._text = ""
        self._position = 0
        self._misses = 0
        self._is_open = False

    @property
    def has_text(self) -> bool:
        """True: the tags were the first source of reasoning."""
        return bool(self._pieces)

    def add(self, text: str) -> None:
        """Add a piece."""
        self._is_open = True
        self._pieces.append(text)

    def end(self) -> None:
        """Record that the closing tag was read."""
        self._is_open = False
        self._text = "".join(self._pieces)

    def repeats(self, text: str) -> bool:
        """Return True if *text* is the next part of the copy."""
        if self._is_open or not self._text:
            return self._is_open
        copy = text.strip()
        start = self._text.find(copy, self._position)
        if start >= 0:
            self._position = start + len(copy)
            return True
        self._misses += 1
        if self._misses == _MAX_MISSES:
            self._text = ""
        return False


class _Snapshots:
    """Reduces growing snapshots to their new parts, for each text of the answer."""

    def __init__(self) -> None:
        self._texts: dict[object, GrowingText] = {}

    @property
    def are_excluded(self) -> bool:
        """True: every text so far has arrived in pieces, none as snapshots."""
        return all(text.is_plain for text in self._texts.values())

    def text(self, name: str, text: Any) -> Any:  # noqa: ANN401 - fields have any type
        """Return the new part of *text*, which is the value of the field *name*."""
        if not isinstance(text, str) or not text:
            return text
        return self._texts.setdefault(name, GrowingText()).new_part(text)

    def detail(self, detail: dict[str, Any]) -> dict[str, Any]:
        """Return the reasoning detail with only the new part of its text."""
        text = detail.get("text")
        if not isinstance(text, str) or not text:
            return detail
        key = tuple(str(detail.get(name)) for name in ("type", "id", "index"))
        return {**detail, "text": self._texts.setdefault(key, GrowingText()).new_part(text)}


_MAX_TYPE = 40
_MAX_MISSES = 16
"""Number of strings missing from the tagged reasoning after which the search for a copy stops."""
_NOTHING = (None, None, None)


def _has_output(delta: Delta) -> bool:
    text = delta.content or delta.reasoning_content or delta.reasoning or delta.reasoning_text
    if isinstance(text, str):
        text = text.strip()
    return bool(text or delta.tool_calls or delta.reasoning_details or delta.function_call)
