"""The base class of exchanges that need no conversion: the provider serves the client's API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from ccproxy.convert.common.usage import CHARS_PER_TOKEN, to_usage
from ccproxy.convert.context import ConversionContext
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import replace_value
from ccproxy.protocol.lenient_json import replace_lone_surrogates


class RequestOutline(Protocol):
    """The common fields of all passed requests."""

    model: str
    stream: bool | None


class PassedExchange(ABC):
    """A request and its answer without conversion; see `Exchange` for converted ones."""

    headers: Mapping[str, str] = {}
    removed_reasoning: tuple[str, ...] = ()
    stop_reason: str | None = None
    ended = stopped = False
    """Always False: the stream is read to its end."""
    dropped: tuple[str, ...] = ()
    """The parts of the request that are omitted."""

    def __init__(
        self,
        body: bytes,
        outline: RequestOutline,
        *,
        rules: ConversionContext,
        model: str | None,
        requested: str,
        is_recorded: bool,
    ) -> None:
        """
        Read the request *body*; *model* and *requested* override its `model`.

        `asked` keeps the body only if the exchange *is_recorded*, because it may be large.
        """
        self.requested = requested or outline.model
        self.model = model or rules.pick_model(outline.model)
        self.streams = self.asks_stream = bool(outline.stream)
        self.asked = body if is_recorded else b""
        self.body = body = replace_lone_surrogates(body)
        if self.model != outline.model:
            self.body = replace_value(body, ("model",), msgspec.json.encode(self.model))
        self._target = rules.target(self.model)
        self._decoder = sse.Decoder()
        self._is_finished = False
        self._counts: Mapping[str, Any] | None = None
        self._chars = 0

    @property
    def known_dropped(self) -> tuple[str, ...]:
        """The same as `dropped`."""
        return self.dropped

    @property
    def usage(self) -> Mapping[str, Any]:
        """
        The token counts in the Messages API's terms, empty if unknown.

        The counts of a stream are estimated if it reports none or the client disconnects early.
        """
        counts, chars = self._counts, self._chars
        if not counts and not chars:
            return {}
        estimate = 0 if counts else len(self.body) // CHARS_PER_TOKEN
        return to_usage(counts, self._target.quirks, input_estimate=estimate, chars=chars)

    def feed(self, data: bytes) -> bytes:
        """Return only complete events, so that an error event can follow any of them."""
        return b"".join([self._passed(event) for event in self._decoder.feed(data)])

    def close(self) -> bytes:
        """
        Return the last event if its final blank line is missing.

        Raises:
            BadAnswer: If the answer is incomplete.
        """
        rest = b"".join([self._passed(event) for event in self._decoder.close()])
        if not self._is_finished:
            raise BadAnswer("the provider's stream was cut off before the end of the answer")
        return rest

    @abstractmethod
    def _read(self, data: bytes) -> bytes:
        """Process the data of an event, and return the data for the client."""

    def _passed(self, event: sse.ServerEvent) -> bytes:
        data = self._read(event.data)
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        return sse.encode(event.event, data) if event.event else b"data: %b\n\n" % data
