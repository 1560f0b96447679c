"""Runs a recorded exchange through the current conversion and compares the results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import chain, islice, takewhile

import msgspec

from ccproxy.convert.common.request_cache import RequestCache
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.direct.learning import Lessons
from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.convert.openai_clients.completions_passthrough import CompletionsPassthrough
from ccproxy.convert.openai_clients.response_writer import KEEP_ALIVE
from ccproxy.convert.openai_clients.responses_passthrough import ResponsesPassthrough
from ccproxy.errors import Problem
from ccproxy.ipc.control_messages import Refusal, ReplayReply
from ccproxy.protocol import sse
from ccproxy.protocol.responses_request import read_responses_outline
from ccproxy.store.recordings import RecordedCall, Recording
from ccproxy.worker.server.client_dialect import (
    MESSAGES,
    ClientDialect,
    PassedResponsesDialect,
)
from ccproxy.worker.server.endpoints.responses import messages_form, responses_dialect
from ccproxy.worker.worker import Worker

AnyExchange = Exchange | Passthrough | ResponsesPassthrough | CompletionsPassthrough
MAX_LINES = 200
WINDOW = 200
"""Number of lines to compare at a time."""
MAX_LINE = 300
"""Maximum number of characters of a line in a diff."""
_RESPONSE = re.compile(rb'"id":\s*"(?P<id>resp_[^"]+)".{0,100}?"created_at":\s*(?P<at>\d{1,12})')


class _RecordedEstimate(Calibration):
    """Returns the recorded estimate, because current calibration would change it."""

    def __init__(self, estimate: int) -> None:
        super().__init__()
        self._recorded = estimate

    def apply(self, model: str, estimated: int) -> int:  # noqa: ARG002 - as in Calibration
        return self._recorded

    def learn(self, model: str, *, estimated: int, reported: int) -> None:
        """Do nothing: a recorded answer must not change the calibration."""


def replay(recording: Recording, worker: Worker) -> ReplayReply | Refusal:
    """Return the differences between *recording* and its current conversion by *worker*."""
    if not recording.calls:
        return Refusal(error="no exchange with the provider was recorded")
    differences: list[Iterator[str]] = []
    exchanges: list[AnyExchange] = []
    for call in recording.calls:
        try:
            exchange = _exchange(recording, call, worker.rules)
        except Problem as problem:
            return ReplayReply(request=(f"the request is refused: {problem.message}",))
        differences.append(_difference(_readable(call.body), _readable(exchange.body)))
        exchanges.append(exchange)
    request = _bounded(chain.from_iterable(differences))
    if len(exchanges) != 1:
        note = "the answer is not compared: it combines several answers"
        return ReplayReply(request=request, note=note)
    dialect = _dialect(recording, recording.calls[0], worker)
    made = _without_pings(_answer(exchanges[0], dialect, recording.calls[0]))
    then = _without_pings(recording.answer)
    answer = _bounded(_difference(_lines(then), _lines(made)))
    return ReplayReply(request=request, answer=answer, bytes=len(then))


def _exchange(recording: Recording, call: RecordedCall, rules: ConversionContext) -> AnyExchange:
    # A replay must not change the learned state of the worker.
    own = replace(rules, calibration=_RecordedEstimate(call.input_estimate), cache=RequestCache())
    body, model, requested = call.asked, call.model, recording.requested
    if not call.passed:
        return Exchange(
            body,
            rules=own,
            message_id=call.message_id,
            model=model,
            requested=requested,
            request_id=recording.id,
        )
    match call.api:
        case "messages":
            direct = Passthrough(
                body, rules=own, request_id=recording.id, model=model, requested=requested
            )
            direct.body = Lessons(rules.learned).apply(direct.body, direct.model)
            return direct
        case "responses":
            return ResponsesPassthrough(
                body,
                read_responses_outline(body),
                rules=own,
                response_id="",
                created_at=0,
                model=model,
                requested=requested,
            )
        case _:
            return CompletionsPassthrough(
                body, rules=own, request_id=recording.id, model=model, requested=requested
            )


def _dialect(recording: Recording, call: RecordedCall, worker: Worker) -> ClientDialect:
    """Return the client's dialect, with the ID and time of the recorded answer."""
    is_native = call.passed and call.api == "responses"
    match = _RESPONSE.search(recording.answer)
    if is_native or not recording.path.endswith(PassedResponsesDialect.path) or match is None:
        return MESSAGES
    form = messages_form(worker, recording.request, call.model)
    return responses_dialect(form, response_id=match["id"].decode(), created_at=int(match["at"]))


