"""
A Chat Completions answer as a Messages stream: the one state machine.

Theory of operation: a chunk says something (reasoning, text, a piece of a tool call), and what is
said is written as the delta of a block. A whole answer goes through the same machine as a single
chunk (`convert/chat/whole_answer.py` folds its events).

Rules:

* A tool block opens when id and name are known and stays open until its arguments are complete:
  clients run a tool when its block closes. Whatever else is said meanwhile waits in a queue.
* Arguments go out as they come. What is no JSON in the end is Claude Code's to tell the model,
  which then has another turn; an error would have the same asked again, and the same come.
* After a choice's finish_reason only usage is read.
* An answer ends with a finish_reason, or at least with `[DONE]`; else `close` raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ccproxy.convert.chat.think_tags import ThinkTags
from ccproxy.convert.chat.tool_calls import ToolCall, ToolCalls
from ccproxy.convert.common.message_writer import AnswerContext, Event, MessageWriter, TextKind
from ccproxy.convert.common.stop_sequences import StopCutter
from ccproxy.convert.common.thinking import ReasoningReader
from ccproxy.convert.common.usage import is_usage, to_usage
from ccproxy.convert.common.vocabulary import CUT_SHORT, FAILED, STOP_REASON
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol.chat import Choice, Chunk, Delta, ToolCallDelta

__all__ = ["AnswerContext", "ChatToMessageStream", "Event"]


class ChatToMessageStream:
    """
    Converts one answer.

    Feed it every chunk, tell it of `[DONE]`, then close it; feeding and closing give back the
    events to send. Created per request, used once, not thread-safe.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._writer = MessageWriter(context)
        self._begun = False
        self._answered = False  # there was a choice, whatever it said
        self._ended = False
        self._reasoning = ReasoningReader()
        self._tags = ThinkTags() if context.target.quirks.think_tags else None
        self._stops = StopCutter(context.stop_sequences)
        self._calls = ToolCalls(context.message_id, context.known_ids)
        self._queue: deque[ToolCall | tuple[TextKind, str]] = deque()
        self._has_deltas = False
        self._finished: set[int] = set()  # choices that have their finish_reason
        self._done = False
        self._finish_reason: str | None = None
        self._named_stop: str | None = None
        self._reported: Mapping[str, Any] | None = None

    @property
    def stopped(self) -> bool:
        """True: a stop sequence cut the answer, nothing more of it is wanted."""
        return self._stops.matched is not None

    @property
    def complete(self) -> bool:
        """True: the answer has its end; only usage may follow, and `close` will not raise."""
        return bool(self._finished) or self.stopped or self._ended

    @property
    def steady_block(self) -> int | None:
        """
        The number of the open block, if its deltas go on as they come and change nothing else.

        None while text is held back, waits or is looked through.
        """
        writer = self._writer
        if writer.block is None or self._queue or self._finished:
            return None
        if writer.block == "text" and self._stops.is_active:
            return None
        if self._tags is not None and not (writer.block == "thinking" and self._tags.is_untouched):
            return None
        return writer.index

    @property
    def usage(self) -> dict[str, Any]:
        """The usage in the Messages API's sense; estimates where nothing was reported."""
        return to_usage(
            self._reported,
            self._context.target.quirks,
            input_estimate=self._context.input_estimate,
            chars=self._writer.chars,
        )

    def feed(self, chunk: Chunk) -> list[Event]:
        """
        Take one chunk and return the events that it causes.

        Raises:
            Problem: If the provider says that the answer failed.
        """
        if not self._begun:
            self._begun = True
            self._writer.start()
        if chunk.usage is not None:
            self._read_usage(chunk.usage)
        if isinstance(chunk.x_groq, dict):
            self._read_usage(chunk.x_groq.get("usage"))
        for position, choice in enumerate(chunk.choices or ()):
            self._take_choice(choice, position)
        return self._writer.take()

    def absorb(self, texts: list[str]) -> None:
        """Take note of deltas of the steady block that were sent to the client without us."""
        self._writer.chars += sum(map(len, texts))
        if self._writer.call is not None:
            self._writer.call.absorb(texts)

    def done(self) -> None:
        """Take note of `[DONE]`: the provider means that the answer is whole."""
        self._done = True

    def close(self) -> list[Event]:
        """
        Return the events that end the message; nothing if it has ended.

        Raises:
            Problem: api_error if the answer is empty, has no end or ends within a tool call.
        """
        if self._ended:
            return []
        if not self._answered:
            raise BadAnswer("The provider's answer is empty")
        if not self.complete and not self._done:
            raise BadAnswer("The provider's answer broke off before its end")
        self._flush_text()
        self._drain(force=True)
        if self._writer.call is not None:
            self._check_whole(self._writer.call)
        self._writer.flush_pending()
        stop_reason = self._stop_reason()
        matched = self._stops.matched or self._named_stop
        sequence = matched if stop_reason == "stop_sequence" else None
        self._writer.end(stop_reason, sequence, self.usage)
        self._ended = True
        return self._writer.take()

    # What a chunk says...

    def _read_usage(self, usage: object) -> None:
        if isinstance(usage, dict) and is_usage(usage):
            self._reported = usage  # the last one holds: some report on every chunk

    def _take_choice(self, choice: Choice, position: int) -> None:
        self._answered = True
        index = choice.index if isinstance(choice.index, int) else position
        if choice.message is not None:
            index = position  # Copilot numbers both halves of a whole answer 0
        if choice.usage is not None:
            self._read_usage(choice.usage)
        if index in self._finished or self._stops.matched is not None or self._ended:
            return
        if choice.delta is not None:
            self._has_deltas = True
            self._take_said(choice.delta, index, is_whole=False)
        elif choice.message is not None and not self._has_deltas:
            # Only then: MiniMax repeats the whole message at the end of a stream.
            self._take_said(choice.message, index, is_whole=True)
        if isinstance(choice.finish_reason, str) and choice.finish_reason:
            self._take_finish(choice, choice.finish_reason, index)

    def _take_said(self, delta: Delta, choice: int, *, is_whole: bool) -> None:
        details: list[dict[str, Any]] = []
        if delta.reasoning_details is not None:
            details = _objects(delta.reasoning_details)
            self._writer.queue_details(details)
        if details or delta.reasoning_content is not None or delta.reasoning is not None:
            plain = (delta.reasoning_content, delta.reasoning)
            self._say("thinking", self._reasoning.read(plain, details))
        if isinstance(delta.content, str):
            self._take_text(delta.content)
        elif delta.content:
            self._take_parts(delta.content)
        if isinstance(delta.refusal, str):
            self._take_text(delta.refusal)
        if delta.function_call is not None:
            self._take_call(ToolCallDelta(function=delta.function_call), choice, is_whole=is_whole)
        for call in delta.tool_calls or ():
            self._take_call(call, choice, is_whole=is_whole)

    def _take_text(self, text: str) -> None:
        if self._tags is None:
            self._show(text)
            return
        for kind, piece in self._tags.feed(text):
            self._take_tagged(kind, piece)
        if self._tags.is_decided:
            self._tags = None

    def _take_tagged(self, kind: TextKind, text: str) -> None:
        if kind == "text":
            self._show(text)
        elif not self._reasoning.plain_seen:  # else it is the same reasoning once more
            self._say("thinking", text)

    def _take_parts(self, parts: object) -> None:
        """Take Mistral's content lists: parts of text, and of thinking with parts of text."""
        if not isinstance(parts, list):
            raise BadAnswer("The provider sent a content that is neither text nor parts")
        for part in _objects(parts):
            thought = part.get("thinking")
            if isinstance(thought, str):
                self._say("thinking", thought)
            for inner in _objects(thought):
                self._say("thinking", _text(inner))
            self._take_text(_text(part))

    def _take_call(self, delta: ToolCallDelta, choice: int, *, is_whole: bool) -> None:
        if self.stopped:
            return
        call, is_new = self._calls.find(delta, choice, is_whole=is_whole)
        if is_new:
            self._flush_text()
            self._queue.append(call)
        elif call.id:
            self._writer.queue_signature(call)
        if call is self._writer.call:
            self._writer.continue_call()
        if self._queue:
            self._drain()

    def _take_finish(self, choice: Choice, reason: str, index: int) -> None:
        word = reason.lower()
        if kind := FAILED.get(word):
            raise Problem(kind, f"The provider gave up on the answer (finish_reason {reason})")
        self._finished.add(index)
        self._finish_reason = STOP_REASON.get(word, "end_turn")
        for named in (choice.stop_reason, choice.matched_stop):
            if isinstance(named, str) and named in self._context.stop_sequences:
                self._named_stop = named

    # ...and when it is said.

    def _show(self, text: str) -> None:
        """Say *text*, unless a stop sequence cuts it or may be about to."""
        self._say("text", self._stops.feed(text))

    def _flush_text(self) -> None:
        """Say the text that was held back."""
        if self._tags is not None:
            for kind, piece in self._tags.flush():
                self._take_tagged(kind, piece)
            if self._tags.is_decided:
                self._tags = None
        self._say("text", self._stops.flush())

    def _say(self, kind: TextKind, text: str) -> None:
        if not text:
            return
        if self._writer.call is None and not self._queue:
            self._writer.write(kind, text)
        else:
            self._queue.append((kind, text))
            self._drain()

    def _drain(self, *, force: bool = False) -> None:
        """
        Write what waits, as far as the open call is complete and the next one is known.

        With *force* nothing more will come.
        """
        while self._queue:
            if not self._end_call(force=force):
                return
            waiting = self._queue[0]
            if not isinstance(waiting, ToolCall):
                self._writer.write(*waiting)
            elif waiting.is_named or (force and waiting.name):
                self._writer.open_call(waiting, self._calls.claim_id(waiting.provider_id))
            elif not force:
                return
            elif waiting.has_arguments:
                raise BadAnswer("The provider sent a tool call without a name")
            self._queue.popleft()

    def _end_call(self, *, force: bool) -> bool:
        """Close the open call if it is complete; False if it is not."""
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
        """Refuse a call that broke off, unless the provider says why the answer ends."""
        is_cut = self._has_deltas and not self.complete
        if is_cut and call.has_arguments and not call.is_complete:
            raise BadAnswer("The provider's answer broke off within a tool call")

    def _stop_reason(self) -> str:
        reason = self._finish_reason or "end_turn"
        if self.stopped:
            return "stop_sequence"
        if self._writer.has_tools:
            return reason if reason in CUT_SHORT else "tool_use"
        if self._named_stop is not None:
            return "stop_sequence"
        return "end_turn" if reason == "tool_use" else reason


def _objects(found: object) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _text(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""
