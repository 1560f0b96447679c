"""Plays a recorded exchange through today's conversion and compares the results."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from ccproxy.convert.common.request_cache import RequestCache
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.ipc.control_messages import Refusal, ReplayReply
from ccproxy.protocol import sse
from ccproxy.store.recordings import RecordedCall, Recording
from ccproxy.worker.server.client_dialect import MESSAGES

MAX_LINES = 200
MAX_LINE = 300
"""Characters of a line in a comparison."""


class _RecordedEstimate(Calibration):
    """Returns the estimate of the recording, which today's figures would change."""

    def __init__(self, estimate: int) -> None:
        super().__init__()
        self._recorded = estimate

    def apply(self, model: str, estimated: int) -> int:  # noqa: ARG002 - as in Calibration
        return self._recorded

    def learn(self, model: str, *, estimated: int, reported: int) -> None:
        """Learn nothing from an answer of yesterday."""


def replay(recording: Recording, rules: ConversionContext) -> ReplayReply | Refusal:
    """Return what differs between *recording* and what *rules* make of it."""
    if not recording.calls:
        return Refusal(error="nothing of the provider was recorded")
    request: list[str] = []
    exchanges: list[Exchange] = []
    for call in recording.calls:
        exchange = _exchange(recording, call, rules)
        if isinstance(exchange, Problem):
            return ReplayReply(request=(f"the request is refused: {exchange.message}",))
        request += _difference(_readable(call.body), _readable(exchange.body))
        exchanges.append(exchange)
    if len(exchanges) != 1 or not recording.path.endswith(MESSAGES.path):
        note = "the answer is not compared: it was made of several answers, or in another API"
        return ReplayReply(request=_bounded(request), note=note)
    # Pings also fill silences, so they depend on the time.
    made = _answer(exchanges[0], recording.calls[0]).replace(sse.PING, b"")
    then = recording.answer.replace(sse.PING, b"")
    answer = [] if made == then else list(_difference(_lines(then), _lines(made)))
    return ReplayReply(request=_bounded(request), answer=_bounded(answer), bytes=len(then))


def _exchange(
    recording: Recording, call: RecordedCall, rules: ConversionContext
) -> Exchange | Problem:
    # Nothing of the replay may change what the worker has learned.
    own = replace(rules, calibration=_RecordedEstimate(call.input_estimate), cache=RequestCache())
    try:
        return Exchange(
            call.asked,
            rules=own,
            message_id=call.message_id,
            model=call.model,
            requested=recording.requested,
            request_id=recording.id,
        )
    except Problem as problem:
        return problem


def _answer(exchange: Exchange, call: RecordedCall) -> bytes:
    """Convert the recorded answer, read by read, as it came."""
    try:
        if not exchange.streams:
            return exchange.whole(call.data)
        written = []
        for piece in call.pieces:
            if exchange.ended:
                break
            written.append(exchange.feed(piece.data))
        return b"".join([*written, exchange.close()])
    except Problem as problem:
        return b"".join(written) + exchange.fail(problem) if exchange.streams else b""


def _readable(body: bytes) -> list[str]:
    return json.dumps(msgspec.json.decode(body), indent=1, ensure_ascii=False).splitlines()


def _lines(answer: bytes) -> list[str]:
    return answer.decode("utf-8", "replace").splitlines()


def _difference(then: list[str], now: list[str]) -> Iterator[str]:
    return (
        line
        for line in difflib.unified_diff(then, now, "recorded", "today", lineterm="", n=1)
        if not line.startswith(("---", "+++"))
    )


def _bounded(lines: list[str]) -> tuple[str, ...]:
    more = [f"… {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
    return (*(line[:MAX_LINE] for line in lines[:MAX_LINES]), *more)
