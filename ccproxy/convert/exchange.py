"""
One request to /v1/messages and its answer, converted: bytes in, bytes out.

The constructor parses the client's body, picks the model and converts the request. Then either
`whole` converts the provider's complete answer, or `feed` converts each piece of a stream, and
`close` or `fail` ends it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from ccproxy.convert.chat.answer import to_message as completion_to_message
from ccproxy.convert.chat.relay import ChatRelay
from ccproxy.convert.common.conversion import ConvertedRequest
from ccproxy.convert.common.message_writer import AnswerContext
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.prompt_prefix import Prompt
from ccproxy.convert.responses.answer import to_message as response_to_message
from ccproxy.convert.responses.relay import ResponsesRelay
from ccproxy.convert.responses.stream import ResponsesToMessageStream
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.lenient_json import objects
from ccproxy.protocol.messages import (
    MessagesRequest,
    error_body,
    read_request,
    unknown_fields,
)

_STOP_REASON = re.compile(rb'"stop_reason":"([^"]+)"')
_ENCODER = msgspec.json.Encoder()


class Exchange:
    """
    One request that is converted to another API.

    Attributes:
        requested: The model name that the client sent; the answer repeats it.
        model: The model that answers.
        target: The provider and the model.
        request: The client's request.
        asked: The client's body, without the filtered tools and lone surrogates.
        message_id: The id of the answer.
        api: The dialect of the request to the provider.
        body: The body of the request to the provider.
        headers: The headers of this request that depend on its content.
        streams: Whether the client wants a stream.
        asks_stream: Whether a stream is requested from the provider.
        has_media: Whether the request may contain images or documents.
        stop_reason: The answer's stop reason; None until it ends.
    """

    def __init__(
        self,
        body: bytes,
        *,
        rules: ConversionContext,
        message_id: str,
        model: str | None = None,
        requested: str = "",
        request_id: str | None = None,
        dropped: tuple[str, ...] = (),
    ) -> None:
        """
        Read *body*; *model* and *requested* override its `model`.

        *dropped* lists the parts of the client's request that *body* lacks.
        """
        body, filtered = rules.without_tools(body)
        text = rules.cache.scans.scan(body)
        request = read_request(text)
        self.requested = requested or request.model
        self.model = model or rules.pick_model(request.model)
        self.streams = bool(request.stream)
        request.max_tokens = rules.clamp(request.max_tokens)
        self._rules = rules
        self.message_id = message_id
        self._request_id = request_id
        self.request = request
        self.asked = text.body
        self._filtered = (*dropped, *filtered)
        self.has_media = text.has_base64
        self.stop_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._removed_reasoning: list[dict[str, Any]] = []
        converted = self._convert()
        self._estimate = rules.estimate(request, text, self.target, converted)
        if not self.defers_tools:
            rules.check_window(request, self.model, estimated=self._estimate)

    def _convert(self) -> ConvertedRequest:
        """Build the provider's request from the client's."""
        self.target = target = self._rules.target_of(self.model)
        if "streaming" in self._rules.learned.features(target.api, self.model):
            self.request.stream = False
        converted = self._rules.convert(self.request, target)
        self.api = target.api
        self.body = converted.body
        self.headers = converted.headers
        self.asks_stream = converted.stream
        self._converted = converted
        return converted

    def revise(self, problem: Problem) -> bool:
        """
        Convert the request again without the refused features, or in another dialect.

        Return False if the body did not change. The worker stores the refusal, so the next request
        is not refused for the same reason.
        """
        if not self._rules.learn_from(problem, self.body, self.model):
            return False
        refused = self.body
        self._convert()
        return self.body != refused

    def conversation(self) -> MessagesRequest:
        """Return the client's request."""
        return self.request

    @cached_property
    def input_estimate(self) -> int:
        """The calibrated estimate of the input tokens, for message_start."""
        return self._rules.calibration.apply(self.model, self._estimate)

    @cached_property
    def _context(self) -> AnswerContext:
        rules, converted = self._rules, self._converted
        thinking, choice = self.request.thinking, self.request.tool_choice
        return AnswerContext(
            message_id=self.message_id,
            model=self.requested,
            target=self.target,
            signer=rules.signer,
            tool_names=converted.tool_names,
            stop_sequences=converted.stop_sequences,
            hide_thinking=converted.hide_thinking,
            omit_thinking=thinking is not None and thinking.display == "omitted",
            single_call=choice is not None and choice.disable_parallel_tool_use is True,
            known_ids=converted.known_ids,
            input_estimate=self.input_estimate,
        )

    @cached_property
    def _relay(self) -> ChatRelay | ResponsesRelay:
        # Created on first use: an answer converted by `whole` needs no relay.
        if self.api == "responses":
            return ResponsesRelay(self._context)
        return ChatRelay(self._context)

    @property
    def searches(self) -> bool:
        """True: the client's tools include the API's web search."""
        return self._converted.searches

    @property
    def defers_tools(self) -> bool:
        """True: the model must search for some of the client's tools."""
        limit = self.target.quirks.max_tools
        return self._converted.finds_tools or 0 < limit < self._converted.tools

    @property
    def own_search(self) -> bool:
        """True: the provider runs the web search itself, as part of the answer."""
        return self._converted.own_search

    @property
    def dropped(self) -> tuple[str, ...]:
        """The parts of the request that are not sent to the provider, computed on demand."""
        return (*self.known_dropped, *sorted(unknown_fields(self.asked)))

    @property
    def known_dropped(self) -> tuple[str, ...]:
        """Like `dropped`, but without fields that the Messages API does not define."""
        return (*self._filtered, *self._converted.dropped)

    def prompt(self) -> Prompt:
        """Return the blocks of the client's prompt, for comparison with another prompt."""
        return Prompt(self.request, keeps_attribution=False)

    @property
    def usage(self) -> Mapping[str, Any]:
        """The token usage of the answer, as far as it is known."""
        return self._relay.usage if self._usage is None else self._usage

    @property
    def removed_reasoning(self) -> tuple[str, ...]:
        """The provider's reasons for removing reasoning from the request, one per item."""
        if self.api != "responses":
            return ()
        removed = self._removed_reasoning
        if isinstance(relay := self.__dict__.get("_relay"), ResponsesRelay):
            removed = relay.removed_reasoning
        return tuple(str(each.get("reason")) for each in objects(removed))

    @property
    def stopped(self) -> bool:
        """True: a stop sequence ended the answer before the provider did."""
        return self._relay.stopped

    @property
    def ended(self) -> bool:
        """True: further data from the provider can be ignored."""
        return self._relay.ended

    def feed(self, data: bytes) -> bytes:
        """
        Convert data from the provider's answer to data for the client.

        Raises:
            Problem: If the provider's answer turns out to be an error.
        """
        written = self._relay.feed(data)
        if self._relay.ended:
            self._note_end(written)
        return written

    def close(self) -> bytes:
        """
        Return the end of the stream, or nothing if it was already returned.

        Raises:
            Problem: If the provider's answer is incomplete.
        """
        written = self._relay.close()
        if written:
            self._note_end(written)
        return written

    def fail(self, problem: Problem) -> bytes:
        """Return the event that ends the client's stream after a failure."""
        written = self._relay.fail(problem)
        if not written.startswith(b"event: error"):
            return written  # the answer was complete
        return sse.encode(b"error", error_body(problem, self._request_id))

    def whole(self, body: bytes) -> bytes:
        """
        Convert a complete answer, or a complete stream, to a message.

        Raises:
            Problem: If it is an error or not an answer.
        """
        if self.api == "responses":
            machine = ResponsesToMessageStream(self._context)
            message = response_to_message(body, self._context, machine)
            self._removed_reasoning = machine.removed_reasoning
        else:
            message = completion_to_message(body, self._context)
        self._usage = message["usage"]
        self.stop_reason = message["stop_reason"]
        self._learn()
        return _ENCODER.encode(message)

    def _note_end(self, written: bytes) -> None:
        if match := _STOP_REASON.search(written):
            self.stop_reason = match[1].decode()
            self._learn()

    def _learn(self) -> None:
        self._rules.learn(self.model, self._estimate, self.usage)