def _answer(exchange: AnyExchange, dialect: ClientDialect, call: RecordedCall) -> bytes:
    """Convert the recorded answer piece by piece, as it arrived."""
    if not exchange.streams:
        try:
            return dialect.whole(exchange.whole(call.data))
        except Problem:
            return b""
    pieces = [piece.data for piece in call.pieces]
    if isinstance(exchange, Passthrough) and not call.is_stream:
        pieces = [message_events(call.data)]
    converter = dialect.stream(exchange)
    written: list[bytes] = []
    try:
        for piece in pieces:
            if exchange.ended:
                break
            written.append(converter.feed(piece))
        return b"".join([*written, converter.close()])
    except Problem as problem:
        return b"".join(written) + converter.fail(problem)


def _without_pings(answer: bytes) -> bytes:
    """Return *answer* without pings and keep-alives, which depend on timing."""
    for ping in (sse.PING, KEEP_ALIVE, sse.COMMENT):
        answer = answer.replace(ping, b"")
    return answer


def _readable(body: bytes) -> list[str]:
    return json.dumps(msgspec.json.decode(body), indent=1, ensure_ascii=False).splitlines()


def _lines(answer: bytes) -> list[str]:
    return answer.decode("utf-8", "replace").splitlines()


def _difference(then: list[str], now: list[str]) -> Iterator[str]:
    """Yield the lines of a unified diff of *then* and *now*, with one line of context."""
    for begin, end, now_begin, now_end in _changes(then, now):
        yield f"@@ -{begin + 1} +{now_begin + 1} @@"
        yield from (f" {line}" for line in then[max(0, begin - 1) : begin])
        yield from (f"-{line}" for line in then[begin:end])
        yield from (f"+{line}" for line in now[now_begin:now_end])
        yield from (f" {line}" for line in then[end : end + 1])


def _changes(then: list[str], now: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """
    Yield the bounds of each difference in *then* and in *now*.

    difflib takes quadratic time, so it compares only a window of lines after the equal ones.
    """
    end = _equal_lines(reversed(then), reversed(now))
    last, now_last = len(then) - end, len(now) - end
    at = now_at = 0
    while at < last or now_at < now_last:
        equal = _equal_lines(islice(then, at, last), islice(now, now_at, now_last))
        at, now_at = at + equal, now_at + equal
        one = then[at : min(at + WINDOW, last)]
        other = now[now_at : min(now_at + WINDOW, now_last)]
        matcher = SequenceMatcher(None, one, other, autojunk=False)
        *blocks, window_end = matcher.get_matching_blocks()
        is_last = at + len(one) == last and now_at + len(other) == now_last
        begin = now_begin = 0
        for block in [*blocks, window_end] if is_last or not blocks else blocks:
            if block.a > begin or block.b > now_begin:
                yield at + begin, at + block.a, now_at + now_begin, now_at + block.b
            begin, now_begin = block.a + block.size, block.b + block.size
        at, now_at = at + begin, now_at + now_begin


def _equal_lines(one: Iterable[str], other: Iterable[str]) -> int:
    """Return the number of lines in the common prefix."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _bounded(lines: Iterator[str]) -> tuple[str, ...]:
    displayed = tuple(line[:MAX_LINE] for line in islice(lines, MAX_LINES))
    return displayed if next(lines, None) is None else (*displayed, "… more lines differ")
