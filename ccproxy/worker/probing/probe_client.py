"""
Sends the requests of a measurement.

They use the key pool like all other requests, and count towards usage and budgets. A refused
request costs nothing and is not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ccproxy.convert.common.schema import to_parameters
from ccproxy.convert.common.usage import to_usage
from ccproxy.convert.openai_clients.openai_errors import CONTEXT_LENGTH, error_code
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import object_of
from ccproxy.protocol.lenient_json import objects, string
from ccproxy.providers.measurement import (
    ANSWER_TOKENS,
    MOST_REQUESTS,
    PROMPT_TOKENS,
    Outcome,
    StreamEnd,
    UsagePlace,
)
from ccproxy.providers.quirks import PLAIN
from ccproxy.store.usage_totals import Used
from ccproxy.worker.accounting.payers import settle
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.upstream.provider_client import Outgoing
from ccproxy.worker.worker import Worker

REFUSING = frozenset({400, 405, 413, 415, 422, 500, 501})
"""Statuses that are about the request; others end the measurement."""
_REFUSAL_SECONDS: Final = 60.0
_PATH: Final = "/v1/chat/completions"
_TOO_SHORT: Final = "could not finish the message"
"""OpenAI's 400 for a limit that reasoning has used up: the request itself was valid."""
_SAMPLE: Final = {
    "type": "object",
    "$id": "https://ccproxy.example/probe",
    "$defs": {"name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"}},
    "properties": {
        "name": {"$ref": "#/$defs/name"},
        "place": {"oneOf": [{"type": "string"}, {"type": "integer", "maximum": 9}]},
        "pair": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
        "kind": {"const": "probe"},
    },
    "additionalProperties": False,
}
"""Tool parameters that each schema dialect expresses differently."""
_DIALECTS: Final = ("plain", "no_meta", "grammar", "kimi", "inline", "bare", "gemini")
"""The schema dialects, richest first."""


def schema_forms() -> dict[str, dict[str, Any]]:
    """Return the sample schema in every dialect, richest first."""
    return {dialect: to_parameters(_SAMPLE, dialect) for dialect in _DIALECTS}


class ProbeClient:
    """Sends the requests that measure one model."""

    def __init__(self, worker: Worker, model: str) -> None:
        self._worker = worker
        self.model = model
        self.requests = 0
        self.dollars = 0.0
        """Cost of the requests, as far as the model's price is known."""

    @property
    def estimate(self) -> float | None:
        """Cost in US dollars of a measurement in which every request is accepted, or None."""
        cost = self.price(PROMPT_TOKENS)
        return None if cost is None else MOST_REQUESTS * cost

    def price(self, prompt_tokens: int) -> float | None:
        """Return the cost in US dollars of a request with *prompt_tokens*, or None if unknown."""
        tokens = {"input_tokens": prompt_tokens, "output_tokens": ANSWER_TOKENS}
        return self._worker.session.usage.cost(self.model, tokens)

    @property
    def spent(self) -> float | None:
        """Cost so far in US dollars, or None if the model's price is unknown."""
        return None if self.estimate is None else self.dollars

    async def send(self, fields: Mapping[str, Any]) -> Outcome:
        """
        Send one request.

        Raises:
            Problem: If a budget is spent, or the provider does not answer.
        """
        return await self._counted(fields, self._exchange)

    async def refusal(self, fields: Mapping[str, Any]) -> Problem | None:
        """
        Send one request that is meant to be refused; return the refusal, or None.

        It affects neither the keys nor the breaker. A stream is closed at its first content, and
        its usage is estimated.

        Raises:
            Problem: If a budget is spent, or the provider does not answer.
        """
        refusals: list[Problem] = []

        async def exchange(outgoing: Outgoing) -> Outcome:
            try:
                return await self._exchange_aside(outgoing)
            except Problem as problem:
                if problem.refusal is None and not _is_too_long(problem):
                    raise
                refusals.append(problem)
                return Outcome(accepted=False)

        await self._counted(fields, exchange)
        return next(iter(refusals), None)

    async def _counted(
        self,
        fields: Mapping[str, Any],
        exchange: Callable[[Outgoing], Awaitable[Outcome]],
    ) -> Outcome:
        body = msgspec.json.encode(fields)
        shares = self._worker.payers.reserve(None, "", model=self.model, size=len(body))
        used: Used | None = None
        try:
            record = self._record(streams=bool(fields.get("stream")))
            self.requests += 1
            outcome = await exchange(self._outgoing(body, record))
            used = self._count(record, outcome)
        finally:
            settle(shares, used)
        return outcome

    def _record(self, *, streams: bool) -> AccessRecord:
        request_id = self._worker.new_id("req")
        record = AccessRecord(request_id=request_id, method="POST", path=_PATH, is_probe=True)
        record.begin_model_request(self.model, self.model, stream=streams)
        return record

    def _count(self, record: AccessRecord, outcome: Outcome) -> Used | None:
        record.status = 200 if outcome.accepted else 400
        usage = to_usage(outcome.usage, PLAIN, input_estimate=0, chars=0) if outcome.usage else {}
        record.end_model_request(usage, None)
        record.finish(self._worker.logs.requests)
        if not usage:
            return None
        used = self._worker.session.usage.note(record)
        self.dollars += used.cost or 0.0
        return used

    def _outgoing(self, body: bytes, record: AccessRecord) -> Outgoing:
        return Outgoing(
            url=self._worker.config.chat_url(self.model),
            body=body,
            model=self.model,
            api="chat",
            stream=record.stream,
            headers={},
            on_attempt=record.attempt,
        )

    async def _exchange_aside(self, outgoing: Outgoing) -> Outcome:
        data = await self._worker.upstream.request_aside(
            outgoing, is_cut=True, seconds=_REFUSAL_SECONDS
        )
        if data.lstrip()[:1] == b"{":
            return _of_answer(data)
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS}
        return Outcome(accepted=True, usage=usage)

    async def _exchange(self, outgoing: Outgoing) -> Outcome:
        try:
            async with self._worker.upstream.send(outgoing) as answer:
                data = await answer.read()
                return _of_stream(data) if answer.is_stream else _of_answer(data)
        except Problem as problem:
            if _TOO_SHORT in problem.message.lower():
                return Outcome(accepted=True)
            is_too_long = _is_too_long(problem)
            if problem.status not in REFUSING or (problem.refusal is None and not is_too_long):
                raise
            return Outcome(accepted=False, is_too_long=is_too_long)


