"""A provider's answer that keeps a copy of its bytes for a recording while they are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ccproxy.convert.exchange import Exchange
from ccproxy.providers.quirks import Api
from ccproxy.redaction import Redactor
from ccproxy.store.recordings import MAX_RECORDING, Piece, RecordedCall
from ccproxy.worker.upstream.provider_answer import ProviderAnswer


class RecordedExchange(Protocol):
    """The parts of an exchange that a recording keeps."""

    body: bytes
    model: str
    api: Api

    @property
    def asked(self) -> bytes:
        """The client's request, which is converted or passed on."""


class RecordedAnswer:
    """Wraps a `ProviderAnswer` and keeps the bytes that are read from it."""

    def __init__(self, exchange: RecordedExchange, answer: ProviderAnswer) -> None:
        self.is_stream = answer.is_stream
        self.status = answer.status
        self.headers = answer.headers
        self._exchange = exchange
        self._answer = answer
        # Later answers change the estimate.
        self._estimate = exchange.input_estimate if isinstance(exchange, Exchange) else 0
        self._started = time.monotonic()
        self._pieces: list[Piece] = []
        self._read = 0

    @property
    def is_over(self) -> bool:
        """Whether the whole answer has been read."""
        return self._answer.is_over

    async def read(self) -> bytes:
        """Return the whole answer."""
        whole = await self._answer.read()
        self._keep(whole)
        return whole

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Pass the answer to *take*, piece by piece."""

        def keep(data: bytes) -> bool:
            self._keep(data)
            return take(data)

        return await self._answer.pump(keep)

    def _keep(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > MAX_RECORDING:
            self._pieces.clear()  # too large to be recorded
            return
        self._pieces.append(Piece(round(time.monotonic() - self._started, 4), bytes(data)))

    def call(self, redact: Redactor) -> RecordedCall:
        """Return the recorded call, with keys masked."""
        exchange = self._exchange
        return RecordedCall(
            asked=masked(exchange.asked, redact),
            passed=not isinstance(exchange, Exchange),
            message_id=exchange.message_id if isinstance(exchange, Exchange) else "",
            input_estimate=self._estimate,
            model=exchange.model,
            api=exchange.api,
            body=masked(exchange.body, redact),
            status=self.status,
            is_stream=self.is_stream,
            pieces=_masked_pieces(self._pieces, redact.events if self.is_stream else redact),
        )

    @property
    def size(self) -> int:
        """The total size of the bodies, in bytes."""
        return len(self._exchange.asked) + len(self._exchange.body) + self._read


def masked(data: bytes, redact: Callable[[str], str]) -> bytes:
    """Return *data* with keys masked by *redact*."""
    return redact(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _masked_pieces(pieces: list[Piece], redact: Callable[[str], str]) -> tuple[Piece, ...]:
    """Mask the keys in *pieces*; if there are any, join the pieces, since a key may span two."""
    data = b"".join(piece.data for piece in pieces)
    safe = masked(data, redact)
    return tuple(pieces) if safe == data else (Piece(pieces[0].after, safe),)
