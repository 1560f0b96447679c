"""
Auto mode: judge the tool calls of an answer before its end is sent to the client.

The model in AUTO_MODE_MODEL decides; see `convert/added_features/auto_mode_judge.py`. After any
failure, the result is "unavailable", and the client judges the call itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ccproxy.convert.added_features.auto_mode_judge import (
    SafeguardedStream,
    ToolCallToJudge,
    classifier_context,
    is_judged,
    judge_request,
    read_verdicts,
    unavailable,
)
from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.protocol.messages import MessagesRequest
from ccproxy.worker.added_features.model_call import ask_model
from ccproxy.worker.added_features.model_round import Take
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.stream_relay import StreamSource

JUDGE_SECONDS = 30.0
"""The timeout for the judge's answer; the client waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedJudgement:
    """A request with tool calls that must be judged."""

    judge: str
    """The name of the judging model."""
    context: Any = field(repr=False)
    """The client's rules."""
    request: MessagesRequest = field(repr=False)


def requested_judgement(request: ClientRequest, exchange: Exchange) -> RequestedJudgement | None:
    """Return the judgement that the client requests, or None if no judge is configured."""
    judge = request.worker.config.added_features.judge
    context = classifier_context(exchange.request.safeguards) if judge else None
    if context is None:
        return None
    return RequestedJudgement(judge=judge, context=context, request=exchange.request)


class Judged:
    """A source that holds back the end of its stream until the tool calls are judged."""

    is_over = True

    def __init__(
        self, request: ClientRequest, source: StreamSource, judgement: RequestedJudgement
    ) -> None:
        self._request = request
        self._source = source
        self._judgement = judgement
        self._stream = SafeguardedStream()

    async def pump(self, take: Take) -> bool:
        """Pass the answer to *take*, then judge its calls. Call again after *take* has paused."""

        def feed(data: bytes) -> bool:
            output = self._stream.feed(data)
            return take(output) if output else True

        if not await self._source.pump(feed):
            return False
        results = await self._results() if self._stream.calls else {}
        take(self._stream.close(results))
        return True

    async def _results(self) -> dict[str, dict[str, str]]:
        calls = [call for call in self._stream.calls if is_judged(call)]
        too_long = [call for call in self._stream.calls if not is_judged(call)]
        results = unavailable(too_long, "input_too_long")
        if calls:
            results |= await self._verdicts(calls)
        outcomes = [each.get("outcome", each.get("reason")) for each in results.values()]
        self._request.worker.logs.events.info(
            "auto_mode.judged",
            request=self._request.record.request_id,
            judge=self._judgement.judge,
            outcomes=outcomes,
        )
        return results

    async def _verdicts(self, calls: list[ToolCallToJudge]) -> dict[str, dict[str, str]]:
        judgement, worker = self._judgement, self._request.worker
        fields = judge_request(judgement.context, judgement.request, calls)
        try:
            async with asyncio.timeout(JUDGE_SECONDS):
                message = await ask_model(self._request, judgement.judge, fields)
        except TimeoutError:
            return unavailable(calls, "timeout")
        except Problem as problem:
            reason = worker.logs.redact(problem.message)
            worker.logs.events.warning("auto_mode.failed", judge=judgement.judge, reason=reason)
            is_long = problem.message.startswith("prompt is too long")
            return unavailable(calls, "input_too_long" if is_long else "error")
        return read_verdicts(message, calls)
