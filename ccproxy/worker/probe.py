"""Measures a model for `ccproxy probe`: sends the small requests and saves the profile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ccproxy.config.catalogue.measured_profiles import (
    MeasuredModel,
    Profiles,
    profiles_path,
    save_profile,
)
from ccproxy.convert.common.schema import to_parameters
from ccproxy.errors import CcproxyError, Problem
from ccproxy.ipc.control_messages import ProbeReply, Refusal
from ccproxy.protocol import sse
from ccproxy.providers.measurement import (
    ANSWER_TOKENS,
    MOST_REQUESTS,
    PROMPT_TOKENS,
    UNMEASURED,
    Measurement,
    Outcome,
    differences,
)
from ccproxy.worker.upstream.provider_client import Outgoing
from ccproxy.worker.worker import Worker

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
"""Parameters of a tool that each dialect of schemas expresses in another way."""
_DIALECTS: Final = ("plain", "no_meta", "grammar", "kimi", "inline", "bare", "gemini")
"""The dialects of schemas, the richest first."""
REFUSING = frozenset({400, 405, 413, 415, 422, 500, 501})
"""Statuses that say something about the request; others end the measurement."""
_TOO_SHORT = "could not finish the message"
"""OpenAI's 400 for a limit that reasoning has used up: the request itself was right."""
_MILLION = 1_000_000


class _Spending:
    """What the requests have cost."""

    def __init__(self, worker: Worker, model: str) -> None:
        price = worker.config.models.price(model)
        self._rates = (price.input or 0.0, price.output or 0.0) if price else None
        self.dollars = 0.0

    @property
    def is_known(self) -> bool:
        return self._rates is not None

    def add(self, usage: Mapping[str, Any]) -> None:
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        for rate, count in zip(self._rates or (0.0, 0.0), counts, strict=True):
            self.dollars += rate * (count if isinstance(count, int) else 0) / _MILLION

    @property
    def estimate(self) -> float:
        """The largest cost of a measurement in which everything is accepted."""
        least, most = self._rates or (0.0, 0.0)
        return MOST_REQUESTS * (least * PROMPT_TOKENS + most * ANSWER_TOKENS) / _MILLION


def schema_forms() -> dict[str, dict[str, Any]]:
    """Return the sample schema in every dialect, the richest first."""
    return {dialect: to_parameters(_SAMPLE, dialect) for dialect in _DIALECTS}


async def probe(worker: Worker, model: str, *, most: float | None) -> ProbeReply | Refusal:
    """Measure *model*; without *most*, its limit in dollars, only return the estimated cost."""
    model = model or worker.config.models.big or ""
    if not model:
        return Refusal(error="the entry has no model\n  fix: name one with --model")
    spending = _Spending(worker, model)
    if most is None:
        return ProbeReply(
            model=model, requests=MOST_REQUESTS, dollars=_dollars(spending, estimate=True)
        )
    measurement = Measurement(model, schemas=schema_forms())
    try:
        requests, stopped = await _measure(worker, measurement, spending, model, most)
    except Problem as problem:
        return Refusal(error=f"the provider does not answer: {problem.message}")
    except (CcproxyError, ValueError) as error:
        return Refusal(error=str(error))
    config = worker.config
    assumed = replace(config, measured={}).target(model, "chat").quirks
    differs = differences(measurement.quirks, assumed)
    profiles = Profiles(base_url=config.base_url, provider=config.provider)
    measured = MeasuredModel(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        quirks=measurement.quirks,
        differs=tuple(sorted(differs)),
    )
    path = profiles_path(worker.session.recorder.state, config.base_url)
    try:
        save_profile(path, profiles, model, measured)
    except OSError as error:
        return Refusal(error=f"the profile cannot be written: {error.strerror}")
    worker.logs.events.info("model.measured", model=model, requests=requests, differs=len(differs))
    return ProbeReply(
        model=model,
        requests=requests,
        dollars=_dollars(spending),
        measured=len(measurement.quirks),
        differs=tuple(f"{name}: {_text(value)}" for name, value in sorted(differs.items())),
        unmeasured=tuple(UNMEASURED),
        stopped=stopped,
    )


async def _measure(
    worker: Worker, measurement: Measurement, spending: _Spending, model: str, most: float
) -> tuple[int, bool]:
    """Send the requests; return their number, and whether the limit ended the measurement."""
    steps = measurement.steps()
    requests = 0
    body = next(steps)
    while True:
        if spending.dollars >= most:
            return requests, True
        outcome = await _send(worker, body, model)
        requests += 1
        spending.add(outcome.usage)
        try:
            body = steps.send(outcome)
        except StopIteration:
            return requests, False


async def _send(worker: Worker, body: Mapping[str, Any], model: str) -> Outcome:
    outgoing = Outgoing(
        url=worker.config.chat_url(model),
        body=msgspec.json.encode(body),
        model=model,
        api="chat",
        stream=bool(body.get("stream")),
        headers={},
    )
    try:
        async with worker.upstream.send(outgoing) as answer:
            data = await answer.read()
            return _of_stream(data) if answer.is_stream else _of_answer(data)
    except Problem as problem:
        if _TOO_SHORT in problem.message.lower():
            return Outcome(accepted=True)
        if problem.status not in REFUSING or problem.refusal is None:
            raise
        return Outcome(accepted=False)


def _of_answer(data: bytes) -> Outcome:
    answer = msgspec.json.decode(data)
    choices = answer.get("choices") or [{}]
    usage, message = answer.get("usage") or {}, choices[0].get("message") or {}
    return Outcome(accepted=True, message=message, usage=usage)


def _of_stream(data: bytes) -> Outcome:
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    text, is_padded = [], False
    for event in sse.Decoder(limit=max(sse.LIMIT, len(data))).feed(data):
        if event.data.strip() == b"[DONE]":
            break
        chunk = msgspec.json.decode(event.data)
        usage = chunk.get("usage") or usage
        is_padded = is_padded or "obfuscation" in chunk
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta", {})
            message |= {name: value for name, value in delta.items() if value}
            text.append(delta.get("content") or "")
    message["content"] = "".join(text)
    return Outcome(accepted=True, message=message, usage=usage, is_padded=is_padded)


def _dollars(spending: _Spending, *, estimate: bool = False) -> float | None:
    if not spending.is_known:
        return None
    return round(spending.estimate if estimate else spending.dollars, 6)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