def _is_too_long(problem: Problem) -> bool:
    return error_code(problem) == CONTEXT_LENGTH


def _of_answer(data: bytes) -> Outcome:
    answer = _object(data)
    first = next(iter(objects(answer.get("choices"))), {})
    return Outcome(
        accepted=True, message=_dict(first.get("message")), usage=_dict(answer.get("usage"))
    )


def _of_stream(data: bytes) -> Outcome:
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    text, is_padded = [], False
    chunks, has_done = _chunks(data)
    for chunk in chunks:
        usage = _dict(chunk.get("usage")) or usage
        is_padded = is_padded or "obfuscation" in chunk
        for choice in objects(chunk.get("choices")):
            delta = _dict(choice.get("delta"))
            message |= {name: value for name, value in delta.items() if value}
            text.append(string(delta.get("content")))
    message["content"] = "".join(text)
    return Outcome(
        accepted=True,
        message=message,
        usage=usage,
        is_padded=is_padded,
        stream_end=_stream_end(chunks, has_done=has_done),
    )


def _chunks(data: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Return the chunks of a whole stream, and whether `[DONE]` follows them."""
    decoder = sse.Decoder(limit=max(sse.LIMIT, len(data)))
    chunks: list[dict[str, Any]] = []
    for event in (*decoder.feed(data), *decoder.close()):
        if event.data.strip() == b"[DONE]":
            return chunks, True
        chunks.append(_object(event.data))
    return chunks, False


def _stream_end(chunks: Sequence[Mapping[str, Any]], *, has_done: bool) -> StreamEnd:
    choices = [choice for chunk in chunks for choice in objects(chunk.get("choices"))]
    return StreamEnd(
        has_done=has_done,
        has_finish_reason=any(string(choice.get("finish_reason")) for choice in choices),
        usage=_place_of_usage(chunks),
    )


def _place_of_usage(chunks: Sequence[Mapping[str, Any]]) -> UsagePlace:
    for number, chunk in enumerate(reversed(chunks)):
        if _dict(chunk.get("usage")):
            if not chunk.get("choices"):
                return "in its own chunk"
            return "in an earlier chunk" if number else "in the last chunk"
    return "absent"


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _object(data: bytes) -> dict[str, Any]:
    answer = object_of(data)
    if answer is None:
        raise BadAnswer("the answer is not a JSON object")
    return answer
