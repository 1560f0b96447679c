"""
What every endpoint that asks the provider does around the asking.

Begin an exchange, say what goes out, note what came back; in both modes, whole and streamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol

from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.messages import error_body
from ccproxy.providers.quirks import Api
from ccproxy.worker.server.authentication import offered_keys
from ccproxy.worker.server.error_response import SHUTTING_DOWN, redacted, unforeseen
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.state import Worker
from ccproxy.worker.upstream.client import Answer, Outgoing

MOST_REVISIONS = 3
"""How often one request is changed after a refusal; each refusal names one thing."""
ANTHROPIC_KEY_PREFIX = "sk-ant-"


class Asked(Protocol):
    """What chat mode's `Exchange` and direct mode's `Passthrough` have in common."""

    requested: str
    model: str
    api: Api
    body: bytes
    streams: bool
    asks_stream: bool
    stop_reason: str | None

    @property
    def dropped(self) -> tuple[str, ...]:
        """What of the request the provider does not get."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The numbers of the answer, as far as they are known."""


def note_asked(request: ClientRequest, asked: Asked) -> None:
    """Put into record and log what is going to be asked."""
    record = request.record
    record.requested, record.model, record.stream = asked.requested, asked.model, asked.streams
    if request.worker.config.log_level != "DEBUG":
        return  # to find out what was dropped costs more than a line that nobody reads is worth
    request.worker.request_log.debug(
        "request.converted",
        request=record.request_id,
        requested=asked.requested,
        model=asked.model,
        bytes=len(asked.body),
        dropped=asked.dropped,
        client_headers=tuple(request.headers),
    )


def note_answer(request: ClientRequest, answer: Answer) -> None:
    """Put into the record who answered."""
    request.record.key, request.record.attempts = answer.key, answer.attempts


def note_end(request: ClientRequest, asked: Asked) -> None:
    """Put into the record what the answer came to."""
    request.record.usage, request.record.stop_reason = asked.usage, asked.stop_reason


def note_converted_end(request: ClientRequest, exchange: Exchange) -> None:
    """
    Record how a converted request ended.

    Reasoning that the provider removed is logged: the answer is a normal one, but worse and dearer,
    because something before that reasoning has changed since it was made.
    """
    note_end(request, exchange)
    if reasons := exchange.removed_reasoning:
        worker = request.worker
        worker.removed_reasoning += len(reasons)
        worker.log.warning(
            "reasoning.removed",
            request=request.record.request_id,
            model=exchange.model,
            count=len(reasons),
            reasons=sorted(set(reasons)),
            total=worker.removed_reasoning,
        )


def outgoing(
    request: ClientRequest, asked: Asked, url: str, *, headers: Mapping[str, str] | None = None
) -> Outgoing:
    """Say what is sent to the provider for *asked*."""
    return Outgoing(
        url=url,
        body=asked.body,
        model=asked.model,
        api=asked.api,
        stream=asked.asks_stream,
        headers=headers or {},
        client_key=passed_key(request),
        hop=request.chosen.hop if request.chosen else 0,
    )


async def ask_converted(
    stack: AsyncExitStack, request: ClientRequest, exchange: Exchange
) -> Answer:
    """
    Send a converted request and return its answer, which *stack* closes.

    What the provider refuses is left out, if it says what that is, and the request sent again.
    This is another request and no retry of the same one, so MAX_RETRIES does not count it.
    """
    worker = request.worker
    for attempt in range(MOST_REVISIONS + 1):
        url = worker.config.model_url(exchange.model, exchange.api)
        try:
            sending = worker.upstream.send(
                outgoing(request, exchange, url, headers=exchange.headers)
            )
            answer = await stack.enter_async_context(sending)
        except Problem as problem:
            if attempt == MOST_REVISIONS or not exchange.revise(problem):
                raise
            worker.log.info(
                "request.revised", model=exchange.model, api=exchange.api, reason=problem.message
            )
        else:
            note_answer(request, answer)
            return answer
    raise AssertionError("unreachable")


def passed_key(request: ClientRequest) -> str | None:
    """
    Return the client's own key if the provider is to be asked with it.

    A key of Anthropic's goes to Anthropic only, whatever else is configured, and what stands for
    no key at all goes nowhere.
    """
    config = request.worker.config
    if not config.pass_client_key:
        return None
    is_ours = request.worker.admission.is_ours
    keys = [key for key in offered_keys(request.headers) if not is_ours(key)]
    if not config.takes_anthropic_keys:
        keys = [key for key in keys if not key.startswith(ANTHROPIC_KEY_PREFIX)]
    return keys[0] if keys else None


def told(request: ClientRequest, problem: Problem) -> Problem:
    """Return *problem* as the client may read it, and note it in the request's record."""
    problem = redacted(problem, request.worker.redact)
    request.record.error, request.record.reason = problem.kind, problem.message
    return problem


@asynccontextmanager
async def telling_mistakes(request: ClientRequest, events: EventStream) -> AsyncIterator[None]:
    """
    End a stream that has begun with an error event if something fails that nobody foresaw.

    Before its first byte the connection tells it, with a status; see `worker/server/http.py`.
    """
    try:
        yield
    except (Problem, ConnectionError):  # the latter says that the client has left
        raise
    except Exception as error:
        if not events.is_open:
            raise
        problem = told(request, unforeseen(error))
        body = error_body(problem, request.record.request_id)
        await events.write(sse.encode(b"error", body))


class ending_as_problem:  # noqa: N801 - reads as a statement, like contextlib's
    """Turns the cancellation by which the worker's end is told into a Problem for the client."""

    __slots__ = ("_worker",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look what happened."""
        if not self._worker.ending or not isinstance(error, asyncio.CancelledError):
            return
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
            raise Problem("overloaded_error", SHUTTING_DOWN) from None
